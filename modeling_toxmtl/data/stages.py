"""What all stages of the data pipeline share: shards, restarts, quarantine, and where the work is done.

A stage is a pure function over rows: an iterator of dictionaries in, an iterator of dictionaries out, a `Rejected` in
the place of a row that cannot be used. Rows travel in *shards*, Parquet files of some hundred rows:

    work/chunk/a41f…-3f9c….parquet         the rows
    work/chunk/a41f…-3f9c….parquet.json    its manifest: content hash, number of rows, what was rejected and why
    work/chunk/manifest.json               the settings of the stage and its shards, once all are done
    work/chunk/quarantine.jsonl            what was rejected in all of them

Design choices:
- A shard's file name has a hash of the content of the shard that it was made from and of the stage's settings. So a
  shard that exists need not be made again, and one that was made otherwise is never taken for it. Change a setting,
  and the shards from that stage on are made anew; run the same command again, and nothing is.
- A shard counts as done when its manifest is there, which is written after the rows. Both are written to a temporary
  file in the same folder, flushed to disk and renamed: whenever a process is killed, a file is there in full or not.
- Workers get shards, not rows, and write them themselves. It does not matter which process of which machine makes a
  shard, how often, or in which order, be it of two runs at once; the folder must be seen by all.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from datasets import Features
from tqdm import tqdm

from .. import WITHOUT_MODELS
from ..io.files import content_hash, remove_unfinished, write_json, write_json_lines
from ..runtime import num_cores
from .shards import Rejected, Shard, finished_shard, read_rows, write_rows


# Raise it when a stage's code changes so that equal settings give other rows.
FORMAT_VERSION = 4
MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
ENGINES = ("local", "ray")


class Stage(Protocol):
    """A pure function over rows. `name` is the stage's folder, `features` are the columns of its rows, `uses_model`
    says whether it should get a GPU."""

    name: str
    features: Features
    uses_model: bool

    def settings(self) -> dict:
        """All that the rows depend on beside their input, as JSON types: contents of files and revisions of models,
        not their paths."""

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Rows in the order of the input."""


@dataclass(frozen=True)
class Manifest:
    """What a stage made: its settings, and its shards in order."""

    stage: str
    settings: dict
    shards: tuple[Shard, ...]

    @property
    def num_rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.num_rows for shard in self.shards)

    @property
    def rejected(self) -> list[Rejected]:
        """What was rejected in all shards."""
        return [rejected for shard in self.shards for rejected in shard.rejected]


@dataclass
class WorkArguments:
    """Where the stages keep their rows, and who does the work."""

    work_dir: str = field(
        default="pipeline_work", metadata={"help": "Folder for the rows of all stages; the same folder goes on."}
    )
    engine: str = field(
        default="local", metadata={"help": "local: processes of this machine; ray: Ray Data.", "choices": ENGINES}
    )
    num_proc: int | None = field(
        default=None,
        metadata={
            "help": "Number of workers; default: one for each core, and for a model one for each GPU. Without a GPU, "
            "a model gets all cores of this machine, or one of each worker of a cluster."
        },
    )

    def __post_init__(self):
        if self.num_proc is not None and self.num_proc < 1:
            raise ValueError(f"--num_proc is {self.num_proc}: give at least 1.")
        if self.engine == "ray" and find_spec("ray") is None:
            raise ImportError("--engine ray needs Ray: pip install 'modeling-toxmtl[ray]'.")


def shard_file(stage: str, settings: dict, shard: Shard) -> str:
    """The name of the file that a stage makes of a shard; it has a hash of all that the rows depend on."""
    return f"{shard.name}-{content_hash([FORMAT_VERSION, stage, settings, shard.sha256])}.parquet"


def run_stage(stage: Stage, inputs: Sequence[Shard], args: WorkArguments) -> Manifest:
    """Makes the shards of a stage that are not there yet, and writes its manifest and quarantine list.

    Args:
        stage: what to do.
        inputs: shards of the stage before.
        args: where, and by whom.

    Raises:
        RuntimeError: if a worker dies, as it does when memory runs out.
        OSError: if the folder cannot be written.
    """
    folder, settings = Path(args.work_dir, stage.name), stage.settings()
    remove_unfinished(folder)
    tasks, shards = [], {}
    for shard in inputs:
        path = folder / shard_file(stage.name, settings, shard)
        if finished := finished_shard(path, shard.name):
            shards[shard.name] = finished
        else:
            tasks.append((shard.name, shard.path, str(path)))
    with tqdm(total=len(inputs), initial=len(shards), desc=stage.name, unit="shard") as progress:
        for shard in ENGINE_FUNCTIONS[args.engine](stage, tasks, args.num_proc):
            shards[shard.name] = shard
            progress.update()
    manifest = Manifest(stage.name, settings, tuple(shards[shard.name] for shard in inputs))
    write_manifest(manifest, folder)
    return manifest


def model_processes() -> int:
    """Workers for a stage with a model: as many as GPUs, or one, whose model uses all cores."""
    import torch  # the stages without a model do not load it

    return max(1, torch.cuda.device_count())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes what a stage made, for the next one and for the reader."""
    shards = [
        {"name": shard.name, "file": Path(shard.path).name, "sha256": shard.sha256, "rows": shard.num_rows}
        for shard in manifest.shards
    ]
    record = {
        "stage": manifest.stage,
        "settings": manifest.settings,
        "settings_hash": content_hash(manifest.settings),
        "rows": manifest.num_rows,
        "rejected": len(manifest.rejected),
        "shards": shards,
    }
    write_json_lines(folder / QUARANTINE, map(dataclasses.asdict, manifest.rejected))
    write_json(folder / MANIFEST, record)


def read_manifest(work_dir: str | os.PathLike, stage: str) -> Manifest:
    """What a stage made.

    Raises:
        FileNotFoundError: if it is not finished; the message says what to run.
    """
    path = Path(work_dir, stage, MANIFEST)
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}: run `toxmtl data {stage} --work-dir {work_dir}`.")
    record = json.loads(path.read_text(encoding="utf-8"))
    shards = []
    for entry in record["shards"]:
        shard = finished_shard(path.parent / entry["file"], entry["name"])
        if shard is None or shard.sha256 != entry["sha256"]:
            raise FileNotFoundError(f"{path} lists {entry['file']}, which is not whole: run the stage {stage} again.")
        shards.append(shard)
    return Manifest(stage, record["settings"], tuple(shards))


def read_manifests(work_dir: str | os.PathLike, stages: Sequence[str]) -> dict[str, Manifest]:
    """What successive stages made, by their names.

    Raises:
        FileNotFoundError: if one is not finished.
        ValueError: if one was not made from what the one before holds now; the message says what to run.
    """
    manifests = {stage: read_manifest(work_dir, stage) for stage in stages}
    for before, manifest in itertools.pairwise(manifests.values()):
        expected = [shard_file(manifest.stage, manifest.settings, shard) for shard in before.shards]
        if [Path(shard.path).name for shard in manifest.shards] != expected:
            raise ValueError(
                f"{work_dir}/{manifest.stage} was not made from what is in {work_dir}/{before.stage} now: run the "
                f"stage {manifest.stage} and those after it again."
            )
    return manifests


# Engines: each makes shards of (name, input path, output path) and gives them as they are finished, in any order.


def _make_shard(stage: Stage, task: tuple[str, str, str]) -> Shard:
    name, input_path, output_path = task
    return write_rows(Path(output_path), name, stage(read_rows(input_path)), stage.features)


def _run_locally(stage: Stage, tasks: list, num_proc: int | None) -> Iterator[Shard]:
    num_proc = min(num_proc or (model_processes() if stage.uses_model else num_cores()), len(tasks))
    if num_proc <= 1:
        yield from (_make_shard(stage, task) for task in tasks)
        return
    # Not forked: torch, PyAV and pyarrow have threads of their own. An executor, and not a pool, which would wait for
    # ever for the shard of a worker that was killed.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(num_proc, context, _start_worker, (stage, num_proc))
    with _environment_of_workers(stage), executor:
        try:
            for future in as_completed([executor.submit(_make_shard_in_worker, task) for task in tasks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"A worker of the stage {stage.name} was killed (out of memory?): run again to go on, with fewer "
                "--num_proc if it was."
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _environment_of_workers(stage: Stage) -> Iterator[None]:
    """Workers of a stage without a model do without PyTorch, which takes longer to import than a shard may take."""
    if stage.uses_model or WITHOUT_MODELS in os.environ:
        yield
        return
    os.environ[WITHOUT_MODELS] = "1"
    try:
        yield
    finally:
        del os.environ[WITHOUT_MODELS]


def _start_worker(stage: Stage, num_proc: int) -> None:
    global _make_shard_in_this_worker
    _share_machine(num_proc)
    _make_shard_in_this_worker = partial(_make_shard, stage)


def _share_machine(num_proc: int) -> None:
    if torch := sys.modules.get("torch"):  # the stages without a model do not load it
        torch.set_num_threads(max(1, num_cores() // num_proc))
        if torch.cuda.is_available():
            worker = multiprocessing.current_process()._identity[-1]
            torch.cuda.set_device(worker % torch.cuda.device_count())


def _make_shard_in_worker(task: tuple[str, str, str]) -> Shard:
    return _make_shard_in_this_worker(task)


_make_shard_in_this_worker: Callable  # set in each worker: a stage loads its model once, not once a shard


def _run_on_ray(stage: Stage, tasks: list, num_proc: int | None) -> Iterator[Shard]:
    """On machines that all see the recordings, the models and the work folder under the same paths."""
    from ..io.ray_pool import map_on_ray, num_processors  # it needs Ray

    num_gpus = num_processors("GPU") if stage.uses_model else 0
    num_proc = num_proc or num_gpus or num_processors("CPU")
    for name, _, output in map_on_ray(lambda: partial(_make_task, stage), tasks, num_proc, uses_gpu=num_gpus > 0):
        yield finished_shard(Path(output), name)


def _make_task(stage: Stage, task: list[str]) -> list[str]:
    _make_shard(stage, tuple(task))
    return task


ENGINE_FUNCTIONS = {"local": _run_locally, "ray": _run_on_ray}
