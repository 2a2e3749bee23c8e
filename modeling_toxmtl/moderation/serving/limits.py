"""What one client may take of a service, so that none harms the others."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


MOST_CLIENTS = 10_000  # whose rates are remembered; the one that came least lately is forgotten first


@dataclass
class Limits:
    """Of a service; the command's options."""

    max_sessions: int = field(default=200, metadata={"help": "Sessions that may be open at once."})
    max_requests: int = field(default=16, metadata={"help": "Clips that may be judged at once."})
    max_megabytes: float = field(default=32.0, metadata={"help": "Of a clip, in 10^6 bytes."})
    max_seconds: float = field(default=600.0, metadata={"help": "Of a clip."})
    rate: float = field(default=10.0, metadata={"help": "Requests and new sessions a second, of each client."})
    speed: float = field(default=4.0, metadata={"help": "Seconds of sound that a session may send in a second."})
    idle_seconds: float = field(default=600.0, metadata={"help": "Seconds without a packet that end a session."})
    send_seconds: float = field(
        default=10.0, metadata={"help": "Seconds that a client may take to read an event, or to go on with a body."}
    )

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: give more than 0.")


class Bucket:
    """A token bucket: `rate` a second, and up to `burst` at once.

    Args:
        clock: seconds, as of `time.monotonic`.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self.rate, self.burst, self.clock = rate, burst, clock
        self._left, self._since = burst, clock()

    def take(self, amount: float) -> float:
        """Takes an amount, be it more than there is; returns the seconds until there is something again, 0 if there
        still is."""
        now = self.clock()
        self._left = min(self._left + (now - self._since) * self.rate, self.burst) - amount
        self._since = now
        return max(-self._left / self.rate, 0.0)


class Rates:
    """How often each client comes."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self.rate, self.clock = rate, clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, client: str) -> float:
        """Notes that a client comes; returns the seconds after which it may, 0 for now."""
        bucket = self._buckets.pop(client, None) or Bucket(self.rate, 2 * self.rate, self.clock)
        self._buckets[client] = bucket
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        wait = bucket.take(1.0)
        if wait:
            bucket.take(-1.0)  # what is refused costs nothing
        return wait


def knows(tokens: Iterable[str], authorization: str | None) -> str | None:
    """The one of the tokens that an `Authorization` header bears, None for none; as slowly for any wrong one."""
    scheme, _, given = (authorization or "").partition(" ")
    known = [token for token in tokens if hmac.compare_digest(given.strip().encode(), token.encode())]
    return known[0] if known and scheme.lower() == "bearer" else None
