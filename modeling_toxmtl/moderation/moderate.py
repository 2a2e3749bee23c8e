"""Judges clips: which violations, which keywords, when, and why.

    toxmtl moderate me/my-model clip.ogg another.mp3
    toxmtl moderate me/my-model recordings/ clips.csv --format jsonl --output verdicts.jsonl --resume
    find . -name "*.ogg" | toxmtl moderate me/my-model - --format jsonl > verdicts.jsonl

Each clip gets a record of the schema toxmtl.verdict/1, which `toxmtl replay`, `redact` and `report` read. A clip that
cannot be judged is one line on the standard error, and the exit status is 1 in the end. With --output, what is judged
is kept beside the file until all is: after whatever ended a run, --resume goes on with it, and leaves a finished one
as it is. `--engine ray` judges on all machines of a Ray cluster, which all see the inputs, the model and the output's
folder.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from ..io.files import content_hash, file_hash, read_json, remove_unfinished, write_json, write_json_lines
from ..judging import STRIDE, Judging
from ..runtime import EXPORT_FILE, ToxicityRuntime
from .formats import FORMATS, LINES, write_verdicts
from .hearing import Heard, Listener
from .inputs import Inputs
from .progress import Progress
from .record import describe_judge


ENGINES = ("local", "ray")
CLIPS_PER_BLOCK = 64  # which are judged by themselves, wherever a run begins and on whatever machine
Task = tuple[int, int]  # number of a block's first clip that is not judged, and of the next block's first


@dataclass
class ModerateArguments:
    """What to judge, and how."""

    model: str = field(metadata={"help": "Folder or Hub id of a model of this package."})
    inputs: list[str] = field(
        metadata={
            "help": "Audio files in any format that FFmpeg reads, folders of them, tables (.csv, .tsv, .jsonl, "
            ".parquet), or - for paths from the standard input, a line each."
        }
    )
    column: str | None = field(
        default=None,
        metadata={
            "help": "Column of tables with paths, relative to the table, or audio; default: audio, path or file."
        },
    )
    output: str | None = field(default=None, metadata={"help": "File to write; default: the standard output."})
    format: str = field(default="table", metadata={"help": "Of the output.", "choices": FORMATS})
    resume: bool = field(default=False, metadata={"help": "Go on with a run that was interrupted; needs --output."})
    window: float = field(default=15.0, metadata={"help": "Seconds that are heard at once."})
    stride: float | None = field(
        default=None, metadata={"help": "Seconds from one window to the next; default: two thirds of --window."}
    )
    batch_size: int = field(default=8, metadata={"help": "Windows per forward pass."})
    engine: str = field(
        default="local",
        metadata={"help": "ray: on the machines of a Ray cluster; needs --output.", "choices": ENGINES},
    )

    def __post_init__(self):
        if self.window <= 0:
            raise ValueError(f"--window is {self.window}: give seconds above 0.")
        if self.stride is None:
            self.stride = self.window * STRIDE
        if not 0 < self.stride <= self.window:
            raise ValueError(f"--stride is {self.stride}: give more than 0, and no more than --window, {self.window}.")
        if self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}: give at least 1.")
        for option, is_given in (
            ("--resume", self.resume),
            ("--format parquet", self.format == "parquet"),
            ("--engine ray", self.engine == "ray"),
        ):
            if self.output is None and is_given:
                raise ValueError(f"{option} needs --output FILE.")
        if self.format == "parquet" and find_spec("pyarrow") is None:  # said before hours of clips are heard
            raise ImportError("--format parquet needs pyarrow: pip install 'modeling-toxmtl[serve]'.")


def load_judge(model: str, revision: str | None = None) -> Judging:
    """The pipeline of a model, or the runtime of one that was exported. Raises ValueError if a path is none of a
    folder."""
    if Path(model).is_absolute() and not Path(model).is_dir():
        raise ValueError(f"there is no model folder {model}")
    if Path(model, EXPORT_FILE).is_file():
        return ToxicityRuntime.from_pretrained(model)
    from transformers import pipeline
    from transformers.utils import logging

    logging.disable_progress_bar()  # of the weights: there are few
    return pipeline("audio-classification", model=model, revision=revision)


class Parts:
    """What a run has judged so far, in a folder beside its output: a file for each group of clips.

    Args:
        output: the run's output. Beside it stands, once it is finished, what the run was: `OUTPUT.run.json`.
        run: what the verdicts depend on.
    """

    def __init__(self, output: Path, run: dict):
        self.output, self.run = output, run
        self.folder = output.with_name(f"{output.name}.parts")
        self.statement = output.with_name(f"{output.name}.run.json")

    def is_finished(self) -> bool:
        """Whether the output is there, and is this run's."""
        if not (self.output.is_file() and self.statement.is_file()):
            return False
        return read_json(self.statement) == self._stated()

    def _stated(self):
        return self.run | {"output_sha256": file_hash(self.output)}

    def begin(self, resume: bool) -> None:
        """Begins, or goes on with what is there if `resume`.

        Raises:
            ValueError: if the output or parts are there that this run may not touch; the message names the cure.
        """
        if self.output.exists() and not (resume and self.folder.exists()):  # killed when it had been written
            raise ValueError(
                f"{self.output} is already there, and no finished output of the same run to --resume: choose another "
                "--output, or remove it."
            )
        if not self.folder.exists():
            write_json(self.folder / "run.json", self.run)
            return
        if not resume:
            raise ValueError(f"{self.folder} holds an unfinished run: go on with --resume, or remove it.")
        remove_unfinished(self.folder)
        before = read_json(self.folder / "run.json")
        if changed := [name for name in self.run if self.run[name] != before.get(name)]:
            raise ValueError(
                f"{self.folder} was begun with another {', '.join(changed)}: go on with the same, or remove it."
            )

    def read(self) -> Iterator[Heard]:
        """What was heard, in order."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                yield Heard(*json.loads(line))

    def kept(self) -> dict[int, int]:
        """How many clips each group has, by the number of its first."""
        paths = self.folder.glob("*.jsonl")
        return {int(path.stem): path.read_bytes().count(b"\n") for path in paths}

    def add(self, first: int, group: list[Heard]) -> None:
        """Keeps a group, whose first clip has this number."""
        write_json_lines(self.folder / f"{first:09}.jsonl", group)

    def finish(self) -> None:
        """Once the output is written: states the run, and removes the parts."""
        write_json(self.statement, self._stated())
        self.remove()

    def remove(self) -> None:
        """Removes the parts, if there are any."""
        shutil.rmtree(self.folder, ignore_errors=True)


def tasks_left(num_clips: int, kept: dict[int, int]) -> Iterator[Task]:
    """What of each block is not judged, of a run that kept so much; see [`Parts.kept`]."""
    for first in range(0, num_clips, CLIPS_PER_BLOCK):
        end = min(first + CLIPS_PER_BLOCK, num_clips)
        while first in kept and first < end:
            first += kept[first]
        if first < end:
            yield first, end


def hear_groups(listener: Listener, inputs: Inputs, tasks: Iterable[Task]) -> Iterator[tuple[int, list[Heard]]]:
    """What comes of the clips of each task, in groups, each with the number of its first clip."""
    for first, end in tasks:
        for group in listener.hear(inputs.clips(first, end)):
            yield first, group
            first += len(group)


def size_of(group: list[Heard]) -> tuple[int, float]:
    """Clips, and seconds of sound."""
    return len(group), sum(heard.record["audio"]["seconds"] for heard in group if heard.record)


def _reported(results: Iterable[Heard], counts: dict[str, int]) -> Iterator[dict]:
    """The records; what has none is said on the standard error."""
    for heard in results:
        counts["clips"] += 1
        if heard.error is None:
            counts["with violations"] += bool(heard.record["violations"])
            yield heard.record
        else:
            counts["not judged"] += 1
            tqdm.write(f"{heard.clip}: {heard.error}", file=sys.stderr)


def main(args: ModerateArguments) -> None:
    """Judges, and prints or writes the verdicts; leaves with status 1 if a clip could not be judged.

    Raises:
        ValueError: if there are no clips, no model, or the output is in the way.
    """
    inputs = Inputs(args.inputs, args.column)
    pipe = load_judge(args.model)
    judge = describe_judge(pipe, window_seconds=args.window, stride_seconds=args.stride)
    counts = dict.fromkeys(("clips", "with violations", "not judged"), 0)
    if args.output is None:
        _print(Listener(pipe, judge, args.batch_size), inputs, args.format, counts)
    else:
        _write(pipe, judge, inputs, args, counts)
    if counts["not judged"]:
        raise SystemExit(1)


def _print(listener, inputs, kind, counts):
    with Progress(len(inputs)) as progress:
        listener.on_part = progress.part
        for _, group in hear_groups(listener, inputs, tasks_left(len(inputs), {})):
            progress.add(*size_of(group))
            for record in _reported(group, counts):
                print(LINES[kind](record), flush=True)


def _write(pipe, judge, inputs, args, counts):
    names = content_hash([clip.name for clip in inputs])
    run = judge | {"inputs": names, "batch_size": args.batch_size, "format": args.format}
    parts = Parts(Path(args.output).resolve(), run)
    if args.resume and parts.is_finished():
        parts.remove()  # where it was killed in the midst of that
        print(f"{args.output} is finished: there is nothing to resume.", file=sys.stderr)
        return
    parts.begin(args.resume)
    kept = parts.kept()
    tasks = list(tasks_left(len(inputs), kept))
    with Progress(len(inputs), sum(kept.values())) as progress:
        if args.engine == "ray":
            from .ray_engine import judge_on_ray

            for size in judge_on_ray(args, judge, inputs, parts, tasks):
                progress.add(*size)
        else:
            listener = Listener(pipe, judge, args.batch_size, progress.part)
            for first, group in hear_groups(listener, inputs, tasks):
                parts.add(first, group)
                progress.add(*size_of(group))
    write_verdicts(parts.output, _reported(parts.read(), counts), args.format)
    parts.finish()
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()), file=sys.stderr)
