"""Stage 5: the data set: splits that share no speaker and no source, Parquet, card, Table 1 and Figure 3 of the paper.

    toxmtl data build --work-dir work --output-dir my_clips

Design choices:
- Rows are joined shard by shard and written as they come: audio is never held but for a row group.
- The data set takes the place of an earlier one when it is whole; data that no build wrote are not replaced.
"""

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from tqdm import tqdm

from ..io.files import atomic_write, content_hash, write_json, write_json_lines, write_text
from .card import ClipFacts, render_dataset_card
from .schema import SPLITS, TracedRow, check_replaceable, data_set_replaced, write_split
from .shards import Rejected, Shard, read_rows
from .splits import Entry, ShareArguments, assign_splits
from .stages import QUARANTINE, Manifest, WorkArguments, read_manifests
from .statistics import hours_by_label, plot_durations, render_hours


STAGES = ("chunk", "transcribe", "label", "annotate")
BYTES_PER_FILE = 500_000_000  # of audio in a Parquet file
SETTINGS, FIGURE, CARD_FILE = "pipeline.json", "durations.png", "README.md"

INTRODUCTION = """\
Chunks of voice chat with toxicity labels and keywords, labelled by a text filter on automatic transcripts, not by
people. Made by the data pipeline of modeling-toxmtl with the settings in `{settings_file}` (configuration `{config}`).

- Recogniser: {asr}
- Text filter: {text_filter}
- Not used: {rejected} recordings, tracks or chunks, listed with their reason in `{quarantine}`

No speaker and no source is in two splits. Every row names the recording's hash, track and span, the recogniser, the
text filter with the score of each label, and the configuration."""


@dataclass
class BuildArguments(ShareArguments):
    """What the data set is to be, and where."""

    output_dir: str = field(default="pipeline_data", metadata={"help": "Folder of the data set."})
    push_to_hub: str | None = field(
        default=None, metadata={"help": "Hub data set to upload to, such as my-team/voice-chat; it is made private."}
    )


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


def check(args: BuildArguments) -> None:
    """Makes the repository of the data set, which is private, if there is to be one.

    Raises:
        FileExistsError: if the folder holds data that no earlier build wrote.
        OSError: if the Hub refuses the repository.
    """
    check_replaceable(args.output_dir, is_ours=Path(args.output_dir, SETTINGS).exists())
    if args.push_to_hub:
        HfApi().create_repo(args.push_to_hub, repo_type="dataset", private=True, exist_ok=True)


def run(args: BuildArguments, work: WorkArguments) -> dict[str, dict]:
    """Writes the data set; returns `clips` and `hours` of each split.

    Raises:
        FileExistsError: if the folder holds data that no earlier build wrote.
        ValueError: if there are no rows, the stages do not belong together, or splits are given that share speakers or
            sources.
    """
    check(args)
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
        write_json_lines(folder / QUARANTINE, map(asdict, rejected))
        write_json(folder / SETTINGS, settings)
        with atomic_write(folder / FIGURE) as path:
            plot_durations({split: [entry.duration for entry in chosen] for split, chosen in by_split.items()}, path)
        card = render_dataset_card(
            {split: [ClipFacts(entry.labels, entry.duration, entry.speaker) for entry in chosen]
             for split, chosen in by_split.items()},
            name=Path(args.output_dir).name,
            license="other",
            introduction=introduction(stages["annotate"], config, len(rejected)),
            figure=FIGURE,
        )  # fmt: skip
        write_text(folder / CARD_FILE, card)
    if args.push_to_hub:
        HfApi().upload_folder(repo_id=args.push_to_hub, repo_type="dataset", folder_path=args.output_dir)
    return statistics


def introduction(annotated: Manifest, config: str, rejected: int) -> str:
    """What the card says of how the data set was made; it names the recogniser and the text filter of the rows."""
    first = next(read_rows(next(shard.path for shard in annotated.shards if shard.num_rows)))
    return INTRODUCTION.format(
        config=config,
        asr=first["asr"],
        text_filter=first["text_filter"],
        rejected=rejected,
        settings_file=SETTINGS,
        quarantine=QUARANTINE,
    )


def _write_files(rows, output_dir, split, count, total):
    rows = iter(rows)
    for number in range(count):
        size = total * (number + 1) // count - total * number // count
        write_split(itertools.islice(rows, size), output_dir, split, number, count)
    next(rows, None)  # lets the progress bar end


def _statistics(entries):
    return {"clips": len(entries), "hours": hours_by_label((entry.labels, entry.duration) for entry in entries)}


def main(args: BuildArguments, work: WorkArguments) -> None:
    """Builds the data set and prints its hours by label."""
    statistics = run(args, work)
    print(f"Wrote {args.output_dir}, hours by label:\n{render_hours(statistics)}")
