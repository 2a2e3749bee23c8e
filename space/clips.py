"""A clip in, a decision out, and another one when the visitor's choices change: the model hears a clip once."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.moderation.hearing import CLIP_ERRORS
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.record import make_record
from modeling_toxmtl.moderation.records import audio_hash
from modeling_toxmtl.moderation.redact import RedactArguments, redact, spans_of


MAX_SECONDS = 600.0  # of a clip
PADDING = RedactArguments.padding_before, RedactArguments.padding_after
LEAD = 0.2  # seconds that are played before a keyword
EXCERPT = 30.0  # seconds that are played from a keyword on, at most


@dataclass
class HeardClip:
    """A clip, and what the model made of it before any keyword was read or threshold applied.

    Args:
        path: of the file.
        samples: `(samples,)` at `SAMPLING_RATE`, to draw and to play.
        outputs: of `Judging.infer`, one for each window.
    """

    path: str
    samples: np.ndarray
    outputs: list[dict[str, Any]]
    # for what is made of the clip; gone when the visitor is
    folder: tempfile.TemporaryDirectory = field(default_factory=tempfile.TemporaryDirectory, repr=False)

    @property
    def name(self) -> str:
        return Path(self.path).name


def hear(judge: Judge, path: str) -> HeardClip:
    """Hears a file of any format that FFmpeg reads.

    Raises:
        ValueError: says why the file cannot be heard.
    """
    try:
        outputs = [_infer(judge, *window) for window in judge.windows(path)]
        return HeardClip(path, load_audio(path), outputs)
    except CLIP_ERRORS as error:
        raise ValueError(f"{Path(path).name} cannot be heard: {_reason(error, path)}") from error


def _infer(judge, window, samples):
    if window.end > MAX_SECONDS * SAMPLING_RATE:
        raise ValueError(f"it has more than {MAX_SECONDS / 60:g} minutes.")
    return judge.pipe.infer(judge.pipe.collate([{**judge.pipe.prepare(window, samples), "is_last": True}]))


def _reason(error, path):
    """Without the place where the page keeps the file, which nobody knows."""
    return str(error).removeprefix(f"{path}: ").replace(path, "the file")


def decide(judge: Judge, clip: HeardClip) -> dict[str, Any]:
    """The record of the decision, by the judge's list and thresholds as they are now."""
    verdict = judge.verdict([judge.pipe.read(output) for output in clip.outputs])
    return make_record(clip.name, audio_hash(clip.path), verdict, judge.description)


def write_record(clip: HeardClip, record: dict[str, Any]) -> str:
    """A file of the record, as `toxmtl moderate` writes them; returns its path."""
    path = Path(clip.folder.name, f"{Path(clip.name).stem}.verdict.jsonl")
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(path)


def write_redacted(clip: HeardClip, record: dict[str, Any], how: str) -> str | None:
    """A file of the clip with its keywords beeped, muted or cut; returns its path, None if there are no keywords."""
    if not record["keywords"]:
        return None
    path = Path(clip.folder.name, f"{Path(clip.name).stem}.{how}.mp3")  # which every browser plays
    redact(clip.path, str(path), spans_of(record["keywords"], *PADDING), how)
    return str(path)


def excerpt(clip: HeardClip, start: float) -> tuple[int, np.ndarray]:
    """Sampling rate and 16-bit samples of the clip from a keyword's start on."""
    first = max(round((start - LEAD) * SAMPLING_RATE), 0)
    samples = clip.samples[first : first + round(EXCERPT * SAMPLING_RATE)]
    return SAMPLING_RATE, np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
