import logging

import numpy as np
import pytest
import torch
import transformers
from datasets import Audio
from helpers import (
    RATE,
    SPEECH_FRAMES,
    Speller,
    as_read,
    dataset_of,
    record,
    save_tiny_model,
    speech_feature_extractor,
    tiny_processor,
    tiny_speech_model,
    tone,
    wav,
)
from tiny_models import tiny_wavlm_config
from transformers import AudioClassificationPipeline, WavLMForSequenceClassification, WhisperFeatureExtractor, pipeline

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline


@pytest.fixture(scope="module")
def model(family):
    """Says "damn" in frames 10 to 13, and "shut up" in 20 to 26, of every window."""
    model = tiny_speech_model(family=family)
    model.lm_head = Speller("_" * 10 + "damn " + "_" * 5 + "shut up")
    return model


@pytest.fixture(scope="module")
def processor(family):
    return tiny_processor(family=family)


@pytest.fixture(scope="module")
def pipe(model, processor):
    return ToxicityDetectionPipeline(model=model, processor=processor)


@pytest.fixture
def transformers_log(caplog):
    """What transformers logs; it does not pass on its records otherwise."""
    transformers.utils.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        yield caplog
    transformers.utils.logging.disable_propagation()


def logits_of(model, samples: np.ndarray) -> torch.Tensor:
    """Label logits of one clip, by hand: normalised over its own length; for Whisper, as transformers does on machines
    without PyTorch."""
    if model.main_input_name == "input_features":
        inputs = WhisperFeatureExtractor()._np_extract_fbank_features(samples[None], "cpu")
    else:
        inputs = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
    with torch.no_grad():
        return model(torch.tensor(inputs, dtype=torch.float32)).logits[0]


def by_label(verdict) -> dict[str, float]:
    return {item["label"]: item["score"] for item in verdict}


def assert_same(verdict, expected, tolerance: float = 1e-5):
    assert by_label(verdict) == pytest.approx(by_label(expected), abs=tolerance)


# --- labels


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
    full = ToxicityDetectionPipeline(model=tiny_speech_model(family=family), processor=processor)
    half = ToxicityDetectionPipeline(model=tiny_speech_model(family=family).to(dtype), processor=processor)
    assert_same(half(tone(RATE)), full(tone(RATE)), tolerance=0.05)
    assert set(half(tone(RATE), return_keywords=True)) == {"violations", "labels", "keywords"}


# --- inputs


def test_forms_of_a_clip(pipe, tmp_path):
    samples = tone(RATE)
    encoded = wav(samples)
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded)
    expected = pipe(as_read(samples))
    for clip in (
        str(path),
        path,
        encoded,
        torch.tensor(as_read(samples)),
        as_read(samples).astype(np.float64),
        {"array": as_read(samples), "sampling_rate": RATE},
        {"raw": as_read(samples), "sampling_rate": RATE},
        {"array": as_read(samples), "sampling_rate": RATE, "path": "elsewhere.wav"},
        {"bytes": encoded, "path": None},
        {"bytes": encoded, "path": "elsewhere.wav"},
        {"bytes": None, "path": str(path)},
    ):
        assert_same(pipe(clip), expected)


def test_other_sampling_rates_are_resampled(pipe, tmp_path):
    slow = 0.5 * np.sin(2 * np.pi * 300 * np.arange(8_000) / 8_000).astype(np.float32)  # a second at 8 kHz
    fast = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE).astype(np.float32)
    expected = pipe(fast)
    for clip in ({"array": slow, "sampling_rate": 8_000}, wav(slow, 8_000)):
        assert_same(pipe(clip), expected, tolerance=0.02)
    wrong = pipe({"array": slow, "sampling_rate": RATE})  # half a second at 600 Hz
    assert max(abs(by_label(wrong)[label] - score) for label, score in by_label(expected).items()) > 0.02
    # one of several clips of different rates
    assert_same(pipe([fast, {"array": slow, "sampling_rate": 8_000}])[1], expected, tolerance=0.02)


def test_input_is_not_changed(pipe):
    clip = {"array": tone(RATE), "sampling_rate": RATE}
    pipe(clip)
    assert set(clip) == {"array", "sampling_rate"}
    np.testing.assert_array_equal(clip["array"], tone(RATE))


def test_lists_and_generators(pipe):
    clips = [tone(RATE, 300.0), tone(RATE // 2, 500.0), wav(tone(RATE * 3 // 2, 700.0))]
    expected = [pipe(clip) for clip in clips]
    for several in (clips, (clip for clip in clips)):
        verdicts = list(pipe(several))
        assert len(verdicts) == 3
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)


@pytest.mark.parametrize("as_generator", [False, True])
def test_batches_change_nothing(pipe, as_generator):
    clips = [tone(samples, 200.0 + samples / 100, samples) for samples in (RATE, 40_000, RATE // 2, 2_000, 56_000)]
    options = {"window_seconds": 1.0, "return_keywords": True}
    one = list(pipe(clips, batch_size=1, **options))
    three = list(pipe((clip for clip in clips) if as_generator else clips, batch_size=3, **options))
    assert len(three) == len(clips)
    for first, second in zip(one, three, strict=True):
        assert_same(first["labels"], second["labels"])
        assert first["keywords"] == [{**word, "score": pytest.approx(word["score"])} for word in second["keywords"]]
    # each second has both keywords, each half second "damn" alone
    assert [len(verdict["keywords"]) for verdict in one] == [2, 5, 1, 0, 7]


def test_datasets_stream(pipe):
    clips = [wav(tone(RATE, 300.0)), wav(tone(RATE // 2, 500.0))]
    expected = [pipe(clip) for clip in clips]
    table = dataset_of(*(record(f"clip-{index}", clip) for index, clip in enumerate(clips)))
    table = table.cast_column("audio", Audio(decode=False))
    for rows in (table, table["audio"], table.to_iterable_dataset(), tuple(clips)):
        verdicts = pipe(rows, batch_size=2)
        assert not isinstance(verdicts, list)  # nothing is heard before it is asked for
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)
    assert_same(pipe(table[0]), expected[0])


# --- windows


def test_long_clip_is_heard_in_windows(pipe, model):
    parts = [tone(15 * RATE, 200.0), tone(15 * RATE, 900.0, 1), 0.1 * tone(10 * RATE, 3000.0, 2)]
    logits = torch.stack([logits_of(model, part) for part in parts])
    violations, no_violation = logits[:, :5].max(0).values, logits[:, 5:].min(0).values
    expected = torch.sigmoid(torch.cat([violations, no_violation])).tolist()
    clip = np.concatenate(parts)
    assert by_label(pipe(clip)) == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
    assert logits.std(0).min() > 1e-3  # the windows do differ


def test_window_seconds(pipe, model, processor):
    clip = tone(2 * RATE)
    whole = torch.sigmoid(logits_of(model, clip)).tolist()
    assert by_label(pipe(clip)) == pytest.approx(dict(zip(LABELS, whole, strict=True)), abs=1e-5)
    halves = [by_label(pipe(half)) for half in np.split(clip, 2)]
    cut = by_label(pipe(clip, window_seconds=1.0))
    assert cut["Racist"] == pytest.approx(max(half["Racist"] for half in halves), abs=1e-5)
    always = ToxicityDetectionPipeline(model=model, processor=processor, window_seconds=1.0)
    assert by_label(always(clip)) == cut != by_label(pipe(clip))


def test_score_timeline(pipe):
    clip = np.concatenate([tone(RATE, 200.0), tone(RATE, 900.0, 1), 0.1 * tone(RATE // 2, 3000.0, 2)])
    verdict = pipe(clip, return_windows=True, window_seconds=1.0)
    assert_same(verdict["labels"], pipe(clip, window_seconds=1.0))
    assert [(window["start"], window["end"]) for window in verdict["windows"]] == [(0, 1), (1, 2), (2, 2.5)]
    for window, part in zip(verdict["windows"], np.split(clip, [RATE, 2 * RATE]), strict=True):
        assert_same(window["labels"], pipe(part))
    top = pipe(clip, return_windows=True, return_keywords=True, top_k=1)
    assert set(top) == {"violations", "labels", "keywords", "windows"}
    assert top["windows"] == [{"start": 0.0, "end": 2.5, "labels": top["labels"]}]


def test_violations_reach_the_thresholds_of_the_configuration(pipe, monkeypatch):
    """Whatever is left out of the list of labels; being harmless is no violation."""
    scores = {item["label"]: item["score"] for item in pipe(tone(RATE))}
    thresholds = dict.fromkeys(scores, 0.0) | {"Profanity": scores["Profanity"] + 1e-3}
    monkeypatch.setattr(pipe.model.config, "label_thresholds", thresholds)
    verdict = pipe(tone(RATE), return_keywords=True, top_k=1)
    assert set(verdict["violations"]) == set(scores) - {"Profanity", "NoViolation"}


def test_keywords_have_times_in_the_clip(pipe):
    verdict = pipe(tone(40 * RATE), return_keywords=True)
    assert_same(verdict["labels"], pipe(tone(40 * RATE)))
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
        assert len(pipe(tone(RATE + rest), window_seconds=1.0)) == len(LABELS)
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
    assert pipe(tone(RATE), return_windows=True)["windows"] == [{"start": 0.0, "end": 1.0, "labels": None}]


def test_dropout_is_off():
    """As after training, when the model still has it on."""
    pipe = ToxicityDetectionPipeline(model=tiny_speech_model(hidden_dropout=0.5).train(), processor=tiny_processor())
    assert_same(pipe(tone(RATE)), pipe(tone(RATE)))


# --- errors


def test_bad_clips(pipe, tmp_path):
    shortest = pipe.model.config.receptive_field
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=f"{shortest - 1} samples at 16000 Hz, .* at least {shortest}"):
        pipe(tone(shortest - 1))
    with pytest.raises(ValueError, match="text.wav cannot be read"):
        pipe(str(tmp_path / "text.wav"))
    with pytest.raises(ValueError, match="<8 bytes> cannot be read"):
        pipe(b"no audio")
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        pipe(str(tmp_path / "gone.wav"))
    with pytest.raises(ValueError, match=r"\(samples,\), but has \(2, 16000\): average its channels"):
        pipe(np.stack([tone(RATE)] * 2))
    with pytest.raises(ValueError, match="The waveform holds samples that are NaN or infinite"):
        pipe(np.where(np.arange(RATE) == 5, np.nan, tone(RATE)))
    with pytest.raises(ValueError, match="`array` and `sampling_rate`"):
        pipe({"array": tone(RATE)})
    with pytest.raises(ValueError, match="`array` and `sampling_rate`"):
        pipe({"sound": tone(RATE), "sampling_rate": RATE})


def test_unknown_argument(pipe, model, processor):
    with pytest.raises(TypeError, match="Unknown argument return_keyword: there are top_k, return_keywords"):
        pipe(tone(RATE), return_keyword=True)
    with pytest.raises(TypeError, match="Unknown argument windows"):
        ToxicityDetectionPipeline(model=model, processor=processor, windows=3)


def test_processor_is_needed(model):
    with pytest.raises(ValueError, match="needs the model's processor"):
        ToxicityDetectionPipeline(model=model, processor=None)


def test_construction_and_use_are_silent(model, processor, transformers_log, recwarn):
    pipe = ToxicityDetectionPipeline(model=model, processor=processor)
    pipe([tone(RATE), tone(RATE // 2)], batch_size=2)
    assert [record.getMessage() for record in transformers_log.records] == []
    assert [str(warning.message) for warning in recwarn] == []


# --- transformers' pipeline()


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), family=family)


def test_pipeline_of_a_folder(folder, family, processor, transformers_log, recwarn):
    pipe = pipeline("audio-classification", model=str(folder))
    assert type(pipe) is ToxicityDetectionPipeline
    expected = ToxicityDetectionPipeline(tiny_speech_model(family=family), processor)
    assert_same(pipe(tone(RATE)), expected(tone(RATE)))
    assert_same(pipeline("audio-classification", model=str(folder), top_k=2)(tone(RATE)), expected(tone(RATE))[:2])
    assert [record.getMessage() for record in transformers_log.records] == []
    assert [str(warning.message) for warning in recwarn] == []


def test_pipeline_of_a_model(model, processor):
    pipe = pipeline(
        "audio-classification", model=model, processor=processor, feature_extractor=processor.feature_extractor
    )
    assert type(pipe) is ToxicityDetectionPipeline


def test_pipeline_without_processor(tmp_path):
    tiny_speech_model().save_pretrained(tmp_path)
    speech_feature_extractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs the model's processor"):
        pipeline("audio-classification", model=str(tmp_path))


def test_pipelines_of_other_models_stay_theirs(tmp_path):
    config = tiny_wavlm_config(**SPEECH_FRAMES, num_labels=3)
    WavLMForSequenceClassification(config).save_pretrained(tmp_path)
    speech_feature_extractor().save_pretrained(tmp_path)
    pipe = pipeline("audio-classification", model=str(tmp_path))
    assert type(pipe) is AudioClassificationPipeline
    assert sum(item["score"] for item in pipe(tone(RATE))) == pytest.approx(1)


def test_saved_pipeline_is_complete(pipe, family, processor, tmp_path):
    saved = ToxicityDetectionPipeline(tiny_speech_model(family=family), processor)
    saved.save_pretrained(tmp_path)
    loaded = pipeline("audio-classification", model=str(tmp_path))
    assert_same(loaded(tone(RATE)), saved(tone(RATE)))
    assert loaded.processor.keywords.to_dict() == processor.keywords.to_dict()
