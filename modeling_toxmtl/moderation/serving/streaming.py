"""A session over a connection: packets in, events out, until it ends, one way or another.

Design choices:
- A connection is a task of its own, which waits for a packet, an answer of the judge, or time to pass. What it does
  not read waits at the client: sound that comes faster than it may, or than the judge follows, is not read, and so is
  held back by the connection itself.
- Where no packet comes for `PAUSE` seconds while somebody speaks, that is a pause: senders with DTX or push to talk
  send nothing, and the verdict must not wait for the next word.
"""

import asyncio
import json
import logging
import struct
import time
from typing import Protocol

import numpy as np

from ...io.opus import OPUS_CLOCK, packet_samples
from ..live.events import Event, Keyword, Segment
from ..live.session import SessionState
from .batching import Overloaded
from .limits import Bucket
from .service import Service


logger = logging.getLogger("toxmtl.serve")

TICK = 0.25  # seconds after which time that has passed is looked at
PAUSE = 1.0  # seconds without a packet that are silence
BURST = 10.0  # seconds of sound that may come at once
SHORTEST_PACKET = 0.0025  # seconds, of Opus
MOST_OPEN = 8  # windows of one session that wait to be judged
STAMP = struct.Struct("<d")  # seconds of the sender's clock, before a packet
FORMATS = ("pcm16", "opus")
NORMAL, BAD_MESSAGE, BAD_PACKET, POLICY, FAULT, RESTART, TRY_LATER = 1000, 1003, 1007, 1008, 1011, 1012, 1013


class Closed(Exception):
    """The session ends, with a WebSocket close code and the reason."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code = code


class Connection(Protocol):
    """What carries a session."""

    async def receive(self) -> bytes | str | None:
        """The next message, None if the client is gone."""
        ...

    async def send(self, text: str) -> None:
        """Sends a message. Raises ConnectionError if the client is gone."""
        ...


class Stream:
    """One speaker's session over a connection.

    Args:
        service: which it is a session of.
        connection: which carries it.
        name: of the session.
        format: one of `FORMATS`.
        rate: of PCM, in Hz.
        is_stamped: whether each packet begins with its time, a `STAMP`.
    """

    def __init__(
        self,
        service: Service,
        connection: Connection,
        name: str,
        format: str = "pcm16",
        rate: int = 16_000,
        is_stamped: bool = False,
    ):
        self.service, self.connection, self.name = service, connection, name
        self.format, self.rate, self.is_stamped = format, rate, is_stamped
        self.state = SessionState(service.judge, service.settings, name)
        self._bucket = Bucket(service.limits.speed, BURST)
        self._answers: dict[asyncio.Future, int] = {}
        self._receiving: asyncio.Task | None = None
        self._read_from = self._last_packet = time.monotonic()
        self._waited = 0.0  # seconds that were taken for a pause since the last packet
        self._ends_with: int | None = None  # close code, once no more packets are read
        self.num_segments = self.num_violations = 0

    async def run(self) -> int:
        """Listens until the session is told to end; returns the close code. Raises [`Closed`] if it ends before."""
        try:
            while self._ends_with is None or self.state.num_open:
                await self._step()
            return self._ends_with
        finally:
            for task in (self._receiving, *self._answers):
                if task is not None:
                    task.cancel()

    async def _step(self):
        if self.service.is_draining.is_set():
            await self._finish(RESTART)
        now = time.monotonic()
        may_read = self._ends_with is None and now >= self._read_from and self.state.num_open < MOST_OPEN
        if self._receiving is None and may_read:
            self._receiving = asyncio.create_task(self.connection.receive())
        tasks = {*self._answers, *([self._receiving] if self._receiving else [])}
        if not tasks:
            await asyncio.sleep(min(max(self._read_from - now, 0.0), TICK))
            return
        done, _ = await asyncio.wait(tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=lambda task: self._answers.get(task, -1)):  # the older segment first
            if task is self._receiving:
                self._receiving = None
                await self._take(task.result())
            else:
                await self._answer(task)
        if self._ends_with is None:
            await self._pass_time()

    async def _take(self, message):
        if self._ends_with is not None:
            return
        if message is None:
            raise Closed(NORMAL, "the client is gone")
        self._last_packet, self._waited = time.monotonic(), 0.0
        if isinstance(message, str):
            await self._obey(message)
            return
        try:
            events = self._feed(message)
        except ValueError as error:
            raise Closed(BAD_PACKET, str(error)) from error
        await self._tell(events)

    def _feed(self, packet) -> list[Event]:
        self.state.judge, moment = self.service.judge, None  # whose keyword list may be another by now
        if self.is_stamped:
            if len(packet) < STAMP.size:
                raise ValueError(f"A packet of {len(packet)} bytes has no time stamp: send {STAMP.size} bytes first.")
            (moment,), packet = STAMP.unpack_from(packet), packet[STAMP.size :]
        if self.format == "opus":
            self._count_sound(packet_samples(packet) / OPUS_CLOCK)
            return self.state.feed_opus(packet, moment)
        if len(packet) % 2:
            raise ValueError(f"A packet of {len(packet)} bytes is no PCM of 16 bits.")
        self._count_sound(len(packet) / 2 / self.rate)
        return self.state.feed(np.frombuffer(packet, dtype="<i2"), self.rate, moment)

    def _count_sound(self, seconds):
        """Sound that came may make the next wait; what is damaged is work, too."""
        self.service.metrics.received_seconds.inc(seconds)
        self._read_from = time.monotonic() + self._bucket.take(max(seconds, SHORTEST_PACKET))

    async def _obey(self, message):
        try:
            is_end = json.loads(message) == {"end": True}
        except ValueError:
            is_end = False
        if not is_end:
            raise Closed(BAD_MESSAGE, 'Send packets as binary messages, and {"end": true} as text in the end.')
        await self._finish(NORMAL)

    async def _finish(self, code):
        if self._ends_with is None:
            self._ends_with = code
            await self._tell(self.state.finish())

    async def _pass_time(self):
        quiet = time.monotonic() - self._last_packet
        if quiet > self.service.limits.idle_seconds:
            raise Closed(NORMAL, f"no packet for {quiet:.0f} s")
        if self.state.is_speaking and quiet >= PAUSE and quiet - self._waited >= TICK:
            events = self.state.wait(quiet - self._waited)
            self._waited = quiet
            await self._tell(events)

    async def _answer(self, future):
        number = self._answers.pop(future)
        try:
            events = self.state.answer(number, future.result())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("a window could not be judged", extra={"session": self.name})
            raise Closed(FAULT, "a window could not be judged") from error
        await self._tell(events)

    async def _tell(self, events):
        """Sends events, and passes on what is asked."""
        for ask in self.state.asks():
            try:
                future = self.service.queue.put(ask.window, ask.samples, ask.is_look, ask.judge)
            except Overloaded as error:
                if not ask.is_look:
                    raise Closed(TRY_LATER, str(error)) from error
                events = events + self.state.answer(ask.number, None)
            else:
                self._answers[future] = ask.number
        for event in events:
            self._count(event)
            try:
                text = json.dumps(event.to_dict(), ensure_ascii=False)
                await asyncio.wait_for(self.connection.send(text), self.service.limits.send_seconds)
            except asyncio.TimeoutError as error:  # before Python 3.11, it is no TimeoutError
                raise Closed(POLICY, "the client does not read its events") from error
            except ConnectionError as error:
                raise Closed(NORMAL, "the client is gone") from error

    def _count(self, event):
        self.service.metrics.events.labels(event.event).inc()
        if isinstance(event, Keyword) and event.state == "provisional":
            self.service.metrics.keyword_delay.observe(max(event.time - event.end, 0.0))
        if isinstance(event, Segment):
            self.num_segments += 1
            self.num_violations += bool(event.record["violations"])
            if self.service.tells_words:
                words = [word["keyword"] for word in event.record["keywords"] or ()]
                logger.info("segment", extra={"session": self.name, "keywords": words})
