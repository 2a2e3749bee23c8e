"""What is compared with our models: the cascade and transformers' classifier, behind the pipeline's interface."""

import numpy as np
import pytest
import torch
from helpers import RATE, SaysAlways, tiny_classifier, tone, wav

from benchmarks import judges
from benchmarks.judges import Cascade, SequenceClassifier
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments, LabelStage
from modeling_toxmtl.labels import LABELS, VIOLATIONS, scores_from_logits


def cascade(text, **members):
    return Cascade(SaysAlways(text), LabelStage(LabelArguments(**members), KeywordArguments()))


def test_a_cascade_answers_as_the_pipeline_does():
    judged = cascade("Oh, shut up you IDIOT!")(tone(RATE), return_keywords=True)
    assert judged["violations"] == ["Bullying"]
    assert judged["labels"][0] == {"label": "Bullying", "score": 1.0}
    assert {item["label"]: item["score"] for item in judged["labels"]} == dict.fromkeys(LABELS, 0.0) | {
        "Bullying": 1.0
    }
    assert [(word["keyword"], word["start"], word["end"]) for word in judged["keywords"]] == [
        ("shut up", 1.0, 2.5),
        ("idiot", 4.0, 4.5),
    ]
    assert cascade("Oh, shut up you IDIOT!")(wav(tone(RATE))) == judged["labels"]  # files too


def test_a_cascades_classifier_reads_normalised_words():
    """As it was trained on; and a word that the recogniser hides is judged, not left out."""
    judge = cascade("You are a f*** clown, 2 times!")
    read = []

    class Classifier:
        name, knows = "classifier", VIOLATIONS

        def score(self, rows):
            read.extend(phrase["text"] for row in rows for phrase in row["phrases"])
            return np.full((len(rows), len(VIOLATIONS)), 0.25)

    judge.text_filter._members = [Classifier()]
    labels = judge(tone(RATE))
    assert read == ["you are a f clown two times"]
    assert labels[0] == {"label": "NoViolation", "score": 0.75}


def test_a_cascade_hears_no_words_in_silence():
    judge = cascade("shut up")
    judged = judge(np.zeros(RATE, dtype=np.float32), return_keywords=True)
    assert judged["violations"] == judged["keywords"] == [] and judge.recognizer.clips == 0
    assert judged["labels"][0] == {"label": "NoViolation", "score": 1.0}


def test_a_classifier_gives_its_sigmoid_scores():
    model = tiny_classifier(LABELS)
    samples = tone(3000)
    judged = SequenceClassifier(model)(samples, return_keywords=True)
    with torch.no_grad():
        logits = model(torch.tensor(samples)[None]).logits[0].numpy()
    expected = dict(zip(LABELS, scores_from_logits(logits), strict=True))
    assert {item["label"]: item["score"] for item in judged["labels"]} == pytest.approx(expected, abs=1e-6)
    assert [item["score"] for item in judged["labels"]] == sorted(expected.values(), reverse=True)
    assert judged["violations"] == [label for label in VIOLATIONS if expected[label] >= 0.5]
    assert judged["keywords"] is None


def test_labels_of_other_names_are_mapped():
    """Two that are one of ours count as the surer; what we lack is left out; harmless is what is nothing else."""
    model, samples = tiny_classifier(["Hate", "Harassment", "Weather"]), tone(3000)
    judge = SequenceClassifier(model, mapping={"Hate": "Bullying", "Harassment": "Bullying", "Weather": None})
    with torch.no_grad():
        hate, harassment, _ = model(torch.tensor(samples)[None]).logits[0].sigmoid().tolist()
    scores = {item["label"]: item["score"] for item in judge(samples)}
    bullying = max(hate, harassment)
    assert scores == pytest.approx({"Bullying": bullying, "NoViolation": 1 - bullying}, abs=1e-6)
    with pytest.raises(ValueError, match=r"--classifier_labels: map \['Harassment', 'Weather'\]"):
        SequenceClassifier(model, mapping={"Hate": "Bullying"})


def test_long_clips_are_heard_in_windows(monkeypatch):
    monkeypatch.setattr(judges, "WINDOW", 1000)
    judge, samples = SequenceClassifier(tiny_classifier(LABELS)), tone(2500)
    windows = [{item["label"]: item["score"] for item in judge(samples[start : start + 1000])}
               for start in (0, 1000, 2000)]  # fmt: skip
    scores = {item["label"]: item["score"] for item in judge(samples)}
    for label in VIOLATIONS:
        assert scores[label] == pytest.approx(max(window[label] for window in windows), abs=1e-6)
    assert scores["NoViolation"] == pytest.approx(min(window["NoViolation"] for window in windows), abs=1e-6)


def test_a_saved_classifier_hears_as_its_feature_extractor_says(tmp_path):
    """Roblox's folders have none: the samples are heard as they are."""
    model = tiny_classifier(LABELS, feat_extract_norm="layer")
    model.save_pretrained(tmp_path)
    bare = SequenceClassifier.from_pretrained(str(tmp_path))
    for item, expected in zip(bare(tone(3000)), SequenceClassifier(model)(tone(3000)), strict=True):
        assert item["label"] == expected["label"] and item["score"] == pytest.approx(expected["score"], abs=1e-5)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')
    normalised = SequenceClassifier.from_pretrained(str(tmp_path))
    samples = tone(3000)
    unit = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    for item, expected in zip(normalised(samples), bare(unit), strict=True):
        assert item["label"] == expected["label"] and item["score"] == pytest.approx(expected["score"], abs=1e-4)
