"""The card of a data set, rendered from its clips."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from datasets import Dataset
from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..hub import PIPELINE_TASK
from ..io.tables import read_labels
from .statistics import hours_by_label, render_hours


INTRODUCTION = "Voice clips with toxicity labels and transcripts, for `modeling-toxmtl`."


class ClipFacts(NamedTuple):
    """What a card counts of a clip; seconds."""

    labels: Sequence[str]
    duration: float
    speaker: str


def facts_of(rows: Dataset) -> list[ClipFacts]:
    """Of rows with the columns `labels`, `duration` and `speaker`."""
    columns = zip(rows["labels"], rows["duration"], rows["speaker"], strict=True)
    return [ClipFacts(read_labels(labels) or (), seconds or 0.0, speaker) for labels, seconds, speaker in columns]


def render_dataset_card(
    splits: Mapping[str, Iterable[ClipFacts]],
    name: str,
    license: str,
    language: str | None = None,
    introduction: str = INTRODUCTION,
    figure: str | None = None,
) -> str:
    """The card of a data set.

    Args:
        splits: split name to its clips, see [`facts_of`].
        name: title of the card.
        license: as the Hub spells it.
        language: code of the language spoken, if there is one.
        introduction: Markdown: what it is, and how it was made.
        figure: file of a picture of the durations, beside the card.
    """
    splits = {split: list(clips) for split, clips in splits.items()}
    statistics = {
        split: {"clips": len(clips), "hours": hours_by_label((clip.labels, clip.duration) for clip in clips)}
        for split, clips in splits.items()
    }
    speakers = [{clip.speaker for clip in clips} for clips in splits.values()]
    data = DatasetCardData(
        license=license,
        language=language,
        task_categories=[PIPELINE_TASK],
        tags=["voice-toxicity"],
        pretty_name=name,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
    )
    environment = Environment(loader=PackageLoader(__package__), undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template("dataset_card.md").render(
        metadata=data.to_yaml().rstrip("\n"),
        name=name,
        introduction=introduction,
        hours=render_hours(statistics),
        figure=figure,
        speakers={split: len(names) for split, names in zip(splits, speakers, strict=True)},
        shared_speakers=sum(map(len, speakers)) - len(set().union(*speakers)),
    )
