"""The benchmark of scores: the summary by hand, exact sums against full enumeration by the beam, and that it runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import Speller, save_tiny_model, tiny_processor, tiny_speech_model, write_corpus

from benchmarks import scores as benchmark
from benchmarks.scores import ExactScores, ScoresArguments, main, summarize
from modeling_toxmtl.decoders import log_softmax


def test_summary_by_hand():
    figures = summarize(np.array([0.9, 0.5]), np.array([1.0, 0.4]), np.array([True, False]))
    assert figures["beam"]["mean"] == pytest.approx(0.7)
    assert figures["beam"]["brier"] == pytest.approx((0.01 + 0.25) / 2)
    assert figures["exact"]["brier"] == pytest.approx(0.16 / 2)
    assert figures["beam"]["largest_difference"] == pytest.approx(0.1)
    assert figures["exact"]["mean_difference"] == 0


def test_a_full_beam_scores_exactly():
    """The share of all readings with the keyword is what the forward sums give, but for what 8 nats leave out."""
    processor, config = tiny_processor(), tiny_speech_model().config
    processor.decoding = replace(processor.decoding, beam_width=10**9, blank_threshold=1.0)
    logits = np.random.default_rng(0).normal(size=(14, len(processor.tokenizer))).astype(np.float32)
    spelled = [processor.tokenizer.convert_tokens_to_ids(letter) for letter in "crap"]
    logits[2:10:2, spelled] += 2.0 * np.eye(4)
    (decoded,) = processor.decode_keywords(logits[None], config, decoder="lexicon")
    (found,) = decoded.keywords
    assert found.keyword == "crap" and 0.5 < found.score < 0.95
    assert ExactScores(processor)(log_softmax(logits), "crap") == pytest.approx(found.score, abs=0.01)


def run(tmp_path, monkeypatch, text):
    class Model:
        @staticmethod
        def from_pretrained(_):
            model = tiny_speech_model().eval()
            model.lm_head = Speller(text)
            return model

    monkeypatch.setattr(benchmark, "AutoModelForAudioClassification", Model)
    model, corpus = save_tiny_model(tmp_path / "model"), write_corpus(tmp_path / "corpus")
    return main(ScoresArguments(str(model), str(corpus), results_file=str(tmp_path / "out" / "scores.json")))


def test_it_runs(tmp_path, monkeypatch, capsys):
    results = run(tmp_path, monkeypatch, "go_od crap go_od")
    # four test clips say it, one of them in truth
    assert (results["clips"], results["detections"], results["correct"]) == (4, 4, 1)
    assert results["beam"]["mean"] == pytest.approx(results["exact"]["mean"], abs=0.01)
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["results"] == results
    assert (tmp_path / "out" / "scores.md").read_text() == benchmark.markdown(results) + "\n"
    assert "| exact |" in capsys.readouterr().out


def test_nothing_detected_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="detects no keyword"):
        run(tmp_path, monkeypatch, "go_od")
