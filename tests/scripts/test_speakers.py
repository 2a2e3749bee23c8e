"""Other speakers out of one: what is shifted moves by the factor, and what is to stay stays."""

import numpy as np
import pytest

from datasets_scripts.speakers import shift_formants, shift_pitch, stretch


RATE = 16_000


def buzz(pitch: float, formant: float, seconds: float = 1.0) -> np.ndarray:
    """A voice: harmonics of a pitch, strongest around a formant."""
    time = np.arange(round(seconds * RATE)) / RATE
    harmonics = np.arange(1, int(4000 / pitch)) * pitch
    weights = np.exp(-(((harmonics - formant) / 300) ** 2))
    return (0.1 * (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(0)).astype(np.float32)


def pitch_of(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    correlation = np.correlate(middle, middle, "full")[len(middle) :]
    return RATE / (correlation[RATE // 400 : RATE // 60].argmax() + RATE // 400 + 1)


def formant_of(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float((power * np.fft.rfftfreq(len(samples), 1 / RATE)).sum() / power.sum())


@pytest.mark.parametrize("factor", [0.85, 1.25])
def test_shifting_pitch_keeps_the_tempo(factor):
    samples = buzz(120, 900)
    shifted = shift_pitch(samples, RATE, factor)
    assert len(shifted) == pytest.approx(len(samples), rel=0.02)
    assert pitch_of(shifted) == pytest.approx(120 * factor, rel=0.04)
    assert formant_of(shifted) == pytest.approx(900 * factor, rel=0.08)


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_stretching_keeps_the_pitch(factor):
    stretched = stretch(buzz(150, 900), RATE, factor)
    assert len(stretched) == pytest.approx(factor * RATE, rel=0.01)
    assert pitch_of(stretched) == pytest.approx(150, rel=0.04)


def test_shifting_formants_keeps_the_pitch():
    samples = buzz(120, 1200)
    shifted = shift_formants(samples, RATE, 1.15)
    assert len(shifted) == len(samples)
    assert pitch_of(shifted) == pytest.approx(120, rel=0.04)
    assert formant_of(shifted) > 1.04 * formant_of(samples)


def test_a_factor_of_one_changes_nothing():
    samples = buzz(120, 900)
    np.testing.assert_array_equal(shift_pitch(samples, RATE, 1.0), samples)
    np.testing.assert_allclose(shift_formants(samples, RATE, 1.0), samples, atol=1e-5)


def test_words_stay_in_their_places():
    """A pause between two words is where it was, at any pitch."""
    samples = np.concatenate([buzz(120, 900, 0.6), np.zeros(RATE // 2, np.float32), buzz(120, 900, 0.9)])
    for factor in (0.85, 1.25):
        loud = np.abs(shift_pitch(samples, RATE, factor)) > 0.02
        first, second = np.flatnonzero(loud[: RATE * 8 // 10]), np.flatnonzero(loud[RATE * 8 // 10 :])
        assert first[-1] / RATE == pytest.approx(0.6, abs=0.04)
        assert 0.8 + second[0] / RATE == pytest.approx(1.1, abs=0.04)
