"""Reads what people decided in Label Studio about the clips of `toxmtl to-label-studio`.

    toxmtl from-label-studio export.json --output corrections.jsonl

The export is Label Studio's `JSON`. Each task that somebody finished becomes a row with `id` (the clip's name),
`labels`, and `keywords` with their times, which `toxmtl report --labels` and `toxmtl data run --corrections` read.
What does not fit is one line on the standard error with the task's id, the others are written, and the exit status
is 1.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..io.files import read_json, write_json_lines
from ..io.tables import read_labels
from .to_label_studio import KEYWORDS, LABELS, TEXT


PAST_THE_END = 0.1  # seconds by which a region may end behind its clip: players round lengths


@dataclass
class FromLabelStudioArguments:
    """What to read and write."""

    export: str = field(metadata={"help": "Label Studio's export, of the format JSON."})
    output: str = field(default="corrections.jsonl", metadata={"help": "Table to write."})


def row_of(task: dict[str, Any]) -> dict[str, Any] | None:
    """The row of a task; None if nobody finished it.

    Raises:
        ValueError: if the task, or what people said, does not fit, or they contradict each other.
    """
    annotations = [item for item in task["annotations"] if not item.get("was_cancelled")]
    if not annotations:
        return None
    data = task.get("data") or {}
    if missing := [name for name in ("clip", "seconds", "label_names") if name not in data]:
        raise ValueError(f"its data lack {', '.join(missing)}: it is no task of toxmtl to-label-studio")
    results = [item["result"] for item in annotations]
    labels = [_labels_of(result, data["label_names"]) for result in results]
    if any(set(given) != set(labels[0]) for given in labels):
        raise ValueError(f"people disagree: {' or '.join(', '.join(given) or 'none' for given in labels)}")
    return {"id": data["clip"], "labels": labels[-1], "keywords": _keywords_of(results[-1], data["seconds"])}


def _labels_of(result: Sequence[dict], names: Sequence[str]) -> list[str]:
    chosen = [label for item in result if item["from_name"] == LABELS for label in item["value"]["choices"]]
    if not chosen:
        raise ValueError("no label is chosen, which may mean anything: choose NoViolation where there is none")
    if unknown := sorted(set(chosen) - set(names)):
        raise ValueError(f"the label {', '.join(unknown)} is none of {', '.join(names)}")
    labels = read_labels(chosen)
    return [name for name in names if name in labels]


def _keywords_of(result: Sequence[dict], seconds: float) -> list[dict[str, Any]]:
    """In order of time. A region is a result of its place, and another of the same id with its text."""
    texts = {item["id"]: " ".join(item["value"]["text"]).strip() for item in result if item["from_name"] == TEXT}
    keywords = []
    for item in result:
        if item["from_name"] != KEYWORDS:
            continue
        start, end = item["value"]["start"], item["value"]["end"]
        if not 0 <= start < end <= seconds + PAST_THE_END:
            raise ValueError(f"a keyword is from {start} to {end} s, and the clip has {seconds} s")
        if not texts.get(item["id"]):
            raise ValueError(f"the keyword from {start} to {end} s has no text")
        keywords.append({"keyword": texts[item["id"]], "start": start, "end": min(end, seconds)})
    return sorted(keywords, key=lambda word: word["start"])


def main(args: FromLabelStudioArguments) -> None:
    """Writes the table; leaves with status 1 if a task does not fit.

    Raises:
        ValueError: if the file is no such export, or no task of it fits.
    """
    tasks = read_json(args.export)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "annotations" in task for task in tasks):
        raise ValueError(f"{args.export} is no list of tasks with annotations: export as JSON, not JSON-MIN or CSV.")
    rows, num_open, num_wrong = {}, 0, 0
    for number, task in enumerate(tasks, start=1):
        try:
            row = row_of(task)
            if row is not None and row["id"] in rows:
                raise ValueError(f"another task is of the same clip, {row['id']}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = error if isinstance(error, ValueError) else f"it is no task of Label Studio's ({error!r})"
            print(f"task {task.get('id', f'number {number}')}: {reason}", file=sys.stderr)
            num_wrong += 1
            continue
        if row is None:
            num_open += 1
        else:
            rows[row["id"]] = row
    if not rows:
        raise ValueError(f"{args.export} has no task that somebody finished and that fits.")
    write_json_lines(args.output, rows.values())
    print(f"{len(rows)} clips: {args.output}; {num_open} not finished, {num_wrong} that do not fit")
    if num_wrong:
        raise SystemExit(1)
