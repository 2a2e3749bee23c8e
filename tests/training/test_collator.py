import numpy as np
import pytest
import torch
from helpers import tiny_processor

from modeling_toxmtl.training.collator import ToxicityDataCollator


@pytest.mark.parametrize("default", [True, False])
def test_collator_by_hand(default):
    processor = tiny_processor()
    processor.feature_extractor.return_attention_mask = default  # many Base checkpoints have it off
    items = [
        {
            "input_values": np.array([1, 2, 3], dtype=np.float32),
            "labels": np.array([0, 1], dtype=np.float32),
            "keyword_labels": [5],
        },
        {
            "input_values": np.array([4, 0], dtype=np.float32),
            "labels": np.array([-100, -100], dtype=np.float32),
            "keyword_labels": [6, 7, 8],
        },
        {
            "input_values": np.array([9], dtype=np.float32),
            "labels": np.array([1, 0], dtype=np.float32),
            "keyword_labels": [-100],
        },
    ]
    batch = ToxicityDataCollator(processor)(items)
    expected = {
        "input_values": torch.tensor([[1.0, 2, 3], [4, 0, 0], [9, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]),  # a zero of the clip is no padding
        "labels": torch.tensor([[0.0, 1], [-100, -100], [1, 0]]),
        "keyword_labels": torch.tensor([[5, -100, -100], [6, 7, 8], [-100, -100, -100]]),
    }
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(batch[name], tensor, check_dtype=name != "attention_mask", rtol=0, atol=0)


def test_spectrograms_by_hand():
    """Padded in time, which comes last."""
    mel = np.arange(1, 161, dtype=np.float32).reshape(80, 2)
    items = [
        {"input_features": features, "labels": np.zeros(2, dtype=np.float32), "keyword_labels": [5]}
        for features in (mel, mel[:, :1])
    ]
    batch = ToxicityDataCollator(tiny_processor(family="whisper"))(items)
    assert batch.keys() == {"input_features", "attention_mask", "labels", "keyword_labels"}
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert torch.equal(batch["input_features"][0], torch.tensor(mel))
    assert torch.equal(batch["input_features"][1], torch.tensor(mel) * torch.tensor([1.0, 0.0]))
