"""From a dataset of clips to model inputs.

Design choices:
- Audio stays encoded until a clip is needed, and is decoded by our own reader: datasets of any size fit, and training
  hears the same samples as the pipeline.
- Every row is inspected once, before training, in parallel and cached by `datasets`: what cannot be used is reported
  by id with its reason, and never silently trained or tested on.
- A row without labels or without a transcript trains the other head alone.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, load_dataset, load_dataset_builder
from torch.utils.data import Dataset as TorchDataset
from transformers.utils import logging

from .audio import load_audio, split_windows
from .configuration_toxmtl import WavLMToxicityMTLConfig
from .labels import NO_VIOLATION
from .modeling_toxmtl import IGNORE_INDEX
from .processing_toxmtl import ToxicityMTLProcessor


logger = logging.get_logger(__name__)

MAX_SAMPLES_IN_MEMORY = 2**28  # a dataset of up to 4.6 hours (1 GiB of float32) is decoded once, not once an epoch
METADATA_FILES = ("metadata.csv", "metadata.jsonl")
DATA_FILES = ("*.parquet", *METADATA_FILES)
LABEL_SEPARATOR = "|"  # in tables without lists, such as metadata.csv


class Window(NamedTuple):
    """Samples `start` to `end` of row `row`."""

    row: int
    start: int
    end: int


class RejectedRow(NamedTuple):
    """A row that is not used, and why."""

    id: str
    reason: str


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
    changed."""
    files = load_dataset_builder(str(folder), name).config.data_files
    return load_dataset("parquet", data_files={split: list(map(str, paths)) for split, paths in files.items()})


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


@dataclass
class RowInspector:
    """Finds what is wrong with a row, and measures it; a function for `datasets.Dataset.map`.

    Args:
        processor: gives the keyword targets.
        config: of the model: label names, receptive field and frame rate.
        root: folder that relative audio paths start from.
    """

    processor: ToxicityMTLProcessor
    config: WavLMToxicityMTLConfig
    root: str = "."

    def __call__(self, row: dict) -> dict:
        """Returns `num_samples`, `sha256` of the encoded audio, and `problem` (empty where there is none)."""
        encoded = read_encoded(row["audio"], self.root)
        if encoded is None:
            path = (row["audio"] or {}).get("path")
            return {"num_samples": 0, "sha256": "", "problem": f"no audio file at {path}" if path else "no audio"}
        measured = {"num_samples": 0, "sha256": hashlib.sha256(encoded).hexdigest()}
        try:
            measured["num_samples"] = len(load_audio(encoded, self.processor.feature_extractor.sampling_rate))
        except ValueError as error:
            return {**measured, "problem": f"unreadable audio: {error}"}
        return {**measured, "problem": self._problem(row, measured["num_samples"])}

    def _problem(self, row, num_samples):
        try:
            labels, transcript = read_labels(row["labels"]), row["transcript"]
        except ValueError as error:
            return str(error)
        if transcript is not None and not isinstance(transcript, str):
            return f"the transcript is {transcript!r}, not a text"
        if num_samples < self.config.receptive_field:
            return f"empty clip: {num_samples} samples, and the model needs {self.config.receptive_field}"
        if labels is None and transcript is None:
            return "neither labels nor transcript"
        if labels == [] and NO_VIOLATION in self.config.label2id:
            return f"the list of labels is empty: write {NO_VIOLATION}, or null if nobody labelled the clip"
        unknown = sorted(set(labels or ()) - set(self.config.label2id))
        if unknown:
            return f"unknown label {', '.join(unknown)}: the model has {', '.join(self.config.label2id)}"
        if transcript is not None and "keyword" in self.config.tasks:
            needed, frames = self._frames_needed(transcript), self.config.num_frames(num_samples)
            if needed > frames:
                return f"target longer than its frames: it needs {needed} frames, and the clip has {frames}"
        return ""

    def _frames_needed(self, transcript):
        """CTC needs a frame per character and a blank between equal neighbours."""
        ids = self.processor.encode_keywords(transcript)
        return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def read_encoded(audio: dict | None, root: str | PathLike = ".") -> bytes | None:
    """The encoded bytes of an audio cell, `{"bytes": …, "path": …}`; None where there are none."""
    audio = audio or {}
    if audio.get("bytes") is not None:
        return audio["bytes"]
    path = Path(root, audio.get("path") or "")
    return path.read_bytes() if path.is_file() else None


def inspect_rows(
    rows: Dataset, inspector: RowInspector, max_seconds: float | None = None, num_proc: int | None = None
) -> tuple[Dataset, list[RejectedRow]]:
    """Splits the rows into those to use and those not.

    Args:
        rows: of [`load_clips`].
        inspector: what to check.
        max_seconds: longer clips are left out too (training; evaluation cuts them into windows).
        num_proc: processes.

    Returns:
        the usable rows with `num_samples` and `sha256`, and the rejected ones with the reason.
    """
    inspected = rows.map(
        inspector, num_proc=num_proc if num_proc and len(rows) >= num_proc else None, desc="Inspecting clips"
    )
    rate = inspector.processor.feature_extractor.sampling_rate
    problems = list(inspected["problem"])
    if max_seconds is not None:
        for index, num_samples in enumerate(inspected["num_samples"]):
            if not problems[index] and num_samples > max_seconds * rate:
                problems[index] = f"longer than {max_seconds:g} s: {num_samples / rate:.2f} s"
    rejected = [RejectedRow(str(id_), problem) for id_, problem in zip(rows["id"], problems, strict=True) if problem]
    usable = inspected.select([index for index, problem in enumerate(problems) if not problem])
    return usable.remove_columns("problem"), rejected


def fingerprint(rows: Dataset) -> str:
    """Hash of what a model learns from or is tested on: ids, audio, labels and transcripts, in order."""
    digest = hashlib.sha256()
    for row in rows.select_columns(["id", "sha256", "labels", "transcript"]):
        digest.update(repr((row["id"], row["sha256"], row["labels"], row["transcript"])).encode())
    return digest.hexdigest()


class ToxicityDataset(TorchDataset):
    """Inspected rows as model inputs; a clip longer than a window gives several items.

    An item holds `input_values` `(samples,)`, `labels` `(L,)` multi-hot and `keyword_labels`, a list of character ids.
    What is unknown is -100: the labels or the transcript that a row lacks, and both for the windows of a cut clip,
    since nobody says what of the clip is in which window.

    Args:
        rows: of [`inspect_rows`].
        processor: prepares waveforms and targets.
        config: of the model.
        window_seconds: length of a window; None keeps clips whole. Windows come longest first, so that batches of
            neighbours have little padding.
        root: folder that relative audio paths start from.
    """

    def __init__(
        self,
        rows: Dataset,
        processor: ToxicityMTLProcessor,
        config: WavLMToxicityMTLConfig,
        window_seconds: float | None = None,
        root: str = ".",
    ):
        self.rows, self.processor, self.config, self.root = rows, processor, config, root
        self.rate = processor.feature_extractor.sampling_rate
        self._decoded: dict[int, np.ndarray] = {}
        self._fits_in_memory = sum(rows["num_samples"]) <= MAX_SAMPLES_IN_MEMORY
        self.windows: list[Window] = []
        for index, num_samples in enumerate(rows["num_samples"]):
            size = num_samples if window_seconds is None else round(window_seconds * self.rate)
            for start, end in split_windows(num_samples, size, config.receptive_field):
                self.windows.append(Window(index, start, end))
        if window_seconds is not None:
            self.windows.sort(key=lambda window: window.start - window.end)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def lengths(self) -> list[int]:
        """Samples of each item."""
        return [window.end - window.start for window in self.windows]

    def __getitem__(self, index: int) -> dict:
        window = self.windows[index]
        row = self.rows[window.row]
        samples = self._decode(window.row, row["audio"])[window.start : window.end]
        features = self.processor(samples, sampling_rate=self.rate)
        whole = window.end - window.start == row["num_samples"]
        return {
            "input_values": features["input_values"][0],
            "labels": self.multi_hot(read_labels(row["labels"]) if whole else None),
            "keyword_labels": self._keyword_labels(row["transcript"] if whole else None),
        }

    def _decode(self, index, audio):
        if index not in self._decoded:
            samples = load_audio(read_encoded(audio, self.root), self.rate)
            if not self._fits_in_memory:
                return samples
            self._decoded[index] = samples
        return self._decoded[index]

    def multi_hot(self, names: list[str] | None) -> np.ndarray:
        """`(L,)`: 1 for the labels named, 0 for the others; -100 everywhere where there are no names."""
        if names is None:
            return np.full(self.config.num_labels, IGNORE_INDEX, dtype=np.float32)
        targets = np.zeros(self.config.num_labels, dtype=np.float32)
        targets[[self.config.label2id[name] for name in names]] = 1.0
        return targets

    def _keyword_labels(self, transcript):
        return [IGNORE_INDEX] if transcript is None else self.processor.encode_keywords(transcript)


@dataclass
class ToxicityDataCollator:
    """Pads items to a batch: waveforms with 0 (and an attention mask), keyword targets with -100."""

    processor: ToxicityMTLProcessor

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        batch = self.processor.feature_extractor.pad(
            {"input_values": [item["input_values"] for item in items]},
            padding=True,
            return_attention_mask=True,  # the model needs it, whatever the checkpoint's own default is
            return_tensors="pt",
        )
        targets = [torch.tensor(item["keyword_labels"]) for item in items]
        return {
            "input_values": batch["input_values"],
            "attention_mask": batch["attention_mask"],
            "labels": torch.as_tensor(np.stack([item["labels"] for item in items])),
            "keyword_labels": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE_INDEX),
        }
