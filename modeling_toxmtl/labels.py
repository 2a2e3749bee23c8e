"""The six toxicity labels of the paper (section 3.1), in the order of the classifier's outputs.

`NoViolation` is a label of its own: a clip may get a low score for every violation and for `NoViolation` too, which
tells a moderator that the model does not know. Every other label is a violation.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


LABELS = ("Profanity", "DatingAndSexting", "Racist", "Bullying", "Other", "NoViolation")
NO_VIOLATION = "NoViolation"
VIOLATIONS = tuple(label for label in LABELS if label != NO_VIOLATION)
DEFAULT_THRESHOLD = 0.5


class Thresholds:
    """Which scores count, by the fields `label2id` and `label_thresholds` of a configuration."""

    @property
    def thresholds(self) -> dict[str, float]:
        """Score from which on a label counts, for every label.

        Raises:
            ValueError: if `label_thresholds` names a label that there is not, or is out of range.
        """
        self.validate_thresholds()  # it may have been set since the configuration was made
        return dict.fromkeys(self.label2id, DEFAULT_THRESHOLD) | (self.label_thresholds or {})

    def violations(self, scores: dict[str, float]) -> list[str]:
        """The kinds of violation whose score, of those given per label, reaches its threshold."""
        thresholds = self.thresholds
        reached = [label for label, score in scores.items() if score >= thresholds[label]]
        return [label for label in reached if label != NO_VIOLATION]

    def validate_thresholds(self) -> None:
        """Raises ValueError for thresholds of unknown labels, or outside [0, 1]."""
        for label, threshold in (self.label_thresholds or {}).items():
            if label not in self.label2id:
                raise ValueError(f"`label_thresholds` names {label!r}, but the labels are {list(self.label2id)}.")
            if not 0 <= threshold <= 1:
                raise ValueError(f"`label_thresholds[{label!r}]` must lie between 0 and 1, but is {threshold}.")


def aggregate_windows(scores: ArrayLike, label_names: Sequence[str]) -> np.ndarray:
    """Scores of a long clip from those of its windows (paper section 4.1 cuts clips into windows of 15 s).

    A clip has a violation when any of its windows has, and has none when no window has: the maximum over the windows
    for a violation, the minimum for `NoViolation`. The paper does not say how it joins windows.

    Args:
        scores: (W, L) one row per window: logits or probabilities.
        label_names: the L names, in column order; without `NoViolation`, every label gets its maximum.

    Returns:
        (L,) the clip's scores.

    Raises:
        ValueError: `scores` is not (W, L), or has no window.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[0] == 0 or scores.shape[1] != len(label_names):
        raise ValueError(f"scores must have shape (windows >= 1, {len(label_names)} labels), got {scores.shape}")
    is_violation = np.array([name != NO_VIOLATION for name in label_names])
    return np.where(is_violation, scores.max(axis=0), scores.min(axis=0))


def keyword_evidence(keywords: Iterable[Any], label_names: Sequence[str]) -> np.ndarray:
    """What the keywords heard in a window say of its labels.

    Args:
        keywords: each with its `labels` and its `score` in [0, 1].
        label_names: the L names, in column order.

    Returns:
        (L,) the highest score of a keyword that has the label, and for `NoViolation` of any keyword; 0 without one.
    """
    evidence = dict.fromkeys(label_names, 0.0)
    for keyword in keywords:
        for label in {*keyword.labels, NO_VIOLATION} & evidence.keys():
            evidence[label] = max(evidence[label], keyword.score)
    return np.array(list(evidence.values()))


def add_evidence(
    logits: ArrayLike, evidence: ArrayLike, weights: Mapping[str, float] | None, label_names: Sequence[str]
) -> np.ndarray:
    """Logits of windows, (W, L), with what the keywords heard in each say of it.

    A classifier knows words by the sentences of its training; the keyword head spells them, in any sentence, and hears
    words that joined the list later.

    Args:
        logits: (W, L) of the classifier.
        evidence: (W, L), see [`keyword_evidence`].
        weights: label to the logit that evidence of 1 adds, as in a configuration's `keyword_evidence`.
        label_names: the L names, in column order.
    """
    return np.asarray(logits) + np.asarray(evidence) * [(weights or {}).get(name, 0.0) for name in label_names]


def scores_from_logits(logits: ArrayLike) -> np.ndarray:
    """Label scores in [0, 1], float64 in the shape of the logits: a sigmoid per label, for the labels of a clip do not
    exclude each other."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, dtype=float)))  # the sigmoid, without overflow
