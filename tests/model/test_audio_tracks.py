"""Tracks, gaps, late starts, rates that change, damage: what a file says of its time, and where."""

import av
import numpy as np
import pytest
from helpers import tracks
from sounds import encoded, loud_spans, main_frequency, read_tracks, sine

from modeling_toxmtl import audio
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio, resample


def test_all_tracks_sound_together():
    game, speech = sine(300, 1.0, 48_000, 0.2), np.concatenate([np.zeros(24_000, "f4"), sine(2000, 1.0, 48_000)])
    heard = load_audio(tracks(game, speech))
    assert len(heard) == pytest.approx(1.5 * SAMPLING_RATE, abs=400)
    assert main_frequency(heard[:8000]) == pytest.approx(300, abs=4)
    assert main_frequency(heard[8500:]) == pytest.approx(2000, abs=4)


def test_tracks_are_read_one_by_one():
    game, speech = sine(300, 1.0, 48_000, 0.2), np.concatenate([np.zeros(24_000, "f4"), sine(2000, 1.0, 48_000)])
    first, second = read_tracks(tracks(game, speech))
    assert [len(first), len(second)] == [1, 1]
    assert first.shape[1] == pytest.approx(SAMPLING_RATE, abs=400)
    assert second.shape[1] == pytest.approx(1.5 * SAMPLING_RATE, abs=400)
    assert main_frequency(first[0]) == pytest.approx(300, abs=4)
    assert loud_spans(second[0]) == [pytest.approx((0.5, 1.5), abs=0.03)]


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("matroska", "flac"), ("mp4", "aac")])
def test_gaps_are_silence(container, codec):
    """A microphone is muted: nothing is sent for 20 s, and the clock goes on."""
    sound = sine(440, 2.0, 48_000)
    delay = lambda seconds: 20.0 if seconds >= 1.0 else 0.0  # noqa: E731
    spans = loud_spans(load_audio(tracks(sound, container=container, codec=codec, delay=delay)))
    assert np.array(spans) == pytest.approx(np.array([(0.0, 1.0), (21.0, 22.0)]), abs=0.12)  # a packet


def test_sound_that_starts_late_is_where_a_player_has_it():
    (span,) = loud_spans(load_audio(tracks(sine(440, 1.0, 48_000), delay=lambda seconds: 10.0)))
    assert span == pytest.approx((10.0, 11.0), abs=0.03)


def test_a_clock_that_jumps_is_no_gap(caplog):
    """A day of silence would only fill the memory."""
    sound = sine(440, 2.0, 48_000)
    forth = load_audio(tracks(sound, delay=lambda seconds: 86_400.0 if seconds >= 1.0 else 0.0))
    assert len(forth) == pytest.approx(2 * SAMPLING_RATE, abs=400)
    assert "its clock jumps from 1.0 to 86401.0 s" in caplog.text


@pytest.mark.parametrize("seconds", [10.0, 1e6])
def test_an_ogg_flac_stream_that_starts_late_starts_with_its_sound(seconds):
    """FFmpeg counts the packets of its first page from 0, and those of the second by the stream's clock."""
    sound = np.concatenate([sine(440, 2.0, 48_000), sine(880, 2.0, 48_000)])
    late = load_audio(tracks(sound, container="ogg", codec="flac", delay=lambda _: seconds))
    assert np.array_equal(late, load_audio(tracks(sound, container="ogg", codec="flac")))


def test_rate_that_changes_on_the_way():
    frames = []
    for rate in (48_000, 24_000):
        frame = av.AudioFrame.from_ndarray(sine(440, 1.0, rate)[None], format="flt", layout="mono")
        frame.rate = rate
        frames.append(frame)
    heard = np.concatenate(list(audio.resampled_blocks(frames, SAMPLING_RATE)))
    assert len(heard) == pytest.approx(2 * SAMPLING_RATE, abs=4)
    assert main_frequency(heard) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("codec", "container"), [("libmp3lame", "mp3"), ("aac", "adts")])
def test_files_whose_rate_changes_on_the_way(codec, container):
    """As a stream that was recorded over a change of programme."""
    parts = [encoded(sine(440, 2.0, rate), rate, codec, container) for rate in (44_100, 22_050)]
    heard = load_audio(b"".join(parts))
    assert len(heard) == pytest.approx(4 * SAMPLING_RATE, rel=0.1)
    for second in (1, 3):
        assert main_frequency(heard[second * SAMPLING_RATE - 8000 :][:8000]) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("damage", [b"\0" * 700, b"\xff" * 300, bytes(range(256)) * 3])
def test_damaged_opus_packets_do_not_hide_the_rest(damage):
    """Other bytes than those of an MP3."""
    content = bytearray(encoded(sine(440, seconds=6, rate=48_000), 48_000, "libopus", "ogg"))
    whole = load_audio(bytes(content))
    middle = len(content) // 2
    content[middle : middle + len(damage)] = damage
    damaged = load_audio(bytes(content))
    assert len(whole) / 3 < len(damaged) <= len(whole)
    assert main_frequency(damaged[:SAMPLING_RATE]) == pytest.approx(440, abs=2)


def test_long_arrays_are_resampled(monkeypatch):
    """96 minutes at 48 kHz exceed what one of FFmpeg's frames holds."""
    samples = sine(440, 5.0, 48_000)
    expected = resample(samples, 48_000, SAMPLING_RATE)
    monkeypatch.setattr(audio, "BLOCK_SIZE", 10_000)
    np.testing.assert_allclose(resample(samples, 48_000, SAMPLING_RATE), expected, atol=1e-6)
