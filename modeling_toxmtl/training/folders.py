"""Datasets of clips, from a folder of Parquet files, an audio folder or the Hub; the audio stays encoded."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, Dataset, DatasetDict, load_dataset, load_dataset_builder

from ..io.tables import read_table


METADATA_FILES = ("metadata.csv", "metadata.jsonl")
DATA_FILES = ("*.parquet", *METADATA_FILES)


def load_clips(
    name_or_path: str, name: str | None = None, splits: Collection[str] = (), max_samples: int | None = None
) -> DatasetDict:
    """Loads a dataset with the columns `audio`, `labels`, `transcript` and, where it has them, `id`, `speaker`,
    `source`.

    An audio folder's metadata has a line per clip, with its `file_name` beside that file. Its split is what the column
    `split` says, or else the name of the metadata's folder if that is below `name_or_path`, or else "train".

    Args:
        name_or_path: a folder of Parquet files, an audio folder with `metadata.csv` or `metadata.jsonl`, or a Hub id.
        name: configuration of a Hub dataset.
        splits: those to return; all by default.
        max_samples: only the first so many rows of each split.

    Returns:
        its splits, with the audio left encoded and labels by their names.

    Raises:
        FileNotFoundError: if it is a path, and there is no folder with data.
        ValueError: if a split or column is missing, or metadata cannot be read; the message names it.
    """
    folder = Path(name_or_path)
    if folder.is_dir() and not any(next(folder.rglob(pattern), None) for pattern in DATA_FILES):
        raise FileNotFoundError(f"The folder {folder} holds no dataset: none of {', '.join(DATA_FILES)} is in it.")
    if not folder.exists() and len(folder.parts) > 2 or folder.is_absolute() and not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")  # nor can it be a Hub id
    metadata = [path for file in METADATA_FILES for path in sorted(folder.rglob(file))] if folder.is_dir() else []
    if metadata and not any(folder.rglob("*.parquet")):
        clips = _load_audio_folder(folder, metadata)
    elif folder.is_dir():
        clips = _load_parquet_folder(folder, name)
    else:
        clips = load_dataset(str(name_or_path), name)
    if unknown := sorted(set(splits) - set(clips)):
        raise ValueError(f"{name_or_path} has the splits {sorted(clips)}, but lacks {unknown}: name one of yours.")
    for split in splits or list(clips):
        rows = clips[split]
        if max_samples is not None:
            rows = rows.select(range(min(max_samples, len(rows))))
        missing = {"audio", "labels", "transcript"} - set(rows.column_names)
        if missing:
            raise ValueError(
                f"Split {split!r} of {name_or_path} has the columns {rows.column_names}, but lacks {sorted(missing)}: "
                "rename yours, or add them (empty values are allowed for labels or transcript, not for both)."
            )
        if "id" not in rows.column_names:
            rows = rows.add_column("id", [f"{split}-{index}" for index in range(len(rows))])
        clips[split] = _name_labels(rows).cast_column("audio", Audio(decode=False))
    return DatasetDict({split: clips[split] for split in splits or clips})


def audio_root(name_or_path: str) -> str:
    """The folder from which the relative audio paths of a dataset start."""
    return name_or_path if Path(name_or_path).is_dir() else "."


def _name_labels(rows):
    """Names instead of the numbers that `ClassLabel` stands for; -1 is the Hub's way to say that there is none."""
    feature = rows.features["labels"]
    classes = getattr(feature, "feature", feature)  # of a list, or of the column itself
    if not isinstance(classes, ClassLabel):
        return rows
    numbers = [[value] if isinstance(value, int) else value for value in rows["labels"]]
    names = [None if value in (None, [-1]) else classes.int2str(value) for value in numbers]
    return rows.remove_columns("labels").add_column("labels", names)


def _load_parquet_folder(folder, name):
    """What `load_dataset` does, whose cache does not see that the files of a folder with a data-set card have
    changed, and which loads nothing if one split has no rows."""
    files = load_dataset_builder(str(folder), name).config.data_files
    filled = {split: [str(path) for path in paths if _has_rows(path)] for split, paths in files.items()}
    if not any(filled.values()):
        raise ValueError(f"The files of {folder} have no rows: make the dataset again, with clips.")
    return load_dataset("parquet", data_files={split: paths for split, paths in filled.items() if paths})


def _has_rows(path):
    return pq.read_metadata(path).num_rows > 0


def _load_audio_folder(folder, metadata):
    """What `load_dataset` does, which asks for torchcodec even where nothing is decoded."""
    splits: dict[str, list[dict]] = {}
    for path in metadata:
        default = "train" if path.parent == folder else path.parent.name
        for row in read_table(path, required=["file_name"]):
            row["audio"] = {"bytes": None, "path": str((path.parent / row.pop("file_name")).resolve())}
            splits.setdefault(row.pop("split", None) or default, []).append(row)
    datasets = DatasetDict()
    for split, rows in splits.items():
        columns = dict.fromkeys(column for row in rows for column in row)  # a JSON line may leave some out
        try:
            datasets[split] = Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{folder}, split {split!r}: a column of the metadata holds values of different kinds ({error}); "
                "write all of them as text, or all as lists of texts."
            ) from error
    return datasets
