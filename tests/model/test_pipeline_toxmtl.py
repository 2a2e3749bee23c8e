import copy

import numpy as np
import pytest
import torch
from helpers import (
    MEL_FRAMES,
    RATE,
    SPEECH_FRAMES,
    Speller,
    assert_same,
    by_label,
    tiny_processor,
    tiny_speech_model,
    tone,
)
from tiny_models import fresh_model
from transformers import AudioClassificationPipeline, WhisperFeatureExtractor

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline


def logits_of(model, samples: np.ndarray) -> torch.Tensor:
    """Label logits of one clip, by hand: normalised over its own length; for Whisper, as transformers does on machines
    without PyTorch."""
    if model.main_input_name == "input_features":
        inputs = WhisperFeatureExtractor()._np_extract_fbank_features(samples[None], "cpu")
    else:
        inputs = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
    with torch.no_grad():
        return model(torch.tensor(inputs, dtype=torch.float32)).logits[0]


# --- labels


def test_functions_of_the_logits(pipe, model):
    """As of transformers' pipeline; violations are those of the sigmoid."""
    clip = tone(RATE)
    logits = logits_of(model, clip)
    for function, expected in (("sigmoid", logits.sigmoid()), ("softmax", logits.softmax(-1)), ("none", logits)):
        scores = dict(zip(LABELS, expected.tolist(), strict=True))
        verdict = pipe(clip, function_to_apply=function, return_keywords=True)
        assert by_label(verdict["labels"]) == by_label(pipe(clip, function_to_apply=function))
        assert by_label(verdict["labels"]) == pytest.approx(scores, abs=1e-5)
        assert verdict["violations"] == pipe(clip, return_keywords=True)["violations"]
    with pytest.raises(ValueError, match="`function_to_apply` is 'relu': choose one of sigmoid, softmax, none"):
        pipe(clip, function_to_apply="relu")


def test_every_label_sorted_by_sigmoid_score(pipe, model):
    clip = tone(RATE)
    verdict = pipe(clip)
    expected = dict(zip(LABELS, torch.sigmoid(logits_of(model, clip)).tolist(), strict=True))
    assert by_label(verdict) == pytest.approx(expected, abs=1e-5)
    assert [item["label"] for item in verdict] == sorted(LABELS, key=lambda label: -expected[label])


def test_top_k(pipe, model, processor):
    clip = tone(RATE)
    assert pipe(clip, top_k=2) == pipe(clip)[:2]
    assert len(pipe(clip, top_k=99)) == len(LABELS)
    always = ToxicityDetectionPipeline(model=model, processor=processor, top_k=3)
    assert always(clip) == pipe(clip)[:3]
    assert always(clip, top_k=1) == pipe(clip)[:1]
    assert always(clip, top_k=None) == pipe(clip)


def test_stock_pipeline_gives_the_same_scores():
    """Of WavLM; for Whisper, it pads the clip to 30 s, and the model hears the padding."""
    clip, model = tone(RATE), tiny_speech_model()
    pipe = ToxicityDetectionPipeline(model=model, processor=tiny_processor())
    stock = AudioClassificationPipeline(model=model, feature_extractor=tiny_processor().feature_extractor)
    assert_same(stock(clip, function_to_apply="sigmoid", top_k=None), pipe(clip))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_model(family, processor, dtype):
    torch.manual_seed(0)
    model = fresh_model(family=family, **(MEL_FRAMES if family == "whisper" else SPEECH_FRAMES))  # noise would amplify
    full = ToxicityDetectionPipeline(model=copy.deepcopy(model), processor=processor)
    half = ToxicityDetectionPipeline(model=model.to(dtype), processor=processor)
    assert_same(half(tone(RATE)), full(tone(RATE)), tolerance=0.05)
    assert set(half(tone(RATE), return_keywords=True)) == {"violations", "labels", "keywords"}


# --- windows


def test_long_clip_is_heard_in_windows(pipe, model):
    parts = [tone(15 * RATE, 200.0), tone(15 * RATE, 900.0, 1), 0.1 * tone(10 * RATE, 3000.0, 2)]
    logits = torch.stack([logits_of(model, part) for part in parts])
    violations, no_violation = logits[:, :5].max(0).values, logits[:, 5:].min(0).values
    expected = torch.sigmoid(torch.cat([violations, no_violation])).tolist()
    clip = np.concatenate(parts)
    side_by_side = by_label(pipe(clip, stride_seconds=15))
    assert side_by_side == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
    assert logits.std(0).min() > 1e-3  # the windows do differ


def test_window_seconds(pipe, model, processor):
    clip = tone(2 * RATE)
    whole = torch.sigmoid(logits_of(model, clip)).tolist()
    assert by_label(pipe(clip)) == pytest.approx(dict(zip(LABELS, whole, strict=True)), abs=1e-5)
    halves = [by_label(pipe(half)) for half in np.split(clip, 2)]
    cut = by_label(pipe(clip, window_seconds=1.0, stride_seconds=1.0))
    assert cut["Racist"] == pytest.approx(max(half["Racist"] for half in halves), abs=1e-5)
    always = ToxicityDetectionPipeline(model=model, processor=processor, window_seconds=1.0, stride_seconds=1)
    assert by_label(always(clip)) == cut != by_label(pipe(clip))


def test_score_timeline(pipe):
    clip = np.concatenate([tone(RATE, 200.0), tone(RATE, 900.0, 1), 0.1 * tone(RATE // 2, 3000.0, 2)])
    side_by_side = {"window_seconds": 1.0, "stride_seconds": 1.0}
    verdict = pipe(clip, return_windows=True, **side_by_side)
    assert_same(verdict["labels"], pipe(clip, **side_by_side))
    assert [(window["start"], window["end"]) for window in verdict["windows"]] == [(0, 1), (1, 2), (2, 2.5)]
    for window, part in zip(verdict["windows"], np.split(clip, [RATE, 2 * RATE]), strict=True):
        assert_same(window["labels"], pipe(part))
    top = pipe(clip, return_windows=True, return_keywords=True, top_k=1)
    assert set(top) == {"violations", "labels", "keywords", "windows"}
    assert top["windows"] == [{"start": 0.0, "end": 2.5, "track": 0, "channel": 0, "labels": top["labels"]}]


def test_violations_reach_the_thresholds_of_the_configuration(pipe, monkeypatch):
    """Whatever is left out of the list of labels; being harmless is no violation."""
    scores = {item["label"]: item["score"] for item in pipe(tone(RATE))}
    thresholds = dict.fromkeys(scores, 0.0) | {"Profanity": scores["Profanity"] + 1e-3}
    monkeypatch.setattr(pipe.model.config, "label_thresholds", thresholds)
    verdict = pipe(tone(RATE), return_keywords=True, top_k=1)
    assert set(verdict["violations"]) == set(scores) - {"Profanity", "NoViolation"}


def test_a_keyword_counts_in_the_score_of_its_labels(pipe, monkeypatch):
    """Also where nobody asks for keywords, and at once where it joins the list."""
    before = pipe(tone(RATE), function_to_apply="none", return_keywords=True)
    scores = {word["keyword"]: word["score"] for word in before["keywords"]}
    monkeypatch.setattr(pipe.model.config, "keyword_evidence", {"Profanity": 3.0, "Racist": 5.0, "NoViolation": -2.0})
    added = {"Profanity": 3 * scores["damn"], "NoViolation": -2 * max(scores.values())}
    expected = {label: score + added.get(label, 0.0) for label, score in by_label(before["labels"]).items()}
    assert by_label(pipe(tone(RATE), function_to_apply="none")) == pytest.approx(expected, abs=1e-4)
    assert by_label(pipe(np.zeros(RATE, np.float32)))["Profanity"] < 1e-6

    keywords = copy.deepcopy(pipe.processor.keywords)
    keywords.remove("damn")
    keywords.add("damn", ["Racist"])
    monkeypatch.setattr(pipe.processor, "keywords", keywords)
    renamed = by_label(pipe(tone(RATE), function_to_apply="none"))
    assert renamed["Profanity"] == pytest.approx(by_label(before["labels"])["Profanity"], abs=1e-4)
    assert renamed["Racist"] > by_label(before["labels"])["Racist"] + 2


def test_keywords_have_times_in_the_clip(pipe):
    verdict = pipe(tone(40 * RATE), return_keywords=True, stride_seconds=15)
    assert_same(verdict["labels"], pipe(tone(40 * RATE), stride_seconds=15))
    spans = [(word["keyword"], round(word["start"], 4), round(word["end"], 4)) for word in verdict["keywords"]]
    # frames of 20 ms in windows of 15 s; "damn" in frames 10 to 13, "shut up" in 20 to 26
    assert spans == [
        *(("damn", 0.2, 0.28), ("shut up", 0.4, 0.54)),
        *(("damn", 15.2, 15.28), ("shut up", 15.4, 15.54)),
        *(("damn", 30.2, 30.28), ("shut up", 30.4, 30.54)),
    ]
    assert verdict["keywords"][1]["labels"] == ("Bullying", "Other")
    assert 0.5 < verdict["keywords"][0]["score"] <= 1


def test_shortest_window_at_the_end(pipe):
    """A rest that the model cannot hear belongs to the window before it."""
    shortest = pipe.model.config.receptive_field
    for rest in (shortest - 1, shortest):
        assert len(pipe(tone(RATE + rest), window_seconds=1.0, stride_seconds=1.0)) == len(LABELS)
    assert len(pipe(tone(shortest))) == len(LABELS)


def test_windows_longer_than_whisper_hears(family, pipe):
    """At most 30 s, and the rest of a clip that joins the window before it counts."""
    clip = tone(31 * RATE)
    if family == "wavlm":
        assert len(pipe(clip, window_seconds=31)) == len(LABELS)
        return
    for seconds in (31, 30):
        with pytest.raises(ValueError, match=f"`window_seconds` is {seconds}, but .* at most 29.9 s at once"):
            pipe(clip, window_seconds=seconds)
    rest = pipe.model.config.receptive_field - 1
    assert len(pipe(clip[: round(29.9 * RATE) + rest], window_seconds=29.9)) == len(LABELS)


# --- single tasks


def test_classifier_alone(family, processor):
    model = tiny_speech_model(family=family, tasks=["classification"])
    pipe = ToxicityDetectionPipeline(model=model, processor=processor)
    clip = tone(RATE)
    expected = dict(zip(LABELS, torch.sigmoid(logits_of(model, clip)).tolist(), strict=True))
    verdict = pipe(clip, return_keywords=True)
    assert by_label(verdict["labels"]) == pytest.approx(expected, abs=1e-5)
    assert verdict["keywords"] is None
    assert_same(pipe([clip, clip[:8000]], batch_size=2)[0], verdict["labels"])


def test_keyword_head_alone(family, processor):
    model = tiny_speech_model(family=family, tasks=["keyword"])
    model.lm_head = Speller("_" * 10 + "crap")
    pipe = ToxicityDetectionPipeline(model=model, processor=processor)
    with pytest.raises(ValueError, match="no classifier: ask for its keywords, with `return_keywords=True`"):
        pipe(tone(RATE))
    verdicts = pipe([tone(RATE), tone(RATE // 2)], return_keywords=True, batch_size=2)
    assert [[word["keyword"] for word in verdict["keywords"]] for verdict in verdicts] == [["crap"], ["crap"]]
    assert verdicts[0]["labels"] is verdicts[0]["violations"] is None
    assert pipe(tone(RATE), return_windows=True)["windows"] == [
        {"start": 0.0, "end": 1.0, "track": 0, "channel": 0, "labels": None}
    ]


def test_dropout_is_off():
    """As after training, when the model still has it on."""
    pipe = ToxicityDetectionPipeline(model=tiny_speech_model(hidden_dropout=0.5).train(), processor=tiny_processor())
    assert_same(pipe(tone(RATE)), pipe(tone(RATE)))


# --- errors


def test_unknown_argument(pipe, model, processor):
    with pytest.raises(TypeError, match="Unknown argument return_keyword: there are top_k, return_keywords"):
        pipe(tone(RATE), return_keyword=True)
    with pytest.raises(TypeError, match="Unknown argument windows"):
        ToxicityDetectionPipeline(model=model, processor=processor, windows=3)
