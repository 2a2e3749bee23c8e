"""What the encoders hear, in numpy: what transformers' feature extractors make of a clip that is not padded."""

from functools import lru_cache

import numpy as np

from .audio import SAMPLING_RATE, hann
from .frames import MEL_HOP, MEL_WINDOW


HIGHEST = SAMPLING_RATE / 2  # Hz
LINEAR_UP_TO, MEL_PER_HERTZ, STEPS_PER_OCTAVE = 1000.0, 3 / 200, 27 / np.log(6.4)  # of Slaney's mel scale
DYNAMIC_RANGE = 8.0  # in powers of ten, below a clip's loudest
# Multiplications, up to which OpenBLAS, as numpy has it, keeps to one thread. The others spin for 0.1 s after a larger
# product: as long as a model takes for many a clip, on cores that have other work
SMALL_PRODUCT = 2**18


def normalize(samples: np.ndarray) -> np.ndarray:
    """`(samples,)` of mean 0 and variance 1, as `Wav2Vec2FeatureExtractor` makes them."""
    return (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)


def log_mel(samples: np.ndarray, num_mel_bins: int = 80) -> np.ndarray:
    """`(mel bins, mel frames)` of `(samples,)` at 16 kHz, as `WhisperFeatureExtractor` makes them."""
    half = MEL_WINDOW // 2
    padded = np.pad(np.asarray(samples, dtype=np.float32), half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, MEL_WINDOW)[::MEL_HOP][: len(samples) // MEL_HOP]
    spectrum = np.fft.rfft(frames * hann(MEL_WINDOW))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = _products(mel_filters(num_mel_bins), power.T.astype(np.float32))
    levels = np.log10(np.maximum(mel, 1e-10))
    return (np.maximum(levels, levels.max() - DYNAMIC_RANGE) + 4) / 4


def _products(filters, power):
    """`filters @ power`, by few frames at a time."""
    step = SMALL_PRODUCT // filters.size
    parts = [filters @ power[:, start : start + step] for start in range(0, power.shape[1], step)]
    return np.concatenate(parts, axis=1)


@lru_cache
def mel_filters(num_mel_bins: int) -> np.ndarray:
    """`(mel bins, frequencies)` triangles of equal area on Slaney's mel scale, linear below 1 kHz and logarithmic
    above."""
    edges = _hertz(np.linspace(0, _mel(HIGHEST), num_mel_bins + 2))
    frequencies = np.linspace(0, HIGHEST, MEL_WINDOW // 2 + 1)
    widths = np.diff(edges)[:, None]
    rising = (frequencies - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - frequencies) / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def _mel(hertz):
    return MEL_PER_HERTZ * LINEAR_UP_TO + STEPS_PER_OCTAVE * np.log(hertz / LINEAR_UP_TO)


def _hertz(mel):
    knee = MEL_PER_HERTZ * LINEAR_UP_TO
    return np.where(mel < knee, mel / MEL_PER_HERTZ, LINEAR_UP_TO * np.exp((mel - knee) / STEPS_PER_OCTAVE))
