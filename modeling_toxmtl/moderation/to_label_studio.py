"""Writes doubtful clips as tasks for Label Studio, where people correct their labels and keywords.

    toxmtl to-label-studio verdicts.jsonl --num-clips 50
    toxmtl to-label-studio verdicts.jsonl --clips my_clips/train.parquet --labels my_clips/train.parquet

A clip is doubtful where a score is near its threshold, or a keyword's in the middle. With `--labels`, a table with the
columns `path` (or `id`) and `labels`, it is doubtful where the model disagrees with them: what a text filter got wrong
is found so. The folder has tasks with what the model heard, to correct (`tasks.json`), the labelling interface
(`config.xml`) and the clips (`audio/`), which Label Studio reads with `LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`
and the folder as `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`. What people said comes back with `from-label-studio`.
"""

import heapq
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ..audio import open_audio
from ..io.files import write_json, write_text
from ..labels import NO_VIOLATION
from .inputs import Inputs
from .records import audio_hash, read_records
from .report import read_truth, truth_of


AUDIO, LABELS, KEYWORDS, TEXT = "audio", "labels", "keywords", "keyword"  # names in the labelling interface
LOCAL_FILES = "/data/local-files/?d="  # where Label Studio serves files, relative to its document root
CONFIG = """\
<View>
  <Audio name="audio" value="$audio"/>
  <Choices name="labels" toName="audio" choice="multiple">
{choices}
  </Choices>
  <Labels name="keywords" toName="audio"><Label value="keyword"/></Labels>
  <TextArea name="keyword" toName="audio" perRegion="true" editable="true" maxSubmissions="1"/>
</View>
"""


@dataclass
class ToLabelStudioArguments:
    """Which clips, and where to."""

    records: str = field(metadata={"help": "File of records of toxmtl moderate."})
    output_dir: str = field(default="label_studio", metadata={"help": "Folder for tasks, interface and clips."})
    num_clips: int = field(default=50, metadata={"help": "So many clips, the most doubtful first."})
    labels: str | None = field(
        default=None, metadata={"help": "Table with `path` or `id`, and `labels`, to find where the model disagrees."}
    )
    clips: list[str] = field(
        default_factory=list, metadata={"help": "Parquet files with the clips' audio, as toxmtl moderate had them."}
    )

    def __post_init__(self):
        if self.num_clips < 1:
            raise ValueError(f"--num-clips is {self.num_clips}: give at least 1.")


def doubt(record: dict[str, Any], given: Sequence[str] | None = None) -> float:
    """How unsure a verdict is, in [0, 1].

    Args:
        record: of the clip.
        given: labels that somebody gave the clip: then it is the largest distance of a score from what they say.

    Returns:
        1 where a label's score is its threshold or a keyword's is 0.5, and 0 where all scores are 0 or 1.
    """
    violations = [item for item in record["labels"] or () if item["label"] != NO_VIOLATION]
    if given is not None:
        return max((abs((item["label"] in given) - item["score"]) for item in violations), default=0.0)
    doubts = [_nearness(item["score"], item["threshold"]) for item in violations]
    return max(doubts + [_nearness(word["score"], 0.5) for word in record["keywords"] or ()], default=0.0)


def _nearness(score, threshold):
    if score < threshold:
        return score / threshold
    return 1.0 if score == threshold else (1 - score) / (1 - threshold)


def task_of(record: dict[str, Any], file: str, certainty: float) -> dict[str, Any]:
    """A task in Label Studio's format, with the model's verdict as a prediction that people correct.

    Args:
        record: of the clip.
        file: of its audio, relative to Label Studio's document root.
        certainty: in [0, 1], by which Label Studio sorts predictions.
    """
    seconds, names = record["audio"]["seconds"], [item["label"] for item in record["labels"] or ()]
    chosen = record["violations"] or [name for name in names if name == NO_VIOLATION]
    result = []
    if chosen:
        result.append(_result("labels", LABELS, "choices", {"choices": chosen}))
    for number, word in enumerate(record["keywords"] or ()):
        place = {"start": word["start"], "end": word["end"], "channel": word["channel"]}
        for name, kind, value in ((KEYWORDS, "labels", [TEXT]), (TEXT, "textarea", [word["keyword"]])):
            key = "text" if kind == "textarea" else kind
            result.append(_result(f"keyword-{number}", name, kind, place | {key: value}))
            result[-1]["original_length"] = seconds
    data = {AUDIO: f"{LOCAL_FILES}{file}", "clip": record["clip"], "seconds": seconds, "label_names": names}
    version = f"{record['model']['name']} {record['model']['weights_sha256'][:12]}"
    return {"data": data, "predictions": [{"model_version": version, "score": certainty, "result": result}]}


def _result(id, name, kind, value):
    return {"id": id, "from_name": name, "to_name": AUDIO, "type": kind, "value": value}


def most_doubtful(
    records: Iterable[dict[str, Any]], truth: dict[str, list[str]], num_clips: int
) -> list[tuple[float, dict[str, Any]]]:
    """The so many most doubtful records, each with its doubt, in order; with a `truth`, only those that it has."""
    items = []
    for number, record in enumerate(records):
        given = truth_of(record["clip"], truth)
        if not truth or given is not None:
            item = (doubt(record, given), -number, record)
            (heapq.heappush if len(items) < num_clips else heapq.heappushpop)(items, item)
    return [(value, record) for value, _, record in sorted(items, key=lambda item: item[:2], reverse=True)]


def main(args: ToLabelStudioArguments) -> None:
    """Writes the folder. A clip whose audio is not there, or is another, is said on the standard error and left out.

    Raises:
        ValueError: if there are no records, none of the clips of --labels, or none whose audio is there.
    """
    folder, truth = Path(args.output_dir), read_truth(args.labels) if args.labels else {}
    chosen = most_doubtful(read_records(args.records), truth, args.num_clips)
    if not chosen:
        raise ValueError(f"{args.records} has no records{' of the clips of ' + args.labels if args.labels else ''}.")
    wanted = {record["clip"] for _, record in chosen}
    contents = {clip.name: clip.audio for clip in (Inputs(args.clips) if args.clips else ()) if clip.name in wanted}
    tasks = []
    for value, record in chosen:
        try:
            file = _copy_audio(contents.get(record["clip"], record["clip"]), record, folder / AUDIO)
        except (OSError, ValueError) as error:
            print(f"{record['clip']}: left out: {error}", file=sys.stderr)
            continue
        tasks.append(task_of(record, f"{AUDIO}/{file}", round(1 - value, 6)))
    if not tasks:
        raise ValueError(f"none of the clips of {args.records} is where it was: name --clips with their audio.")
    write_json(folder / "tasks.json", tasks)
    names = tasks[0]["data"]["label_names"]
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in names)
    write_text(folder / "config.xml", CONFIG.format(choices=choices))
    print(f"{len(tasks)} clips: {folder}")


def _copy_audio(audio: str | bytes, record: dict[str, Any], folder: Path) -> str:
    """Puts a clip's audio into the folder; returns the file's name, which is that of its content."""
    sha256 = audio_hash(audio)
    if sha256 != record["audio"]["sha256"]:
        raise ValueError("this is not the audio of its record")
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(audio, bytes):
        with open_audio(audio) as container:
            file = folder / f"{sha256}.{container.format.name.partition(',')[0]}"
        file.write_bytes(audio)
    else:
        file = folder / f"{sha256}{Path(audio).suffix}"
        shutil.copyfile(audio, file)
    return file.name
