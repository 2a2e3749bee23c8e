import numpy as np
import pytest
from helpers import RATE
from live_helpers import HearingJudge, chatter, of_kind, silence, word

from modeling_toxmtl.moderation.live.redaction import Delayed, DelayLine, LiveRedactor
from modeling_toxmtl.moderation.live.session import ModerationSession


PACKET = 0.02  # seconds


@pytest.fixture(scope="module")
def judge():
    return HearingJudge()


def redacted(redactor: LiveRedactor, samples: np.ndarray) -> tuple[list[Delayed], list, list[float]]:
    """The packets that leave, all events, and for each packet how long after its end it left."""
    size = round(PACKET * redactor.sampling_rate)
    leaving, said, waited = [], [], []
    for start in range(0, len(samples), size):
        packets, events = redactor.feed(samples[start : start + size])
        waited += [redactor.session.state.time - packet.end for packet in packets]
        leaving, said = leaving + packets, said + events
    packets, events = redactor.finish()
    return leaving + packets, said + events, waited


def test_a_word_is_beeped_before_it_is_heard(judge):
    """Two seconds late, sound is as it came, but for the word and its padding."""
    clip = np.concatenate([chatter(2), word(), chatter(3), silence(2)])
    packets, events, waited = redacted(LiveRedactor(ModerationSession(judge), RATE), clip)
    assert waited == pytest.approx([2.0] * len(waited), abs=1e-6) and len(waited) == len(packets) - 100
    np.testing.assert_allclose([packet.start for packet in packets], np.arange(len(packets)) * PACKET, atol=1e-9)
    heard = np.concatenate([packet.samples for packet in packets])
    changed = np.flatnonzero(heard != clip) / RATE
    assert (changed.min(), changed.max()) == pytest.approx((1.9, 2.5), abs=0.006)
    beep = heard[round(2.1 * RATE) : round(2.2 * RATE)]
    assert np.abs(beep).max() == pytest.approx(0.1, abs=0.001)
    assert np.abs(np.fft.rfft(beep)).argmax() * 10 == 1000  # Hz
    assert not of_kind(events, "unheard") + of_kind(events, "missed") + of_kind(events, "delay changed")


def test_integers_of_another_rate_stay_as_they_are(judge):
    clip = (32767 * np.repeat(chatter(3), 3)).astype(np.int16)
    packets, *_ = redacted(LiveRedactor(ModerationSession(judge), 3 * RATE), clip)
    heard = np.concatenate([packet.samples for packet in packets])
    assert heard.dtype == np.int16
    np.testing.assert_array_equal(heard, clip)


def test_only_what_is_chosen_is_taken_out(judge):
    line = DelayLine(how="mute", chooses=lambda keyword: keyword.keyword == "crap")
    clip = np.concatenate([chatter(2), word(), chatter(1), word(2000), chatter(1)])
    packets, *_ = redacted(LiveRedactor(ModerationSession(judge), RATE, line), clip)
    heard = np.concatenate([packet.samples for packet in packets])
    changed = np.flatnonzero(heard != clip) / RATE
    assert (changed.min(), changed.max()) == pytest.approx((3.2, 3.8), abs=0.006)
    assert not heard[round(3.3 * RATE) : round(3.7 * RATE)].any()


def line_of(seconds: float, sound: float = 0.5, **settings) -> DelayLine:
    line = DelayLine(**settings)
    for number in range(round(seconds / PACKET)):
        samples = np.full(round(PACKET * RATE), sound, dtype=np.float32)
        line.put(Delayed(number * PACKET, samples, RATE))
    return line


def test_a_busy_judge_makes_the_delay_longer():
    """What is not known waits; then all that follows leaves as much later."""
    line = line_of(10)
    assert line.take(3.0, heard_until=0.5) == ([], [])  # due, but a word may begin there
    packets, (changed,) = line.take(3.0, heard_until=3.0)
    assert [packet.end for packet in packets] == [PACKET] and changed.delay == line.delay == pytest.approx(2.98)
    for number in range(1, 50):
        (packet,), events = line.take(3.0 + number * PACKET, heard_until=4.0)
        assert packet.end == pytest.approx((number + 1) * PACKET) and not events


def test_a_pause_of_the_sender_changes_no_delay():
    """All that waits has left when the next packet comes."""
    line = line_of(2)
    packets, events = line.take(60.0, heard_until=59.5)
    assert len(packets) == 100 and not events and line.delay == 2.0


def test_what_waits_leaves_when_the_sender_falls_silent(judge):
    """No packet follows: time that passes lets the sound go, with the word muted, and ends the segment."""
    sound = np.concatenate([chatter(1), word(), chatter(0.5)])
    redactor = LiveRedactor(ModerationSession(judge), RATE, DelayLine(how="mute"))
    packets, events = redactor.feed(sound)
    assert packets == []
    for _ in range(4):
        leaving, said = redactor.wait(1.0)
        packets, events = packets + leaving, events + said
    (packet,) = packets
    silent = np.flatnonzero(packet.samples == 0) / RATE
    assert (silent.min(), silent.max()) == pytest.approx((0.9, 1.5), abs=0.006)
    assert len(of_kind(events, "segment")) == 1 and redactor.session.state.time == pytest.approx(5.8)


def test_silence_makes_the_delay_short_again():
    """Its packets are left out."""
    line = line_of(10, sound=0.0)
    line.delay = 3.0
    (packet,), (changed,) = line.take(3.02, heard_until=20.0)
    assert changed.delay == line.delay == pytest.approx(2.0)
    assert packet.start == pytest.approx(1.0)  # 50 were left out


def test_what_is_never_judged_is_muted_and_said():
    line = line_of(10, longest=3.0)
    packets, events = line.take(6.0, heard_until=0.0)
    assert packets[-1].end == pytest.approx(3.0) and not any(packet.samples.any() for packet in packets)
    unheard = of_kind(events, "unheard")
    assert (unheard[0].start, unheard[-1].end) == pytest.approx((0.0, 3.0)) and len(unheard) == len(packets)


def test_a_word_that_is_found_too_late_is_said(judge):
    """Here only whole windows are heard, and the delay is shorter than they are."""

    class Slow(HearingJudge):
        def _words(self, window, samples):
            return super()._words(window, samples) if len(samples) == 3 * RATE else []

    redactor = LiveRedactor(ModerationSession(Slow()), RATE, DelayLine(delay=2.0))
    _, events, _ = redacted(redactor, np.concatenate([chatter(0.5), word(), chatter(4)]))
    (missed,) = of_kind(events, "missed")
    assert (missed.keyword, round(missed.start, 1)) == ("damn", 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"how": "cut"}, "`how` is 'cut'"), ({"delay": 0.0}, "`delay` is 0"), ({"longest": 1.0}, "`longest` is 1")],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        DelayLine(**settings)
