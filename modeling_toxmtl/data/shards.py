"""Shards: Parquet files of some hundred rows, each with a manifest that is written when it is whole.

work/chunk/a41f…-3f9c….parquet         the rows
work/chunk/a41f…-3f9c….parquet.json    content hash, number of rows, what was rejected and why
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from ..io.files import atomic_write, file_hash, write_json
from ..io.tables import batched


ROWS_AT_ONCE = 64  # rows that a worker holds in memory


@dataclass(frozen=True)
class Rejected:
    """A row that is not used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Shard:
    """A file of rows. `sha256` is of its content, `name` is the same through all stages."""

    name: str
    path: str
    sha256: str
    num_rows: int
    rejected: tuple[Rejected, ...] = ()


def write_rows(path: Path, name: str, rows: Iterable[dict | Rejected], features: Features) -> Shard:
    """Writes a shard and then its manifest, with `ROWS_AT_ONCE` rows in memory."""
    schema, rejected, num_rows = features.arrow_schema, [], 0
    with atomic_write(path) as unfinished:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for group in batched(_without_rejected(rows, rejected), ROWS_AT_ONCE):
                writer.write_table(pa.Table.from_pylist(group, schema))
                num_rows += len(group)
        sha256 = file_hash(unfinished)
    shard = Shard(name, str(path), sha256, num_rows, tuple(rejected))
    record = {"sha256": sha256, "rows": num_rows, "bytes": path.stat().st_size}
    record["rejected"] = [dataclasses.asdict(row) for row in rejected]
    write_json(_manifest_path(path), record)
    return shard


def _without_rejected(rows, rejected):
    for row in rows:
        if isinstance(row, Rejected):
            rejected.append(row)
        else:
            yield row


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def finished_shard(path: Path, name: str) -> Shard | None:
    """The shard at `path` if it is there in full."""
    try:
        record = json.loads(_manifest_path(path).read_text(encoding="utf-8"))
        is_whole = path.stat().st_size == record["bytes"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    rejected = tuple(Rejected(**row) for row in record["rejected"])
    return Shard(name, str(path), record["sha256"], record["rows"], rejected) if is_whole else None


def read_rows(path: str | os.PathLike, columns: list[str] | None = None) -> Iterator[dict]:
    """The rows of a shard, with `ROWS_AT_ONCE` of them in memory."""
    with pq.ParquetFile(path) as file:
        if not file.num_row_groups:  # in an empty shard, of which pyarrow 18 can make no batches
            return
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield from batch.to_pylist()
