import pytest
from scipy import stats

from modeling_toxmtl.bounds import binomial_cdf, interval, upper_bound


def test_bounds_are_those_of_clopper_and_pearson():
    for errors, clips in ((0, 10), (0, 299), (3, 1000), (50, 400), (9, 10)):
        assert binomial_cdf(errors, clips, 0.07) == pytest.approx(stats.binom.cdf(errors, clips, 0.07), abs=1e-12)
        expected = stats.binomtest(errors, clips, alternative="less").proportion_ci(0.95, "exact").high
        assert upper_bound(errors, clips, 0.95) == pytest.approx(expected, abs=1e-9)
        expected = stats.binomtest(errors, clips).proportion_ci(0.95, "exact")
        assert interval(errors, clips, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert upper_bound(10, 10, 0.95) == 1.0 and interval(0, 0, 0.95) == (0, 1)
