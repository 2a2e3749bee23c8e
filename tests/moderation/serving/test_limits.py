import pytest

from modeling_toxmtl.moderation.serving.limits import Bucket, Limits, Rates, knows


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_at_its_rate():
    clock = Clock()
    bucket = Bucket(rate=2.0, burst=10.0, clock=clock)
    assert bucket.take(10.0) == 0  # at once
    assert bucket.take(3.0) == 1.5  # seconds until the debt is paid
    clock.now = 1.5
    assert bucket.take(0.0) == 0
    clock.now = 100.0
    assert bucket.take(10.0) == 0 and bucket.take(1.0) == 0.5  # no more than the burst is saved


def test_each_client_has_a_rate_of_its_own():
    clock = Clock()
    rates = Rates(2.0, clock)
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 0]
    assert rates.take("a") == rates.take("a") == 0.5  # who is refused pays nothing
    assert rates.take("b") == 0
    clock.now = 0.5
    assert rates.take("a") == 0


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer one", "one"),
        ("bearer   two ", "two"),
        ("Bearer three", None),
        ("Basic one", None),
        ("one", None),
        (None, None),
    ],
)
def test_tokens(header, token):
    assert knows(["one", "two"], header) == token
    assert knows([], header) is None


def test_limits_that_make_no_sense():
    with pytest.raises(ValueError, match="--max-sessions is 0: give more than 0"):
        Limits(max_sessions=0)
