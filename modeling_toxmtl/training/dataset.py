"""From a dataset of clips to model inputs.

Design choices:
- Audio stays encoded until a clip is needed, and is decoded by our own reader: datasets of any size fit, and training
  hears the same samples as the pipeline.
- Every row is inspected once, before training, in parallel and cached by `datasets`: what cannot be used is reported
  by id with its reason, and never silently trained or tested on.
- A row without labels or without a transcript trains the other head alone; without that head, it cannot be used.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from transformers.utils import logging

from ..audio import load_audio
from ..heads import IGNORE_INDEX
from ..io.masks import find_mask
from ..io.tables import read_labels
from ..labels import NO_VIOLATION
from ..listening import split_windows
from ..multitask_config import ToxicityMTLFields
from ..processing_toxmtl import ToxicityMTLProcessor


logger = logging.get_logger(__name__)

MAX_SAMPLES_IN_MEMORY = 2**28  # a dataset of up to 4.6 hours (1 GiB of float32) is decoded once, not once an epoch


class Window(NamedTuple):
    """Samples `start` to `end` of row `row`."""

    row: int
    start: int
    end: int


class RejectedRow(NamedTuple):
    """A row that is not used, and why."""

    id: str
    reason: str


@dataclass
class RowInspector:
    """Finds what is wrong with a row, and measures it; a function for `datasets.Dataset.map`.

    Args:
        processor: gives the keyword targets.
        config: of the model: label names, receptive field and frame rate.
        root: folder that relative audio paths start from.
    """

    processor: ToxicityMTLProcessor
    config: ToxicityMTLFields
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
        if labels is None and "keyword" not in self.config.tasks:
            return "no labels, and the model has no keyword head to learn the transcript"
        if transcript is None and "classification" not in self.config.tasks:
            return "no transcript, and the model has no classifier to learn the labels"
        if labels == [] and NO_VIOLATION in self.config.label2id:
            return f"the list of labels is empty: write {NO_VIOLATION}, or null if nobody labelled the clip"
        unknown = sorted(set(labels or ()) - set(self.config.label2id))
        if unknown:
            return f"unknown label {', '.join(unknown)}: the model has {', '.join(self.config.label2id)}"
        if transcript is not None and (mask := find_mask(transcript, self.processor.keywords)):
            return f"the transcript hides a word: {mask!r}"
        if transcript is not None and "keyword" in self.config.tasks:
            try:
                needed, frames = self._frames_needed(transcript), self.config.num_frames(num_samples)
            except ValueError as error:
                return str(error)
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
        rejected: the rows that are left out, of [`inspect_rows`].
    """

    def __init__(
        self,
        rows: Dataset,
        processor: ToxicityMTLProcessor,
        config: ToxicityMTLFields,
        window_seconds: float | None = None,
        root: str = ".",
        rejected: Sequence[RejectedRow] = (),
    ):
        self.rows, self.processor, self.config, self.root = rows, processor, config, root
        self.rejected = rejected
        self.rate = processor.feature_extractor.sampling_rate
        self._decoded: dict[int, np.ndarray] = {}
        self._fits_in_memory = sum(rows["num_samples"]) <= MAX_SAMPLES_IN_MEMORY
        self.windows: list[Window] = []
        for index, num_samples in enumerate(rows["num_samples"]):
            spans = [(0, num_samples)]
            if window_seconds is not None:
                size = round(window_seconds * self.rate)
                spans = split_windows(num_samples, size, config.receptive_field, config.max_samples)
            self.windows += [Window(index, start, end) for start, end in spans]
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
            self.processor.input_name: features[self.processor.input_name][0],
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


def usable_dataset(
    rows: Dataset,
    processor: ToxicityMTLProcessor,
    config: ToxicityMTLFields,
    source: str,
    root: str = ".",
    max_seconds: float | None = None,
    window_seconds: float | None = 15.0,
    num_proc: int | None = None,
) -> ToxicityDataset:
    """The rows of [`load_clips`] that can be used, as a dataset; the others are logged, and are its `rejected`.

    Args:
        source: what the messages call the rows, such as "Split 'test' of my_clips".
        root, window_seconds: see [`ToxicityDataset`]; windows are by default those of evaluation.
        max_seconds, num_proc: see [`inspect_rows`]; whole clips are no longer than the model hears at once.

    Raises:
        ValueError: if none can be used, or a window is longer than the model hears at once.
    """
    if not len(rows):
        raise ValueError(f"{source} is empty.")
    if window_seconds is None and config.max_samples is not None:  # whole clips
        max_seconds = min(max_seconds or math.inf, config.max_samples / processor.feature_extractor.sampling_rate)
    usable, rejected = inspect_rows(rows, RowInspector(processor, config, root), max_seconds, num_proc)
    for row in rejected:
        logger.warning(f"{source}: row {row.id} is not used: {row.reason}")
    if not len(usable):
        raise ValueError(f"{source} has no usable row (row {rejected[0].id}: {rejected[0].reason}).")
    return ToxicityDataset(usable, processor, config, window_seconds, root, rejected)


def rank_words(dataset: ToxicityDataset) -> list[str]:
    """The words of a dataset's transcripts, the commonest first, and in order of the alphabet among equals."""
    keywords = dataset.processor.keywords
    transcripts = (transcript for transcript in dataset.rows["transcript"] if transcript is not None)
    counts = Counter(word for transcript in transcripts for word in keywords.undisguise(transcript))
    return sorted(counts, key=lambda word: (-counts[word], word))
