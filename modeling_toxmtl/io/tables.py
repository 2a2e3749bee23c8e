"""Tables of clips: CSV, TSV and JSON lines, read strictly: what cannot be meant is an error with file and line."""

import csv
import json
from collections.abc import Collection, Sequence
from pathlib import Path


LABEL_SEPARATOR = "|"  # in tables without lists, such as metadata.csv


def read_table(path: Path, required: Collection[str] = ()) -> list[dict]:
    """The rows of a table: `.csv` or `.tsv` (without quotes) with a header, or `.jsonl`, a JSON object per line.

    Args:
        path: of the table, in UTF-8.
        required: columns that must have a value in every row.

    Returns:
        a dict per row; an empty cell is None.

    Raises:
        ValueError: if the file is not in UTF-8, or a line has more cells than the header, is no JSON object or lacks a
            required value; the message names file and line.
    """
    read_lines = _read_json_lines if path.suffix == ".jsonl" else _read_cells
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in read_lines(path, file):
                if missing := [column for column in required if row.get(column) is None]:
                    raise ValueError(f"{path}, line {number}: no {' and no '.join(map(repr, missing))}.")
                rows.append(row)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}): save it as UTF-8.") from error
    return rows


def _read_json_lines(path, file):
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: this is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: a line must be a JSON object with the columns' names.")
        yield number, row


def _read_cells(path, file):
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
    reader = csv.DictReader(file, **dialect)
    for row in reader:
        if None in row:  # cells beyond the header's
            cure = "a text holds tabs" if dialect else "quote texts with commas"
            raise ValueError(f"{path}, line {reader.line_num}: more cells than columns; {cure}.")
        yield reader.line_num, {column: cell or None for column, cell in row.items()}


def cell_text(row: dict, column: str, default: str = "") -> str:
    """A cell of [`read_table`] as text, for a JSON line may hold numbers; the default where it is empty."""
    value = row.get(column)
    return default if value in (None, "") else str(value)


def read_labels(value: str | Sequence[str] | None) -> list[str] | None:
    """Label names of a row: a list, or a string with `|` between them; None where nobody labelled the row (no value,
    or an empty cell). An empty list says that no label applies.

    Raises:
        ValueError: if a name is no text.
    """
    if value is None or isinstance(value, float):  # NaN: an empty cell of a table
        return None
    if isinstance(value, str):
        return [name.strip() for name in value.split(LABEL_SEPARATOR) if name.strip()] or None
    if not_texts := [name for name in value if not isinstance(name, str)]:
        raise ValueError(f"a label is {not_texts[0]!r}, not a name")
    return [name.strip() for name in value if name.strip()]
