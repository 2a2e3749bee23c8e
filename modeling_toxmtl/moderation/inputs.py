"""Which clips to judge: files, folders, tables, Parquet files, or the paths that the standard input has, a line each.

Clips are listed one after the other, and those of a Parquet file read in batches: a list of millions fits memory.
"""

import os
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from ..io.files import files_in
from ..io.tables import open_parquet, read_table


TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
COLUMNS = ("audio", "path", "file_name", "file")  # tried in this order
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Clip:
    """A clip to judge: its name in records and messages, and its file or the file's content."""

    name: str
    audio: str | bytes


class Inputs:
    """The clips of a command's inputs, in order; listed again, from any of them on, they are the same.

    Args:
        inputs: paths of audio files, of folders, whose files are all taken but hidden ones, or of tables; "-" reads
            paths from the standard input.
        column: of tables: a path, relative to the table, or the content of a file, as `datasets` stores it; by default
            the first of `COLUMNS` that there is.

    Raises:
        FileNotFoundError: if a table is not there. A missing file is an error of its own clip.
        ValueError: if there are no clips, or a table has no such column; the message names it.
    """

    def __init__(self, inputs: Sequence[str], column: str | None = None):
        self._column = column
        self._sources = [source for given in inputs for source in self._sources_of(given)]
        sizes = [_num_rows(source) if _is_parquet(source) else 1 for source in self._sources]
        self._starts = [0, *accumulate(sizes)]  # number of each source's first clip, and that of all
        if not len(self):
            raise ValueError(f"there are no clips in {', '.join(inputs)}")

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Clip]:
        return self.clips(0, len(self))

    def clips(self, first: int, end: int) -> Iterator[Clip]:
        """Those from one number on, and before another."""
        index = bisect_right(self._starts, first) - 1
        while first < end:
            source, start, following = self._sources[index], *self._starts[index : index + 2]
            if _is_parquet(source):
                yield from islice(self._rows(source, first - start), min(end, following) - first)
            else:
                yield Clip(in_utf8(source), source)
            first, index = following, index + 1

    def _sources_of(self, given: str) -> Iterable[str]:
        if given == STANDARD_INPUT:
            return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        if os.path.isdir(given):
            return map(str, sorted(files_in(given)))
        if Path(given).suffix in TABLES and not _is_parquet(given):
            return self._cells(Path(given))
        return [given]

    def _cells(self, table: Path) -> list[str]:
        """Paths in a table of text, which are relative to it."""
        rows = read_table(table)
        column = self._choose(table, rows[0]) if rows else ""
        if missing := [number for number, row in enumerate(rows, start=1) if not row.get(column)]:
            raise ValueError(f"{table}, row {missing[0]}: no {column!r}")
        return [str(table.parent / str(row[column])) for row in rows]

    def _choose(self, table: str | Path, columns: Iterable[str]) -> str:
        wanted = COLUMNS if self._column is None else (self._column,)
        found = [name for name in wanted if name in set(columns)]
        if not found:
            raise ValueError(f"{table} has no column {' or '.join(map(repr, wanted))}: name it with --column")
        return found[0]

    def _rows(self, table: str, first: int) -> Iterator[Clip]:
        """Clips of a Parquet file, from row `first` on; row groups before it are not read."""
        file = open_parquet(table)
        column = self._choose(table, names := file.schema_arrow.names)
        columns = [name for name in ("id", column) if name in names]
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        starts = [0, *accumulate(sizes)]
        group = bisect_right(starts, first) - 1
        number = starts[group]
        for batch in file.iter_batches(64, row_groups=range(group, len(sizes)), columns=columns):
            skipped = min(max(first - number, 0), batch.num_rows)
            for place, row in enumerate(batch.slice(skipped).to_pylist(), start=number + skipped):
                yield _clip_of(row, column, table, place + 1)
            number += batch.num_rows


def _clip_of(row: dict[str, Any], column: str, table: str, number: int) -> Clip:
    value, name = row[column], row.get("id")
    path = value.get("path") if isinstance(value, dict) else value
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        return Clip(str(name or (path if isinstance(path, str) else None) or f"{table}:{number}"), content)
    if not isinstance(path, str):
        return Clip(str(name or f"{table}:{number}"), b"")  # which is no audio, and said to be none
    return Clip(str(name or path), str(Path(table).parent / path))


def in_utf8(name: str) -> str:
    """A file's name, or a message with it: what of it is not UTF-8, as records are, becomes an escape."""
    return name.encode("utf-8", "backslashreplace").decode()


def _is_parquet(path: str) -> bool:
    return path.endswith(".parquet")


def _num_rows(path: str) -> int:
    return open_parquet(path).metadata.num_rows
