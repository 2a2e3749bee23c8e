import copy
import itertools
import logging
import types

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
    spell,
    tiny_processor,
    tiny_speech_model,
    tone,
    tracks,
    wav,
)
from tiny_models import tiny_wavlm_config
from transformers import AudioClassificationPipeline, WavLMForSequenceClassification, WhisperFeatureExtractor, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline, ToxicityMTLOutput
from modeling_toxmtl.audio import resample


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
        (as_read(samples) * 2**15).astype(np.int16),
        {"array": (as_read(samples) * 2**15).astype(np.int32) << 16, "sampling_rate": RATE},
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
    options = {"window_seconds": 1.0, "stride_seconds": 1.0, "return_keywords": True}
    one = list(pipe(clips, batch_size=1, **options))
    three = list(pipe((clip for clip in clips) if as_generator else clips, batch_size=3, **options))
    assert len(three) == len(clips)
    for first, second in zip(one, three, strict=True):
        assert_same(first["labels"], second["labels"])
        assert first["keywords"] == [{**word, "score": pytest.approx(word["score"])} for word in second["keywords"]]
    # each second has both keywords, each half second "damn" alone
    assert [len(verdict["keywords"]) for verdict in one] == [2, 5, 1, 0, 7]


def test_no_clips(pipe):
    assert pipe([]) == list(pipe(iter([]))) == []


class Decoder:
    """As torchcodec's `AudioDecoder`, which `datasets` hands out for a decoded column."""

    def __init__(self, *channels: np.ndarray, rate: int = RATE):
        self.channels, self.rate = channels, rate

    def get_all_samples(self):
        samples = torch.tensor(np.stack(self.channels), dtype=torch.float32)
        return types.SimpleNamespace(data=samples, sample_rate=self.rate, pts_seconds=0.0)


class Clips(torch.utils.data.Dataset):
    def __init__(self, clips):
        self.clips = clips

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return self.clips[index]


class ClipStream(torch.utils.data.IterableDataset):
    def __init__(self, clips):
        self.clips = clips

    def __iter__(self):
        return iter(self.clips)


def test_decoded_audio(pipe):
    """A decoder, rows and columns of them, and the data sets of transformers and torch."""
    samples = [tone(RATE, 300.0), tone(RATE // 2, 500.0)]
    expected = [pipe(clip) for clip in samples]
    decoders = [Decoder(samples[0], samples[0]), Decoder(samples[1])]
    rows = [{"audio": decoder, "labels": ["Other"]} for decoder in decoders]
    assert_same(pipe(decoders[0]), expected[0])
    assert_same(pipe(rows[1]), expected[1])
    streams = (iter(decoders), KeyDataset(Clips(rows), "audio"), Clips(decoders), ClipStream(rows))
    for several in (decoders, rows, *streams):
        verdicts = list(pipe(several, batch_size=2))
        assert len(verdicts) == 2
        for verdict, alone in zip(verdicts, expected, strict=True):
            assert_same(verdict, alone)
    fast = resample(samples[0], RATE, 48_000)
    assert_same(pipe(Decoder(fast, rate=48_000)), pipe({"array": fast, "sampling_rate": 48_000}))


def test_torchcodec(pipe, tmp_path):
    decoders = pytest.importorskip("torchcodec.decoders")
    (tmp_path / "clip.wav").write_bytes(wav(tone(RATE)))
    assert_same(pipe(decoders.AudioDecoder(str(tmp_path / "clip.wav"))), pipe(as_read(tone(RATE))))


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


# --- what can be heard


def test_silence_accuses_nobody(pipe):
    """Whatever the model makes of it: this one says "damn" everywhere."""
    for clip in (np.zeros(RATE), np.zeros(40 * RATE), wav(np.zeros(3 * RATE)), 0.1 * np.sin(np.arange(RATE) / 51)):
        verdict = pipe(clip, return_keywords=True, return_windows=True)
        assert by_label(verdict["labels"]) == {**dict.fromkeys(LABELS, 0.0), "NoViolation": 1.0}
        assert verdict["violations"] == verdict["keywords"] == []
        (window,) = verdict["windows"]
        assert (window["start"], window["labels"]) == (0.0, verdict["labels"])
    assert len(pipe(tone(RATE), return_keywords=True)["keywords"]) == 2


def test_silence_where_no_label_is_harmless(processor):
    model = tiny_speech_model(id2label={0: "Threat", 1: "Insult"})
    pipe = ToxicityDetectionPipeline(model=model, processor=tiny_processor())
    assert by_label(pipe(np.zeros(RATE))) == {"Threat": 0.0, "Insult": 0.0}
    assert max(by_label(pipe(tone(RATE))).values()) > 0.01


def test_a_muted_microphone_does_not_change_the_verdict(pipe):
    muted = [np.concatenate([tone(3 * RATE), np.zeros(seconds * RATE)]) for seconds in (1, 3, 13, 40)]
    verdicts = pipe(muted, return_keywords=True, batch_size=3)
    for verdict in verdicts[1:]:
        assert_same(verdict["labels"], verdicts[0]["labels"])
        assert [word["start"] for word in verdict["keywords"]] == [word["start"] for word in verdicts[0]["keywords"]]
    before = pipe(np.concatenate([np.zeros(20 * RATE), tone(3 * RATE)]), return_keywords=True)
    first = before["keywords"][0]
    assert 19.5 < first["start"] < 20.0  # frame 10 of what is heard, from half a second before the sound on


WORD = 0.3  # seconds


@pytest.fixture
def listener():
    """An oracle, which spells "damn" where it hears a tone of 1 kHz for `WORD` seconds, and "crap" where the tone is
    cut."""
    model = tiny_speech_model()

    def forward(input_values, **_):
        (samples,) = input_values
        num_frames = int(model.config.num_frames(len(samples)))
        spectrum = torch.fft.rfft(samples[: num_frames * 320].view(num_frames, 320)).abs()
        is_word = (spectrum[:, 20] > 40).tolist()
        text = ""
        for is_tone, run in itertools.groupby(is_word):
            length = len(list(run))
            word = "damn " if length >= WORD * 50 - 1 else "crap "
            text += (word if is_tone and length > 5 else "").ljust(length, "_")
        return ToxicityMTLOutput(
            logits=torch.zeros(1, len(LABELS)), keyword_logits=torch.tensor(spell(text, num_frames))[None]
        )

    model.forward = forward
    return ToxicityDetectionPipeline(model=model, processor=tiny_processor())


def words_at(*starts: float, seconds: float = 40.0, seed: int = 0) -> np.ndarray:
    """Noise with the oracle's word at these times."""
    samples = 0.02 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    for start in starts:
        first = round(start * RATE)
        span = np.arange(round(WORD * RATE))
        samples[first : first + len(span)] += 0.3 * np.sin(2 * np.pi * 1000 * span / RATE).astype(np.float32)
    return samples


def heard(verdict) -> list[tuple[str, float]]:
    return [(word["keyword"], pytest.approx(word["start"], abs=0.05)) for word in verdict["keywords"]]


@pytest.mark.parametrize("start", [9.7, 9.9, 10.0, 11.0, 12.4, 13.9, 14.7, 14.8, 14.9, 15.0, 24.9, 38.0])
def test_words_at_the_edges_of_windows_are_heard_once(listener, start):
    verdict = listener(words_at(start), return_keywords=True)
    assert heard(verdict) == [("damn", start)]


def test_windows_side_by_side_cut_words(listener):
    """As in the paper: the stride stays selectable."""
    clip = words_at(9.9, 14.9, 38.0)
    assert heard(listener(clip, return_keywords=True)) == [("damn", 9.9), ("damn", 14.9), ("damn", 38.0)]
    cut = listener(clip, return_keywords=True, return_windows=True, stride_seconds=15)
    assert ("damn", 14.9) not in heard(cut) and heard(cut)[0] == ("damn", 9.9)
    assert [(window["start"], window["end"]) for window in cut["windows"]] == [(0, 15), (15, 30), (30, 40)]


def test_repeated_words_are_each_reported(listener):
    starts = [9.0 + 0.5 * index for index in range(16)]
    verdict = listener(words_at(*starts), return_keywords=True)
    assert heard(verdict) == [("damn", start) for start in starts]


def test_channels_and_tracks_that_differ_are_heard_one_by_one(listener):
    """Where noise in the other hides a word, and at once."""
    loud = 100 * words_at(seconds=5.0, seed=1)
    right = words_at(2.0, seconds=5.0)
    for clip, place in (
        (Decoder(loud, right), {"track": 0, "channel": 1}),
        (tracks(loud, right, codec="pcm_f32le", rate=RATE), {"track": 1, "channel": 0}),
    ):
        verdict = listener(clip, return_keywords=True, return_windows=True)
        assert heard(verdict) == [("damn", 2.0)]
        assert place.items() <= verdict["keywords"][0].items()
        assert len(verdict["windows"]) == 2
    assert heard(listener(loud + right, return_keywords=True)) == []
    both = Decoder(words_at(2.0, seconds=5.0, seed=1), right)
    assert heard(listener(both, return_keywords=True)) == [("damn", 2.0)]


def test_channels_that_are_alike_change_nothing(pipe):
    left = tone(RATE)
    expected = pipe(left, return_keywords=True)
    for clip in (Decoder(left, left), Decoder(left, -left), Decoder(left, left, left)):
        assert_same(pipe(clip, return_keywords=True)["labels"], expected["labels"], tolerance=1e-4)


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
    with pytest.raises(ValueError, match="floats from -1 to 1, int16 or int32, but is of uint8"):
        pipe(np.zeros(RATE, dtype=np.uint8))
    with pytest.raises(ValueError, match="A waveform must"):
        pipe({"audio": [Decoder(tone(RATE))]})  # a slice of a data set: columns, not rows
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


def test_pipeline_of_a_model(pipe, model, processor, tmp_path, transformers_log, monkeypatch):
    """With its processor, or its feature extractor, which knows no keywords."""
    expected, extractor = pipe(tone(RATE), return_keywords=True), processor.feature_extractor
    for parts in ({"processor": processor}, {"processor": processor, "feature_extractor": extractor}):
        made = pipeline("audio-classification", model=model, **parts)
        assert type(made) is ToxicityDetectionPipeline
        assert made(tone(RATE), return_keywords=True) == expected
    made = pipeline("audio-classification", model=model, feature_extractor=extractor)
    assert type(made) is ToxicityDetectionPipeline
    assert made(tone(RATE)) == expected["labels"]
    assert [len(verdict) for verdict in made([tone(RATE), tone(RATE // 2)], batch_size=2)] == [6, 6]
    with pytest.raises(ValueError, match="Keywords need the model's processor, .* pass `processor=`"):
        made(tone(RATE), return_keywords=True)
    with pytest.raises(ValueError, match="needs the model's processor, but has none: pass `processor=`"):
        pipeline("audio-classification", model=model)
    assert not transformers_log.records
    monkeypatch.setattr(model.config, "keyword_evidence", {"Profanity": 2.0})
    pipeline("audio-classification", model=model, feature_extractor=extractor)
    assert "The scores lack the keywords that this model's scores count: pass `processor=`" in transformers_log.text
    made.save_pretrained(tmp_path)
    assert not (tmp_path / "processor_config.json").exists()  # it has none


def test_pipeline_of_a_folder_without_processor(tmp_path):
    tiny_speech_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs the model's processor"):
        pipeline("audio-classification", model=str(tmp_path))
    speech_feature_extractor().save_pretrained(tmp_path)
    made = pipeline("audio-classification", model=str(tmp_path))
    assert len(made(tone(RATE))) == len(LABELS)
    with pytest.raises(ValueError, match="Keywords need the model's processor"):
        made(tone(RATE), return_keywords=True)


def test_pipelines_of_other_models_stay_theirs(tmp_path):
    config = tiny_wavlm_config(**SPEECH_FRAMES, num_labels=3)
    WavLMForSequenceClassification(config).save_pretrained(tmp_path)
    speech_feature_extractor().save_pretrained(tmp_path)
    pipe = pipeline("audio-classification", model=str(tmp_path))
    assert type(pipe) is AudioClassificationPipeline
    assert sum(item["score"] for item in pipe(tone(RATE))) == pytest.approx(1)
    with pytest.raises(ValueError, match="the model's feature extractor, but has none: pass `feature_extractor=`"):
        pipeline("audio-classification", model=pipe.model)


def test_saved_pipeline_is_complete(pipe, family, processor, tmp_path):
    saved = ToxicityDetectionPipeline(tiny_speech_model(family=family), processor)
    saved.save_pretrained(tmp_path)
    loaded = pipeline("audio-classification", model=str(tmp_path))
    assert_same(loaded(tone(RATE)), saved(tone(RATE)))
    assert loaded.processor.keywords.to_dict() == processor.keywords.to_dict()
