"""Clips on Ray: the same groups, judged on all machines of a cluster, which all see the inputs, the model and the
output's folder."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..io.ray_pool import map_on_ray, num_processors
from .hearing import Listener, load_judge
from .inputs import Inputs
from .parts import Parts, Task, hear_groups, size_of
from .record import describe_judge, differences


class _BlockJudge:
    """Judges blocks of clips, with a model of its own.

    Raises:
        ValueError: if the machine's model or libraries are others than where the run began; the message names them.
    """

    def __init__(self, model: str, judge: dict[str, Any], batch_size: int, inputs: Inputs, parts: Parts) -> None:
        pipe = load_judge(model)
        self.listener, self.inputs, self.parts = Listener(pipe, judge, batch_size), inputs, parts
        if found := differences(judge, describe_judge(pipe, **judge["hearing"])):
            raise ValueError(f"the machines of the cluster differ: {'; '.join(found)}")

    def __call__(self, task: Task) -> tuple[int, float]:
        """Judges what of a block is left, and keeps it; returns how much that was."""
        clips, seconds = 0, 0.0
        for first, group in hear_groups(self.listener, self.inputs, [task]):
            self.parts.add(first, group)
            num_clips, sound = size_of(group)
            clips, seconds = clips + num_clips, seconds + sound
        return clips, seconds


def judge_on_ray(
    model: str, judge: dict[str, Any], batch_size: int, inputs: Inputs, parts: Parts, tasks: list[Task]
) -> Iterator[tuple[int, float]]:
    """Judges the clips of the tasks on each processor, or GPU, of the cluster; yields how many clips, and seconds of
    sound, each task had. Errors are those of [`map_on_ray`]."""
    if not tasks:
        return
    uses_gpu = judge["model"]["device"] != "cpu"
    make = partial(_BlockJudge, model, judge, batch_size, inputs, parts)
    yield from map_on_ray(make, tasks, num_processors("GPU" if uses_gpu else "CPU"), uses_gpu)
