"""What a speech gate lets pass: `moderation/live/gate.py`."""

import numpy as np
import pytest
from helpers import RATE
from live_helpers import HearingJudge, chatter, of_kind, packets, silence, word

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.moderation.live.gate import FRAME, SileroVad, SpeechGate
from modeling_toxmtl.moderation.live.session import ModerationSession


MARGIN = 0.5
STEP = FRAME / RATE


class Loud:
    """Takes what is loud for speech, and remembers how often it was reset."""

    num_resets = 0

    def __call__(self, frame):
        assert frame.shape == (FRAME,)
        return float(np.abs(frame).max() > 0.2)

    def reset(self):
        self.num_resets += 1


class Probabilities:
    """Says what it is told to."""

    def __init__(self, *values):
        self.values = list(values)

    def __call__(self, frame):
        return self.values.pop(0)

    def reset(self):
        pass


def joined(sounds: list) -> np.ndarray:
    return np.concatenate([np.zeros(sound) if isinstance(sound, int) else sound for sound in sounds])


def through(gate: SpeechGate, samples: np.ndarray, **how) -> np.ndarray:
    passed = [sound for packet in packets(samples, **how) for sound in gate.feed([packet])]
    return joined(passed + gate.end())


def test_speech_passes_with_its_margins_and_noise_is_silence():
    noisy = np.concatenate([chatter(3, 1), word(seconds=0.512), chatter(3, 2)])
    passed = through(SpeechGate(Loud(), MARGIN), noisy)
    heard = np.flatnonzero(passed) / RATE
    assert len(passed) == len(noisy)
    assert (heard.min(), heard.max()) == pytest.approx((3 - MARGIN, 3.512 + MARGIN), abs=2 * STEP)
    first, last = np.flatnonzero(passed)[[0, -1]]
    np.testing.assert_array_equal(passed[first : last + 1], noisy[first : last + 1])


def test_packets_and_pauses_of_the_sender_change_nothing():
    noisy = np.concatenate([chatter(2, 1), word(), chatter(2, 2), word(), chatter(0.3, 3)])
    expected = through(SpeechGate(Loud()), noisy)
    for seed in range(3):
        np.testing.assert_array_equal(through(SpeechGate(Loud()), noisy, seed=seed, longest=0.5), expected)
    gate = SpeechGate(Loud())
    passed = joined([*gate.feed([noisy, RATE, noisy]), *gate.end()])
    np.testing.assert_array_equal(passed, np.concatenate([expected, np.zeros(RATE), expected]))
    assert gate.detector.num_resets == 2


def test_speech_ends_at_a_lower_probability_than_it_begins_at():
    gate, frames = SpeechGate(Probabilities(0.4, 0.6, 0.4, 0.3, 0.4, 0.9), margin=0.0), np.ones(6 * FRAME)
    passed = gate.feed([frames.astype(np.float32)])
    assert [sound if isinstance(sound, int) else "heard" for sound in passed] == [
        FRAME,
        "heard",
        "heard",
        FRAME,
        FRAME,
        "heard",
    ]


def test_a_session_in_noise_ends_its_segments_and_hears_the_same_words():
    """A fan runs all the time: without a gate, there is no end of speech."""
    noisy = np.concatenate([chatter(4, 1), word(), chatter(4, 2), word(2000), chatter(4, 3)])
    judge, heard = HearingJudge(), {}
    for gate in (None, SpeechGate(Loud())):
        session, before = ModerationSession(judge, gate=gate), judge.num_heard
        events = [event for packet in packets(noisy) for event in session.feed(packet)]
        num_segments = len(of_kind(events, "segment"))
        events += session.finish()
        words = [event for event in of_kind(events, "keyword") if event.state == "final"]
        heard[gate is not None] = num_segments, judge.num_heard - before, words
    assert heard[False][0] == 0 and heard[True][0] == 2
    assert heard[True][1] < heard[False][1] / 2
    for without, behind in zip(heard[False][2], heard[True][2], strict=True):
        assert behind.keyword == without.keyword and behind.start == pytest.approx(without.start, abs=0.001)


def test_a_gate_is_open_where_speech_goes_on_to_the_end():
    session = ModerationSession(HearingJudge(), gate=SpeechGate(Loud()))
    events = session.feed(np.concatenate([silence(1), chatter(1), word(seconds=0.3)])) + session.finish()
    (said,) = [event for event in of_kind(events, "keyword") if event.state == "final"]
    assert said.start == pytest.approx(2.0, abs=0.002) and session.state.time == pytest.approx(2.3)


def test_silero_tells_speech_from_noise(request):
    pytest.importorskip("silero_vad", reason="silero-vad is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    speech = load_audio(request.config.rootpath / "docs" / "examples" / "insult.ogg")
    noisy = np.concatenate([chatter(3, 1), speech + chatter(len(speech) / RATE, 2)[: len(speech)], chatter(3, 3)])
    passed = through(SpeechGate(SileroVad()), noisy)
    heard = np.flatnonzero(passed) / RATE
    assert 2.4 < heard.min() < 3.6 and 6.2 < heard.max() < 7.4  # speech is from 3.8 to 6 s
    np.testing.assert_array_equal(through(SpeechGate(SileroVad()), noisy, seed=1), passed)
