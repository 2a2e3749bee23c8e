"""Records as people and programs read them: a table, JSON lines, Parquet."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..io.files import atomic_write
from ..io.tables import batched


FORMATS = ("table", "jsonl", "parquet")
ROWS_AT_ONCE = 256


def format_verdict(record: dict[str, Any]) -> str:
    """A clip's violations with their evidence, all labels with a bar each, best first, and its keywords with times, as
    far as the model has them."""
    lines = [record["clip"]]
    if record["violations"] is not None:
        lines = [f"{record['clip']}: {', '.join(record['violations']) or 'no violation'}"]
    for item in sorted(record["labels"] or (), key=lambda item: -item["score"]):
        evidence = item["evidence"]
        said = [repr(word["keyword"]) for word in evidence["keywords"]] if evidence else []
        reason = f"  {', '.join(dict.fromkeys(said)) or evidence['reason']}" if evidence else ""
        lines.append(
            f"  {item['label']:<18} {item['score']:6.1%}  {'█' * round(20 * item['score']):<20}{reason}".rstrip()
        )
    for word in record["keywords"] or ():
        span = f"{word['start']:6.2f}–{word['end']:.2f} s"
        benign = ", judged benign" if word["benign"] else ""
        labels = ", ".join(word["labels"])
        line = f"  {span:<18} {word['keyword']!r} ({labels}), score {word['score']:.2f}{benign}"
        elsewhere = f", track {word['track']}, channel {word['channel']}" * (word["track"] + word["channel"] > 0)
        lines.append(line + elsewhere)
    if record["keywords"] == []:
        lines.append("  no toxic keyword heard")
    return "\n".join(lines)


def format_line(record: dict[str, Any], encoding: str | None = None) -> str:
    """A record as a line of JSON; what a stream's encoding lacks is escaped as JSON does it."""
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(record)
    return line


LINES = {"table": lambda record, encoding=None: format_verdict(record), "jsonl": format_line}


def write_verdicts(path: Path, records: Iterable[dict[str, Any]], kind: str) -> None:
    """Writes records as a file of one of `FORMATS`, which is there in full or not at all."""
    with atomic_write(path) as unfinished:
        if kind == "parquet":
            _write_parquet(unfinished, records)
            return
        with unfinished.open("w", encoding="utf-8") as file:
            file.writelines(f"{LINES[kind](record)}\n" for record in records)


def _write_parquet(path, records):
    """Columns to query, and the whole record as JSON."""
    import pyarrow as pa
    from pyarrow import parquet

    scores = pa.struct([("label", pa.string()), ("score", pa.float64()), ("fires", pa.bool_())])
    place = [("start", pa.float64()), ("end", pa.float64()), ("track", pa.int64()), ("channel", pa.int64())]
    word = [("keyword", pa.string()), *place, ("score", pa.float64())]
    schema = pa.schema(
        [
            ("clip", pa.string()),
            ("sha256", pa.string()),
            ("seconds", pa.float64()),
            ("violations", pa.list_(pa.string())),
            ("labels", pa.list_(scores)),
            ("keywords", pa.list_(pa.struct([*word, ("labels", pa.list_(pa.string())), ("benign", pa.bool_())]))),
            ("record", pa.string()),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in batched(map(_row, records), ROWS_AT_ONCE):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _row(record):
    labels = record["labels"] and [
        {name: item[name] for name in ("label", "score", "fires")} for item in record["labels"]
    ]
    return {**record["audio"], **record, "labels": labels, "record": format_line(record)}
