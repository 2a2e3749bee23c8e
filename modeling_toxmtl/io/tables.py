"""Tables of clips: CSV, TSV and JSON lines, read strictly: what cannot be meant is an error with file and line."""

import csv
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..keywords import unique_keys
from ..labels import NO_VIOLATION


if TYPE_CHECKING:
    from pyarrow import parquet

LABEL_SEPARATOR = "|"  # in tables without lists, such as metadata.csv


def read_table(path: Path, required: Collection[str] = ()) -> list[dict]:
    """The rows of a table: `.csv` or `.tsv` (without quotes) with a header, or `.jsonl`, a JSON object per line. A
    `.csv` may be separated by semicolons, tabs or bars, which a line `sep=;` before the header may say, as
    spreadsheets write it.

    Args:
        path: of the table, in UTF-8.
        required: columns that must have a value in every row.

    Returns:
        a dict per row; an empty cell is None.

    Raises:
        ValueError: if the file is not in UTF-8, a column or key occurs twice or is missing, or a line has more cells
            than the header, a quote that does not fit, is no JSON object or lacks a required value; the message names
            file and line.
    """
    read_lines = _read_json_lines if path.suffix == ".jsonl" else _read_cells
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in read_lines(path, file):
                if missing := [column for column in required if row.get(column) is None]:
                    no_column = "" if set(missing) <= row.keys() else f"; the columns are {', '.join(map(repr, row))}"
                    raise ValueError(f"{path}, line {number}: no {' and no '.join(map(repr, missing))}{no_column}.")
                rows.append(row)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}): save it as UTF-8.") from error
    return rows


def _read_json_lines(path, file):
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
            if "\\ud" in line.lower():  # half of a character, perhaps, which no file can hold
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: this is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: a line must be a JSON object with the columns' names.")
        yield number, row


def _read_cells(path, file):
    dialect, num_before = _dialect(path, file)
    reader = csv.reader(file, strict=True, skipinitialspace=True, **dialect)
    columns, end = None, num_before
    try:
        for row in reader:
            start, end = end + 1, num_before + reader.line_num
            if not row:  # an empty line
                continue
            if columns is None:
                columns = [name.strip() for name in row]
                if len(set(columns)) < len(columns):
                    raise ValueError(f"{path}, line {start}: a column occurs twice in {', '.join(columns)}.")
                continue
            if len(row) > len(columns):
                cure = "a text holds tabs" if path.suffix == ".tsv" else "put texts that hold the separator in quotes"
                raise ValueError(f"{path}, line {start}: more cells than columns; {cure}.")
            if end > start and any(_swallows_a_row(cell, len(columns), reader.dialect) for cell in row):
                raise ValueError(
                    f"{path}, line {start}: a quote that is closed only in line {end} takes whole rows for text; "
                    "close it, or write texts with line breaks as .jsonl."
                )
            cells = [*row, *[""] * (len(columns) - len(row))]
            yield start, {column: cell or None for column, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        cure = "is a quote not closed, or not doubled within a text in quotes?"
        raise ValueError(f"{path}, line {end + 1}: {error}; {cure}") from error


def _dialect(path, file):
    """Of csv.reader, and the number of lines before the header. A `.tsv` has no quotes, and the header of a `.csv`
    shows what separates its cells, if no line before it says so."""
    if path.suffix == ".tsv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}, 0
    header = file.readline()
    if match := re.fullmatch(r'"?sep=(.)"?\s*', header):
        return {"delimiter": match[1]}, 1
    while header.isspace():
        header = file.readline()
    file.seek(0)
    unquoted = re.sub('"[^"]*"', "", header)
    return {"delimiter": max(filter(unquoted.count, "\t;,|"), key=unquoted.count, default=",")}, 0


def _swallows_a_row(cell, num_columns, dialect):
    """Whether a line of a text would be a row of its own."""
    lines = csv.reader(cell.splitlines()[1:], delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
    return num_columns > 1 and any(len(line) == num_columns for line in lines)


def open_parquet(path: str | Path) -> "parquet.ParquetFile":
    """A Parquet file. Raises ValueError, naming it, if it is none."""
    from pyarrow import ArrowInvalid, parquet

    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error


def cell_text(row: dict, column: str, default: str = "") -> str:
    """A cell of [`read_table`] as text, for a JSON line may hold numbers; the default where it is empty."""
    value = row.get(column)
    return default if value in (None, "") else str(value)


def read_labels(value: str | Sequence[str] | Mapping[str, float | None] | None) -> list[str] | None:
    """Label names of a row: a list, a string with `|` between them, or 0 or 1 for each name; None where nobody
    labelled the row (no value, or an empty cell). An empty list says that no label applies.

    Raises:
        ValueError: if a name is no text, a number is neither 0 nor 1, or `NoViolation` stands beside a violation.
    """
    if value is None or isinstance(value, float) and math.isnan(value):  # an empty cell of a table
        return None
    if isinstance(value, str):
        names = [name.strip() for name in value.split(LABEL_SEPARATOR) if name.strip()] or None
    elif isinstance(value, Mapping):
        names = _names_given(value)
    else:
        given = value if isinstance(value, Sequence) else [value]
        if not_texts := [name for name in given if not isinstance(name, str)]:
            raise ValueError(f"a label is {not_texts[0]!r}, not a name")
        names = [name.strip() for name in given if name.strip()]
    if names and NO_VIOLATION in names and len(set(names)) > 1:
        raise ValueError(f"the labels {', '.join(names)} contradict each other: {NO_VIOLATION} stands alone")
    return names


def _names_given(numbers):
    """None, which Arrow writes for a name that a row does not have, counts as 0."""
    scores = {name: number for name, number in numbers.items() if number not in (0, 1, None)}
    if scores:
        raise ValueError(f"the labels are scores, {scores}: give the names of those that apply, or 0 or 1 for each")
    return [name for name, number in numbers.items() if number]


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
