"""Takes keywords out of sound on its way: a delay line that beeps or mutes a word before it is heard.

    redactor = LiveRedactor(ModerationSession(judge), sampling_rate=48_000)
    for packet in packets:
        delayed, events = redactor.feed(packet)
        for packet in delayed:
            play(packet.samples)

Design choices:
- A packet leaves once its delay is over *and* what is in it is known. Packets leave in order, each as long as it came,
  and samples outside the spans as they came.
- A judge that is busy makes the delay longer, up to `longest`; in silence, packets are left out until it is as short
  as it was. What is not known by then is muted, and said: the delay cannot hold ([`Unheard`]).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...audio import as_waveform
from ...listening import QUIETEST_SOUND
from ..redact import RedactArguments, gains, redact_samples, spans_of
from .events import Event, Keyword
from .session import ModerationSession


LONGEST_WORD = 1.0  # seconds; half of it may lie before the place up to which words are known
WAYS = ("beep", "mute")
CLOSE = 1e-3  # seconds; clocks are sums of many floats
MEMORY = 60.0  # seconds for which a keyword that has left is known, for it is reported again


@dataclass(frozen=True)
class DelayChanged(Event):
    """Sound leaves `delay` seconds after it came, from now on."""

    event = "delay changed"
    delay: float


@dataclass(frozen=True)
class Unheard(Event):
    """Sound from `start` to `end` had to leave before it was judged: it is muted."""

    event = "unheard"
    start: float
    end: float


@dataclass(frozen=True)
class Missed(Event):
    """A keyword was found when its sound had left."""

    event = "missed"
    keyword: str
    start: float
    end: float


class Delayed(NamedTuple):
    """A packet that leaves: `samples` `(samples,)` of `rate` Hz, in the type that they came in, which began at second
    `start` of the session."""

    start: float
    samples: np.ndarray
    rate: int

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / self.rate


class DelayLine:
    """Sound that waits for its verdict. It neither judges nor reads a clock: it is told what time it is.

    Args:
        delay: seconds between the end of a packet and its leaving.
        longest: that the delay may grow to.
        how: one of `WAYS`.
        padding_before, padding_after: seconds around a keyword, as of `toxmtl redact`.
        chooses: which keywords are taken out; all by default.

    Raises:
        ValueError: for another way, or delays that cannot be.
    """

    def __init__(
        self,
        delay: float = 2.0,
        longest: float = 4.0,
        how: str = "beep",
        padding_before: float = RedactArguments.padding_before,
        padding_after: float = RedactArguments.padding_after,
        chooses: Callable[[Keyword], bool] = lambda keyword: True,
    ):
        if how not in WAYS:
            raise ValueError(f"`how` is {how!r}: choose one of {', '.join(WAYS)}. Live sound cannot be cut.")
        if not 0 < delay <= longest:
            raise ValueError(f"`delay` is {delay} and `longest` is {longest}: give seconds above 0, and no fewer.")
        self.shortest, self.longest, self.how, self.chooses = delay, longest, how, chooses
        self.padding = (padding_before, padding_after)
        self.delay = delay
        self._packets: deque[Delayed] = deque()
        self._words: list[dict[str, float]] = []
        self._left_until = 0.0  # second up to where sound has left
        self._is_held_back = False  # whether a packet waits for its verdict alone

    def put(self, packet: Delayed) -> None:
        """Lets a packet wait, as it came."""
        self._packets.append(packet)

    def tell(self, events: Iterable[Event]) -> list[Event]:
        """Takes notice of the keywords among a session's events; returns those that came too late."""
        missed = []
        for event in events:
            if not isinstance(event, Keyword) or event.state == "withdrawn" or not self.chooses(event):
                continue
            before, after = self.padding
            known = any(word["start"] < event.end and event.start < word["end"] for word in self._words)
            if not known and event.start - before < self._left_until:
                missed.append(Missed(event.time, event.keyword, event.start, event.end))
            self._words.append({"start": event.start, "end": event.end})
        return missed

    def take(self, now: float, heard_until: float) -> tuple[list[Delayed], list[Event]]:
        """The packets that leave, and what is to say of the delay.

        Args:
            now: up to where the session's sound has come, in seconds.
            heard_until: see [`SessionState.heard_until`].
        """
        known_until = heard_until - LONGEST_WORD / 2 - self.padding[0]
        leaving, events, delay = [], [], self.delay
        while self._packets and (waited := now - self._packets[0].end) >= self.delay - CLOSE:
            is_known = self._packets[0].end <= known_until
            if not is_known and waited < self.longest:
                self._is_held_back = True
                break
            packet = self._packets.popleft()
            self._left_until = packet.end
            if is_known and self.delay > self.shortest and not sounding(packet):
                self.delay = max(self.delay - (packet.end - packet.start), self.shortest)
                continue
            if self._is_held_back and waited < math.inf:
                self.delay = min(max(waited, self.delay), self.longest)
            self._is_held_back = False
            leaving.append(self._redacted(packet, is_known))
            if not is_known:
                events.append(Unheard(now, packet.start, packet.end))
        if self.delay != delay:
            events.append(DelayChanged(now, self.delay))
        self._words = [word for word in self._words if word["end"] + MEMORY > self._left_until]
        return leaving, events

    def _redacted(self, packet, is_known):
        first, length = round(packet.start * packet.rate), len(packet.samples)
        left = (
            gains(first, length, packet.rate, spans_of(self._words, *self.padding)) if is_known else np.zeros(length)
        )
        if left is None:
            return packet
        how = self.how if is_known else "mute"
        return packet._replace(samples=redact_samples(packet.samples[None], left, first, packet.rate, how)[0])


def sounding(packet: Delayed) -> bool:
    """Whether something in a packet can be heard."""
    samples = as_waveform(packet.samples)
    return bool(len(samples)) and bool(np.abs(samples).max() > 10 ** (QUIETEST_SOUND / 20))


class LiveRedactor:
    """A [`DelayLine`] behind a session that judges at once.

    Args:
        session: of the speaker.
        line: the delay line.
        sampling_rate: of the packets, in Hz.
    """

    def __init__(self, session: ModerationSession, sampling_rate: int, line: DelayLine | None = None):
        self.session, self.line, self.sampling_rate = session, line or DelayLine(), sampling_rate

    def feed(self, samples: ArrayLike, time: float | None = None) -> tuple[list[Delayed], list[Event]]:
        """What leaves when a packet comes, and what the session and the line say; see [`LiveAudio.pcm`]."""
        state, samples = self.session.state, np.asarray(samples)
        before = state.time
        events = self.session.feed(samples, self.sampling_rate, time)
        if state.time > before:  # it was not too late
            start = state.time - len(samples) / self.sampling_rate
            self.line.put(Delayed(start, samples, self.sampling_rate))
        return self._take(events, state.time, state.heard_until)

    def wait(self, seconds: float) -> tuple[list[Delayed], list[Event]]:
        """What leaves when no packet came for so long; see [`LiveAudio.wait`]."""
        events, state = self.session.wait(seconds), self.session.state
        return self._take(events, state.time, state.heard_until)

    def finish(self) -> tuple[list[Delayed], list[Event]]:
        """What is left when no more sound comes."""
        return self._take(self.session.finish(), math.inf, math.inf)

    def _take(self, events, now, heard_until):
        missed = self.line.tell(events)
        packets, said = self.line.take(now, heard_until)
        return packets, [*events, *missed, *said]
