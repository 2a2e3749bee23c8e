"""What the tests of moderation share."""

from pathlib import Path

import pytest
from helpers import RATE, tiny_processor, tiny_speech_model, tone, wav

from modeling_toxmtl import ToxicityDetectionPipeline, cli
from modeling_toxmtl.io.files import read_json
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.record import describe_judge
from modeling_toxmtl.moderation.records import SCHEMA, SCHEMA_FILE, audio_hash


LABELS = ("Profanity", "Bullying", "NoViolation")  # of `record`
EMPTY_RECORD = dict.fromkeys(read_json(SCHEMA_FILE)["required"]) | {"schema": SCHEMA}
SECONDS = (1.0, 0.4, 2.5, 0.7, 1.3, 0.2, 3.1, 0.9)  # of the clips


def run(*argv: str) -> int:
    """The exit status of `toxmtl ARGV`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    return stop.value.code


def listener(window_seconds: float = 1.0, batch_size: int = 1) -> Listener:
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    return Listener(
        pipe, describe_judge(pipe, window_seconds=window_seconds, stride_seconds=window_seconds), batch_size
    )


def heard(listener: Listener, clips) -> dict[str, dict]:
    return {item.clip: item.record for group in listener.hear(clips) for item in group}


def record(folder: Path, name: str, scores: tuple, words: tuple = ()) -> dict:
    """Of a clip of two seconds, which is written.

    Args:
        folder: to write the clip to.
        name: of its file.
        scores: of `LABELS`, whose thresholds are 0.5.
        words: keyword and start of each that was heard.
    """
    path = folder / name.replace("/", "_")
    path.write_bytes(wav(tone(2 * RATE, seed=len(name))))
    labels = [
        {"label": label, "score": score, "threshold": 0.5, "fires": score >= 0.5, "evidence": None}
        for label, score in zip(LABELS, scores, strict=True)
    ]
    keywords = [
        {
            "keyword": word,
            "labels": ["Profanity"],
            "start": start,
            "end": start + 0.2,
            "score": 0.9,
            "benign": False,
            "channel": 0,
        }
        for word, start in words
    ]
    return EMPTY_RECORD | {
        "model": {"name": "me/my-model", "weights_sha256": "0123456789abcdef"},
        "clip": str(path),
        "audio": {"sha256": audio_hash(str(path)), "seconds": 2.0},
        "violations": [item["label"] for item in labels[:2] if item["fires"]],
        "labels": labels,
        "keywords": keywords,
        "windows": [{"start": 0.0, "end": 2.0, "scores": dict(zip(LABELS, scores, strict=True))}],
    }
