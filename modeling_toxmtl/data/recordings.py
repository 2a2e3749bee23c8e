"""Which recordings the pipeline reads: a folder or a table of them, in shards that later additions leave alone."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Features, Value

from ..io.files import content_hash, files_in
from ..io.tables import cell_text, read_table
from .schema import check_split
from .shards import Shard, finished_shard, write_rows


RECORDINGS = Features(
    {
        "path": Value("string"),
        "bytes": Value("int64"),
        "modified": Value("int64"),  # nanoseconds
        "name": Value("string"),  # as the table has it, or the path within the folder
        "speaker": Value("string"),  # empty where unknown
        "source": Value("string"),
        "split": Value("string"),
    }
)


@dataclass
class RecordingsArguments:
    """Which recordings to read."""

    recordings: str = field(
        metadata={
            "help": "Folder of audio files, or a table (.csv, .tsv, .jsonl) with the columns `path` (relative to the "
            "table) and, where known, `speaker` (of all tracks of the file), `source` (what must stay in one split, "
            "such as a session), `split`."
        }
    )
    files_per_shard: int = field(default=16, metadata={"help": "Files that are one unit of work, on average."})

    def __post_init__(self):
        if self.files_per_shard < 1:
            raise ValueError(f"--files_per_shard is {self.files_per_shard}: give at least 1.")


def list_recordings(path: str) -> list[dict]:
    """Rows of `RECORDINGS` for a folder, whose links are followed, or a table.

    Raises:
        FileNotFoundError: if there is none; the message names it.
        ValueError: if it has no recordings, or a row lacks `path`.
    """
    location = Path(path)
    if location.is_dir():
        rows, root = [{"path": str(file.relative_to(location))} for file in sorted(files_in(location))], location
    elif location.suffix in (".csv", ".tsv", ".jsonl") and location.is_file():
        rows, root = read_table(location, required=["path"]), location.parent
    else:
        raise FileNotFoundError(f"--recordings: {path} is no folder and no .csv, .tsv or .jsonl file.")
    if not rows:
        raise ValueError(f"--recordings: {path} has no recordings.")
    return [_recording(root, row) for row in rows]


def _recording(root, row):
    name = str(row["path"])
    file = root / name
    status = file.stat() if file.is_file() else None
    text = {
        "path": str(file),
        "name": name,
        "speaker": cell_text(row, "speaker"),
        "source": cell_text(row, "source", name),
        "split": cell_text(row, "split"),
    }
    return {column: _in_utf8(value) for column, value in text.items()} | {
        "bytes": status.st_size if status else 0,
        "modified": status.st_mtime_ns if status else 0,
    }


def _in_utf8(name):
    """What of a file's name is not UTF-8 is written as an escape, under which there is no file."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_recordings(args: RecordingsArguments, work_dir: str) -> list[Shard]:
    """Writes the list of recordings as shards, the input of the chunk stage. The hash of its path says whether a file
    starts a shard, and names it: a file that is added changes only the shard it comes into.

    Raises:
        ValueError: if a recording has a split of another name; the message names it.
    """
    groups: dict[str, list[dict]] = {}
    for row in list_recordings(args.recordings):
        check_split(row["split"], row["path"])  # before the hours that the stages take
        path_hash = content_hash(os.path.relpath(row["path"], args.recordings))
        if not groups or int(path_hash, 16) % args.files_per_shard == 0:
            name = path_hash
        groups.setdefault(name, []).append(row)
    shards = []
    for name, rows in groups.items():
        path = Path(work_dir, "recordings", f"{name}-{content_hash(rows)}.parquet")
        shards.append(finished_shard(path, name) or write_rows(path, name, rows, RECORDINGS))
    return shards
