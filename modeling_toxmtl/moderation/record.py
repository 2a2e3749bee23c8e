"""The record of a decision: what was heard, what was decided and why, and all that is needed to hear it again.

Records are JSON objects of the schema `toxmtl.verdict/1`, which stands in `schemas/verdict-1.json`.

Design choices:
- A record says what it depends on by content: SHA-256 of the audio, of the weights, of the keyword list. Names and
  paths are there for people.
- Decisions are made of the figures that the record holds, which are rounded: whoever reads it comes to the same.
- Evidence is a matter of windows: a keyword is evidence of a label where a window that has it fires for the label. A
  keyword that no such window has was heard, and judged to be benign.
- There is no date and no machine in it: the same clip, model and settings give the same record, byte for byte.
"""

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..io.files import file_hash, read_json
from ..judging import Judging
from ..keywords import KeywordList
from ..labels import NO_VIOLATION
from .records import SCHEMA


NO_KEYWORD = "no keyword: by context or tone"
SAID = "keywords said"
SCORE_DIGITS, TIME_DIGITS = 6, 3


def describe_judge(pipe: Judging, **heard_in: float) -> dict[str, Any]:
    """What the verdicts of a pipeline depend on beside the audio: the part that all records of a run share.

    Args:
        pipe: with its model and processor.
        heard_in: the pipeline's settings of windows, in seconds.
    """
    processor, config = pipe.processor, pipe.config
    packages = ("modeling-toxmtl", *pipe.packages, "numpy", "av")  # whose versions may change a score
    return {
        "model": pipe.identity,
        "thresholds": config.thresholds if "classification" in config.tasks else None,
        "calibration": _calibration(config),
        "keyword_evidence": config.keyword_evidence,
        "keyword_list": describe_keywords(processor.keywords),
        "decoding": {
            **asdict(processor.decoding),
            "keyword_target": processor.keyword_target,
            "language_model_sha256": processor.language_model and file_hash(processor.language_model),
            "common_words_sha256": processor.common_words and file_hash(processor.common_words),
        },
        "hearing": heard_in,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }


def describe_keywords(keywords: KeywordList) -> dict[str, Any]:
    """What records say of a keyword list."""
    return {
        "sha256": keywords_hash(keywords.to_dict()),
        "keywords": len(keywords),
        "language": keywords.language,
    }


def keywords_hash(keywords: dict) -> str:
    """SHA-256 of a keyword list (`KeywordList.to_dict`), as canonical JSON."""
    return hashlib.sha256(json.dumps(keywords, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _calibration(config) -> dict | None:
    """What `toxmtl calibrate` or, before it, `run_mtl.py` left in the model's folder."""
    for name, part in (("calibration.json", None), ("results.json", "calibration")):
        if (file := _file_beside(config, name)) is not None:
            content = read_json(file)
            return content.get(part) if part else content
    return None


def _file_beside(config, name):
    """A file of the model's folder or Hub repository, if it is there; a configuration that was made has neither."""
    if not config.name_or_path:
        return None
    if (folder := Path(config.name_or_path)).is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils.hub import cached_file  # an exported model runs where it is not installed

    return cached_file(
        config.name_or_path,
        name,
        revision=getattr(config, "_commit_hash", None),
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def make_record(clip: str, sha256: str, verdict: dict[str, Any], judge: dict[str, Any]) -> dict[str, Any]:
    """The record of a verdict.

    Args:
        clip: its name: a path, or what the table calls it.
        sha256: of the file's content.
        verdict: of the pipeline, with `return_keywords=True, return_windows=True`.
        judge: of [`describe_judge`].
    """
    thresholds = judge["thresholds"]
    windows = [_window(window, thresholds) for window in verdict["windows"]]
    keywords = verdict["keywords"] and [_keyword(word, windows, thresholds) for word in verdict["keywords"]]
    labels = None
    if verdict["labels"] is not None:  # in the order of the model: that of scores may be another in another batch
        scores = {item["label"]: _score(item["score"]) for item in verdict["labels"]}
        labels = [_label(name, scores[name], threshold, windows, keywords) for name, threshold in thresholds.items()]
    return {
        "schema": SCHEMA,
        "clip": clip,
        "audio": {"sha256": sha256, "seconds": max(window["end"] for window in windows)},
        "violations": labels and [item["label"] for item in labels if item["fires"] and item["label"] != NO_VIOLATION],
        "labels": labels,
        "keywords": keywords,
        "windows": windows,
        **judge,
    }


def _score(value):
    return round(float(value), SCORE_DIGITS)


def _place(item):
    """Times, and the track and channel."""
    times = {name: round(float(item[name]), TIME_DIGITS) for name in ("start", "end")}
    return times | {name: item[name] for name in ("track", "channel")}


def _window(window, thresholds):
    if window["labels"] is None:
        return _place(window) | {"scores": None}
    scores = {item["label"]: _score(item["score"]) for item in window["labels"]}
    return _place(window) | {"scores": {label: scores[label] for label in thresholds}}


def _windows_of(word, windows):
    """Those that a word lies in, of its own track and channel."""
    source = (word["track"], word["channel"])
    beside = (window for window in windows if (window["track"], window["channel"]) == source)
    return [window for window in beside if word["start"] < window["end"] and window["start"] < word["end"]]


def _keyword(word, windows, thresholds):
    """A keyword, which is benign where none of its labels fires; None without a classifier that knows one of them."""
    labels, benign = list(word["labels"]), None
    if known := [label for label in labels if label in (thresholds or ())]:
        near = _windows_of(word, windows)
        benign = not any(window["scores"][label] >= thresholds[label] for window in near for label in known)
    return {"keyword": word["keyword"], "labels": labels, **_place(word), "score": _score(word["score"])} | {
        "benign": benign
    }


def _label(label, score, threshold, windows, keywords):
    """A label with its evidence, if it is a violation that fires."""
    fires = score >= threshold
    item = {"label": label, "score": score, "threshold": threshold, "fires": fires, "evidence": None}
    if fires and label != NO_VIOLATION and keywords is not None:
        firing = [window for window in windows if window["scores"][label] >= threshold]
        said = [word for word in keywords if label in word["labels"] and _windows_of(word, firing)]
        item["evidence"] = {
            "reason": SAID if said else NO_KEYWORD,
            "keywords": [{name: word[name] for name in ("keyword", "start", "end", "score")} for word in said],
        }
    return item


def differences(recorded: Any, heard: Any, place: str = "", tolerance: float = 1e-4) -> list[str]:
    """Where two records differ, a line each; nothing for equal ones.

    Args:
        recorded: a record, or a part of it.
        heard: the same of the other.
        place: of this part in the record.
        tolerance: of numbers: scores are the same in any batch up to this.
    """
    if isinstance(recorded, list) and isinstance(heard, list):
        recorded, heard = ({_name(item, index): item for index, item in enumerate(part)} for part in (recorded, heard))
    if isinstance(recorded, dict) and isinstance(heard, dict):
        names = [*recorded, *(name for name in heard if name not in recorded)]
        parts = [(f"{place}.{name}".lstrip("."), recorded.get(name), heard.get(name)) for name in names]
        return [line for part, a, b in parts for line in differences(a, b, part, tolerance)]
    numbers = all(isinstance(value, float | int) and not isinstance(value, bool) for value in (recorded, heard))
    if abs(recorded - heard) <= tolerance if numbers else recorded == heard:
        return []
    return [f"{place}: {_short(recorded)} in the record, {_short(heard)} now"]


def _name(item, index):
    """What a reader knows an item of a list by; one item more moves no other."""
    if not isinstance(item, dict):
        return index
    return (
        item["label"] if "label" in item else f"{item['keyword']} at {item['start']}" if "keyword" in item else index
    )


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
