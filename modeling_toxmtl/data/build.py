"""Stage 5: the data set: splits that share no speaker and no source, Parquet, card, Table 1 and Figure 3 of the paper.

    python -m modeling_toxmtl.data.build --work_dir work --output_dir my_clips

Design choices:
- Speakers and sources that occur together are one group (connected components), and a group goes to one split as a
  whole. The largest groups are dealt first, each to the split that lacks most of its share of hours.
- Splits that the recordings' table gives are kept; a group that has two is an error, not a choice.
- Rows are joined shard by shard and written as they come: audio is never held but for a row group.
- The data set takes the place of an earlier one when it is whole; data that no build wrote are not replaced.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from tqdm import tqdm
from transformers import HfArgumentParser

from ..io.files import atomic_write, content_hash, write_text
from .schema import SPLITS, TracedRow, check_replaceable, check_split, data_set_replaced, write_split
from .stages import QUARANTINE, Manifest, Rejected, Shard, WorkArguments, read_manifests, read_rows
from .statistics import hours_by_label, plot_durations, render_hours


STAGES = ("chunk", "transcribe", "label", "annotate")
BYTES_PER_FILE = 500_000_000  # of audio in a Parquet file
SETTINGS, FIGURE, CARD_FILE = "pipeline.json", "durations.png", "README.md"

CARD = """\
---
license: other
pretty_name: {name}
task_categories:
- audio-classification
configs:
- config_name: default
  data_files:
{data_files}
---

# {name}

Chunks of voice chat with toxicity labels and keywords, labelled by a text filter on automatic transcripts, not by
people. Made by the data pipeline of modeling-toxmtl with the settings in `{settings_file}` (configuration `{config}`).

- Recogniser: {asr}
- Text filter: {text_filter}
- Not used: {rejected} recordings, tracks or chunks, listed with their reason in `{quarantine}`

## Hours by label

A clip with several labels counts for each of them, and once in the total.

{hours}

![Durations]({figure})

No speaker and no source is in two splits. Every row names the recording's hash, track and span, the recogniser, the
text filter with the score of each label, and the configuration.
"""


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


@dataclass
class BuildArguments(ShareArguments):
    """What the data set is to be, and where."""

    output_dir: str = field(default="pipeline_data", metadata={"help": "Folder of the data set."})
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Hub data set to upload to, such as my-team/voice-chat; it is made private."}
    )


@dataclass(frozen=True)
class Entry:
    """What the splits are made from: a row without its content."""

    id: str
    speaker: str
    source: str
    split: str
    labels: tuple[str, ...]
    duration: float


def read_entries(manifest: Manifest) -> tuple[list[Entry], list[Rejected]]:
    """The rows of a stage without their content, and those that occur twice: the same recording under two names."""
    entries: dict[str, Entry] = {}
    rejected = []
    for shard in manifest.shards:
        for row in read_rows(shard.path, ["id", "speaker", "source", "split", "labels", "duration"]):
            if row["id"] in entries:
                rejected.append(Rejected(f"{row['id']} ({row['source']})", "the same recording as another file"))
            else:
                entries[row["id"]] = Entry(**row | {"labels": tuple(row["labels"])})
    return list(entries.values()), rejected


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


def joined_rows(
    chunks: Manifest, annotated: Manifest, split: str, splits: dict[str, str], config: str
) -> Iterator[TracedRow]:
    """The annotated rows of a split, with the audio of the chunks they were made from."""
    seen = set()
    for audio_shard, shard in zip(chunks.shards, annotated.shards, strict=True):
        for row, audio in _with_audio(shard, audio_shard):
            if splits[row["id"]] == split and row["id"] not in seen:
                seen.add(row["id"])
                yield _traced_row(row, audio, split, config)


def _with_audio(shard: Shard, audio_shard: Shard):
    """Both are in the order of the chunks; some chunks have been left out on the way."""
    chunks = read_rows(audio_shard.path, ["id", "audio"])
    for row in read_rows(shard.path):
        yield row, next(chunk["audio"] for chunk in chunks if chunk["id"] == row["id"])


def _traced_row(row, audio, split, config):
    fields = {name: row[name] for name in TracedRow.features if name in row}
    fields |= {"audio": audio["bytes"], "extension": Path(audio["path"]).suffix[1:]}
    return TracedRow(**fields | {"labels": tuple(row["labels"]), "split": split, "config": config})


def num_files(chunks: Manifest, by_split: dict[str, list[Entry]]) -> dict[str, int]:
    """Parquet files of each split, so that none has much more than `BYTES_PER_FILE` of audio."""
    size = sum(Path(shard.path).stat().st_size for shard in chunks.shards)
    counts = {split: len(entries) for split, entries in by_split.items()}
    return {split: 1 + int(size * count / sum(counts.values())) // BYTES_PER_FILE for split, count in counts.items()}


def check_output(output_dir: str) -> None:
    """Raises FileExistsError if the folder holds data that no earlier build wrote."""
    check_replaceable(output_dir, is_ours=Path(output_dir, SETTINGS).exists())


def run(args: BuildArguments, work: WorkArguments) -> dict[str, dict]:
    """Writes the data set; returns `clips` and `hours` of each split.

    Raises:
        FileExistsError: if the folder holds data that no earlier build wrote.
        ValueError: if there are no rows, the stages do not belong together, or splits are given that share speakers or
            sources.
    """
    check_output(args.output_dir)
    stages = read_manifests(work.work_dir, STAGES)
    entries, rejected = read_entries(stages["annotate"])
    if not entries:
        raise ValueError(f"No chunk is left: {work.work_dir}/*/{QUARANTINE} say why.")
    for manifest in stages.values():
        rejected += manifest.rejected
    splits = assign_splits(entries, args.shares)
    by_split = {split: [entry for entry in entries if splits[entry.id] == split] for split in SPLITS}
    by_split = {split: chosen for split, chosen in by_split.items() if chosen}
    statistics = {split: _statistics(chosen) for split, chosen in by_split.items()}
    settings = {name: manifest.settings for name, manifest in stages.items()}
    config = content_hash(settings)
    with data_set_replaced(args.output_dir) as folder:
        for split, count in num_files(stages["chunk"], by_split).items():
            total = len(by_split[split])
            rows = joined_rows(stages["chunk"], stages["annotate"], split, splits, config)
            _write_files(tqdm(rows, f"build {split}", total, unit="clip"), folder, split, count, total)
        lines = [json.dumps({"id": row.id, "reason": row.reason}, ensure_ascii=False) + "\n" for row in rejected]
        write_text(folder / QUARANTINE, "".join(lines))
        write_text(folder / SETTINGS, json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
        with atomic_write(folder / FIGURE) as path:
            plot_durations({split: [entry.duration for entry in chosen] for split, chosen in by_split.items()}, path)
        card = render_card(Path(args.output_dir).name, stages["annotate"], config, len(rejected), statistics)
        write_text(folder / CARD_FILE, card)
    if args.push_to_hub:
        push(Path(args.output_dir), args.push_to_hub)
    return statistics


def render_card(name: str, annotated: Manifest, config: str, rejected: int, statistics: dict[str, dict]) -> str:
    """The data-set card, which names the recogniser and the text filter of the rows."""
    first = next(read_rows(next(shard.path for shard in annotated.shards if shard.num_rows)))
    return CARD.format(
        name=name,
        data_files="\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in statistics),
        config=config,
        asr=first["asr"],
        text_filter=first["text_filter"],
        rejected=rejected,
        hours=render_hours(statistics),
        settings_file=SETTINGS,
        quarantine=QUARANTINE,
        figure=FIGURE,
    )


def _write_files(rows, output_dir, split, count, total):
    rows = iter(rows)
    for number in range(count):
        size = total * (number + 1) // count - total * number // count
        write_split(itertools.islice(rows, size), output_dir, split, number, count)
    next(rows, None)  # lets the progress bar end


def _statistics(entries):
    return {"clips": len(entries), "hours": hours_by_label((entry.labels, entry.duration) for entry in entries)}


def push(folder: Path, repository: str) -> None:
    """Uploads the data set; a repository that is made for it is private."""
    api = HfApi()
    api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
    api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=folder)


def main(args: BuildArguments, work: WorkArguments) -> None:
    statistics = run(args, work)
    print(f"Wrote {args.output_dir}, hours by label:\n{render_hours(statistics)}")


if __name__ == "__main__":
    main(*HfArgumentParser((BuildArguments, WorkArguments), description=__doc__).parse_args_into_dataclasses())
