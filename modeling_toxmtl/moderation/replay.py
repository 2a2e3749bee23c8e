"""Hears a clip again, and says whether the verdict is that of its record.

    toxmtl replay verdicts.jsonl clip.ogg

Says "the same", or names each difference: in what was heard, and in all that it depends on. Scores may differ by
0.0001, as they do between batches. The model is the one that the record names, unless --model says where it is now.
"""

from dataclasses import dataclass, field
from itertools import islice

from .hearing import Listener, load_judge
from .inputs import Clip
from .record import describe_judge, differences
from .records import audio_hash, read_records, record_of


DECIDED = ("audio", "violations", "labels", "keywords", "windows")  # the rest is what that depends on


@dataclass
class ReplayArguments:
    """Which record, and which clip."""

    record: str = field(metadata={"help": "File of records; that of the clip is found by the hash of its audio."})
    audio: str = field(metadata={"help": "The clip's file."})
    model: str | None = field(default=None, metadata={"help": "Folder or Hub id; default: as in the record."})


def find_record(path: str, sha256: str) -> dict:
    """The record of a clip by its hash, or the only one of its file, to which the clip can be compared.

    Raises:
        ValueError: if there is none.
    """
    if (record := record_of(path, sha256)) is not None:
        return record
    match list(islice(read_records(path), 2)):
        case [only]:
            return only
        case _:
            raise ValueError(f"{path} has no record of audio with the SHA-256 {sha256}.")


def replay(record: dict, audio: str | bytes, model: str | None = None) -> list[str]:
    """Hears the clip of a record again; returns the differences, a line each.

    Args:
        record: of the schema `toxmtl.verdict/1`.
        audio: file of the clip, or its content.
        model: folder or Hub id, if it is not where the record says.

    Raises:
        ValueError: if the model is not there or the clip cannot be heard.
    """
    described = record["model"]
    pipe = load_judge(model or described["name"], None if model else described["revision"])
    judge = describe_judge(pipe, **record["hearing"])
    ((heard,),) = Listener(pipe, judge).hear([Clip(record["clip"], audio)])
    if heard.error is not None:
        raise ValueError(heard.error)
    now = heard.record
    if model is not None:  # it may have moved
        moved = {name: now["model"][name] for name in ("name", "revision")}
        record = {**record, "model": {**described, **moved}}
    return differences(record, now)


def main(args: ReplayArguments) -> None:
    """Prints "the same", or the differences and leaves with status 1."""
    found = replay(find_record(args.record, audio_hash(args.audio)), args.audio, args.model)
    if not found:
        print("the same")
        return
    decided = [line for line in found if line.startswith(DECIDED)]
    print("\n".join(found))
    print("the verdict is another" if decided else "the verdict is the same, but not what it depends on")
    raise SystemExit(1)
