"""Metrics of the paper's Table 2, average precision per label and keyword detection at word-token level (section 4),
and of what the paper leaves out: calibration, and decisions at thresholds.

Design choices:

- Rates and precisions are in percent, as in the paper. One with nothing to divide by is `None`, which JSON can hold,
  and not 0, which would be a claim.
- Average precision is the non-interpolated area with equal scores taken as one threshold, the definition of
  `sklearn.metrics.average_precision_score`. It depends on the order of the scores alone: logits and their sigmoid give
  the same value until the sigmoid saturates, so prefer logits.
- Keyword detection compares word tokens. The paper does not give its unit, but its figures do: with one keyword
  prevalence per evaluation set (14.8 % and 3.2 %), the published false accept and false reject rates give the
  published F1 in all eight rows, to within 1.1 points.
- A word is a keyword or a filler. In the alignment all fillers are one and the same token, as in the paper's
  transcripts, where one filler word stands for all of them (section 3.2). So the result does not depend on whether the
  caller has replaced them, nor on how the model spells them.
- Words are compared exactly. Normalise both sides beforehand, and pass a phrase such as "shut up" as one word.
- An extra filler in the hypothesis counts as nothing. As a true negative, it would lower the false accept rate of a
  model that babbles.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike


_FILLER = 0  # token id of every word that is not a keyword; keywords count from 1


def average_precision(scores: ArrayLike, targets: ArrayLike) -> float:
    """Non-interpolated average precision: the sum over thresholds of (recall gained) x precision. No unit, in [0, 1].

    Args:
        scores: (N,) higher means more likely positive; equal scores enter together, as one threshold.
        targets: (N,) 1 or True for a positive, 0 or False otherwise.

    Returns:
        The average precision, `nan` when no target is positive.

    Raises:
        ValueError: shapes differ or are not (N,), a score is NaN, or a target is neither 0 nor 1.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != targets.shape:
        raise ValueError(f"scores and targets must both have shape (N,), got {scores.shape} and {targets.shape}")
    _check_values(scores[:, None], targets[:, None], "targets")
    positives = targets.sum()
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(targets[order])
    last_of_tie = np.append(np.flatnonzero(scores[1:] != scores[:-1]), scores.size - 1)
    true_positives = hits[last_of_tie]
    precision = true_positives / (last_of_tie + 1)
    recall_gain = np.diff(true_positives, prepend=0.0) / positives
    return float(recall_gain @ precision)


def classification_metrics(
    scores: ArrayLike, labels: ArrayLike, label_names: Sequence[str]
) -> dict[str, float | int | None]:
    """Average precision of each label and their mean, in percent (paper section 4 and Table 2).

    Args:
        scores: (N, L) one score per clip and label: logits or probabilities.
        labels: (N, L) multi-hot, 0 or 1.
        label_names: the L names, in column order.

    Returns:
        - `AP_<label>`, `None` when no clip has the label;
        - `mAP`, the mean over the labels that some clip has (the paper's human-labelled set has no `Other`, and its
          mAP is over five), `None` when there is none;
        - `support_<label>`, the number of clips that have the label.

    Raises:
        ValueError: shapes or names do not fit together, a score is NaN, or a label is neither 0 nor 1. The message
            names the row.
    """
    scores, labels = _as_matrix(scores, "scores", label_names), _as_matrix(labels, "labels", label_names)
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} rows of scores but {len(labels)} of labels: pass one of each per clip")
    _check_values(scores, labels, "labels")
    support = labels.sum(axis=0).astype(int).tolist()
    precisions = [
        100.0 * average_precision(scores[:, column], labels[:, column]) if count else None
        for column, count in enumerate(support)
    ]
    present = [value for value in precisions if value is not None]
    return {
        **{f"AP_{name}": value for name, value in zip(label_names, precisions, strict=True)},
        "mAP": sum(present) / len(present) if present else None,
        **{f"support_{name}": count for name, count in zip(label_names, support, strict=True)},
    }


def calibration_metrics(scores: ArrayLike, labels: ArrayLike, num_bins: int = 10) -> dict[str, float | None]:
    """How far scores are from being probabilities; means over the labels.

    Args:
        scores: (N, L) probabilities.
        labels: (N, L) multi-hot, 0 or 1.
        num_bins: of equal width.

    Returns:
        - `brier_score`: mean squared difference of score and label, in [0, 1];
        - `calibration_error`: the difference between mean score and share of clips with the label in each bin of
          scores, mean over the clips, in percent (static calibration error: Nixon et al. 2019). It is above 0 for the
          best of models, and the more so, the fewer clips there are.

        `None` without clips.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if not len(scores):
        return {"brier_score": None, "calibration_error": None}
    bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
    columns = zip(bins.T, (scores - labels).T, strict=True)
    errors = [np.abs(np.bincount(column, weights=excess)).sum() for column, excess in columns]
    return {
        "brier_score": float(np.square(scores - labels).mean()),
        "calibration_error": 100.0 * float(np.mean(errors)) / len(scores),
    }


def decision_metrics(scores: ArrayLike, labels: ArrayLike, thresholds: Mapping[str, float]) -> dict[str, float | None]:
    """Precision and recall of each label where it counts from a threshold on, in percent.

    Args:
        scores: (N, L) one score per clip and label.
        labels: (N, L) multi-hot, 0 or 1.
        thresholds: of the L labels, in column order.

    Returns:
        `precision_<label>`, `None` where no clip reaches the threshold, and `recall_<label>`, `None` where no clip has
        the label.
    """
    reached = np.asarray(scores) >= np.array(list(thresholds.values()))
    labels = np.asarray(labels, dtype=bool)
    hits = (reached & labels).sum(axis=0).tolist()
    metrics = {}
    for name, tp, reports, support in zip(
        thresholds, hits, reached.sum(0).tolist(), labels.sum(0).tolist(), strict=True
    ):
        metrics[f"precision_{name}"], metrics[f"recall_{name}"] = _percent(tp, reports), _percent(tp, support)
    return metrics


def align_words(
    reference: Sequence[str], hypothesis: Sequence[str], keywords: Collection[str]
) -> list[tuple[int | None, int | None]]:
    """Align two word lists with the fewest insertions, deletions and substitutions, each of cost 1; two fillers match.

    Of the alignments with the fewest edits, this is one with the most keywords matched and, of those, the fewest
    reference fillers facing a keyword. These rules fix the counts of `keyword_metrics`. Where several alignments are
    left, a pair is preferred to a deletion and a deletion to an insertion, from the last word back.

    Args:
        reference: the words said.
        hypothesis: the words recognised.
        keywords: the words to detect; every other word is a filler.

    Returns:
        Slots in order, each a pair of positions (in `reference`, in `hypothesis`). The second is `None` for a
        deletion, the first for an insertion.
    """
    token_ids = {word: index for index, word in enumerate(keywords, start=_FILLER + 1)}
    return _align_ids(_to_ids(reference, token_ids), _to_ids(hypothesis, token_ids))


def keyword_metrics(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    keywords: Collection[str],
    scores: Sequence[Sequence[float]] | None = None,
) -> dict[str, float | int | None]:
    """Keyword detection over a set of clips, at word-token level (paper section 4 and Table 2); rates in percent.

    Words are aligned by `align_words`, and counted over all clips:

    | reference | hypothesis | counts as |
    |---|---|---|
    | keyword | the same keyword | `tp` |
    | keyword | a filler or nothing | `fn` |
    | filler or nothing | keyword | `fp` |
    | keyword | another keyword | `fn` and `fp` |
    | filler | a filler or nothing | `tn` |
    | nothing | filler | not counted |

    Args:
        references: per clip, the words said.
        hypotheses: per clip, the words recognised.
        keywords: the words to detect.
        scores: per clip, one score in [0, 1] per hypothesis word; those of fillers are ignored.

    Returns:
        - `false_accept_rate` = fp / (fp + tn), `false_reject_rate` = fn / (fn + tp), `precision`, `recall` and `f1`,
          each `None` where it would be 0 / 0;
        - `weighted_ap`: the average precision of each keyword over the counted slots (target: the reference is that
          keyword; score: 1 where the hypothesis is that keyword, else 0), averaged over the keywords with their
          numbers of reference tokens as weights, `None` without any;
        - `weighted_ap_scores`: the same with the hypothesis word's score in place of 1, `None` without `scores`;
        - `tp`, `fp`, `fn`, `tn`, and `num_keywords`, the number of reference keyword tokens (tp + fn).

    Raises:
        TypeError: `keywords` or a word list is a string, or a word list is `None`.
        ValueError: the lists differ in length, `keywords` is empty, or a score is NaN or outside [0, 1]. The message
            names the clip.
    """
    _check_keywords(keywords)
    _check_clips(references, hypotheses, scores)
    # Sorted, so that the order in which a set yields its words cannot change the last bits of a sum.
    token_ids = {word: index for index, word in enumerate(sorted(set(keywords)), start=_FILLER + 1)}
    reference, hypothesis, slot_scores = _counted_slots(references, hypotheses, scores, token_ids)

    counts = _slot_counts(reference, hypothesis)
    scored_ap = None if scores is None else _weighted_average_precision(reference, hypothesis, slot_scores)
    return {
        **_rates(**counts),
        "weighted_ap": _weighted_average_precision(reference, hypothesis, np.ones(len(reference))),
        "weighted_ap_scores": scored_ap,
        **counts,
        "num_keywords": counts["tp"] + counts["fn"],
    }


def _as_matrix(values: ArrayLike, name: str, label_names: Sequence[str]) -> np.ndarray:
    """(N, L) float64 copy of `values`, for the L `label_names`."""
    if len(set(label_names)) != len(label_names):
        raise ValueError(f"label_names must differ from each other, got {list(label_names)}")
    for row, row_values in enumerate(values):
        if np.shape(row_values) != (len(label_names),):
            raise ValueError(
                f"row {row} of {name} has shape {np.shape(row_values)}: expected one value for each of the "
                f"{len(label_names)} labels {list(label_names)}"
            )
    return np.array(values, dtype=np.float64).reshape(-1, len(label_names))  # reshape: (0, L) when there is no row


def _check_values(scores: np.ndarray, targets: np.ndarray, targets_name: str) -> None:
    """Refuse NaN in `scores` (N, L), and anything but 0 and 1 in `targets` (N, L)."""
    bad_scores = np.flatnonzero(np.isnan(scores).any(axis=1))
    if bad_scores.size:
        raise ValueError(f"row {bad_scores[0]} of scores holds NaN ({bad_scores.size} such rows)")
    bad_targets = np.flatnonzero(((targets != 0) & (targets != 1)).any(axis=1))
    if bad_targets.size:
        row = bad_targets[0]
        raise ValueError(f"row {row} of {targets_name} must hold only 0 and 1, got {targets[row].tolist()}")


def _check_keywords(keywords: Collection[str]) -> None:
    if isinstance(keywords, str):
        raise TypeError(f"keywords is the string {keywords!r}: pass a list or set of words")
    if not keywords:
        raise ValueError("keywords is empty: pass the words to detect")


def _check_clips(references: Sequence, hypotheses: Sequence, scores: Sequence | None) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses: pass one of each per clip")
    for name, clips in (("references", references), ("hypotheses", hypotheses)):
        for clip, words in enumerate(clips):
            # A string is a sequence of strings too, and would be taken for a list of one-letter words.
            if words is None or isinstance(words, str):
                raise TypeError(f"clip {clip} of {name} is {words!r}: pass a list of words, empty if none was said")
    if scores is None:
        return
    if len(scores) != len(hypotheses):
        raise ValueError(f"{len(scores)} lists of scores but {len(hypotheses)} hypotheses: pass one of each per clip")
    for clip, (words, word_scores) in enumerate(zip(hypotheses, scores, strict=True)):
        if len(word_scores) != len(words):
            raise ValueError(f"clip {clip} has {len(words)} hypothesis words but {len(word_scores)} scores")
        if not all(0.0 <= score <= 1.0 for score in word_scores):  # NaN fails this too
            raise ValueError(f"clip {clip} has scores outside [0, 1] or NaN: {list(word_scores)}")


def _to_ids(words: Sequence[str], token_ids: dict[str, int]) -> list[int]:
    return [token_ids.get(word, _FILLER) for word in words]


def _step_costs(token: int, reference_length: int) -> tuple[int, int, int]:
    """Costs of matching, deleting and editing around one reference token.

    One integer holds the three criteria of `align_words` in order: edits * weight**2 - keywords matched * weight
    - fillers not facing a keyword. The last two add up to at most `reference_length`, and so never outweigh an edit.
    """
    weight = reference_length + 1
    edit = weight**2
    if token == _FILLER:
        return -1, edit - 1, edit
    return -weight, edit, edit


def _cost_table(reference: list[int], hypothesis: list[int]) -> list[list[int]]:
    """(R+1, H+1) cost of the best alignment of the first r reference tokens with the first h hypothesis tokens."""
    *_, edit = _step_costs(_FILLER, len(reference))
    table = [[column * edit for column in range(len(hypothesis) + 1)]]
    for token in reference:
        match, deletion, edit = _step_costs(token, len(reference))
        above = table[-1]
        row = [above[0] + deletion]
        for column, other in enumerate(hypothesis):
            pair = above[column] + (match if other == token else edit)
            row.append(min(pair, above[column + 1] + deletion, row[column] + edit))
        table.append(row)
    return table


def _align_ids(reference: list[int], hypothesis: list[int]) -> list[tuple[int | None, int | None]]:
    """`align_words` on token ids: trace the cost table back from its last cell."""
    table = _cost_table(reference, hypothesis)
    slots = []
    r, h = len(reference), len(hypothesis)
    while r and h:
        match, deletion, edit = _step_costs(reference[r - 1], len(reference))
        pair = match if reference[r - 1] == hypothesis[h - 1] else edit
        if table[r][h] == table[r - 1][h - 1] + pair:
            r, h = r - 1, h - 1
            slots.append((r, h))
        elif table[r][h] == table[r - 1][h] + deletion:
            r -= 1
            slots.append((r, None))
        else:
            h -= 1
            slots.append((None, h))
    slots.extend((position, None) for position in reversed(range(r)))
    slots.extend((None, position) for position in reversed(range(h)))
    return slots[::-1]


def _counted_slots(
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]] | None,
    token_ids: dict[str, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Align every clip: reference ids, hypothesis ids and hypothesis scores of all counted slots, (S,) each.

    A missing word has the id of a filler, since the two count alike. Its score is 0, and so is all without `scores`.
    """
    slots = []
    for clip, (reference_words, hypothesis_words) in enumerate(zip(references, hypotheses, strict=True)):
        reference, hypothesis = _to_ids(reference_words, token_ids), _to_ids(hypothesis_words, token_ids)
        for r, h in _align_ids(reference, hypothesis):
            if r is None and hypothesis[h] == _FILLER:
                continue
            slots.append(
                (
                    _FILLER if r is None else reference[r],
                    _FILLER if h is None else hypothesis[h],
                    0.0 if h is None or scores is None else scores[clip][h],
                )
            )
    columns = np.array(slots, dtype=np.float64).reshape(-1, 3)  # reshape: (0, 3) when there is no slot
    return columns[:, 0].astype(int), columns[:, 1].astype(int), columns[:, 2]


def _weighted_average_precision(
    reference: np.ndarray, hypothesis: np.ndarray, slot_scores: np.ndarray
) -> float | None:
    """Average precision over the slots, in percent: mean over the keywords weighted by support. Arguments: (S,)."""
    keyword_ids, support = np.unique(reference[reference != _FILLER], return_counts=True)
    if keyword_ids.size == 0:
        return None
    precisions = [
        average_precision(np.where(hypothesis == keyword, slot_scores, 0.0), reference == keyword)
        for keyword in keyword_ids
    ]
    return 100.0 * float(np.average(precisions, weights=support))


def _slot_counts(reference: np.ndarray, hypothesis: np.ndarray) -> dict[str, int]:
    """Of the keywords of the counted slots."""
    in_reference, in_hypothesis = reference != _FILLER, hypothesis != _FILLER
    tp = int(np.sum(in_reference & (reference == hypothesis)))
    fp, fn = int(np.sum(in_hypothesis)) - tp, int(np.sum(in_reference)) - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": int(np.sum(~in_reference & ~in_hypothesis))}


def _rates(tp: int, fp: int, fn: int, tn: int) -> dict[str, float | None]:
    """In percent; the order is that of the results."""
    return {
        "false_accept_rate": _percent(fp, fp + tn),
        "false_reject_rate": _percent(fn, fn + tp),
        "precision": _percent(tp, tp + fp),
        "recall": _percent(tp, tp + fn),
        "f1": _percent(2 * tp, 2 * tp + fp + fn),
    }


def _percent(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None
