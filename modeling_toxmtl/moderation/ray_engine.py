"""Clips on Ray Data: the same groups, judged by a pool of actors on the machines of a cluster, which all see the
inputs, the model and the output's folder. Ray replaces a killed actor and repeats its block."""

import os
from collections.abc import Iterator
from typing import Any

from .hearing import Listener, load_judge
from .inputs import Inputs
from .parts import Parts, Task, hear_groups, size_of
from .record import describe_judge, differences


try:
    import ray
    import ray.data
except ImportError as error:
    raise ImportError("--engine ray needs Ray: pip install 'modeling-toxmtl[ray]'.") from error


class BlockActor:
    """Judges blocks of clips, with a model of its own, in the folder that paths are relative to.

    Raises:
        ValueError: if the machine's model or libraries are others than where the run began; the message names them.
    """

    def __init__(
        self, model: str, judge: dict[str, Any], batch_size: int, inputs: Inputs, parts: Parts, folder: str
    ) -> None:
        os.chdir(folder)
        pipe = load_judge(model)
        self.listener, self.inputs, self.parts = Listener(pipe, judge, batch_size), inputs, parts
        if found := differences(judge, describe_judge(pipe, **judge["hearing"])):
            raise ValueError(f"the machines of the cluster differ: {'; '.join(found)}")

    def __call__(self, task: dict[str, int]) -> dict[str, float]:
        """Judges what of a block is left, and keeps it; returns how much that was."""
        clips, seconds = 0, 0.0
        for first, group in hear_groups(self.listener, self.inputs, [(task["first"], task["end"])]):
            self.parts.add(first, group)
            num_clips, sound = size_of(group)
            clips, seconds = clips + num_clips, seconds + sound
        return {"clips": clips, "seconds": seconds}


def judge_on_ray(
    model: str, judge: dict[str, Any], batch_size: int, inputs: Inputs, parts: Parts, tasks: list[Task]
) -> Iterator[tuple[int, float]]:
    """Judges the clips of the tasks with an actor for each processor, or GPU, of the cluster; yields how many clips,
    and seconds of sound, each task had. Ray starts here unless `RAY_ADDRESS` names a cluster."""
    if not tasks:
        return
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    resource = "GPU" if judge["model"]["device"] != "cpu" else "CPU"
    num_actors = max(min(int(ray.cluster_resources().get(resource, 1)), len(tasks)), 1)
    items = [{"first": first, "end": end} for first, end in tasks]
    judged = ray.data.from_items(items, override_num_blocks=len(items)).map(
        BlockActor,
        fn_constructor_args=(model, judge, batch_size, inputs, parts, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=num_actors),
        num_gpus=1 if resource == "GPU" else None,
    )
    for row in judged.iter_rows():
        yield int(row["clips"]), row["seconds"]
