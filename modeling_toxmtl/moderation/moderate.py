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

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from ..io.files import content_hash
from ..judging import STRIDE
from .formats import FORMATS, LINES, write_verdicts
from .hearing import Heard, Listener, load_judge
from .inputs import Inputs
from .parts import Parts, hear_groups, size_of, tasks_left
from .progress import Progress
from .record import describe_judge


ENGINES = ("local", "ray")


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
        if not 0 < self.window < math.inf:
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
                print(LINES[kind](record, sys.stdout.encoding), flush=True)


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

            for size in judge_on_ray(args.model, judge, args.batch_size, inputs, parts, tasks):
                progress.add(*size)
        else:
            listener = Listener(pipe, judge, args.batch_size, progress.part)
            for first, group in hear_groups(listener, inputs, tasks):
                parts.add(first, group)
                progress.add(*size_of(group))
    if next(tasks_left(len(inputs), parts.kept()), None):
        raise RuntimeError(
            f"{parts.folder} lacks clips that were judged: see that all machines write to the same disk, and --resume."
        )
    write_verdicts(parts.output, _reported(parts.read(), counts), args.format)
    parts.finish()
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()), file=sys.stderr)
