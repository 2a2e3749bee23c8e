"""Stages on Ray Data: the same shards, made by a pool of actors on the machines of a cluster, which all see the
work folder. An actor keeps its stage, and with it its model. Ray replaces a killed one and repeats its shard."""

from collections.abc import Callable, Iterator
from pathlib import Path

import ray
import ray.data

from .shards import Shard, finished_shard


class ShardActor:
    """Makes shards of one stage, which comes with `make_shard`."""

    def __init__(self, make_shard: Callable[[tuple[str, str, str]], Shard]) -> None:
        self.make_shard = make_shard

    def __call__(self, task: dict) -> dict:
        """Makes the shard that a task names."""
        self.make_shard((task["name"], task["input"], task["output"]))
        return {"name": task["name"], "output": task["output"]}


def run_on_ray(
    tasks: list[tuple[str, str, str]],
    num_proc: int,
    make_shard: Callable[[tuple[str, str, str]], Shard],
    uses_model: bool,
) -> Iterator[Shard]:
    """Makes the shards of `tasks`, (name, input path, output path), with `num_proc` actors, which get a GPU
    each if the stage has a model and there are any. Ray starts here unless `RAY_ADDRESS` names a cluster."""
    if not tasks:
        return
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    num_gpus = 1 if uses_model and ray.cluster_resources().get("GPU") else None
    items = [{"name": name, "input": str(Path(path).resolve()), "output": str(Path(output).resolve())}
             for name, path, output in tasks]  # fmt: skip
    made = ray.data.from_items(items, override_num_blocks=len(items)).map(
        ShardActor,
        fn_constructor_args=(make_shard,),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=num_proc),
        num_gpus=num_gpus,
    )
    for row in made.iter_rows():
        yield finished_shard(Path(row["output"]), row["name"])
