"""Items of a [`ToxicityDataset`] to batches."""

from dataclasses import dataclass

import numpy as np
import torch

from ..heads import IGNORE_INDEX
from ..processing_toxmtl import ToxicityMTLProcessor


@dataclass
class ToxicityDataCollator:
    """Pads items to a batch: waveforms with 0 (and an attention mask), keyword targets with -100."""

    processor: ToxicityMTLProcessor

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        batch = self.processor.feature_extractor.pad(
            {"input_values": [item["input_values"] for item in items]},
            padding=True,
            return_attention_mask=True,  # the model needs it, whatever the checkpoint's own default is
            return_tensors="pt",
        )
        targets = [torch.tensor(item["keyword_labels"]) for item in items]
        return {
            "input_values": batch["input_values"],
            "attention_mask": batch["attention_mask"],
            "labels": torch.as_tensor(np.stack([item["labels"] for item in items])),
            "keyword_labels": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE_INDEX),
        }
