"""What a service counts, for Prometheus."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0)


class Metrics:
    """The metrics of one service, in a registry of their own.

    Args:
        replica: one of several that answer at the same address: each of its series is labelled with this name, so that
            counts of different replicas are not taken for one that jumps.
    """

    def __init__(self, replica: str | None = None) -> None:
        self.replica = replica
        self._registry = CollectorRegistry()

        def add(kind, name, text, labels=(), **options):
            return kind(f"toxmtl_{name}", text, labels, registry=self._registry, **options)

        self.requests = add(Counter, "requests", "Requests answered.", ("path", "status"))
        self.sessions = add(Gauge, "sessions", "Sessions that are open.")
        self.session_ends = add(Counter, "session_ends", "Sessions that ended, by close code.", ("code",))
        self.events = add(Counter, "events", "Events sent to sessions.", ("event",))
        self.received_seconds = add(Counter, "received_seconds", "Seconds of sound received.")
        self.heard_seconds = add(Counter, "heard_seconds", "Seconds of sound that the model heard.", ("kind",))
        self.stale_looks = add(Counter, "stale_looks", "Looks that waited too long, and were left out.")
        self.queue_seconds = add(Histogram, "queue_seconds", "Time that windows waited.", buckets=SECONDS)
        self.judge_seconds = add(Histogram, "judge_seconds", "Time that batches took.", buckets=SECONDS)
        self.batch_windows = add(Histogram, "batch_windows", "Windows of a batch.", buckets=(1, 2, 3, 4, 6, 8, 16, 32))
        self.keyword_delay = add(
            Histogram, "keyword_delay_seconds", "From the end of a keyword to its first report.", buckets=SECONDS
        )

    def text(self) -> bytes:
        """As Prometheus reads them."""
        return generate_latest(self._registry if self.replica is None else self)

    def collect(self) -> Iterator[Any]:
        """The metrics of a registry, labelled."""
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(labels=sample.labels | {"replica": self.replica}) for sample in metric.samples
            ]
            yield metric
