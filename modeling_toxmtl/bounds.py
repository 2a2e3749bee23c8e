"""Exact bounds of a rate that was counted (Clopper and Pearson 1934)."""

import itertools
import math
from collections.abc import Iterator


def binomial_terms(n: int, p: float) -> Iterator[float]:
    """Probability of 0, 1, … successes in `n` tries of probability `p`, which is neither 0 nor 1."""
    total, log_p, log_q = math.lgamma(n + 1), math.log(p), math.log1p(-p)
    for k in range(n + 1):
        yield math.exp(total - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Probability of at most `k` successes in `n` tries of probability `p`."""
    if k >= n or p <= 0:
        return 1.0
    return 0.0 if p >= 1 else min(1.0, math.fsum(itertools.islice(binomial_terms(n, p), k + 1)))


def upper_bound(errors: int, clips: int, confidence: float) -> float:
    """The highest rate of errors at which so few are not less likely than `1 - confidence` (Clopper and Pearson 1934,
    one-sided)."""
    if errors >= clips:
        return 1.0
    low, high = errors / clips, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(errors, clips, middle) > 1 - confidence else (low, middle)
    return high


def interval(errors: int, clips: int, confidence: float) -> tuple[float, float]:
    """The rates at which neither so few nor so many errors are less likely than `(1 - confidence) / 2`; (0, 1) for no
    clips."""
    one_sided = (1 + confidence) / 2
    return 1 - upper_bound(clips - errors, clips, one_sided), upper_bound(errors, clips, one_sided)
