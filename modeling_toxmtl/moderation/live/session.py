"""Listens to one speaker as the sound comes, and says what it hears as it happens.

    session = ModerationSession(Judge(load_judge("me/my-model")))
    for packet in packets:
        for event in session.feed(packet):
            print(event.to_dict())

Design choices:
- A [`SessionState`] neither calls a model nor waits: it takes sound, asks for windows to be judged ([`Ask`]), and is
  told what the model made of them. So a server can judge the windows of many sessions in one batch, and a test can
  answer late or never. [`ModerationSession`] is a state with a judge of its own.
- Windows, and where speech ends, are those of the offline pipeline (`listening.py`): the verdict on a segment is the
  same however the sound is cut into packets.
- Nobody waits for a window to be full: the latest seconds are heard every `hop`, and what is found there is
  provisional. Only one such look is open at a time, and the next reaches back to what the last one was sure of: a
  judge that is busy makes the looks rarer, and no word falls between two.
"""

import itertools
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...audio import SAMPLING_RATE
from ...listening import MARGIN, Window, frame_size
from ..judge import Judge
from .audio import LiveAudio
from .events import Event, FaultHeard, SpeechStarted
from .gate import SpeechGate
from .segments import OpenSegment


STEP = 2 * frame_size()  # samples that are planned at once: to plan them one by one costs nearly twice as much
SHORTEST_LOOK = 1.0  # seconds of an open part, half of which comes before its first sound


@dataclass(frozen=True)
class SessionSettings:
    """How a session listens; all in seconds but for `release`.

    Args:
        hop: from one look at the latest seconds to the next, at least; 0 for none, which leaves final words only.
        context: how much such a look hears.
        lookahead: what must follow the middle of a word, for a look to report it.
        release: share of a label's threshold below which a violation is cleared.
        max_segment: speech that goes on for longer gets a verdict at the next window, and the next segment begins.
        keep_audio: whether segments come with their sound.

    Raises:
        ValueError: a value that makes no sense.
    """

    hop: float = 0.5
    context: float = 3.0
    lookahead: float = 0.2
    release: float = 0.8
    max_segment: float = 60.0
    keep_audio: bool = False

    def __post_init__(self):
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ValueError(f"`{field.name}` is {getattr(self, field.name)}: give 0 or more.")
        if self.release > 1:
            raise ValueError(f"`release` is {self.release}: give a share of the threshold, 1 at most.")
        if self.hop and self.context < self.hop + 2 * self.lookahead:
            raise ValueError(
                f"`context` is {self.context}: give `hop` and twice `lookahead` at least, or words fall between looks."
            )


class Ask(NamedTuple):
    """A window that a session wants judged.

    Args:
        number: to answer with.
        window: in samples of its segment.
        samples: float32 mono.
        is_look: whether it is the latest seconds, and may be left unjudged (`answer(number, None)`).
        judge: that is to hear it, the segment's.
    """

    number: int
    window: Window
    samples: np.ndarray
    is_look: bool
    judge: Judge


class SessionState:
    """One speaker's session without a judge.

    Args:
        judge: whose windows are asked for; it makes verdicts of them. Another (`with_keywords`) may take its place at
            any time, for the segments that begin from then on.
        settings: see [`SessionSettings`].
        name: of the session: its segments are called `NAME#0`, `NAME#1`, … in their records.
        gate: makes silence of what is no speech, where the sender sends its noise, too; None to hear all sound.
    """

    def __init__(
        self,
        judge: Judge,
        settings: SessionSettings | None = None,
        name: str = "session",
        gate: SpeechGate | None = None,
    ):
        self.judge, self.name, self._gate = judge, name, gate
        self.settings = settings or SessionSettings()
        self._audio, self._planner = LiveAudio(), judge.planner()
        self._hop, self._unsure, self._context = (
            round(seconds * SAMPLING_RATE)
            for seconds in (self.settings.hop, self.settings.lookahead, self.settings.context)
        )
        self._waiting: list[np.ndarray] = []  # sound that is not planned yet
        self._num_waiting = 0  # samples of it
        self._segment: OpenSegment | None = None
        self._part = 0  # number of the planner's part that the segment is of
        self._num_segments = 0
        self._asks: list[Ask] = []
        # asked: segment, number of its window, and up to where its words are sure
        self._open: dict[int, tuple[OpenSegment, int | None, int]] = {}
        self._num_asked = 0
        self._events: list[Event] = []
        self._look_is_open = False
        # samples of the session: of the last look; what it will have heard; what has been heard; the last sound
        self._looked_at = self._sure_until = self._heard_until = self._sound_until = 0

    @property
    def time(self) -> float:
        """Seconds of sound that have come, pauses included."""
        return self._audio.seconds

    @property
    def heard_until(self) -> float:
        """Second up to which the middle of every word is known, as far as the latest seconds tell."""
        if self._heard_until < self._sound_until:
            return self._heard_until / SAMPLING_RATE
        undecided = 2 * frame_size()  # of which it is not known if they sound
        return max(self._planner.end - undecided, 0) / SAMPLING_RATE

    @property
    def is_speaking(self) -> bool:
        """Whether a segment is open."""
        return self._segment is not None

    @property
    def num_open(self) -> int:
        """Windows that were asked for and not judged."""
        return len(self._open)

    def feed(self, samples: ArrayLike, sampling_rate: int = SAMPLING_RATE, time: float | None = None) -> list[Event]:
        """Hears a packet of samples; arguments and errors are those of [`LiveAudio.pcm`]."""
        return self._hear(self._audio.pcm(samples, sampling_rate, time))

    def feed_opus(self, packet: bytes, time: float | None = None) -> list[Event]:
        """Hears an Opus packet; arguments and errors are those of [`LiveAudio.opus`]."""
        return self._hear(self._audio.opus(packet, time))

    def wait(self, seconds: float) -> list[Event]:
        """Hears that no packet came for so long; see [`LiveAudio.wait`]."""
        return self._hear(self._audio.wait(seconds))

    def finish(self) -> list[Event]:
        """No more sound comes. What is asked for then can still be answered."""
        events = self._hear(self._audio.end())
        if self._gate is not None:
            self._put(self._gate.end())
        self._plan()
        if self._planner.end >= self._planner.shortest:
            self._take(self._planner.windows(is_complete=True))
        self._close_segment()
        return events + self._said()

    def asks(self) -> list[Ask]:
        """What is to be judged since the last call."""
        asks, self._asks = self._asks, []
        return asks

    def answer(self, number: int, row: dict[str, Any] | None) -> list[Event]:
        """Takes what [`Judge.hear`] made of an [`Ask`], in any order.

        Raises:
            ValueError: if a window that is no look is left unjudged.
            KeyError: if there is no such open ask.
        """
        segment, window, sure_until = self._open[number]
        if row is None and window is not None:
            raise ValueError("A window of a segment must be judged: without it, the verdict would be another.")
        del self._open[number]
        self._look_is_open = self._look_is_open and window is not None
        if row is None:
            self._sure_until = self._heard_until
            return []
        self._heard_until = max(self._heard_until, sure_until)
        return segment.hear_latest(row, self.time) if window is None else segment.hear(window, row, self.time)

    def _hear(self, sounds) -> list[Event]:
        self._put(sounds if self._gate is None else self._gate.feed(sounds))
        self._look()
        return self._said()

    def _put(self, sounds):
        for sound in sounds:
            if isinstance(sound, int):
                self._plan()
                self._take(self._planner.silence(sound))
                continue
            self._waiting.append(sound)
            self._num_waiting += len(sound)
            if self._num_waiting >= STEP:
                self._plan()

    def _said(self):
        faults = [FaultHeard(fault.time, fault.kind, fault.seconds) for fault in self._audio.faults]
        events, self._events = [*faults, *self._events], []
        self._audio.faults.clear()
        return events

    def _plan(self):
        if self._waiting:
            self._planner.append([np.concatenate(self._waiting)[None]])
            self._waiting, self._num_waiting = [], 0
            self._take(self._planner.windows(is_complete=False))

    def _take(self, windows):
        """Asks for the windows that the planner gives; opens and closes segments by its parts."""
        for window, samples in windows:
            self._close_parts()
            if self._segment is None and window.is_silent:
                continue  # between two parts
            if self._segment is None:
                self._open_segment(window.start)
            elif self._is_too_long(window):
                before = self._segment
                before.goes_on = True
                self._close_segment()
                self._open_segment(window.start, before)
            segment = self._segment
            number = segment.add(window, self._planner.held(max(segment.end, window.start), window.end))
            self._ask(segment, window, samples, number)
            self._sounds_until(window.end)
        self._close_parts()
        if self._planner.part:
            if self._segment is None:
                self._open_segment(self._planner.part[0])
            self._sounds_until(self._planner.part[1])

    def _is_too_long(self, window):
        """Whether the segment would be, with another window."""
        segment = self._segment
        has_windows = segment.end > segment.start
        return has_windows and window.end - segment.start > self.settings.max_segment * SAMPLING_RATE

    def _sounds_until(self, end):
        """Takes notice of a sound, behind which a margin is heard, too."""
        self._sound_until = max(self._sound_until, end - round(MARGIN * SAMPLING_RATE))

    def _close_parts(self):
        if self._planner.num_closed > self._part:
            self._close_segment()
            self._part = self._planner.num_closed

    def _open_segment(self, start, before=None):
        settings, name = self.settings, f"{self.name}#{self._num_segments}"
        self._num_segments += 1
        self._segment = OpenSegment(self.judge, name, start, settings.release, settings.keep_audio, before)
        if before is None:
            self._looked_at = self._sure_until = self._heard_until = start
            self._events.append(SpeechStarted(self.time, start / SAMPLING_RATE))

    def _close_segment(self):
        if self._segment is not None:
            self._segment.is_closed = True
            if self._segment.is_done:  # its last window was judged before it was known to be the last
                self._events += self._segment.settle(self.time)
            self._segment = None

    def _ask(self, segment, window, samples, number):
        self._open[self._num_asked] = segment, number, window.last
        self._asks.append(Ask(self._num_asked, segment.place(window), samples, number is None, segment.judge))
        self._num_asked += 1

    def _look(self):
        """Asks for the latest seconds, if something new was said."""
        planner = self._planner
        if not self._hop or self._segment is None or self._look_is_open or planner.end - self._looked_at < self._hop:
            return
        start, end = planner.part
        if self._sound_until <= self._sure_until or min(end, planner.end) - start < SHORTEST_LOOK * SAMPLING_RATE:
            return
        length = max(self._context, planner.end - self._sure_until + self._unsure)
        for window, samples in planner.latest(min(length, planner.window), self._unsure):
            self._look_is_open = True
            self._looked_at, self._sure_until = planner.end, window.last
            self._ask(self._segment, window, samples, None)


class ModerationSession:
    """A [`SessionState`] with a judge of its own, which hears what is asked for at once; arguments are as there."""

    def __init__(
        self,
        judge: Judge,
        settings: SessionSettings | None = None,
        name: str = "session",
        gate: SpeechGate | None = None,
    ):
        self.state = SessionState(judge, settings, name, gate)

    def feed(self, samples: ArrayLike, sampling_rate: int = SAMPLING_RATE, time: float | None = None) -> list[Event]:
        """What a packet of samples `(samples,)` brings; see [`LiveAudio.pcm`]."""
        return self._judged(self.state.feed(samples, sampling_rate, time))

    def feed_opus(self, packet: bytes, time: float | None = None) -> list[Event]:
        """What an Opus packet brings; see [`LiveAudio.opus`]."""
        return self._judged(self.state.feed_opus(packet, time))

    def wait(self, seconds: float) -> list[Event]:
        """What it brings that no packet came for so long; see [`LiveAudio.wait`]."""
        return self._judged(self.state.wait(seconds))

    def finish(self) -> list[Event]:
        """What is left to say when no more sound comes."""
        return self._judged(self.state.finish())

    def _judged(self, events):
        for judge, asks in itertools.groupby(self.state.asks(), key=lambda ask: ask.judge):
            asks = list(asks)
            rows = judge.hear([(ask.window, ask.samples) for ask in asks])
            for ask, row in zip(asks, rows, strict=True):
                events = events + self.state.answer(ask.number, row)
        return events
