import io
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import tracks
from sounds import encoded, main_frequency, read_tracks, sine

from modeling_toxmtl import audio
from modeling_toxmtl.audio import (
    SAMPLING_RATE,
    as_waveform,
    even_blocks,
    join_blocks,
    load_audio,
    resample,
    track_blocks,
)


def wav(*channels: np.ndarray, rate: int = SAMPLING_RATE) -> bytes:
    """16-bit PCM with the given channels."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(len(channels))
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.round(np.stack(channels, axis=1) * 32768).astype("<i2").tobytes())
    return file.getvalue()


def video(sound: np.ndarray | None = None) -> bytes:
    """A video file, with a 48 kHz audio stream or without one."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        pictures = output.add_stream("mpeg4", rate=Fraction(10), width=32, height=32, pix_fmt="yuv420p")
        audio_stream = None if sound is None else output.add_stream("libopus", rate=48_000, layout="mono")
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            output.mux(pictures.encode(picture))
        output.mux(pictures.encode(None))
        if audio_stream:
            frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
            frame.sample_rate = 48_000
            output.mux(audio_stream.encode(frame))
            output.mux(audio_stream.encode(None))
    return file.getvalue()


# --- formats


def test_wav_is_read_exactly(tmp_path):
    samples = np.round(sine(440) * 32768).astype(np.float32) / 32768
    content = wav(samples)
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    for source in (content, path, str(path)):
        loaded = load_audio(source)
        assert loaded.dtype == np.float32
        assert np.array_equal(loaded, samples)


def test_flac_is_lossless():
    samples = sine(440)
    expected = np.round(samples * 32767).astype(np.float32) / 32768
    assert np.array_equal(load_audio(encoded(samples, SAMPLING_RATE, "flac", "flac")), expected)


@pytest.mark.parametrize("container", ["ogg", "webm"])
def test_opus(container):
    loaded = load_audio(encoded(sine(440, rate=48_000), 48_000, "libopus", container))
    assert loaded.dtype == np.float32 and loaded.ndim == 1
    assert len(loaded) == pytest.approx(0.5 * SAMPLING_RATE, abs=0.02 * SAMPLING_RATE)  # whole packets of 20 ms
    assert main_frequency(loaded) == pytest.approx(440, abs=3)
    assert np.abs(loaded[2000:6000]).max() == pytest.approx(0.5, abs=0.05)


def test_sound_of_a_video():
    loaded = load_audio(video(sine(440, rate=48_000)))
    assert len(loaded) == pytest.approx(8000, abs=320)
    assert main_frequency(loaded) == pytest.approx(440, abs=3)


# --- channels


def test_channels_are_averaged():
    left, right = np.full(4000, 0.5), np.full(4000, 0.25)
    np.testing.assert_allclose(load_audio(wav(left, right)), 0.375, atol=1e-4)
    np.testing.assert_allclose(load_audio(wav(left, left)), 0.5, atol=1e-4)  # as loud as in mono, not louder
    np.testing.assert_allclose(load_audio(wav(left, 0 * left)), 0.25, atol=1e-4)  # one side is silent


def test_channels_that_cancel_each_other_are_heard():
    """By the loudest: a microphone wired the wrong way round gives a channel the sign of the other's opposite."""
    left = sine(300)
    np.testing.assert_allclose(load_audio(wav(left, -left)), left, atol=1e-4)
    np.testing.assert_allclose(load_audio(wav(0.9 * left, -left)), -left, atol=1e-4)
    np.testing.assert_allclose(load_audio(wav(left, -0.5 * left, -0.5 * left)), left, atol=1e-4)


def test_channels_with_nothing_in_common_are_averaged():
    """Two speakers, one a side: both are heard."""
    left, right = sine(300), sine(700)
    np.testing.assert_allclose(load_audio(wav(left, right)), (left + right) / 2, atol=1e-4)


def test_tracks_have_their_channels():
    left, right = sine(300), sine(700)
    (track,) = read_tracks(wav(left, right))
    np.testing.assert_allclose(track, [left, right], atol=1e-4)
    assert [len(block) for block in read_tracks(wav(left, left, left))] == [3]


def test_blocks_of_a_file_are_its_samples(monkeypatch):
    """Also of tracks that are not as long as each other."""
    long, short, left, right = sine(440, 0.5, 48_000), sine(300, 0.3, 48_000), sine(440), sine(700)
    files = tracks(long, short), wav(left, right)
    whole = [read_tracks(source) for source in files]
    monkeypatch.setattr(audio, "BLOCK_SIZE", 1000)
    for source, expected in zip(files, whole, strict=True):
        blocks = list(track_blocks(source))
        assert [block[0].shape[1] for block in blocks[:7]] == [1000] * 7
        for track, samples in zip(zip(*blocks, strict=True), expected, strict=True):
            assert max(block.shape[1] for block in track) == 1000
            np.testing.assert_allclose(join_blocks(*track), samples, atol=1e-6)


def test_blocks_with_other_channels_are_joined():
    mono, stereo = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    np.testing.assert_array_equal(join_blocks(mono, stereo), [[1, 2, 3], [1, 2, 4]])
    np.testing.assert_array_equal(join_blocks(stereo, np.ones((3, 1))), [[3, 1], [4, 1], [0, 1]])


def test_blocks_are_made_even_without_loss():
    mono, stereo = np.arange(3)[None], np.stack([np.arange(3, 11), np.arange(13, 21)])
    blocks = list(even_blocks([mono, stereo], 4))
    assert [block.shape for block in blocks] == [(2, 4), (2, 4), (2, 3)]
    np.testing.assert_array_equal(join_blocks(*blocks), join_blocks(mono, stereo))


def test_channels_are_averaged_when_resampled():
    left, right = sine(300, rate=48_000), sine(300, rate=48_000, amplitude=0.25)
    loaded = load_audio(wav(left, right, rate=48_000))
    assert np.abs(loaded[1000:7000]).max() == pytest.approx(0.375, abs=0.01)


# --- sampling rates


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_length_and_frequency(rate):
    loaded = load_audio(wav(sine(1000, rate=rate), rate=rate))
    assert abs(len(loaded) - 8000) <= 1
    assert main_frequency(loaded) == pytest.approx(1000, abs=2)
    expected = sine(1000)
    np.testing.assert_allclose(loaded[800:7200], expected[800:7200], atol=0.02)  # in phase: nothing is shifted


def test_other_target_rate():
    loaded = load_audio(wav(sine(1000)), sampling_rate=8_000)
    assert abs(len(loaded) - 4000) <= 1
    assert main_frequency(loaded, rate=8_000) == pytest.approx(1000, abs=4)


def test_resampling_removes_what_the_rate_cannot_hold():
    loaded = load_audio(wav(sine(15_000, rate=48_000), rate=48_000))
    assert np.abs(loaded[800:7200]).max() < 0.01  # not mirrored to 1 kHz


def test_resample():
    samples = sine(1000, rate=48_000)
    resampled = resample(samples, 48_000, SAMPLING_RATE)
    assert resampled.dtype == np.float32 and resampled.ndim == 1
    assert abs(len(resampled) - 8000) <= 1
    np.testing.assert_allclose(resampled[800:7200], sine(1000)[800:7200], atol=0.02)
    assert resample(samples, 48_000, 48_000) is samples
    doubles = resample(samples.astype(np.float64), 48_000, SAMPLING_RATE)
    assert doubles.dtype == np.float32
    assert np.array_equal(doubles, resampled)


def test_samples_of_16_bits_that_became_floats_are_named():
    """A model would hear them as another sound, and find nothing in it."""
    samples = (sine(440) * 32767).astype(np.int16)
    np.testing.assert_allclose(as_waveform(samples), sine(440), atol=1e-4)
    with pytest.raises(ValueError, match="reach 16383: divide samples of 16 bits by 32768"):
        as_waveform(samples.astype(np.float32))
    assert as_waveform(3 * sine(440)).max() > 1  # louder than full scale, as decoders give


def test_a_file_of_no_sampling_rate_is_refused(tmp_path):
    """A few kilobytes at 1 Hz would be an hour of sound, and a gigabyte of samples."""
    path = tmp_path / "slow.wav"
    path.write_bytes(wav(np.zeros(2000), rate=1))
    for read in (load_audio, lambda file: list(track_blocks(file))):
        with pytest.raises(ValueError, match="The sampling rate of .*slow.wav is 1: give a whole number of Hz"):
            read(str(path))


@pytest.mark.parametrize("rate", [0, -1, 1, 999, 768_001, 10**12, 16_000.5, "16000", None])
def test_what_is_no_sampling_rate_is_named(rate):
    with pytest.raises(ValueError, match=f"The sampling rate of the audio is {rate!r}: give a whole"):
        resample(sine(440), rate, SAMPLING_RATE)


# --- files that cannot be read


@pytest.mark.parametrize(
    "content", [b"", b"no audio here\n" * 50, wav(sine(440))[:20]], ids=["empty", "text", "header"]
)
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"clip\.wav.* cannot be read as audio"):
        load_audio(path)
    with pytest.raises(ValueError, match=f"<{len(content)} bytes> cannot be read as audio"):
        load_audio(content)


def test_video_without_sound_is_named(tmp_path):
    path = tmp_path / "silent.mkv"
    path.write_bytes(video())
    with pytest.raises(ValueError, match=r"silent\.mkv holds no audio stream"):
        load_audio(path)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        load_audio("nowhere.wav")


def test_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=tmp_path.name):
        load_audio(tmp_path)


def test_truncated_wav_gives_what_is_there():
    content = wav(sine(440))
    half = load_audio(content[: len(content) // 2])
    assert np.array_equal(half, load_audio(content)[: len(half)])
    assert 3900 < len(half) < 4000


def test_truncated_opus_gives_whole_packets():
    content = encoded(sine(440, seconds=3, rate=48_000), 48_000, "libopus", "ogg")
    cut = load_audio(content[: len(content) * 6 // 10])
    assert 0 < len(cut) < len(load_audio(content))
    assert main_frequency(cut) == pytest.approx(440, abs=3)


def test_truncated_flac_gives_whole_frames():
    content = encoded(sine(440, seconds=3), SAMPLING_RATE, "flac", "flac")
    cut = load_audio(content[: len(content) // 2])
    assert SAMPLING_RATE / 2 < len(cut) < 2 * SAMPLING_RATE
    assert np.array_equal(cut, load_audio(content)[: len(cut)])


def test_damaged_packets_do_not_hide_the_rest(caplog, tmp_path):
    content = bytearray(encoded(sine(440, seconds=3, rate=44_100), 44_100, "libmp3lame", "mp3"))
    whole = load_audio(bytes(content))
    content[len(content) // 2 : len(content) // 2 + 700] = bytes(700)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(content)
    damaged = load_audio(path)
    assert 2.5 * SAMPLING_RATE < len(damaged) <= len(whole)
    assert main_frequency(damaged[:SAMPLING_RATE]) == pytest.approx(440, abs=2)
    assert main_frequency(damaged[-SAMPLING_RATE:]) == pytest.approx(440, abs=2)


def test_colon_in_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "call: 12:30.wav").write_bytes(wav(sine(440)))
    assert len(load_audio("call: 12:30.wav")) == 8000
    with pytest.raises(FileNotFoundError, match="gone: 1"):
        load_audio("gone: 1.wav")


def test_no_samples():
    assert load_audio(wav(np.zeros(0))).shape == (0,)
    assert list(track_blocks(wav(np.zeros(0)))) == []


def test_says_what_to_install(monkeypatch):
    monkeypatch.setattr(audio, "av", None)
    with pytest.raises(ImportError, match="pip install av"):
        load_audio(b"")
    with pytest.raises(ImportError, match="pip install av"):
        resample(np.zeros(10, np.float32), 8_000, SAMPLING_RATE)
    samples = np.zeros(10, np.float32)
    assert resample(samples, SAMPLING_RATE, SAMPLING_RATE) is samples


@pytest.mark.parametrize("block_size", [100, 1000])
def test_blocks_join_without_a_seam(monkeypatch, block_size):
    content = wav(sine(440, rate=44_100), rate=44_100)
    whole = load_audio(content)
    monkeypatch.setattr(audio, "BLOCK_SIZE", block_size)
    np.testing.assert_array_equal(load_audio(content), whole)


# --- tracks and clocks
