"""What a room, a microphone and a voice-chat channel do to speech: echo, background, band, gain, clipping, Opus.

Design choices:
- Every function is pure: float32 mono samples of shape `(samples,)` in, new ones out, all chance from the generator.
- Noise is shaped in the frequency domain, with one inverse FFT a clip; nothing loops over samples.
- Levels are mean powers over the whole clip, pauses included, so that a figure can be checked from the samples alone.
- Ogg files are written "bitexact", without encoder version and random serial number: equal samples give equal bytes.
"""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np

from modeling_toxmtl.audio import resample


NOISE_KINDS = ("white", "pink", "babble", "hum")
BACKGROUND_KINDS = (*NOISE_KINDS, "breath", "clicks", "music")
TALKERS = "talkers"  # a background of other people, who are given
OPUS_SAMPLING_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz, the only ones Opus codes
OPUS_BIT_RATES = (6_000, 128_000)  # bits a second, the range libopus takes for mono at 8 kHz and above

SNR_RANGE = (10.0, 35.0)  # dB
GAIN_RANGE = (-12.0, 6.0)  # dB
CLIPPING_SHARE = 0.15  # of the clips
CLIPPING_LEVEL_RANGE = (0.3, 0.7)  # of a clip's peak
SAMPLING_RATES = (16_000, 16_000, 16_000, 48_000)  # Hz, three clips of four wideband
BIT_RATES = (12_000, 16_000, 24_000, 32_000)  # bits a second

ROOM_SHARE = 0.4  # of the scenes, the others have no echo
REVERB_TIME_RANGE = (0.1, 0.5)  # seconds
ECHO_RANGE = (-18.0, -4.0)  # dB, of the echo's energy to that of the direct sound
BAND_SHARE = 0.4  # of the scenes, the others have the full band
LOW_CUT_RANGE = (60.0, 350.0)  # Hz
HIGH_CUT_RANGE = (2_800.0, 7_000.0)  # Hz
SCENE_SNR_RANGE = (6.0, 45.0)  # dB

TELEPHONE_SAMPLING_RATE = 8_000  # Hz
_MU = 255  # of ITU-T G.711

_BABBLE_BAND = (150.0, 3_500.0)  # Hz
_SYLLABLE_RATE = 4.0  # Hz, at which babble swells and fades
_MAINS_FREQUENCIES = (50.0, 60.0)  # Hz
_MAINS_HARMONICS = 8
_BREATH_BAND = (300.0, 5_000.0)  # Hz
_BREATH_RATE = 0.4  # Hz
_CLICK_RATE = 5.0  # Hz, of keys and mouse buttons
_CLICK_SECONDS = 0.01
_NOTE_RATE = 3.0  # Hz
_NOTE_SECONDS = 0.5  # in which a note fades to a third
_SCALE = (0, 2, 4, 7, 9)  # semitones above the key note: pentatonic


@dataclass(frozen=True)
class Channel:
    """The settings of one clip's channel.

    `clipping_level` is a share of the clip's peak (1 leaves the clip as it is). `sampling_rate` in Hz and `bit_rate`
    in bits a second are those of the Opus encoder.
    """

    noise_kind: str
    snr_db: float
    gain_db: float
    clipping_level: float
    sampling_rate: int
    bit_rate: int


@dataclass(frozen=True)
class Scene:
    """Where a clip is recorded, and the channel that it is sent through.

    `reverb_time` in seconds is 0 without a room; `echo_db` is the echo's energy relative to the direct sound.
    `low_cut` and `high_cut` in Hz bound the microphone's band. The channel's kind of noise may be `TALKERS`.
    """

    reverb_time: float
    echo_db: float
    low_cut: float
    high_cut: float
    channel: Channel


def draw_channel(
    rng: np.random.Generator,
    noise_kinds: Sequence[str] = NOISE_KINDS,
    snr_range: tuple[float, float] = SNR_RANGE,
) -> Channel:
    """A channel with every setting drawn from the ranges of this module, or from those given."""
    is_clipped = rng.random() < CLIPPING_SHARE
    return Channel(
        noise_kind=noise_kinds[rng.integers(len(noise_kinds))],
        snr_db=rng.uniform(*snr_range),
        gain_db=rng.uniform(*GAIN_RANGE),
        clipping_level=rng.uniform(*CLIPPING_LEVEL_RANGE) if is_clipped else 1.0,
        sampling_rate=SAMPLING_RATES[rng.integers(len(SAMPLING_RATES))],
        bit_rate=BIT_RATES[rng.integers(len(BIT_RATES))],
    )


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene with every setting drawn from the ranges of this module; two of nine backgrounds are talkers."""
    has_room, has_band = rng.random() < ROOM_SHARE, rng.random() < BAND_SHARE
    return Scene(
        reverb_time=rng.uniform(*REVERB_TIME_RANGE) if has_room else 0.0,
        echo_db=rng.uniform(*ECHO_RANGE),
        low_cut=rng.uniform(*LOW_CUT_RANGE) if has_band else 0.0,
        high_cut=rng.uniform(*HIGH_CUT_RANGE) if has_band else float("inf"),
        channel=draw_channel(rng, (*BACKGROUND_KINDS, TALKERS, TALKERS), SCENE_SNR_RANGE),
    )


def record(
    samples: np.ndarray,
    sampling_rate: int,
    scene: Scene,
    rng: np.random.Generator,
    talkers: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """What a microphone takes up of speech in a scene: room, background, band, gain and clipping, in this order.

    `talkers` are what other people say at the same sampling rate (Hz); needed if the background is of `TALKERS`.
    """
    if scene.reverb_time:
        samples = add_room(samples, sampling_rate, scene.reverb_time, scene.echo_db, rng)
    channel = scene.channel
    if channel.noise_kind == TALKERS:
        noise = mix_talkers(talkers, len(samples), rng)
    else:
        noise = make_noise(channel.noise_kind, len(samples), sampling_rate, rng)
    samples = add_noise(samples, noise, channel.snr_db)
    return _amplify(limit_band(samples, sampling_rate, scene.low_cut, scene.high_cut), channel)


def add_room(
    samples: np.ndarray, sampling_rate: int, reverb_time: float, echo_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds the echo of a room: noise that fades by 60 dB in `reverb_time` seconds, the usual model of late
    reverberation, with an energy of `echo_db` relative to the direct sound. What would sound after the last sample is
    cut off."""
    times = np.arange(max(2, round(reverb_time * sampling_rate)), dtype=np.float32) / sampling_rate
    echo = rng.standard_normal(len(times), dtype=np.float32) * 10 ** (-3 * times / reverb_time)
    echo[0] = 0
    echo *= np.sqrt(10 ** (echo_db / 10) / np.sum(echo**2))
    echo[0] = 1
    size = 1 << (len(samples) + len(echo) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(echo, size), size)[: len(samples)].astype(np.float32)


def limit_band(samples: np.ndarray, sampling_rate: int, low_cut: float, high_cut: float) -> np.ndarray:
    """Keeps the band between two frequencies in Hz, with the slopes of a Butterworth filter of order 4."""
    if low_cut <= 0 and high_cut >= sampling_rate / 2:
        return samples
    frequencies = np.fft.rfftfreq(len(samples), 1 / sampling_rate)
    shape = 1 / np.sqrt(1 + (frequencies / high_cut) ** 8)
    if low_cut > 0:
        shape *= 1 / np.sqrt(1 + (low_cut / np.maximum(frequencies, 1e-3)) ** 8)
    return np.fft.irfft(np.fft.rfft(samples) * shape, len(samples)).astype(np.float32)


def telephone(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """What a telephone leaves of samples in [-1, 1] at `sampling_rate` Hz: 8 kHz, and 8 bits by the continuous form of
    the mu-law (ITU-T G.711)."""
    narrow = np.clip(resample(samples, sampling_rate, TELEPHONE_SAMPLING_RATE), -1, 1)
    levels = np.round(np.sign(narrow) * np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU) * 127) / 127
    narrow = np.sign(levels) * np.expm1(np.abs(levels) * np.log1p(_MU)) / _MU
    wide = resample(narrow.astype(np.float32), TELEPHONE_SAMPLING_RATE, sampling_rate)
    return np.pad(wide, (0, max(0, len(samples) - len(wide))))[: len(samples)]


def mix_talkers(talkers: Sequence[np.ndarray], num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The babble of people who talk at once, of mean power 1.

    Args:
        talkers: float32 samples of each, at least one; from a random moment on, and over and over.
        num_samples: length of the babble.
        rng: source of the moments.

    Raises:
        ValueError: if there are no talkers.
    """
    if not talkers:
        raise ValueError("`talkers` is empty: a background of talkers needs what they say.")
    babble = np.zeros(num_samples, np.float32)
    for talker in talkers:
        positions = (int(rng.integers(len(talker))) + np.arange(num_samples)) % len(talker)
        babble += talker[positions] / np.sqrt(np.mean(talker**2))
    return babble / np.sqrt(np.mean(babble**2))


def transmit(samples: np.ndarray, sampling_rate: int, channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """Sends `samples` through noise, gain and clipping, in this order; the result stays within [-1, 1].

    `sampling_rate` (Hz) is that of the samples: the channel's own is for `encode_opus`.
    """
    noise = make_noise(channel.noise_kind, len(samples), sampling_rate, rng)
    return _amplify(add_noise(samples, noise, channel.snr_db), channel)


def _amplify(samples: np.ndarray, channel: Channel) -> np.ndarray:
    loud = apply_gain(samples, channel.gain_db)
    return clip_peaks(loud, min(1.0, channel.clipping_level * float(np.abs(loud).max())))


def send(samples: np.ndarray, sampling_rate: int, channel: Channel, rng: np.random.Generator) -> tuple[bytes, float]:
    """What the other end of a channel gets of `samples` at `sampling_rate` Hz: an Ogg-Opus file and its duration in
    seconds."""
    return encode(transmit(samples, sampling_rate, channel, rng), sampling_rate, channel)


def encode(samples: np.ndarray, sampling_rate: int, channel: Channel) -> tuple[bytes, float]:
    """Codes samples at `sampling_rate` Hz as a channel does: an Ogg-Opus file and its duration in seconds."""
    samples = resample(samples, sampling_rate, channel.sampling_rate)
    return encode_opus(samples, channel.sampling_rate, channel.bit_rate), len(samples) / channel.sampling_rate


def make_noise(kind: str, num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Background noise of mean power 1.

    Args:
        kind: "white"; "pink" (power falls by 3 dB an octave); "babble", pink noise in the band of speech that swells
            and fades at the rate of syllables; "hum", the mains frequency and its harmonics; "breath", pink noise that
            swells and fades as breath; "clicks" of keys; or "music", notes of a scale that fade.
        num_samples: length of the noise, at least 2.
        sampling_rate: in Hz.
        rng: source of the noise.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind not in BACKGROUND_KINDS:
        raise ValueError(f"Unknown noise kind {kind!r}: choose one of {', '.join(BACKGROUND_KINDS)}.")
    make = _MAKERS.get(kind, functools.partial(_shaped_noise, kind))
    noise = make(num_samples, sampling_rate, rng)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _hum(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    base = _MAINS_FREQUENCIES[rng.integers(len(_MAINS_FREQUENCIES))]
    angles = np.arange(num_samples, dtype=np.float32) * np.float32(2 * np.pi * base / sampling_rate)
    harmonics = range(1, _MAINS_HARMONICS + 1)
    return sum(np.sin(n * angles + np.float32(rng.uniform(0, 2 * np.pi))) / n for n in harmonics)


def _breath(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    phases = np.arange(num_samples) * (_BREATH_RATE * rng.uniform(0.7, 1.5) / sampling_rate) + rng.random()
    noise = limit_band(_shaped_noise("pink", num_samples, sampling_rate, rng), sampling_rate, *_BREATH_BAND)
    return noise * (0.02 + np.sin(np.pi * phases) ** 4)


def _clicks(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    size = round(_CLICK_SECONDS * sampling_rate)
    click = rng.standard_normal(size) * np.exp(-np.arange(size) / (size / 5))
    count = 1 + rng.poisson(_CLICK_RATE * num_samples / sampling_rate)
    strokes = np.zeros(num_samples)
    strokes[rng.integers(num_samples, size=count)] = rng.uniform(0.2, 1.0, count)
    return np.convolve(strokes, click)[:num_samples] + 1e-4


def _music(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    key, spacing = rng.uniform(110, 330), round(sampling_rate / _NOTE_RATE)
    music = np.zeros(num_samples)
    for start in range(0, num_samples, spacing):
        semitones = rng.choice(_SCALE, size=1 + int(rng.integers(3)), replace=False) + 12 * rng.integers(2)
        times = np.arange(num_samples - start) / sampling_rate
        fade = np.exp(-times / _NOTE_SECONDS)
        for semitone in semitones:
            angles = 2 * np.pi * key * 2 ** (semitone / 12) * times
            music[start:] += fade * (np.sin(angles) + np.sin(2 * angles) / 2 + np.sin(3 * angles) / 4)
    return music


def _shaped_noise(kind: str, num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "white":
        return rng.standard_normal(num_samples, dtype=np.float32)
    # A power of two is the fastest; below 1024 a short clip would have no frequency in the band of babble.
    size = max(1024, 1 << (num_samples - 1).bit_length())
    frequencies = np.fft.rfftfreq(size, 1 / sampling_rate).astype(np.float32)
    shape = 1 / np.sqrt(np.maximum(frequencies, frequencies[1]))
    if kind == "babble":
        shape *= (frequencies >= _BABBLE_BAND[0]) & (frequencies <= _BABBLE_BAND[1])
    white = rng.standard_normal(2 * len(shape), dtype=np.float32).view(np.complex64)
    noise = np.fft.irfft(white * shape, size)[:num_samples]
    return noise * _syllables(num_samples, sampling_rate, rng) if kind == "babble" else noise


def _syllables(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A loudness curve between 0.2 and 1 with one random level for each syllable."""
    count = 2 + int(num_samples / sampling_rate * _SYLLABLE_RATE)
    positions = np.arange(num_samples) * (_SYLLABLE_RATE / sampling_rate)
    return np.interp(positions, np.arange(count), rng.uniform(0.2, 1.0, count))


_MAKERS = {"hum": _hum, "breath": _breath, "clicks": _clicks, "music": _music}


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Adds `noise` of the same length, scaled to lie `snr_db` dB below the samples in mean power."""
    power, noise_power = np.mean(samples**2), np.mean(noise**2)
    return samples + noise * np.sqrt(power / noise_power / 10 ** (snr_db / 10)).astype(np.float32)


def apply_gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Multiplies the samples by a gain given in dB of amplitude: +6 dB doubles them."""
    return samples * np.float32(10 ** (gain_db / 20))


def clip_peaks(samples: np.ndarray, level: float) -> np.ndarray:
    """Limits the samples to [-level, level]."""
    return np.clip(samples, -level, level)


def encode_opus(samples: np.ndarray, sampling_rate: int, bit_rate: int) -> bytes:
    """Codes mono samples as an Ogg-Opus file, as voice chat does: libopus in its "voip" mode, variable bit rate.

    Args:
        samples: float32 of shape `(samples,)`, at least one.
        sampling_rate: in Hz, one of `OPUS_SAMPLING_RATES`.
        bit_rate: mean bits a second, within `OPUS_BIT_RATES`.

    Returns:
        The file's content. Decoders give it back at the length of the samples, without the encoder's delay.

    Raises:
        ValueError: if there are no samples, or Opus cannot code this rate.
    """
    if not len(samples):
        raise ValueError("`samples` is empty: Opus needs at least one sample.")
    if sampling_rate not in OPUS_SAMPLING_RATES:
        raise ValueError(f"`sampling_rate` is {sampling_rate} Hz: resample to one of {OPUS_SAMPLING_RATES}.")
    if not OPUS_BIT_RATES[0] <= bit_rate <= OPUS_BIT_RATES[1]:
        raise ValueError(f"`bit_rate` is {bit_rate}: choose {OPUS_BIT_RATES[0]} to {OPUS_BIT_RATES[1]} bits a second.")
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        # Level 0 of 10: half the time of level 5, and what phones use.
        options = {"application": "voip", "compression_level": "0"}
        stream = container.add_stream("libopus", rate=sampling_rate, options=options)
        stream.layout, stream.format, stream.bit_rate = "mono", "flt", bit_rate
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32, copy=False)[None], format="flt", layout="mono")
        frame.sample_rate = sampling_rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()
