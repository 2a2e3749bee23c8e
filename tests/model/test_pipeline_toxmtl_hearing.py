import itertools

import numpy as np
import pytest
import torch
from helpers import RATE, Decoder, assert_same, by_label, spell, tiny_processor, tiny_speech_model, tone, tracks, wav

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline, ToxicityMTLOutput
from modeling_toxmtl.listening import WindowPlanner


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
    """Sound with the oracle's word at these times."""
    samples = 0.05 * tone(round(seconds * RATE), seed=seed)
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


@pytest.mark.parametrize("batch_size", [1, 3])
def test_of_a_window_only_scores_and_words_are_kept(pipe, monkeypatch, batch_size):
    """However long a recording is: what the keyword head makes of each frame is read batch by batch."""
    kept = []
    postprocess = pipe.postprocess
    monkeypatch.setattr(pipe, "postprocess", lambda outputs, **kw: kept.extend(outputs) or postprocess(outputs, **kw))
    options = {"window_seconds": 1.0, "stride_seconds": 1.0, "return_keywords": True}
    (verdict,) = pipe([tone(7 * RATE)], batch_size=batch_size, **options)
    assert len(verdict["keywords"]) == 14 and len(kept) == 7
    tensors = [value for output in kept for value in output.values() if isinstance(value, torch.Tensor)]
    assert max(tensor.untyped_storage().nbytes() for tensor in tensors) <= 200 * batch_size  # a window has 49 frames


def test_a_recording_that_comes_block_by_block(pipe, processor):
    """For a live session: windows as soon as they are known, each judged by itself, and all together as the whole."""
    samples, heard = np.concatenate([tone(3 * RATE), np.zeros(2 * RATE), tone(2 * RATE)]).astype(np.float32), []
    planner = WindowPlanner(RATE, RATE, pipe.model.config.receptive_field, None)
    for start in range(0, len(samples), 1000):
        planner.append([samples[None, start : start + 1000]])
        heard += [pipe.forward(pipe.prepare(*window), return_keywords=True) for window in planner.windows(False)]
    num_early = len(heard)
    heard += [pipe.forward(pipe.prepare(*window), return_keywords=True) for window in planner.windows(True)]
    wanted = {"return_keywords": True, "return_windows": True}
    whole = pipe(samples, window_seconds=1.0, stride_seconds=1.0, **wanted)
    assert pipe.postprocess(heard, **wanted) == whole
    assert num_early == len(heard) - 1  # the last part may have gone on
    alone = [pipe.postprocess([window], **wanted) for window in heard]
    assert [word for verdict in alone for word in verdict["keywords"]] == whole["keywords"]
    assert [verdict["labels"] for verdict in alone] == [window["labels"] for window in whole["windows"]]


def test_what_the_model_made_of_a_clip_is_read_again_with_another_list(pipe):
    """Keywords follow the list as it is when they are read, the model's output stays as it was."""
    (prepared,) = pipe.preprocess(tone(RATE))
    output = pipe.infer(pipe.collate([prepared]))
    logits = output["keyword_logits"].clone()
    first, again = (pipe.postprocess([pipe.read(output)], return_keywords=True) for _ in range(2))
    assert first == again == pipe(tone(RATE), return_keywords=True)
    assert torch.equal(output["keyword_logits"], logits)
    keywords = pipe.processor.keywords
    before = keywords.to_dict()
    try:
        keywords.set_threshold("shut up", 1.0)
        strict = pipe.postprocess([pipe.read(output)], return_keywords=True)["keywords"]
        assert [word for word in first["keywords"] if word["keyword"] != "shut up"] == strict != first["keywords"]
    finally:
        pipe.processor.keywords = type(keywords).from_dict(before)
