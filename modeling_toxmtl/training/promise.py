"""Thresholds with a promise: at most so many harmless clips are reported, at least so many violations, or so many
right reports.

Design choices:
- The promise is exact and asks nothing of the scores: for n clips that are like those to come, the share of clips to
  come above the (k+1)-th highest score is distributed as Beta(k+1, n-k). So k is chosen before any score is seen: as
  large as the bound of Clopper and Pearson for k errors in n clips allows. No correction for having looked is due.
- What is right among the reports depends on labels that a threshold is chosen by. So few thresholds are tried, which
  report a number of clips that is fixed beforehand, and each at a share of the doubt (Bonferroni). Above the (m+1)-th
  highest score, whatever it is, the wrong ones of m clips are binomial: that is exact, too.
- It holds for clips like those of the data set: another community, language or microphone is another promise. Clips of
  one speaker or recording are no independent clips.
- A recording of several windows is reported if one of them is: its share of false reports is at most the sum of those
  of its windows. Hence the promise for W windows is made with a W-th of the rate for each.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..bounds import binomial_cdf, binomial_terms, upper_bound
from ..labels import NO_VIOLATION


PROMISE_FILE = "calibration.json"  # in the model's folder
SCOPES = ("decision", "label")
STEP = 1e-6  # scores are recorded with six digits
FEWER = 2 / 3  # reports of a threshold that is tried, to those of the one tried before


@dataclass(frozen=True)
class Goal:
    """What is promised.

    Args:
        kind: "max_fpr", "min_recall" or "min_precision".
        rate: in [0, 1].
        confidence: probability, over the choice of the clips to calibrate on, that the promise holds.
        windows: of the longest recordings that "max_fpr" holds for.
    """

    kind: str
    rate: float
    confidence: float = 0.95
    windows: int = 1

    @property
    def max_errors(self) -> float:
        """Share of wrong decisions that clips of one window may have: of the harmless ones that are reported, of
        violations that are missed, of reports that are wrong."""
        return self.rate / self.windows if self.kind == "max_fpr" else 1 - self.rate

    @property
    def asked(self) -> str:
        """As a message says it."""
        return f"{self.kind} {self.rate:g}"


@dataclass(frozen=True)
class Promise:
    """A threshold, and what it promises.

    Args:
        goal: what was asked for, as "max_fpr 0.01".
        confidence: of the promise.
        windows: of the longest recordings that it holds for.
        threshold: score from which on a label counts.
        bound: share of wrong decisions that is not exceeded, with that confidence, for clips of one window.
        errors: wrong decisions among the clips.
        clips: harmless clips for "max_fpr", those with a violation for "min_recall", reports for "min_precision".
    """

    goal: str
    confidence: float
    windows: int
    threshold: float
    bound: float
    errors: int
    clips: int


def allowed_errors(clips: int, max_errors: float, confidence: float) -> int | None:
    """As many errors in so many clips as leave the bound at `max_errors` or below; None if even none is too many."""
    if max_errors <= 0 or not clips:
        return None
    if max_errors >= 1:
        return clips - 1
    sums = itertools.accumulate(binomial_terms(clips, max_errors))
    errors = sum(1 for _ in itertools.takewhile(lambda total: total <= 1 - confidence, sums)) - 1
    return None if errors < 0 else errors


def clips_needed(max_errors: float, confidence: float) -> int | None:
    """Clips without an error that the bound needs to reach `max_errors`; None if no number does."""
    if max_errors <= 0:
        return None
    return 1 if max_errors >= 1 else math.ceil(math.log(1 - confidence) / math.log1p(-max_errors))


def promised_threshold(scores: np.ndarray, goal: Goal, what: str) -> Promise:
    """The threshold that keeps a goal with the most reports (`max_fpr`), or with the fewest (`min_recall`).

    Args:
        scores: (N,) of the clips that may be decided wrongly: harmless ones, or those with a violation.
        goal: what to promise.
        what: these clips, for messages.

    Raises:
        ValueError: if there are too few clips, with the number that it would need, or harmless clips have scores of 1.
    """
    errors = allowed_errors(len(scores), goal.max_errors, goal.confidence)
    if errors is None:
        raise ValueError(_too_few(goal, what, len(scores)))
    if goal.kind == "max_fpr":
        threshold = _just_above(np.sort(scores)[::-1][errors])  # the first that must not be reported
        if threshold > 1:
            raise ValueError(
                f"{goal.asked}: {errors + 1} {what} have a score of 1, which no threshold tells from others."
            )
        wrong = int((scores >= threshold).sum())
    else:
        threshold = round(math.floor(np.sort(scores)[errors] / STEP) * STEP, 6)  # the first that must be reported
        wrong = int((scores < threshold).sum())
    bound = upper_bound(errors, len(scores), goal.confidence)
    return Promise(goal.asked, goal.confidence, goal.windows, threshold, bound, wrong, len(scores))


def _just_above(score):
    """The lowest threshold that a score does not reach, neither as it is nor as it is recorded, in six digits."""
    steps = round(float(score) / STEP, 3)  # floats are no decimal numbers
    return round((math.floor(steps + 0.5) + 1) * STEP, 6)


def _too_few(goal, what, given):
    needed = clips_needed(goal.max_errors, goal.confidence)
    cure = f"needs {needed:,} {what}" if needed else "cannot be promised by any number of clips"
    return f"{goal.asked} at a confidence of {goal.confidence:g} {cure}, and there are {given:,}."


def promised_precision(scores: np.ndarray, is_right: np.ndarray, goal: Goal, what: str) -> Promise:
    """The lowest threshold of those tried that keeps `min_precision`.

    Args:
        scores: (N,) of all clips.
        is_right: (N,) whether a clip may be reported.
        goal: what to promise.
        what: the clips that are reported, for messages.

    Raises:
        ValueError: if none does, with the number of clips that it would need.
    """
    needed, numbers, reports = clips_needed(goal.max_errors, goal.confidence), [], float(len(scores) - 1)
    while needed is not None and reports >= needed:  # fewer cannot keep it
        numbers.append(int(reports))
        reports *= FEWER
    if not numbers:
        raise ValueError(_too_few(goal, what, max(len(scores) - 1, 0)))
    confidence, ordered = 1 - (1 - goal.confidence) / len(numbers), np.sort(scores)[::-1]
    tried = []
    for number in numbers:
        threshold = _just_above(ordered[number])
        reported = scores >= threshold  # fewer than the number where scores are equal
        wrong, reports = int((~is_right[reported]).sum()), int(reported.sum())
        if binomial_cdf(wrong, reports, goal.max_errors) <= 1 - confidence:
            bound = upper_bound(wrong, reports, confidence)
            return Promise(goal.asked, goal.confidence, goal.windows, threshold, bound, wrong, reports)
        tried.append((wrong, reports))
    wanted = [_clips_at_share(wrong, reports, goal.max_errors, confidence, len(scores)) for wrong, reports in tried]
    cure = f"about {min(wanted):,} clips like these would do" if min(wanted) < math.inf else "more would not do"
    wrong, reports = min((item for item in tried if item[1]), key=lambda item: item[0] / item[1], default=(0, 0))
    raise ValueError(
        f"{goal.asked} at a confidence of {goal.confidence:g} is not kept by {len(scores):,} clips: at best, "
        f"{reports - wrong:,} of {reports:,} {what} are right; {cure}."
    )


def _clips_at_share(wrong, reports, max_errors, confidence, clips):
    """About how many clips keep a bound, if as large a share of them is reported, and is wrong: with errors that are
    normally distributed, so that shares near the bound, which need very many, take no longer."""
    missing = max_errors - (wrong / reports if reports else 1)
    if missing <= 1e-9:  # floats are no decimal numbers
        return math.inf
    needed = NormalDist().inv_cdf(confidence) ** 2 * max_errors * (1 - max_errors) / missing**2
    return math.ceil(clips * max(needed / reports, 1.1))  # as many as these did not


def choose_promised(
    scores: np.ndarray, targets: np.ndarray, names: Sequence[str], goal: Goal, scope: str
) -> dict[str, Promise]:
    """Thresholds of the violations that keep a goal.

    Args:
        scores: (N, L) of the clips.
        targets: (N, L) multi-hot.
        names: of the L labels.
        goal: what to promise.
        scope: "decision": of clips as a whole, which are reported if any violation reaches the one threshold; "label":
            of each label by itself.

    Raises:
        ValueError: as [`promised_threshold`] and [`promised_precision`].
    """
    violations = [name for name in names if name != NO_VIOLATION]
    columns = [names.index(name) for name in violations]
    scores, targets = scores[:, columns], targets[:, columns].astype(bool)
    if goal.kind == "min_precision":
        if scope == "decision":
            promise = promised_precision(scores.max(1), targets.any(1), goal, "reported clips")
            return dict.fromkeys(violations, promise)
        return {
            name: promised_precision(column, target, goal, f"clips reported for {name}")
            for name, column, target in zip(violations, scores.T, targets.T, strict=True)
        }
    has = goal.kind == "min_recall"
    if scope == "decision":
        clips = "clips with a violation" if has else "clips without a violation"
        promise = promised_threshold(scores.max(1)[targets.any(1) == has], goal, clips)
        return dict.fromkeys(violations, promise)
    word = "with" if has else "without"
    return {
        name: promised_threshold(column[target == has], goal, f"clips {word} {name}")
        for name, column, target in zip(violations, scores.T, targets.T, strict=True)
    }


def promise_table(promises: dict[str, Promise]) -> str:
    """A row per label."""
    lines = ["| label | promise | confidence | threshold | errors | clips | bound |", "|---|---|" + "---:|" * 5]
    for name, p in promises.items():
        goal = p.goal if p.windows == 1 else f"{p.goal} of {p.windows} windows"
        lines.append(
            f"| {name} | {goal} | {p.confidence:g} | {p.threshold:.6f} | {p.errors} | {p.clips} | {p.bound:.5f} |"
        )
    return "\n".join(lines)
