"""What a voice-chat channel does to speech: background noise, gain, clipping, Opus.

Design choices:
- Every function is pure: float32 mono samples of shape `(samples,)` in, new ones out, all chance from the generator.
- Noise is shaped in the frequency domain, with one inverse FFT a clip; nothing loops over samples.
- Levels are mean powers over the whole clip, pauses included, so that a figure can be checked from the samples alone.
- Ogg files are written "bitexact", without encoder version and random serial number: equal samples give equal bytes.
"""

import io
from dataclasses import dataclass

import av
import numpy as np

from modeling_toxmtl.audio import resample


NOISE_KINDS = ("white", "pink", "babble", "hum")
OPUS_SAMPLING_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz, the only ones Opus codes
OPUS_BIT_RATES = (6_000, 128_000)  # bits a second, the range libopus takes for mono at 8 kHz and above

SNR_RANGE = (10.0, 35.0)  # dB
GAIN_RANGE = (-12.0, 6.0)  # dB
CLIPPING_SHARE = 0.15  # of the clips
CLIPPING_LEVEL_RANGE = (0.3, 0.7)  # of a clip's peak
SAMPLING_RATES = (16_000, 16_000, 16_000, 48_000)  # Hz, three clips of four wideband
BIT_RATES = (12_000, 16_000, 24_000, 32_000)  # bits a second

_BABBLE_BAND = (150.0, 3_500.0)  # Hz
_SYLLABLE_RATE = 4.0  # Hz, at which babble swells and fades
_MAINS_FREQUENCIES = (50.0, 60.0)  # Hz
_MAINS_HARMONICS = 8


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


def draw_channel(rng: np.random.Generator) -> Channel:
    """A channel with every setting drawn from the ranges of this module."""
    is_clipped = rng.random() < CLIPPING_SHARE
    return Channel(
        noise_kind=NOISE_KINDS[rng.integers(len(NOISE_KINDS))],
        snr_db=rng.uniform(*SNR_RANGE),
        gain_db=rng.uniform(*GAIN_RANGE),
        clipping_level=rng.uniform(*CLIPPING_LEVEL_RANGE) if is_clipped else 1.0,
        sampling_rate=SAMPLING_RATES[rng.integers(len(SAMPLING_RATES))],
        bit_rate=BIT_RATES[rng.integers(len(BIT_RATES))],
    )


def transmit(samples: np.ndarray, sampling_rate: int, channel: Channel, rng: np.random.Generator) -> np.ndarray:
    """Sends `samples` through noise, gain and clipping, in this order; the result stays within [-1, 1].

    `sampling_rate` (Hz) is that of the samples: the channel's own is for `encode_opus`.
    """
    noise = make_noise(channel.noise_kind, len(samples), sampling_rate, rng)
    loud = apply_gain(add_noise(samples, noise, channel.snr_db), channel.gain_db)
    return clip_peaks(loud, min(1.0, channel.clipping_level * float(np.abs(loud).max())))


def send(samples: np.ndarray, sampling_rate: int, channel: Channel, rng: np.random.Generator) -> tuple[bytes, float]:
    """What the other end of a channel gets of `samples` at `sampling_rate` Hz: an Ogg-Opus file and its duration in
    seconds."""
    samples = resample(transmit(samples, sampling_rate, channel, rng), sampling_rate, channel.sampling_rate)
    return encode_opus(samples, channel.sampling_rate, channel.bit_rate), len(samples) / channel.sampling_rate


def make_noise(kind: str, num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Background noise of mean power 1.

    Args:
        kind: "white"; "pink" (power falls by 3 dB an octave); "babble", pink noise in the band of speech that swells
            and fades at the rate of syllables; or "hum", the mains frequency and its harmonics.
        num_samples: length of the noise.
        sampling_rate: in Hz.
        rng: source of the noise.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind == "hum":
        noise = _hum(num_samples, sampling_rate, rng)
    elif kind in NOISE_KINDS:
        noise = _shaped_noise(kind, num_samples, sampling_rate, rng)
    else:
        raise ValueError(f"Unknown noise kind {kind!r}: choose one of {', '.join(NOISE_KINDS)}.")
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def _hum(num_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    base = _MAINS_FREQUENCIES[rng.integers(len(_MAINS_FREQUENCIES))]
    angles = np.arange(num_samples, dtype=np.float32) * np.float32(2 * np.pi * base / sampling_rate)
    harmonics = range(1, _MAINS_HARMONICS + 1)
    return sum(np.sin(n * angles + np.float32(rng.uniform(0, 2 * np.pi))) / n for n in harmonics)


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
