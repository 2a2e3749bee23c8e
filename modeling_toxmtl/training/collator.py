"""Items of a [`ToxicityDataset`] to batches."""

from dataclasses import dataclass

import torch

from ..processing_toxmtl import ToxicityMTLProcessor


@dataclass
class ToxicityDataCollator:
    """Pads items to a batch: the encoder's input with 0 (and an attention mask), keyword targets with -100."""

    processor: ToxicityMTLProcessor

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        """Pads the items of a batch."""
        return dict(self.processor.pad(items))
