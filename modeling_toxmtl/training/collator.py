"""Items of a [`ToxicityDataset`] to batches."""

from dataclasses import dataclass

import numpy as np
import torch

from ..heads import IGNORE_INDEX
from ..processing_toxmtl import ToxicityMTLProcessor


@dataclass
class ToxicityDataCollator:
    """Pads items to a batch: the encoder's input with 0 (and an attention mask), keyword targets with -100."""

    processor: ToxicityMTLProcessor

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        name = self.processor.input_name
        batch = self.processor.pad({name: [item[name] for item in items]})
        targets = [torch.tensor(item["keyword_labels"]) for item in items]
        return {
            **batch,
            "labels": torch.as_tensor(np.stack([item["labels"] for item in items])),
            "keyword_labels": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE_INDEX),
        }
