"""Other speakers out of a recording of one: a shorter or longer vocal tract, another pitch.

Design choices:
- Every function is pure: float32 mono samples of shape `(samples,)` in, new ones out.
- Speech is stretched by overlapping its own pieces where they match best (WSOLA; Verhelst and Roelands, "An
  overlap-add technique based on waveform similarity for high quality time-scale modification of speech", ICASSP
  1993), without the phase vocoder's reverberation.
- Formants are moved by warping the spectral envelope, the low quefrencies of the cepstrum, and leaving the fine
  structure, which is the pitch, where it is.
"""

import numpy as np

from modeling_toxmtl.audio import hann, resample


_PIECE = 0.03  # seconds, of the stretched speech; about three periods of a low voice
_TOLERANCE = 0.008  # seconds, by which a piece may move to match the one before
_FRAME = 0.032  # seconds, of the spectra
_HIGHEST_QUEFRENCY = 0.0018  # seconds; a voice of 400 Hz repeats every 0.0025


def stretch(samples: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Makes speech last `factor` times as long at the same pitch."""
    hop = round(_PIECE * sampling_rate / 2)
    tolerance = round(_TOLERANCE * sampling_rate)
    count = max(1, round(len(samples) * factor / hop))
    padded = np.pad(samples, (hop + tolerance, 3 * hop + 2 * tolerance))
    window = hann(2 * hop)
    stretched = np.zeros((count + 1) * hop, np.float32)
    expected = padded[tolerance : tolerance + 2 * hop]
    for number in range(count):
        start = min(round(number * hop / factor), len(samples))
        choices = padded[start : start + 2 * hop + 2 * tolerance]
        shift = int(np.argmax(np.correlate(choices, expected, "valid")))
        piece = choices[shift : shift + 2 * hop]
        stretched[number * hop : (number + 2) * hop] += window * piece
        following = start + shift + hop
        expected = padded[following : following + 2 * hop]
    return stretched[hop : hop + round(len(samples) * factor)]


def shift_pitch(samples: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Multiplies pitch and formants by `factor`, as a smaller or larger speaker does; the tempo stays."""
    if factor == 1.0:
        return samples
    stretched = stretch(samples, sampling_rate, factor)
    return resample(stretched, round(sampling_rate * factor), sampling_rate)


def shift_formants(samples: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Multiplies the frequencies of the formants by `factor`; pitch and tempo stay."""
    size = round(_FRAME * sampling_rate / 2) * 2
    hop = size // 4
    window = hann(size)
    padded = np.pad(samples, (size, size + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    spectra = np.fft.rfft(frames)
    cepstra = np.fft.irfft(np.log(np.abs(spectra) + 1e-4))
    cutoff = round(_HIGHEST_QUEFRENCY * sampling_rate)
    cepstra[:, cutoff:-cutoff] = 0
    envelopes = np.fft.rfft(cepstra).real  # logarithms
    bins = np.arange(envelopes.shape[1])
    sources = np.minimum(bins / factor, bins[-1])
    lower = np.minimum(sources.astype(int), bins[-1] - 1)
    share = sources - lower
    warped = envelopes[:, lower] * (1 - share) + envelopes[:, lower + 1] * share
    frames = np.fft.irfft(spectra * np.exp(warped - envelopes), size) * window
    shifted = np.zeros(len(padded) + size, np.float32)
    for number, frame in enumerate(frames):
        shifted[number * hop : number * hop + size] += frame
    return shifted[size : size + len(samples)] / np.float32(1.5)  # the sum of squared windows, four to a frame
