"""The live mode: a microphone's sound into a [`ModerationSession`], its events as lines to read.

Gradio keeps only the latest sound for a handler that is busy: so sound is heard in a thread of its own, in its order,
and what is known by then is shown. What is lost all the same, on a slow machine or connection, shows by the clock: it
is silence, and said.
"""

import json
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from choices import Choices, own_judge
from pictures import label_name, message_html, raised_html

from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.events import Event, FaultHeard, Keyword, Segment, SpeechStarted, Violation
from modeling_toxmtl.moderation.live.session import ModerationSession


MOST_LATE = 1.5  # seconds that sound may be late before it is taken for lost
MOST_LINES = 100  # that are shown, the latest first
COLUMNS = ("second", "event", "what")


class Listening:
    """One visitor's microphone, from its start to its end.

    Args:
        shared: the judge of all visitors.
        choices: of the visitor.
    """

    def __init__(self, shared: Judge, choices: Choices):
        self._choices = choices
        self._session = ModerationSession(own_judge(shared, choices), name="microphone")
        self._thread = ThreadPoolExecutor(1)  # ends with this object
        self._hearing: Future | None = None  # of the sound that came last
        self._started: float | None = None  # by the clock
        self._until = 0.0  # seconds of the session
        self._lines: list[list[str]] = []
        self._raised: dict[str, None] = {}  # labels, in the order in which they were raised
        self.records: list[dict[str, Any]] = []  # of the segments so far
        self.is_over = False
        self._folder = tempfile.TemporaryDirectory()  # gone when the visitor is

    def feed(self, sampling_rate: int, samples: np.ndarray, choices: Choices, now: float | None = None) -> None:
        """Takes what came; does not wait until it is heard.

        Args:
            sampling_rate: in Hz.
            samples: `(samples,)` or `(samples, channels)` of integers or floats.
            choices: of the visitor; others than before hold from the next segment on.
            now: seconds of a clock; `time.monotonic` by default.

        Raises:
            ValueError: if what came before could not be heard.
        """
        if self._hearing is not None and self._hearing.done():
            self._hearing.result()
        if self.is_over:
            return
        samples = samples if samples.ndim == 1 else samples[:, 0]
        place = self._place(len(samples) / sampling_rate, time.monotonic() if now is None else now)
        self._hearing = self._thread.submit(self._hear, sampling_rate, samples, place, choices)

    def _place(self, seconds, now):
        """Where sound that came now begins, in seconds of the session."""
        self._started = now - seconds if self._started is None else self._started
        lost = now - seconds - self._started - self._until
        if lost > MOST_LATE:
            self._tell([f"{self._until:.1f}", "lost", f"{lost:.1f} s that did not come in time"])
            self._until += lost
        place, self._until = self._until, self._until + seconds
        return place

    def finish(self) -> None:
        """Waits until all is heard; no more comes."""
        if not self.is_over:
            self.is_over = True
            self._thread.submit(self._end).result()
            self._thread.shutdown()

    def _hear(self, sampling_rate, samples, place, choices):
        if choices != self._choices:
            state = self._session.state
            self._choices, state.judge = choices, own_judge(state.judge, choices)
        self._take(self._session.feed(samples, sampling_rate, place))

    def _end(self):
        if self._session.state.time:
            self._take(self._session.finish())

    def _take(self, events: Iterable[Event]):
        for event in events:
            self._tell([f"{event.time:.1f}", event.event, describe(event)])
            if isinstance(event, Violation) and event.raised:
                self._raised[event.label] = None
            elif isinstance(event, Violation):
                self._raised.pop(event.label, None)
            elif isinstance(event, Segment):
                self.records.append(event.record)

    def _tell(self, line):
        self._lines.insert(0, line)
        del self._lines[MOST_LINES:]

    @property
    def lines(self) -> list[list[str]]:
        """What was said, a row of `COLUMNS` for each event, the latest first."""
        return [*self._lines]

    @property
    def raised(self) -> list[str]:
        """The violations that there are now."""
        return [*self._raised]

    @property
    def is_speaking(self) -> bool:
        """Whether somebody speaks now."""
        return self._session.state.is_speaking

    def write_records(self) -> str | None:
        """A file of the segments' records; returns its path, None if nobody spoke."""
        if not self.records:
            return None
        path = Path(self._folder.name, "microphone.verdicts.jsonl")
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in self.records]
        path.write_text("".join(lines), encoding="utf-8")
        return str(path)


def state_html(listening: Listening) -> str:
    """What is the matter now."""
    if listening.raised:
        return raised_html(listening.raised, "now")
    if listening.is_over:
        return message_html("The microphone is off.")
    return message_html("Somebody speaks." if listening.is_speaking else "Nothing can be heard.")


def describe(event: Event) -> str:
    """An event in words."""
    match event:
        case SpeechStarted():
            return f"from {event.start:.1f} s on"
        case Keyword():
            return f"{event.keyword} at {event.start:.1f} s, {event.score:.2f}, {event.state}"
        case Violation():
            how = f"raised, {event.score:.2f}" if event.raised else "cleared"
            return f"{label_name(event.label)} {how}" + ", provisional" * (event.provisional and event.raised)
        case Segment():
            verdict = ", ".join(map(label_name, event.record["violations"] or ())) or "no violation"
            return f"{event.start:.1f} to {event.end:.1f} s: {verdict}"
        case FaultHeard():
            return f"{event.kind}, {event.seconds:.2f} s"
    return ""
