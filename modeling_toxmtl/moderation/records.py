"""Reads records: of what is written, nothing but JSON is needed."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from ..io.files import file_hash, read_json
from ..io.tables import open_parquet, read_table


SCHEMA = "toxmtl.verdict/1"
SCHEMA_FILE = Path(__file__).parent / "schemas" / "verdict-1.json"


def read_records(path: str | PathLike) -> Iterator[dict[str, Any]]:
    """The records of a `.jsonl` or `.parquet` file that `toxmtl moderate` wrote, or of a `.json` file with one.

    Raises:
        ValueError: if a line is no record of this schema, or lacks a part of one; the message names it.
    """
    for number, record in enumerate(_read(Path(path)), start=1):
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            found = record.get("schema") if isinstance(record, dict) else None
            raise ValueError(f"{path}, record {number}: the schema is {found!r}, and only {SCHEMA!r} can be read.")
        if missing := [name for name in _parts_of_a_record() if name not in record]:
            raise ValueError(f"{path}, record {number}: it lacks {', '.join(map(repr, missing))}.")
        yield record


@cache
def _parts_of_a_record():
    return read_json(SCHEMA_FILE)["required"]


def record_of(path: str | PathLike, sha256: str) -> dict[str, Any] | None:
    """The first record of a file that is of audio with this SHA-256, if there is one."""
    return next((record for record in read_records(path) if record["audio"]["sha256"] == sha256), None)


def _read(path: Path) -> Iterable[dict]:
    if path.suffix == ".json":
        return [read_json(path)]
    if path.suffix == ".parquet":
        file = open_parquet(path)
        if "record" not in file.schema_arrow.names:
            raise ValueError(f"{path} has no column 'record': it is no file of records of toxmtl moderate.")
        return (json.loads(text.as_py()) for batch in file.iter_batches(columns=["record"]) for text in batch[0])
    return read_table(path)


def audio_hash(audio: str | PathLike | bytes) -> str:
    """SHA-256 of a file, or of its content."""
    return hashlib.sha256(audio).hexdigest() if isinstance(audio, bytes) else file_hash(audio)
