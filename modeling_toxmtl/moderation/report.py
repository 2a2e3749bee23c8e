"""Makes one page of records, to check by ear: sorted, filtered, with waveforms, keywords and thresholds to move.

    toxmtl report verdicts.jsonl --output report.html --labels clips.csv

The page holds all that it needs, the sound too, and opens without a network, on a telephone, and by keyboard alone.
With `--labels`, a table with the columns `path` (or `id`) and `labels`, it counts what each threshold gets right, and
plots precision and recall. Clips are found where their records say, or below `--audio-root`.
"""

import base64
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..audio import SAMPLING_RATE, load_audio
from ..io.files import write_text
from ..io.tables import open_parquet, read_labels, read_table
from ..labels import NO_VIOLATION
from .records import audio_hash, read_records


PAGE = Path(__file__).parent / "page"
BIT_RATE = 32_000  # of speech in MP3, which every browser plays
NUM_PEAKS = 800  # of a waveform
SHOWN = ("clip", "violations", "labels", "keywords", "windows")  # of a record


@dataclass
class ReportArguments:
    """What to show."""

    records: str = field(metadata={"help": "File of records of toxmtl moderate."})
    output: str = field(default="report.html", metadata={"help": "File to write."})
    labels: str | None = field(default=None, metadata={"help": "Table with `path` or `id`, and `labels`: the truth."})
    audio_root: str | None = field(default=None, metadata={"help": "Folder that the clips' paths are relative to."})
    max_seconds: float = field(default=60.0, metadata={"help": "Of a clip's sound that the page holds; 0 for none."})


def read_truth(path: str) -> dict[str, list[str]]:
    """Labels by clip, of a table or a Parquet file.

    Raises:
        ValueError: if a row names no clip, has no labels or contradicts another; the message names it.
    """
    truth = {}
    for number, row in enumerate(_rows_of(Path(path)), start=1):
        name = row.get("path") or row.get("id") or row.get("file_name")
        if not name:
            raise ValueError(f"{path}, row {number}: no `path`, `id` or `file_name`.")
        try:
            labels = read_labels(row["labels"])
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}.") from error
        if labels is None:
            raise ValueError(f"{path}, row {number}: no `labels`: take the row out, or say that none applies.")
        if set(truth.setdefault(str(name), labels)) != set(labels):
            raise ValueError(f"{path}, row {number}: {name} has other labels in a row before.")
    return truth


def _rows_of(path):
    if path.suffix != ".parquet":
        return read_table(path, required=["labels"])
    file = open_parquet(path)
    names = file.schema_arrow.names
    if "labels" not in names:
        raise ValueError(f"{path} has no column 'labels', but {', '.join(names)}.")
    columns = [name for name in ("path", "id", "file_name", "labels") if name in names]
    return file.read(columns=columns).to_pylist()


def truth_of(clip: str, truth: dict[str, list[str]]) -> list[str] | None:
    """The labels of a clip, by its whole name, or the end of its path: tables are relative to themselves."""
    parts = Path(clip).parts
    names = (str(Path(*parts[start:])) for start in range(len(parts)))
    return next((truth[name] for name in (clip, *names) if name in truth), None)


def waveform(samples: np.ndarray, num_peaks: int = NUM_PEAKS) -> list[float]:
    """The loudest sample of each of at most `num_peaks` equal parts, in [0, 1], to two digits."""
    if not len(samples):
        return []
    edges = np.linspace(0, len(samples), min(num_peaks, len(samples)), endpoint=False).astype(int)
    return np.maximum.reduceat(np.abs(samples), edges).clip(0, 1).round(2).tolist()


def encode_mp3(samples: np.ndarray) -> bytes:
    """16 kHz mono samples as a small MP3 file."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=SAMPLING_RATE, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def clips_of(args: ReportArguments) -> Iterator[dict[str, Any]]:
    """What the page shows of each record: figures, truth, waveform and sound. A clip whose sound is not there, or is
    another, is shown without, and said on the standard error."""
    truth = read_truth(args.labels) if args.labels else {}
    for record in read_records(args.records):
        clip = {name: record[name] for name in SHOWN}
        clip |= {"seconds": record["audio"]["seconds"], "truth": truth_of(record["clip"], truth)}
        clip |= {"peaks": [], "sound": None}
        path = str(Path(args.audio_root or "", record["clip"]))
        try:
            if args.max_seconds > 0:
                if audio_hash(path) != record["audio"]["sha256"]:
                    raise ValueError(f"{path} is not the audio of its record")
                samples = load_audio(path)[: round(args.max_seconds * SAMPLING_RATE)]
                clip |= {"peaks": waveform(samples), "heard": len(samples) / SAMPLING_RATE}
                clip["sound"] = base64.b64encode(encode_mp3(samples)).decode()
        except (OSError, ValueError) as error:
            print(f"{record['clip']}: shown without sound: {error}", file=sys.stderr)
        yield clip


def render(clips: list[dict[str, Any]], thresholds: dict[str, float]) -> str:
    """The page. Names and keywords are data: none of it is ever read as HTML."""
    shown = {name: threshold for name, threshold in thresholds.items() if name != NO_VIOLATION}
    sounds = [clip.pop("sound") for clip in clips]
    parts = {
        "DATA": _script_data({"clips": clips, "thresholds": shown}),
        "SOUNDS": "\n".join(
            f'<script type="text/plain" id="sound-{number}">{sound}</script>'
            for number, sound in enumerate(sounds)
            if sound
        ),
        "PLAYER": "\n".join(_source(name) for name in ("wavesurfer.min.js", "regions.min.js")),
        "SCRIPT": _source("report.js"),
        "STYLE": _source("report.css"),
    }
    pieces = _source("report.html").split("%%")  # text, name, text, name, …, text
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _script_data(value) -> str:
    """JSON that no browser takes for the end of its script."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _source(name):
    return (PAGE / name).read_text(encoding="utf-8")


def main(args: ReportArguments) -> None:
    """Writes the page.

    Raises:
        ValueError: if there are no records, or the table of labels fits none.
    """
    clips = list(clips_of(args))
    if not clips:
        raise ValueError(f"{args.records} has no records.")
    if args.labels and all(clip["truth"] is None for clip in clips):
        raise ValueError(f"--labels {args.labels} names none of the clips of {args.records}.")
    labels = clips[0]["labels"] or []
    write_text(args.output, render(clips, {item["label"]: item["threshold"] for item in labels}))
    print(f"{len(clips)} clips: {args.output}")
