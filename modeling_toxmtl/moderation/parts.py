"""What a run has judged so far, and what is left of it, in blocks that any machine can judge by themselves."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..io.files import file_hash, read_json, read_json_lines, remove_unfinished, write_json, write_json_lines
from .hearing import Heard, Listener
from .inputs import Inputs


CLIPS_PER_BLOCK = 64
Task = tuple[int, int]  # number of a block's first clip that is not judged, and of the next block's first


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
        begun = self.folder / "run.json"
        if not begun.exists() and not self.kept():  # the disk may have been full when a run began
            write_json(begun, self.run)
            return
        if not resume:
            raise ValueError(f"{self.folder} holds an unfinished run: go on with --resume, or remove it.")
        remove_unfinished(self.folder)
        before = read_json(begun)
        if changed := [name for name in self.run if self.run[name] != before.get(name)]:
            raise ValueError(
                f"{self.folder} was begun with another {', '.join(changed)}: go on with the same, or remove it."
            )

    def read(self) -> Iterator[Heard]:
        """What was heard, in order."""
        for path in sorted(self.folder.glob("*.jsonl")):
            yield from (Heard(*values) for values in read_json_lines(path))

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
