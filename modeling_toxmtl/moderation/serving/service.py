"""What a service does, whatever carries it: clips, sessions and the keyword list, with one judge for all."""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...keywords import KeywordList
from ...listening import Window
from ..hearing import CLIP_ERRORS
from ..judge import Judge, TooLong
from ..live.session import SessionSettings
from ..record import describe_keywords, make_record
from ..records import audio_hash
from .batching import BatchQueue
from .limits import Limits, Rates, knows
from .metrics import Metrics


logger = logging.getLogger("toxmtl.serve")

ROUND = 4  # windows of a clip that are decoded and judged at once: the others of a long one wait in its file
RETRY_SECONDS = 1


class Refused(Exception):
    """A request that is not done, with the HTTP status that says why, and after how many seconds to come again."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


class Service:
    """Judges clips and sessions of many clients; for one event loop.

    Args:
        judge: which hears; another takes its place where the keyword list changes.
        limits: of each client and all together.
        settings: of sessions.
        tokens: one of which a client must have; none for everybody.
        tells_words: whether logs may name keywords.
        replica: name of one of several that answer at the same address, and so must keep the same keyword list.
    """

    def __init__(
        self,
        judge: Judge,
        limits: Limits | None = None,
        settings: SessionSettings | None = None,
        tokens: Sequence[str] = (),
        tells_words: bool = False,
        replica: str | None = None,
    ):
        self.judge, self.limits, self.settings = judge, limits or Limits(), settings or SessionSettings()
        self.tokens, self.tells_words = tokens, tells_words
        self.metrics = Metrics(replica)
        self.queue = BatchQueue(judge, self.metrics)
        self.is_draining = asyncio.Event()
        self.num_sessions = self.num_requests = 0
        self._rates = Rates(self.limits.rate)
        self._idle = asyncio.Event()  # no request and no session is open
        self._idle.set()

    async def start(self) -> None:
        """Begins to judge, and hears a second of silence, so that nobody waits for what is made at first use."""
        self.queue.start()
        length = self.judge.sampling_rate
        await self.queue.put(Window(0, length, 0, length, 0, 0, False), np.zeros(length, dtype=np.float32))

    def admit(self, authorization: str | None, client: str) -> None:
        """Raises [`Refused`] for a client that may not come, or not now."""
        if self.is_draining.is_set():
            raise Refused(503, "The service is shutting down.", RETRY_SECONDS)
        token = knows(self.tokens, authorization)
        if self.tokens and token is None:
            raise Refused(401, "Send `Authorization: Bearer TOKEN`.")
        if wait := self._rates.take(token or client):  # and not by what else a header says: that is made up in no time
            raise Refused(429, f"More than {self.limits.rate:g} requests a second.", wait)

    def begin_session(self) -> None:
        """Counts a session. Raises [`Refused`] if there are too many."""
        if self.num_sessions >= self.limits.max_sessions:
            raise Refused(503, f"{self.num_sessions} sessions are open, and no more may be.", RETRY_SECONDS)
        self.num_sessions += 1
        self._count()

    def end_session(self) -> None:
        """Counts the end of a session."""
        self.num_sessions -= 1
        self._count()

    def _count(self):
        self.metrics.sessions.set(self.num_sessions)
        if self.num_sessions or self.num_requests:
            self._idle.clear()
        else:
            self._idle.set()

    async def moderate(self, audio: bytes, name: str) -> dict[str, Any]:
        """The record of a clip.

        Args:
            audio: content of a file in any format that FFmpeg reads.
            name: of the clip, in its record.

        Raises:
            Refused: if it cannot be judged, is too long, or there is too much to do.
            Overloaded: if too much sound waits.
        """
        if self.num_requests >= self.limits.max_requests:
            raise Refused(503, f"{self.num_requests} clips are being judged, and no more may be.", RETRY_SECONDS)
        self.num_requests += 1
        self._count()
        judge = self.judge  # to the end, though the keyword list may change: the record says what was listened for
        try:
            windows, rows = judge.windows(audio, self.limits.max_seconds), []
            while part := await asyncio.to_thread(lambda: list(itertools.islice(windows, ROUND))):
                rows += await self.queue.hear(part, judge)
        except TooLong as error:
            raise Refused(413, str(error)) from error
        except CLIP_ERRORS as error:
            raise Refused(422, str(error)) from error
        finally:
            self.num_requests -= 1
            self._count()
        return make_record(name, audio_hash(audio), judge.verdict(rows), judge.description)

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword list, and its hash."""
        keywords = self.judge.pipe.processor.keywords
        return {"sha256": describe_keywords(keywords)["sha256"], "list": keywords.to_dict()}

    async def change_keywords(self, keywords: dict[str, Any], expected: str | None) -> dict[str, Any]:
        """Another keyword list, for clips and segments that begin from now on; returns it with its hash.

        Args:
            keywords: as of `KeywordList.to_dict`.
            expected: hash of the list that is to be replaced; None for any.

        Raises:
            Refused: if there are replicas, which would not know (409), the list is another by now (412), or the new
                one is none or cannot be heard (422).
        """
        if self.metrics.replica is not None:
            raise Refused(
                409, "Replicas keep the list of the model's folder: change it there, and start the service again."
            )

        def replace():
            if expected not in (None, self.keywords["sha256"]):
                raise Refused(412, f"The list is another by now: its SHA-256 is {self.keywords['sha256']}.")
            try:
                self.judge = self.judge.with_keywords(KeywordList.from_dict(keywords))
            except ValueError as error:
                raise Refused(422, str(error)) from error
            return self.keywords

        return await self.queue.change(replace)

    async def drain(self, seconds: float) -> None:
        """Takes nothing new, and waits until what was taken is finished, for so long at most."""
        self.is_draining.set()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except asyncio.TimeoutError:  # before Python 3.11, it is no TimeoutError
            logger.warning("not finished", extra={"sessions": self.num_sessions, "requests": self.num_requests})
