"""Work on Ray Data: items go to a pool of workers on all machines of a cluster.

Design choices:
- A worker is made once and keeps what it loaded, such as a model. Ray replaces one that is killed, alone or with its
  machine, and repeats its item: what is done with an item must be the same done twice.
- Errors that say what is wrong come back as answers, and end the run in one line. Ray would print pages about each.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any


try:
    import ray
    import ray.data
except ImportError as error:
    raise ImportError("--engine ray needs Ray: pip install 'modeling-toxmtl[ray]'.") from error


SAID = (ValueError, OSError, RuntimeError, ImportError)  # errors whose message is enough


class _Worker:
    """Does what `make` makes a function for, in the folder that paths are relative to."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        self.work, self.error = None, None
        try:
            os.chdir(folder)
            self.work = make()
        except SAID as error:
            self.error = error

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """The answer, or what is wrong: texts, so that all rows are alike."""
        try:
            if self.error is not None:
                raise self.error
            return {"answer": json.dumps(self.work(json.loads(row["item"]))), "error": ""}
        except SAID as error:
            return {"answer": "", "error": str(error) or repr(error)}


def num_processors(kind: str) -> int:
    """How many processors of a kind, "CPU" or "GPU", the cluster has.

    Ray starts here unless `RAY_ADDRESS` names a cluster, or this machine is of one.
    """
    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.WARNING)
    return int(ray.cluster_resources().get(kind, 0))


def map_on_ray(
    make: Callable[[], Callable[[Any], Any]], items: Sequence[Any], num_workers: int, uses_gpu: bool
) -> Iterator[Any]:
    """What workers answer to items, in any order.

    Args:
        make: makes the function of a worker, from an item to an answer; both are of JSON types.
        items: of which a worker gets one after the other.
        num_workers: at most.
        uses_gpu: whether each worker takes a GPU; otherwise, it takes a core.

    Raises:
        RuntimeError: if a worker raises one of `SAID`; the message is its own.
    """
    if not items:
        return
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its progress: there is our own
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"item": json.dumps(item)} for item in items]
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Worker,
        fn_constructor_args=(make, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=max(1, min(num_workers, len(rows)))),
        num_gpus=1 if uses_gpu else None,
    )
    for row in answers.iter_rows():
        if row["error"]:
            raise RuntimeError(row["error"])
        yield json.loads(row["answer"])
