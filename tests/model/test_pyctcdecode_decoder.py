import numpy as np
import pytest
from helpers import write_arpa

from modeling_toxmtl.language_model import kenlm
from modeling_toxmtl.pyctcdecode_decoder import PyctcdecodeDecoder


pytest.importorskip("pyctcdecode")

VOCABULARY = ["<pad>", "|", "<unk>", "a", "b"]


def posteriors(text: str, confidence: float = 0.9) -> np.ndarray:
    log_probs = np.full((len(text), len(VOCABULARY)), np.log((1 - confidence) / (len(VOCABULARY) - 1)))
    for frame, character in enumerate(text):
        log_probs[frame, VOCABULARY.index({"_": "<pad>"}.get(character, character))] = np.log(confidence)
    return log_probs


def test_words_spans_and_scores():
    decoder = PyctcdecodeDecoder(VOCABULARY, 0, 1, words=["ab", "b"])
    words = decoder.decode(posteriors("_aab|_b", confidence=0.99))
    assert [word[:3] for word in words] == [("ab", 1, 4), ("b", 6, 7)]
    assert all(0.5 < word.score <= 1 for word in words)
    (unsure, _) = decoder.decode(posteriors("_aab|_b", confidence=0.6))
    assert unsure.score < words[0].score
    assert decoder.decode(np.zeros((0, len(VOCABULARY)))) == []


def test_hotwords_and_language_model_tip_the_balance(tmp_path):
    log_probs = posteriors("b_a")
    log_probs[2, [3, 4]] = np.log([0.45, 0.44])
    words = ["ba", "bb"]
    assert [w.text for w in PyctcdecodeDecoder(VOCABULARY, 0, 1, words).decode(log_probs)] == ["ba"]
    boosted = PyctcdecodeDecoder(VOCABULARY, 0, 1, words, keywords=["bb"], hotword_weight=5.0)
    assert [w.text for w in boosted.decode(log_probs)] == ["bb"]
    pytest.importorskip("kenlm")
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", {"good": -1.0, "ba": -2.0, "bb": -0.5})))
    for alpha, expected in ((0.0, "ba"), (1.0, "bb")):
        with_model = PyctcdecodeDecoder(VOCABULARY, 0, 1, words, language_model=model, alpha=alpha)
        assert [w.text for w in with_model.decode(log_probs)] == [expected]
