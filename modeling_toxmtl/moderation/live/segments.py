"""A segment of speech while it is spoken: which words and violations are known, how surely, and its record.

Design choices:
- The verdict is the pipeline's on the segment's windows, the very same as offline. What is said before that is
  provisional, for speed.
- A word is final once no other window can hear it: where the next one starts, or at the end of speech. What was
  reported and is not among the final words is withdrawn.
- A violation has two thresholds: it is raised where a score reaches the label's own, and cleared where the latest
  seconds fall below a share of it, so that a score around the threshold does not flicker. What is raised is cleared
  with the end of speech at the latest.
"""

import hashlib
import struct
from typing import Any

import numpy as np

from ...audio import SAMPLING_RATE
from ...labels import NO_VIOLATION
from ...listening import Window
from ..judge import Judge
from ..record import make_record
from .events import Event, Keyword, Segment, Violation


UNKNOWN_SIZE = 0xFFFFFFFF  # of a WAV file that is written before its end is known
# 32-bit floats, mono
WAV_HEADER = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 3, 1, SAMPLING_RATE,
                         4 * SAMPLING_RATE, 4, 32, b"data", UNKNOWN_SIZE)  # fmt: skip


class OpenSegment:
    """A segment whose windows are being heard.

    Args:
        judge: of the session when it began, which hears all of it: its record says by what.
        name: of the segment, in its record.
        start: first sample, of the session's.
        release: share of a label's threshold below which it is cleared.
        keeps_audio: whether its sound goes with the verdict.
        before: the segment that this one goes on with, as speech did. What is reported or raised is known to both.
    """

    def __init__(
        self,
        judge: Judge,
        name: str,
        start: int,
        release: float,
        keeps_audio: bool,
        before: "OpenSegment | None" = None,
    ):
        self.judge, self.name, self.start, self.release = judge, name, start, release
        self.end = start  # up to where its windows reach
        self.is_closed = False  # whether all its windows are known
        self.goes_on = False  # whether another segment goes on with it
        self._final: list[dict[str, Any]] = before._final if before else []
        self._provisional: list[dict[str, Any]] = before._provisional if before else []
        self._raised = before._raised if before else dict.fromkeys(judge.thresholds, False)
        self._rows: list[dict[str, Any] | None] = []  # what the model made of each window
        self._sure_until = start  # sample of the session, of the last window
        self._stride = round(judge.stride * SAMPLING_RATE)
        self._hash, self._audio = hashlib.sha256(WAV_HEADER), [WAV_HEADER] if keeps_audio else None

    def place(self, window: Window) -> Window:
        """A window of the session in samples of the segment."""
        times = {name: getattr(window, name) - self.start for name in ("start", "end", "first", "last")}
        return window._replace(**times)

    def add(self, window: Window, sound: np.ndarray) -> int:
        """Waits for another window, whose `sound` begins where the last one's ended; returns its number."""
        self.end, self._sure_until = window.end, window.last
        content = np.ascontiguousarray(sound, dtype="<f4").tobytes()
        self._hash.update(content)
        if self._audio is not None:
            self._audio.append(content)
        self._rows.append(None)
        return len(self._rows) - 1

    @property
    def is_done(self) -> bool:
        """Whether all is said."""
        return self.is_closed and None not in self._rows

    def hear_latest(self, row: dict[str, Any], time: float) -> list[Event]:
        """What the latest seconds add; `row` is what the model made of them."""
        if self.is_done:
            return []
        verdict = self.judge.verdict([row])
        return self._report(verdict["keywords"], time) + self._judge(verdict, time, is_latest=True)

    def hear(self, number: int, row: dict[str, Any], time: float) -> list[Event]:
        """What a window adds; the verdict, if it is the last."""
        self._rows[number] = row
        events = self._judge(self.judge.verdict([row]), time, is_latest=False)
        return events + self.settle(time)

    def settle(self, time: float) -> list[Event]:
        """What is final by now."""
        heard = self._rows[: self._rows.index(None)] if None in self._rows else self._rows
        if not heard:
            return []
        verdict = self.judge.verdict(heard)
        events = self._report(verdict["keywords"], time) + self._finish_words(verdict["keywords"], time)
        if not self.is_done:
            return events
        record = make_record(self.name, self._hash.hexdigest(), verdict, self.judge.description)
        cleared = [
            Violation(time, label, 0.0, raised=False, provisional=False)
            for label, raised in self._raised.items()
            if raised and not self.goes_on
        ]
        audio = None if self._audio is None else b"".join(self._audio)
        segment = Segment(time, self.start / SAMPLING_RATE, self.end / SAMPLING_RATE, record, audio)
        return [*events, segment, *cleared]

    @property
    def _settled(self) -> float:
        """Second of the session before which no other window can hear a word."""
        if self.is_done:
            return self._sure_until / SAMPLING_RATE if self.goes_on else float("inf")
        num_heard = self._rows.index(None) if None in self._rows else len(self._rows)
        return (self.start + num_heard * self._stride) / SAMPLING_RATE

    def _report(self, words, time):
        """Those that are new; `words` are in seconds of the segment, or None."""
        events = []
        for word in map(self._in_session, words or ()):
            if word["end"] > self._settled and not _is_among(word, self._provisional + self._final):
                self._provisional.append(word)
                events.append(_keyword(word, time, "provisional"))
        return events

    def _finish_words(self, words, time):
        events, settled = [], self._settled
        for word in map(self._in_session, words or ()):
            if word["end"] <= settled and not _is_among(word, self._final):
                self._final.append(word)
                self._provisional[:] = [other for other in self._provisional if not _is_same(word, other)]
                events.append(_keyword(word, time, "final"))
        gone = [word for word in self._provisional if word["end"] <= settled]
        self._provisional[:] = [word for word in self._provisional if word["end"] > settled]
        return events + [_keyword(word, time, "withdrawn") for word in gone]

    def _in_session(self, word):
        offset = self.start / SAMPLING_RATE
        return word | {"start": word["start"] + offset, "end": word["end"] + offset}

    def _judge(self, verdict, time, is_latest):
        """Violations that are raised or cleared by what was heard last."""
        events = []
        for item in verdict["labels"] or ():
            label, score, threshold = item["label"], item["score"], self.judge.thresholds[item["label"]]
            if label == NO_VIOLATION:
                continue
            raised = self._raised[label]
            now = score >= threshold or raised and not (is_latest and score < self.release * threshold)
            if now != raised:
                self._raised[label] = now
                events.append(Violation(time, label, score, now, is_latest))
        return events


def _is_same(word, other):
    overlaps = word["start"] < other["end"] and other["start"] < word["end"]
    return overlaps and word["keyword"] == other["keyword"]


def _is_among(word, others):
    return any(_is_same(word, other) for other in others)


def _keyword(word, time, state):
    told = {name: word[name] for name in ("keyword", "labels", "start", "end", "score")}
    return Keyword(time, **told, state=state)
