"""The member of the text filter that is a model."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ..io.tables import batched
from ..labels import VIOLATIONS
from .recognizers import best_device
from .shards import ROWS_AT_ONCE


class ClassifierFilter:
    """A transformers text classifier: sigmoid scores if it is multi-label or has one output, softmax scores if not, as
    the pipeline of transformers has it.

    Args:
        name_or_path: Hub id or folder.
        revision: branch, tag or commit of a Hub model.
        targets: our labels, or None, in the order of the classifier's outputs; see [`our_labels`].
    """

    name = "classifier"

    def __init__(self, name_or_path: str, revision: str | None, targets: Sequence[str | None]) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        self.model = AutoModelForSequenceClassification.from_pretrained(name_or_path, revision=revision)
        self.model.eval().to(best_device())
        self.targets = targets
        self.knows = tuple(label for label in VIOLATIONS if label in targets)

    def score(self, rows: Sequence[dict]) -> np.ndarray:
        """As of [`TextFilter`]."""
        texts = [phrase["text"] for row in rows for phrase in row["phrases"]]
        owners = [index for index, row in enumerate(rows) for _ in row["phrases"]]
        scores = np.zeros((len(rows), len(VIOLATIONS)))
        for batch in batched(zip(owners, texts, strict=True), ROWS_AT_ONCE):
            probabilities = self._probabilities([text for _, text in batch])
            for (owner, _), row in zip(batch, probabilities, strict=True):
                for target, probability in zip(self.targets, row, strict=True):
                    if target in VIOLATIONS:
                        column = VIOLATIONS.index(target)
                        scores[owner, column] = max(scores[owner, column], probability)
        return scores

    @torch.inference_mode()
    def _probabilities(self, texts):
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        logits = self.model(**inputs).logits.float()
        config = self.model.config
        is_each_alone = config.problem_type == "multi_label_classification" or config.num_labels == 1
        return (logits.sigmoid() if is_each_alone else logits.softmax(-1)).cpu().numpy()
