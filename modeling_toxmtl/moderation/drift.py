"""Compares the records of a period with those of another, such as of the clips that thresholds were made on.

    toxmtl moderate me/my-model calibration_clips/ --format jsonl --output reference.jsonl
    toxmtl drift week.jsonl reference.jsonl

Says of each label how many clips have it, within which bounds, and whether its scores lie where they lay; and which
keywords are heard in more clips, or in fewer. A promise of `toxmtl calibrate` holds for clips like those it was made
on: where scores moved, make it again.

Design choices:
- A clip is counted once, whatever its length. What is called a change would come about by chance in one comparison of
  twenty, all labels and keywords of a comparison together (Bonferroni), if clips were drawn at random; clips of one
  speaker or session are alike, and make chance look like change.
- A rate changed where its two exact intervals do not meet: that asks for more than a test of the difference would.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bounds import interval
from .records import read_records


CHANCE = 0.05  # that something is called a change which is none
JUDGE = ("model", "thresholds", "keyword_list", "keyword_evidence", "decoding", "hearing")
PLACES = ("name", "revision", "device")  # of a model, which do not make it another
DRIFT_FORMATS = ("table", "json")


@dataclass
class DriftArguments:
    """Which records to compare."""

    records: str = field(metadata={"help": "Records of the period (.jsonl or .parquet, of `toxmtl moderate`)."})
    reference: str = field(metadata={"help": "Records to compare with, of older clips or those of the calibration."})
    format: str = field(default="table", metadata={"help": "Of what is printed.", "choices": DRIFT_FORMATS})


class Period:
    """What the records of a period say in sum.

    Args:
        records: of the schema `toxmtl.verdict/1`, of a single model with its settings.
        name: for messages.

    Raises:
        ValueError: if there are none, or their model or settings differ.
    """

    def __init__(self, records: Iterable[dict[str, Any]], name: str):
        self.clips, self.seconds, self.windows = 0, 0.0, 0
        self.fires: Counter[str] = Counter()  # clips with a label
        self.heard: Counter[str] = Counter()  # clips with a keyword
        self.judge: dict[str, Any] | None = None
        scores: dict[str, list[float]] = {}
        for record in records:
            judge = _judge(record)
            if self.judge not in (None, judge):
                changed = ", ".join(part for part in JUDGE if judge[part] != self.judge[part])
                raise ValueError(f"{name}, {record['clip']}: another {changed} than before; compare one at a time.")
            self.judge = judge
            self.clips += 1
            self.seconds += record["audio"]["seconds"]
            self.windows += len(record["windows"])
            for item in record["labels"] or ():
                scores.setdefault(item["label"], []).append(item["score"])
                self.fires[item["label"]] += item["fires"]
            self.heard.update({word["keyword"] for word in record["keywords"] or ()})
        if not self.clips:
            raise ValueError(f"{name} has no records.")
        self.scores = {label: np.sort(values) for label, values in scores.items()}

    def summary(self) -> dict[str, float]:
        """Clips, hours and windows."""
        return {"clips": self.clips, "hours": round(self.seconds / 3600, 3), "windows": self.windows}


def _judge(record):
    model = {name: value for name, value in record["model"].items() if name not in PLACES}
    return {part: record.get(part) for part in JUDGE} | {"model": model}


def largest_gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of the shares of scores up to a score (Kolmogorov and Smirnov), positive where those of
    `one` are higher. Both are sorted."""
    places = np.concatenate([one, other])
    shares = [np.searchsorted(scores, places, side="right") / len(scores) for scores in (one, other)]
    gaps = shares[1] - shares[0]
    return float(gaps[np.abs(gaps).argmax()])


def gap_of_chance(num_one: int, num_other: int, chance: float) -> float:
    """The gap that scores of the same kind exceed with this probability, at most (Smirnov's limit)."""
    return math.sqrt(-math.log(chance / 2) / 2 * (num_one + num_other) / (num_one * num_other))


def compare(now: Period, before: Period) -> dict[str, Any]:
    """What differs between two periods, for JSON: see `docs/drift.md`."""
    labels = [label for label in before.scores if label in now.scores]
    keywords = sorted(now.heard | before.heard)
    chance = CHANCE / max(2 * len(labels) + len(keywords), 1)
    limit = gap_of_chance(now.clips, before.clips, chance)
    result = {"now": now.summary(), "before": before.summary(), "labels": {}, "keywords": {}}
    result["judge_changed"] = [part for part in JUDGE if now.judge[part] != before.judge[part]]
    for label in labels:
        gap = largest_gap(now.scores[label], before.scores[label])
        result["labels"][label] = _rates(now.fires[label], now.clips, before.fires[label], before.clips, chance) | {
            "score_gap": round(gap, 4),
            "scores": "as before" if abs(gap) <= limit else "higher" if gap > 0 else "lower",
        }
    for keyword in keywords:
        counts = now.heard[keyword], now.clips, before.heard[keyword], before.clips
        result["keywords"][keyword] = _rates(*counts, chance)
    return result


def _rates(now, clips_now, before, clips_before, chance):
    """Both rates with their intervals of 95 %, and whether one is the higher beyond chance."""
    (low, high), (low_before, high_before) = (
        interval(count, clips, 1 - chance) for count, clips in ((now, clips_now), (before, clips_before))
    )
    return {
        "now": _rate(now, clips_now),
        "before": _rate(before, clips_before),
        "rate": "higher" if low > high_before else "lower" if high < low_before else "as before",
    }


def _rate(count, clips):
    low, high = interval(count, clips, 1 - CHANCE)
    return {"clips": count, "rate": round(count / clips, 5), "low": round(low, 5), "high": round(high, 5)}


def drift_table(result: dict[str, Any]) -> str:
    """A row per label, and per keyword whose rate changed."""
    lines = []
    for name in ("before", "now"):
        period = result[name]
        lines.append(f"{name:<7} {period['clips']:,} clips, {period['hours']:,.2f} h, {period['windows']:,} windows")
    if result["judge_changed"]:
        lines.append(f"not the same judge: another {', '.join(result['judge_changed'])}; what moved may be its doing")
    lines += ["", "| label | before | now | rate | scores | gap |", "|---|---:|---:|---|---|---:|"]
    for label, item in result["labels"].items():
        figures = f"{_percent(item['before'])} | {_percent(item['now'])} | {item['rate']}"
        lines.append(f"| {label} | {figures} | {item['scores']} | {item['score_gap']:+.1%} |")
    if moved := {word: item for word, item in result["keywords"].items() if item["rate"] != "as before"}:
        lines += ["", "| keyword | before | now | rate |", "|---|---:|---:|---|"]
        lines += [
            f"| {word} | {_percent(item['before'])} | {_percent(item['now'])} | {item['rate']} |"
            for word, item in moved.items()
        ]
    return "\n".join(lines)


def _percent(item):
    return f"{item['rate']:.1%} ({item['low']:.1%}–{item['high']:.1%})"


def main(args: DriftArguments) -> None:
    """Prints the comparison.

    Raises:
        ValueError: if a file has no records, or those of several models or settings; the message names it.
    """
    now, before = (Period(read_records(path), path) for path in (args.records, args.reference))
    result = compare(now, before)
    print(json.dumps(result, ensure_ascii=False, indent=2) if args.format == "json" else drift_table(result))
