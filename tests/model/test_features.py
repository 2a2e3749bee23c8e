"""What the encoders hear, against transformers' feature extractors."""

import numpy as np
import pytest
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from modeling_toxmtl import features
from modeling_toxmtl.features import log_mel, normalize


@pytest.mark.parametrize("num_mel_bins", [80, 128])
@pytest.mark.parametrize("length", [400, 777, 16_000, 100_001])
def test_log_mel_is_that_of_transformers(num_mel_bins, length):
    samples = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=num_mel_bins)
    options = {"sampling_rate": 16_000, "padding": False, "truncation": False, "return_tensors": "np"}
    (expected,) = extractor(samples, **options)["input_features"]
    ours = log_mel(samples, num_mel_bins)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_log_mel_of_silence_is_its_floor():
    """log10(1e-10) is -10, and (-10 + 4) / 4 is -1.5."""
    np.testing.assert_allclose(log_mel(np.zeros(1600, dtype=np.float32)), -1.5, rtol=1e-6)


def test_normalized_samples_are_those_of_transformers():
    samples = np.random.default_rng(0).normal(3, 0.1, 5000).astype(np.float32)
    (expected,) = Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16_000)["input_values"]
    np.testing.assert_allclose(normalize(samples), expected, atol=1e-6)


def test_no_product_is_large_enough_for_numpys_threads(monkeypatch):
    """Which would spin beside the model."""
    sizes = []

    class Recorded(np.ndarray):
        def __matmul__(self, other):
            sizes.append(self.size * other.shape[1])
            return np.asarray(self) @ np.asarray(other)

    samples = np.random.default_rng(0).normal(0, 0.1, 100_000).astype(np.float32)
    expected, filters = log_mel(samples), features.mel_filters(80)
    monkeypatch.setattr(features, "mel_filters", lambda num_mel_bins: filters.view(Recorded))
    np.testing.assert_array_equal(log_mel(samples), expected)
    assert max(sizes) <= 2**18 and sum(sizes) == filters.size * 625
