"""Windows of many sessions, judged together: a queue that makes batches of what waits.

Design choices:
- One thread hears, one batch after the other; while it does, the next batch gathers. A lone window waits `max_wait`
  seconds for company, no longer.
- Looks at the latest seconds go first, and windows, which nobody waits for so much, after each batch of looks: neither
  starves. A batch holds no more sound than `MOST_SECONDS`, so that a look waits for one long window at most.
- A look that waited for longer than `stale` says too little: it is left unjudged, and its session asks anew. A session
  has one look open at a time, so the queue of looks is never longer than there are sessions.
- A batch is of one judge: windows of clips and segments that began before the keyword list changed are heard for the
  old one, as their records say.
- An error of the judge is that of the batch's windows alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...audio import SAMPLING_RATE
from ...listening import Window
from ..judge import Judge
from .metrics import Metrics


MOST_SECONDS = 15.0  # of sound in a batch, unless one window is longer


class Overloaded(Exception):
    """More sound waits to be judged than the queue takes."""


@dataclass
class _Item:
    window: Window
    samples: np.ndarray
    is_look: bool
    judge: Judge
    future: asyncio.Future
    since: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLING_RATE


class BatchQueue:
    """Judges windows in batches; for one event loop.

    Args:
        judge: which hears, where no other is asked.
        metrics: that are kept.
        max_wait: seconds that a window waits for others, if nothing else is to do.
        stale: seconds after which a look is not worth judging.
        max_seconds: of sound that may wait; more is refused.
    """

    def __init__(
        self, judge: Judge, metrics: Metrics, max_wait: float = 0.005, stale: float = 1.0, max_seconds: float = 600.0
    ):
        self.judge, self.metrics = judge, metrics
        self.max_wait, self.stale, self.max_seconds = max_wait, stale, max_seconds
        self.waiting_seconds = 0.0
        self._looks: deque[_Item] = deque()
        self._windows: deque[_Item] = deque()
        self._filled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._task: asyncio.Task | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begins to judge."""
        self._task = asyncio.create_task(self._run())

    def put(
        self, window: Window, samples: np.ndarray, is_look: bool = False, judge: Judge | None = None
    ) -> asyncio.Future:
        """Asks a judge for a window; the future is what it made of it, or None for a look that came to nothing.

        Raises:
            Overloaded: if too much waits.
            RuntimeError: if the queue is closed.
        """
        if self._is_closed:
            raise RuntimeError("The queue is closed: nothing is judged any more.")
        future = asyncio.get_running_loop().create_future()
        item = _Item(window, samples, is_look, judge or self.judge, future, time.monotonic())
        if self.waiting_seconds + item.seconds > self.max_seconds:
            raise Overloaded(f"{self.waiting_seconds:.0f} s of sound wait to be judged: come back later.")
        self.waiting_seconds += item.seconds
        (self._looks if is_look else self._windows).append(item)
        self._filled.set()
        return future

    async def hear(
        self, windows: Sequence[tuple[Window, np.ndarray]], judge: Judge | None = None
    ) -> list[dict[str, Any]]:
        """What a judge makes of each window of a clip; errors are those of [`put`]."""
        if sum(len(samples) for _, samples in windows) / SAMPLING_RATE + self.waiting_seconds > self.max_seconds:
            raise Overloaded(f"{self.waiting_seconds:.0f} s of sound wait to be judged: come back later.")
        return await asyncio.gather(*(self.put(*window, judge=judge) for window in windows))

    async def change(self, edit: Callable[[], Any]) -> Any:
        """Runs something between two batches, such as a change of the keyword list."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, edit)

    async def close(self) -> None:
        """Judges what waits, and ends."""
        self._is_closed = True
        self._filled.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _run(self):
        while True:
            await self._filled.wait()
            if not (self._looks or self._windows):
                if self._is_closed:
                    return
                self._filled.clear()
                continue
            if len(self._looks) + len(self._windows) == 1 and not self._is_closed:
                await asyncio.sleep(self.max_wait)
            for queue in (self._looks, self._windows):
                await self._judge(self._batch(queue))

    def _batch(self, queue):
        batch, seconds, now = [], 0.0, time.monotonic()
        while queue and len(batch) < self.judge.batch_size:
            item = queue[0]
            if batch and (item.judge is not batch[0].judge or seconds + item.seconds > MOST_SECONDS):
                break
            queue.popleft()
            self.waiting_seconds -= item.seconds
            if item.future.cancelled():  # its session is gone
                continue
            if item.is_look and now - item.since > self.stale:
                item.future.set_result(None)
                self.metrics.stale_looks.inc()
                continue
            self.metrics.queue_seconds.observe(now - item.since)
            batch.append(item)
            seconds += item.seconds
        return batch

    async def _judge(self, batch):
        if not batch:
            return
        start = time.monotonic()
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                self._thread, batch[0].judge.hear, [(item.window, item.samples) for item in batch]
            )
        except Exception as error:  # whatever it is, the sessions whose windows these are must know
            rows = [error] * len(batch)
        self.metrics.judge_seconds.observe(time.monotonic() - start)
        self.metrics.batch_windows.observe(len(batch))
        for item, row in zip(batch, rows, strict=True):
            self.metrics.heard_seconds.labels("look" if item.is_look else "window").inc(item.seconds)
            if item.future.cancelled():
                continue
            if isinstance(row, Exception):
                item.future.set_exception(row)
            else:
                item.future.set_result(row)
