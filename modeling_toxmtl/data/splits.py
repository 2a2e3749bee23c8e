"""Which clip goes to which split, so that no speaker and no source is in two.

Speakers and sources that occur together are one group (connected components), and a group goes to one split as a
whole. The largest groups are dealt first, each to the split that lacks most of its share of hours. Splits that are
given are kept; a group that has two is an error, not a choice.
"""

import hashlib
from dataclasses import dataclass, field

from .schema import check_split


@dataclass(kw_only=True)
class ShareArguments:
    """How much goes to which split."""

    validation_share: float = field(default=0.05, metadata={"help": "Share of the hours, of what has no split."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the hours, of what has no split."})

    def __post_init__(self):
        if min(self.validation_share, self.test_share) < 0 or self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"--validation_share {self.validation_share} and --test_share {self.test_share}: give shares of 0 or "
                "more that leave some for training."
            )

    @property
    def shares(self) -> dict[str, float]:
        """Of each split that gets any."""
        shares = {"validation": self.validation_share, "test": self.test_share}
        return {"train": 1 - sum(shares.values()), **{split: share for split, share in shares.items() if share}}


@dataclass(frozen=True)
class Entry:
    """What the splits are made from: a row without its content."""

    id: str
    speaker: str
    source: str
    split: str
    labels: tuple[str, ...]
    duration: float


def group_entries(entries: list[Entry]) -> list[list[Entry]]:
    """Connected components: entries that share a speaker or a source, however many steps apart, are one group."""
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node):
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for entry in entries:
        parents[root(("speaker", entry.speaker))] = root(("source", entry.source))
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(root(("source", entry.source)), []).append(entry)
    return list(groups.values())


def assign_splits(entries: list[Entry], shares: dict[str, float]) -> dict[str, str]:
    """Split by id; `shares` of the hours go to each split, as nearly as groups allow.

    Raises:
        ValueError: if a given split is none of `SPLITS`, the message names a clip; or if a group has two, the message
            names speakers and sources.
    """
    for entry in entries:
        check_split(entry.split, f"Clip {entry.id!r} of {entry.source}")
    splits, hours, open_groups = {}, dict.fromkeys(shares, 0.0), []
    for group in group_entries(entries):
        given = {entry.split for entry in group if entry.split}
        if len(given) > 1:
            speakers, sources = ({getattr(entry, name) for entry in group} for name in ("speaker", "source"))
            raise ValueError(
                f"The recordings' table puts into {sorted(given)} what belongs together: the speakers "
                f"{sorted(speakers)[:5]} and sources {sorted(sources)[:5]}. Give them one split."
            )
        if given:
            splits |= dict.fromkeys((entry.id for entry in group), given.pop())
        else:
            open_groups.append(group)
    total = sum(entry.duration for group in open_groups for entry in group)
    for group in sorted(open_groups, key=_largest_first):
        seconds = sum(entry.duration for entry in group)
        split = max(shares, key=lambda name: shares[name] * total - hours[name])
        hours[split] += seconds
        splits |= dict.fromkeys((entry.id for entry in group), split)
    return splits


def _largest_first(group):
    """Equally large groups come in an order that says nothing about them, and is the same every time."""
    first = min(entry.id for entry in group)
    return -sum(entry.duration for entry in group), hashlib.sha256(first.encode()).hexdigest()
