import asyncio

import numpy as np
import pytest
from helpers import RATE
from live_helpers import chatter

from modeling_toxmtl.listening import Window
from modeling_toxmtl.moderation.serving.batching import BatchQueue, Overloaded
from modeling_toxmtl.moderation.serving.metrics import Metrics


class Listener:
    """Stands in for a judge: says how long a window is, and remembers its batches."""

    batch_size = 4

    def __init__(self, broken: float | None = None):
        self.batches, self.broken = [], broken

    def hear(self, windows):
        lengths = [len(samples) / RATE for _, samples in windows]
        self.batches.append(lengths)
        if self.broken in lengths:
            raise RuntimeError("broken")
        return lengths


def window(seconds: float) -> tuple[Window, np.ndarray]:
    return Window(0, round(seconds * RATE), 0, round(seconds * RATE), 0, 0, False), chatter(seconds)


def with_queue(work, judge=None, **settings):
    """What a coroutine makes of a queue that runs, and the judge."""
    judge = judge or Listener()

    async def run():
        queue = BatchQueue(judge, Metrics(), **settings)
        result = await work(queue)
        await queue.close()
        return result

    return asyncio.run(run()), judge


def test_what_waits_is_judged_together():
    async def work(queue):
        answers = [queue.put(*window(1 + number / 10)) for number in range(6)]
        queue.start()
        return await asyncio.gather(*answers)

    answers, judge = with_queue(work)
    assert answers == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])  # each its own
    assert [len(batch) for batch in judge.batches] == [4, 2]


def test_looks_go_first_and_neither_starves():
    async def work(queue):
        windows = [queue.put(*window(15)) for _ in range(3)]
        looks = [queue.put(*window(3), is_look=True) for _ in range(6)]
        queue.start()
        await asyncio.gather(*windows, *looks)

    _, judge = with_queue(work)
    assert judge.batches == [[3.0] * 4, [15.0], [3.0] * 2, [15.0], [15.0]]


def test_a_batch_is_of_one_judge():
    other = Listener()

    async def work(queue):
        answers = [queue.put(*window(1)), queue.put(*window(2))]
        answers += [queue.put(*window(3), judge=other), queue.put(*window(4))]
        queue.start()
        return await asyncio.gather(*answers, queue.hear([window(5)], other))

    answers, judge = with_queue(work)
    assert answers == [1.0, 2.0, 3.0, 4.0, [5.0]]
    assert judge.batches == [[1.0, 2.0], [4.0]] and other.batches == [[3.0], [5.0]]


def test_looks_that_are_stale_are_left_out():
    async def work(queue):
        look, whole = queue.put(*window(3), is_look=True), queue.put(*window(4))
        await asyncio.sleep(0.05)
        queue.start()
        return await asyncio.gather(look, whole)

    answers, judge = with_queue(work, stale=0.01)
    assert answers == [None, 4.0] and judge.batches == [[4.0]]


def test_an_error_is_that_of_its_batch_alone():
    async def work(queue):
        answers = [queue.put(*window(seconds)) for seconds in (15.0, 14.0)]
        queue.start()
        return await asyncio.gather(*answers, return_exceptions=True)

    (broken, whole), _ = with_queue(work, Listener(broken=15.0))
    assert isinstance(broken, RuntimeError) and whole == 14.0


def test_more_than_may_wait_is_refused():
    async def work(queue):
        first = queue.put(*window(8))
        with pytest.raises(Overloaded, match="8 s of sound wait"):
            queue.put(*window(3))
        with pytest.raises(Overloaded):
            await queue.hear([window(1), window(2)])  # all of a clip, or nothing
        queue.start()
        await first
        assert await queue.hear([window(1), window(2)]) == [1.0, 2.0]
        assert queue.waiting_seconds == 0

    with_queue(work, max_seconds=10.0)


def test_sessions_that_are_gone_cost_nothing():
    async def work(queue):
        gone, here = queue.put(*window(3)), queue.put(*window(4))
        gone.cancel()
        queue.start()
        return await here

    answer, judge = with_queue(work)
    assert answer == 4.0 and judge.batches == [[4.0]]


def test_a_queue_that_closes_finishes_what_waits():
    async def work(queue):
        answers = [queue.put(*window(15)) for _ in range(3)]
        queue.start()
        await queue.close()
        with pytest.raises(RuntimeError, match="closed"):
            queue.put(*window(1))
        return [answer.result() for answer in answers]

    assert with_queue(work)[0] == [15.0] * 3
