"""What a live session says, as it happens.

Times are seconds of what the session was fed, pauses of the sender included; `time` of an event is how far the sound
had come when it was said.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """What all events have."""

    event: ClassVar[str]
    time: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: `event` is its kind. What is no JSON (the sound of a segment) is left out."""
        return {"event": self.event, **asdict(self)}


@dataclass(frozen=True)
class SpeechStarted(Event):
    """Something can be heard, from `start` on."""

    event = "speech started"
    start: float


@dataclass(frozen=True)
class Keyword(Event):
    """A keyword.

    Args:
        keyword, labels, start, end, score: as in a record, in seconds of the session.
        state: "provisional" while its window is still open; then "final", as in the record, or "withdrawn". What is
            heard too late for the first comes as "final" at once.
    """

    event = "keyword"
    keyword: str
    labels: tuple[str, ...]
    start: float
    end: float
    score: float
    state: str


@dataclass(frozen=True)
class Violation(Event):
    """A label begins to fire, or no longer does.

    Args:
        label: the kind of violation.
        score: of what was heard last.
        raised: whether its threshold is reached; if not, the score fell below the second threshold, or speech ended.
        provisional: whether the latest seconds say so, rather than a whole window.
    """

    event = "violation"
    label: str
    score: float
    raised: bool
    provisional: bool


@dataclass(frozen=True)
class Segment(Event):
    """Speech has ended: the verdict on it.

    Args:
        start, end: of the segment.
        record: of the schema toxmtl.verdict/1; its times count from `start`.
        audio: the segment as a WAV file, whose SHA-256 the record has; None unless the session keeps it.
    """

    event = "segment"
    start: float
    end: float
    record: dict[str, Any]
    audio: bytes | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As of [`Event`]."""
        return {name: value for name, value in super().to_dict().items() if name != "audio"}


@dataclass(frozen=True)
class FaultHeard(Event):
    """Sound is not heard as it was sent; see [`Fault`]."""

    event = "fault"
    kind: str
    seconds: float
