"""The member of the text filter that is a model."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ..io.tables import batched
from ..labels import LABELS, VIOLATIONS
from .recognizers import best_device
from .shards import ROWS_AT_ONCE


class ClassifierFilter:
    """A transformers text classifier: sigmoid scores if it is multi-label, softmax scores if not."""

    name = "classifier"

    def __init__(self, name_or_path: str, revision: str | None, mapping: dict[str, str | None] | None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        self.model = AutoModelForSequenceClassification.from_pretrained(name_or_path, revision=revision)
        self.model.eval().to(best_device())
        names = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        mapping = {name: name for name in names} if mapping is None else mapping
        if missing := sorted(set(names) - set(mapping)):
            raise ValueError(f"--label_mapping lacks the classifier's labels {missing}: map them to ours, or to null.")
        targets = [mapping[name] for name in names]
        if unknown := sorted({target for target in targets if target and target not in LABELS}):
            raise ValueError(f"--label_mapping: unknown labels {unknown}: choose from {LABELS}, or null.")
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
        is_multi_label = self.model.config.problem_type == "multi_label_classification"
        return (logits.sigmoid() if is_multi_label else logits.softmax(-1)).cpu().numpy()
