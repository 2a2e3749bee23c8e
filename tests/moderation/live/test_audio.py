import numpy as np
import pytest
from helpers import RATE, tone
from live_helpers import packets
from pipeline_helpers import burst, speech_with_pauses

from modeling_toxmtl.audio import load_audio, resample
from modeling_toxmtl.io.opus import OPUS_CLOCK, OpusTrack, encode_dtx, is_silent, ogg_file, packet_samples
from modeling_toxmtl.moderation.live.audio import LiveAudio


def joined(sounds) -> np.ndarray:
    """As one waveform."""
    pieces = [np.zeros(sound, np.float32) if isinstance(sound, int) else sound for sound in sounds]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def faults(audio: LiveAudio) -> list[tuple[str, float, float]]:
    return [(fault.kind, round(fault.time, 3), round(fault.seconds, 3)) for fault in audio.faults]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_packets_are_resampled_as_the_whole(rate):
    samples, audio = tone(2 * rate, rate=rate), LiveAudio()
    heard = [sound for packet in packets(samples) for sound in audio.pcm(packet, rate)] + audio.end()
    np.testing.assert_array_equal(joined(heard), resample(samples, rate, RATE))
    assert audio.position == len(joined(heard)) and not audio.faults


def test_integers_are_heard_by_full_scale():
    (heard,) = LiveAudio().pcm(np.array([16384, -32768], dtype=np.int16), RATE)
    np.testing.assert_array_equal(heard, np.array([0.5, -1.0], dtype=np.float32))


def test_what_was_not_sent_is_silence_and_loss_is_said():
    """Packets of 20 ms: one is lost, then the sender pauses."""
    audio, packet = LiveAudio(), tone(320)
    sounds = [sound for time in (5.0, 5.02, 5.06, 5.08, 7.1) for sound in audio.pcm(packet, RATE, time)]
    assert [sound if isinstance(sound, int) else "sound" for sound in sounds] == [
        "sound", "sound", 320, "sound", "sound", 32_000, "sound"
    ]  # fmt: skip
    assert faults(audio) == [("lost", 0.04, 0.02)]


def test_time_stamps_are_rounded_and_clocks_drift():
    """Up to half a packet, sound follows sound; what adds up is made up for."""
    audio, packet = LiveAudio(), tone(320)
    for number in range(1000):
        audio.pcm(packet, RATE, round(number * 0.0201, 3))
    assert audio.position / RATE == pytest.approx(1000 * 0.0201, abs=0.02)
    assert {kind for kind, *_ in faults(audio)} == {"lost"} and len(faults(audio)) == 9  # 10 ms each


def test_late_packets_are_left_out_and_said():
    audio, packet = LiveAudio(), tone(320)
    for time in (0.0, 0.02, 0.06, 0.04, 0.08):
        audio.pcm(packet, RATE, time)
    assert audio.position == 5 * 320
    assert faults(audio) == [("lost", 0.04, 0.02), ("late", 0.08, 0.02)]


@pytest.mark.parametrize("jump", [-100.0, -2.5, 30_000.0])
def test_a_clock_that_jumps_is_no_gap(jump):
    audio, packet = LiveAudio(), tone(320)
    for time in (100.0, 100.02, 100.04 + jump, 100.06 + jump):
        audio.pcm(packet, RATE, time)
    assert audio.position == 4 * 320 and faults(audio) == [("clock", 0.04, jump)]


def test_time_that_passes_is_silence_and_taken_off_the_next_gap():
    """A sender pauses for a second; who waited saw 0.8 s of it, or, because of the network, 1.1 s."""
    packet = tone(320)
    for waited, silent in ((0.8, 1.0), (1.1, 1.1)):
        audio = LiveAudio()
        for time in (3.0, 3.02):
            audio.pcm(packet, RATE, time)
        audio.wait(waited)
        audio.pcm(packet, RATE, 4.04)
        assert audio.seconds == pytest.approx(0.06 + silent) and audio.position == round(audio.seconds * RATE)
        audio.pcm(packet, RATE, 5.06)  # after a pause of another second
        assert audio.seconds == pytest.approx(2.08) and not audio.faults


def test_opus_packets_are_heard_as_their_file():
    track = encode_dtx(burst(3.0), RATE, 24_000)
    assert not any(map(is_silent, track.packets))
    file = ogg_file(OpusTrack(track.packets, 0, len(track.packets) * 960))
    audio = LiveAudio()
    heard = [sound for packet in track.packets for sound in audio.opus(packet)] + audio.end()
    np.testing.assert_array_equal(joined(heard), load_audio(file))


def test_packets_without_content_are_silence():
    """Whether they are sent or left out."""
    samples = speech_with_pauses([(0.5, 1.5), (3.0, 4.0)], 5.0)
    track = encode_dtx(samples, RATE, 24_000)
    with_all, with_gaps = LiveAudio(), LiveAudio()
    sent, left_out = [], []
    for number, packet in enumerate(track.packets):
        sent += with_all.opus(packet)
        if not is_silent(packet):
            left_out += with_gaps.opus(packet, time=number * packet_samples(packet) / OPUS_CLOCK)
    sent, left_out = joined(sent + with_all.end()), joined(left_out + with_gaps.end())
    start = np.flatnonzero(sent)[0] - np.flatnonzero(left_out)[0]  # the clock begins with the first packet
    np.testing.assert_array_equal(sent[start : start + len(left_out)], left_out)
    assert not sent[round(2.2 * RATE) : round(2.5 * RATE)].any() and not with_gaps.faults


def test_damaged_packets_are_silence_and_said(monkeypatch):
    track, audio = encode_dtx(burst(0.1), RATE, 24_000), LiveAudio()
    assert audio.opus(b"") == [] and audio.opus(b"\xff" * 30) == []  # as long as no packet is
    assert audio.opus(track.packets[0]) is not None
    monkeypatch.setattr(audio, "_decoder", type("Broken", (), {"decode": lambda self, packet: []})())
    assert audio.opus(track.packets[1])[-1] == 320
    assert [kind for kind, *_ in faults(audio)] == ["damaged"] * 3


@pytest.mark.parametrize(
    ("samples", "rate", "time", "message"),
    [
        (np.zeros((2, 10)), RATE, None, "must have shape"),
        (np.array([np.nan]), RATE, None, "NaN or infinite"),
        (np.zeros(10), 0, None, "sampling rate of the audio is 0"),
        (np.zeros(10), 2**31 - 1, None, "sampling rate of the audio is 2147483647"),
        (np.zeros(10), RATE, float("inf"), "`time` is inf"),
    ],
)
def test_bad_input_is_named(samples, rate, time, message):
    audio = LiveAudio()
    audio.pcm(np.zeros(10, np.float32), RATE, 0.0)
    with pytest.raises(ValueError, match=message):
        audio.pcm(samples, rate, time)
