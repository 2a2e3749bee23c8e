"""The columns of every data set of this project, and how they are written.

Design choices:
- Audio is stored as the bytes of the original file and declared undecoded: `datasets` then needs no decoder
  (torchcodec), and `modeling_toxmtl.audio.load_audio` reads the bytes.
- The keyword target is no column: it follows from transcript and keyword list, so that a new list needs no new data.
- The features travel in the Parquet files, in row groups small enough to stream, in the layout that
  `load_dataset(folder)` and the Hub know: `data/<split>-00000-of-00001.parquet`.
"""

import itertools
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Features, List, Value

from ..io.files import atomic_write
from ..labels import LABELS, NO_VIOLATION, VIOLATIONS


FEATURES = Features(
    {
        "id": Value("string"),
        "audio": Audio(decode=False),
        "duration": Value("float32"),
        "labels": List(Value("string")),
        "transcript": Value("string"),
        "speaker": Value("string"),
        "source": Value("string"),
        "split": Value("string"),
    }
)
# What the data pipeline adds: how a row came about
TRACED_FEATURES = Features(
    {
        **FEATURES,
        "keywords": List(
            {"keyword": Value("string"), "start": Value("float32"), "end": Value("float32"), "score": Value("float32")}
        ),
        "asr_transcript": Value("string"),
        "language": Value("string"),
        "confidence": Value("float32"),
        "label_scores": List({"label": Value("string"), "score": Value("float32"), "given_by": List(Value("string"))}),
        "source_sha256": Value("string"),
        "track": Value("int32"),
        "start": Value("float64"),
        "end": Value("float64"),
        "asr": Value("string"),
        "text_filter": Value("string"),
        "config": Value("string"),
    }
)
SPLITS = ("train", "validation", "test")
SPLIT_FILE = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.parquet")
ROW_GROUP_SIZE = 100  # rows, about 1 MB of Opus speech


@dataclass(frozen=True)
class Row:
    """One clip.

    Args:
        id: unique in the data set.
        audio: content of the audio file.
        duration: in seconds.
        labels: names out of `LABELS`, at least one.
        transcript: what is said; None where nobody wrote it down.
        speaker: who says it; no speaker is in two splits.
        source: where the clip comes from, such as a recording or the templates of a synthetic sentence.
        split: "train", "validation" or "test".
        extension: of the audio file, without the dot.
    """

    id: str
    audio: bytes
    duration: float
    labels: tuple[str, ...]
    transcript: str | None
    speaker: str
    source: str
    split: str
    extension: str = "ogg"

    features: ClassVar[Features] = FEATURES

    def to_record(self) -> dict:
        """The row with the columns of its features. Raises ValueError, naming the clip, if its labels are wrong."""
        if not self.labels or not set(self.labels) <= set(LABELS) or {NO_VIOLATION} < set(self.labels):
            raise ValueError(
                f"Clip {self.id!r}: `labels` are {self.labels}: give {NO_VIOLATION} alone, or some of {VIOLATIONS}."
            )
        record = {name: getattr(self, name) for name in self.features}
        record["audio"] = {"bytes": self.audio, "path": f"{self.id}.{self.extension}"}
        record["labels"] = list(self.labels)
        return record


@dataclass(frozen=True)
class TracedRow(Row):
    """A clip that the data pipeline made; from the hash of the recording to that of the settings, see the README."""

    keywords: Sequence[dict] = ()
    asr_transcript: str = ""
    language: str = ""
    confidence: float = 0.0
    label_scores: Sequence[dict] = ()
    source_sha256: str = ""
    track: int = 0
    start: float = 0.0
    end: float = 0.0
    asr: str = ""
    text_filter: str = ""
    config: str = ""

    features: ClassVar[Features] = TRACED_FEATURES


def check_split(split: str, owner: str) -> None:
    """Raises ValueError, naming the owner, if a given split is none of `SPLITS`; an empty one is not given."""
    if split not in ("", *SPLITS):
        raise ValueError(f"{owner} has the split {split!r}: give one of {', '.join(SPLITS)}.")


def split_path(output_dir: str | PathLike, split: str, number: int = 0, count: int = 1) -> Path:
    """A Parquet file of a split, the only one or one of several."""
    return Path(output_dir) / "data" / f"{split}-{number:05d}-of-{count:05d}.parquet"


def check_replaceable(output_dir: str | PathLike, is_ours: bool) -> None:
    """Raises FileExistsError, naming them, if there are data in the folder of a data set that are not ours to replace:
    those of another maker, and files that are no splits."""
    files = sorted(path.name for path in Path(output_dir, "data").glob("*"))
    if strangers := [name for name in files if not (is_ours and SPLIT_FILE.fullmatch(name))]:
        raise FileExistsError(
            f"{output_dir}/data holds files that this command did not write ({', '.join(strangers[:3])}): choose "
            "another --output_dir."
        )


@contextmanager
def data_set_replaced(output_dir: str | PathLike) -> Iterator[Path]:
    """Gives an empty folder for the files of a data set, which take the place of those in `output_dir` when the block
    ends well and go away when not. Files of other names stay, but for the splits in `data`."""
    output_dir = Path(output_dir)
    unfinished = output_dir / ".unfinished"  # hidden from `datasets`, and on the same disk
    old, new = unfinished / "old", unfinished / "new"
    if unfinished.exists():  # a run was killed
        shutil.rmtree(unfinished)
    for folder in (old, new):
        folder.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    # `data` leaves first and comes last: wherever a process is killed, data have all that belongs to them beside them.
    paths = sorted(new.iterdir(), key=Path.is_dir)
    for path in reversed(paths):
        if (output_dir / path.name).exists():
            (output_dir / path.name).replace(old / path.name)
    for path in paths:
        path.replace(output_dir / path.name)
    shutil.rmtree(unfinished)


def write_split(rows: Iterable[Row], output_dir: str | PathLike, split: str, number: int = 0, count: int = 1) -> Path:
    """Writes a split, or one of several files of it, holding no more than a row group in memory; a file appears only
    when it is complete.

    Args:
        rows: all of the same class; none makes a file of plain `Row`s.
        output_dir: folder of the data set.
        split: of all rows.
        number: of this file, from 0.
        count: of the split's files.

    Returns:
        The path of the Parquet file, see `split_path`.

    Raises:
        ValueError: if a row belongs to another split or its labels are not valid; the message names the clip.
    """
    path = split_path(output_dir, split, number, count)
    rows = iter(rows)
    first = next(rows, None)
    schema = (FEATURES if first is None else first.features).arrow_schema
    rows = rows if first is None else itertools.chain([first], rows)
    with atomic_write(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        while records := [_checked_record(row, split) for row in itertools.islice(rows, ROW_GROUP_SIZE)]:
            writer.write_table(pa.Table.from_pylist(records, schema))
    return path


def _checked_record(row: Row, split: str) -> dict:
    if row.split != split:
        raise ValueError(f"Clip {row.id!r}: `split` is {row.split!r}, but it is written to {split!r}.")
    return row.to_record()
