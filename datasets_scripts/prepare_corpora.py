"""Public corpora in our schema: downloads, cuts and maps labels.

    python -m datasets_scripts.prepare_corpora --format mutox --metadata mutox.tsv --output_dir mutox_data
    python -m datasets_scripts.prepare_corpora --format folder --metadata LibriSpeech/dev-clean --output_dir libri_data

Formats:
- `mutox`: the published table of MuTox (Costa-jussà et al., 2024): `id, lang, partition, public_url_segment`
  (URL, start and end), `audio_file_transcript, contains_toxicity, toxicity_types, ...`. Some of its rows give times in
  milliseconds, as documented, and some in samples: the transcript, which can be said only so fast, and the file tell.
- `table`: a table (.csv, .tsv, .jsonl) of clips with `url` or `path`, and where known `start`, `end` (seconds),
  `labels`, `transcript`, `speaker`, `split`: annotations as DeToxy's, whose files point into other corpora.
- `folder`: a LibriSpeech folder (`*.trans.txt`) or a Common Voice folder (`validated.tsv`, `clips/`). Its sentences
  are read from books and wikis and count as `NoViolation`.

Design choices:
- A file is downloaded once, to a cache, with retries; a download that broke off goes on where it stopped. A dead link
  is a line in `quarantine.jsonl`, and the next run tries it again.
- It is a stage like the others: shards, restarts and workers as in `stages.py`.
- Labels are mapped by a JSON file, `{"hate speech": ["Racist"]}`; what it lacks goes to the quarantine, and is not
  guessed. Without the file, `MUTOX_LABELS` maps those of MuTox, and those of a table are taken for ours.
- Rows that cannot be read are lines in `quarantine.jsonl`, too.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from datasets import Audio, Features, List, Value
from transformers import HfArgumentParser

from datasets_scripts.download import fetch
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio, open_audio
from modeling_toxmtl.data.build import SETTINGS
from modeling_toxmtl.data.chunk import encode_flac
from modeling_toxmtl.data.schema import SPLITS, Row, check_replaceable, check_split, data_set_replaced, write_split
from modeling_toxmtl.data.shards import Rejected, read_rows, write_rows
from modeling_toxmtl.data.splits import Entry, ShareArguments, assign_splits
from modeling_toxmtl.data.stages import QUARANTINE, Manifest, WorkArguments, run_stage
from modeling_toxmtl.data.statistics import hours_by_label, render_hours
from modeling_toxmtl.io.files import content_hash, read_json, write_json_lines
from modeling_toxmtl.io.masks import find_mask
from modeling_toxmtl.io.tables import batched, cell_text, read_labels, read_table
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION


FORMATS = ("mutox", "table", "folder")
MUTOX_LABELS = {
    "profanities": ["Profanity"],
    "hate speech": ["Racist"],
    "pornographic language": ["DatingAndSexting"],
    "physical violence or bullying language": ["Bullying"],
    "other": ["Other"],
}
# What MuTox' times may count in a second: milliseconds, samples as they were resampled, or those of the file
TIME_UNITS = (1000, SAMPLING_RATE, 44_100, 48_000)
VAD_WINDOW = 512  # samples of 16 kHz; the published segments begin at multiples, where a voice-activity detector cut
# Letters a second of speech with its pauses, slowest and fastest: less than 16 times apart, so that milliseconds and
# samples cannot both be right. Scripts with a sign per syllable or word have fewer.
LETTER_RATES, SYLLABLE_RATES = (1.9, 30.0), (0.8, 12.0)
SYLLABLES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # kana, Chinese characters, hangul
ROWS_PER_SHARD = 200
CLIPS = Features(
    {
        **{
            name: Value("string") for name in ("id", "location", "transcript", "speaker", "source", "split", "problem")
        },
        "start": Value("float64"),
        "end": Value("float64"),
        "units": List(Value("int32")),  # what start and end may count in a second
        "labels": List(Value("string")),
    }
)


@dataclass
class PrepareArguments(ShareArguments):
    """What to prepare, and where."""

    metadata: str = field(metadata={"help": "The corpus' table, or its folder."})
    format: str = field(metadata={"help": "Layout of the metadata.", "choices": FORMATS})
    output_dir: str = field(default="prepared_data", metadata={"help": "Folder of the data set."})
    language: str | None = field(default=None, metadata={"help": "MuTox: only clips of this language, such as eng."})
    label_mapping: str | None = field(
        default=None, metadata={"help": "JSON file from the corpus' labels to lists of ours."}
    )


@dataclass
class PrepareStage:
    """Gets and cuts clips."""

    cache: str

    name = "prepare"
    uses_model = False
    features = Features({**CLIPS, "audio": Audio(decode=False), "duration": Value("float32")})

    def settings(self) -> dict:
        """As of [`Stage`]."""
        return {}  # all is in the rows

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Clips of the rows that have no problem."""
        for row in rows:
            if row["problem"]:
                yield Rejected(row["id"], row["problem"])
                continue
            try:
                audio, extension, duration = self._clip(row)
            except (OSError, ValueError) as error:
                yield Rejected(row["id"], str(error))
                continue
            yield row | {"audio": {"bytes": audio, "path": f"clip.{extension}"}, "duration": duration}

    def _clip(self, row):
        location = row["location"]
        path = fetch(location, Path(self.cache)) if "://" in location else Path(location)
        samples = load_audio(path)
        if row["end"] is None:
            return path.read_bytes(), path.suffix[1:], len(samples) / SAMPLING_RATE
        with open_audio(path) as container:
            rate = container.streams.audio[0].rate
        scale = SAMPLING_RATE / time_unit(row, rate, len(samples) / SAMPLING_RATE)
        samples = samples[round(row["start"] * scale) : round(row["end"] * scale)]
        return encode_flac(samples), "flac", len(samples) / SAMPLING_RATE


def time_unit(clip: dict, file_rate: int, seconds: float) -> int:
    """What the times of a clip count in a second.

    Args:
        clip: a row of `CLIPS`.
        file_rate: sampling rate of its file in Hz.
        seconds: length of its file.

    Raises:
        ValueError: if no unit fits the file, or several do; the message is for the quarantine.
    """
    start, end = clip["start"], clip["end"]
    units = [unit for unit in clip["units"] if unit <= SAMPLING_RATE or unit == file_rate] or clip["units"][:1]
    fitting = [unit for unit in units if start < end <= (seconds + 1) * unit]
    if len(fitting) > 1 and start and start % VAD_WINDOW == 0:
        fitting = fitting[:1]
    if not fitting:
        span = f"{start / units[0]:g} to {end / units[0]:g} s"
        raise ValueError(f"its span {span} is not in the file of {seconds:.2f} s")
    if len(fitting) > 1:
        rates = " and ".join(f"{unit} Hz" for unit in fitting)
        raise ValueError(f"its times {start:.0f} and {end:.0f} can be samples of {rates}: give milliseconds")
    return fitting[0]


def read_mapping(path: str) -> dict[str, list[str]]:
    """From the corpus' labels, in lower case, to lists of ours.

    Raises:
        ValueError: if it gives other labels than ours; the message names them.
    """
    mapping = {name.lower(): labels for name, labels in read_json(path).items()}
    if unknown := sorted({label for labels in mapping.values() for label in labels} - set(LABELS)):
        raise ValueError(f"--label_mapping {path} gives {unknown}: give lists of {', '.join(LABELS)}.")
    return mapping


def map_labels(names: list[str], mapping: dict[str, list[str]]) -> list[str]:
    """Our labels for the corpus' names, in whatever case; `NoViolation` if none applies.

    Raises:
        ValueError: if the mapping lacks a name, or the labels contradict each other; the message is for the
            quarantine.
    """
    if unknown := sorted({name for name in names if name.lower() not in mapping}):
        raise ValueError(f"labels without mapping: {', '.join(unknown)}")
    return read_labels(sorted({label for name in names for label in mapping[name.lower()]})) or [NO_VIOLATION]


def read_mutox(path: Path, language: str | None, mapping: dict) -> Iterator[dict]:
    """Rows of `CLIPS` from MuTox' table. Clips whose toxicity nobody could tell have a problem."""
    for row in read_table(path, required=["id", "lang"]):
        if language is not None and row["lang"] != language:
            continue
        clip = {"id": row["id"], "transcript": row["audio_file_transcript"], "problem": ""}
        clip["split"] = ""  # MuTox' partitions may share recordings
        try:
            url, times, clip["units"] = _mutox_segment(row["public_url_segment"], clip["transcript"] or "")
            clip |= {"location": url, "source": url, "start": times[0], "end": times[1]}
            clip["speaker"] = url  # unknown; at least no recording is in two splits
            clip["labels"] = _mutox_labels(row, mapping)
        except ValueError as error:
            clip["problem"] = str(error)
        yield clip


def _mutox_segment(text, transcript):
    """URL, start and end, and what these may count in a second."""
    if not (match := re.fullmatch(r"(\S.*) (\d+) (\d+)", text or "")):
        raise ValueError(f"public_url_segment is {text!r}, not a URL with start and end")
    url, start, end = match[1], int(match[2]), int(match[3])
    letters = sum(character.isalnum() or character == "*" for character in transcript)  # hidden ones are said, too
    slowest, fastest = SYLLABLE_RATES if SYLLABLES.search(transcript) else LETTER_RATES
    units = [unit for unit in TIME_UNITS if slowest * (end - start) <= letters * unit <= fastest * (end - start)]
    if not units:
        raise ValueError(
            f"its times {start} and {end} fit {letters} letters of transcript neither as milliseconds nor as samples"
        )
    return url, (start, end), units


def _mutox_labels(row, mapping):
    toxic = (row["contains_toxicity"] or "").strip().lower()
    if toxic == "no":
        return [NO_VIOLATION]
    if toxic != "yes":
        raise ValueError(f"contains_toxicity is {row['contains_toxicity']!r}")
    types = [name.strip() for name in (row["toxicity_types"] or "").replace(";", ",").split(",")]
    labels = map_labels([name for name in types if name], mapping)
    if labels == [NO_VIOLATION]:
        raise ValueError("toxic, but of no type")
    return labels


def read_clip_table(path: Path, mapping: dict) -> Iterator[dict]:
    """Rows of `CLIPS` from a table of clips. Raises ValueError, naming the row, if one has no file."""
    for number, row in enumerate(read_table(path)):
        location = cell_text(row, "url") or cell_text(row, "path")
        if not location:
            raise ValueError(f"{path}, row {number + 1}: give `url` or `path`.")
        clip = {
            "id": cell_text(row, "id", f"{path.stem}-{number:06d}"),
            "location": location if "://" in location else str(path.parent / location),
            "transcript": cell_text(row, "transcript") or None,
            "speaker": cell_text(row, "speaker", location),
            "source": location,
            "split": cell_text(row, "split"),
            "problem": "",
            "units": [1],
        }
        try:
            clip["start"], clip["end"] = _span(row)
            clip["labels"] = _table_labels(row, mapping)
        except ValueError as error:
            clip["problem"] = str(error)
        yield clip


def _span(row):
    """Start and end in seconds; None for the whole file."""
    start, end = (_seconds(row, name) for name in ("start", "end"))
    if end is None and start is not None:
        raise ValueError(f"`start` is {start}, but there is no `end`")
    return (None, None) if end is None else (start or 0.0, end)


def _seconds(row, name):
    if not (text := cell_text(row, name)):
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"`{name}` is {text!r}, not seconds")
    return seconds


def _table_labels(row, mapping):
    names = read_labels(row.get("labels"))
    if names is None:
        raise ValueError("no labels")
    return map_labels(names, mapping)


def read_speech_folder(path: Path) -> Iterator[dict]:
    """Rows of `CLIPS` from a LibriSpeech or Common Voice folder: read speech, no violations."""
    for table in sorted(path.rglob("*.trans.txt")):
        for line in table.read_text(encoding="utf-8").splitlines():
            id, _, text = line.partition(" ")
            yield _read_sentence(id, table.parent / f"{id}.flac", text.lower(), speaker=id.split("-")[0])
    for table in sorted(path.rglob("validated.tsv")):
        for row in read_table(table, required=["path", "sentence", "client_id"]):
            clip = table.parent / "clips" / row["path"]
            yield _read_sentence(clip.stem, clip, row["sentence"], speaker=row["client_id"])


def _read_sentence(id, path, text, speaker):
    row = {"id": id, "location": str(path), "start": None, "end": None, "transcript": text, "problem": ""}
    row["units"] = [1]
    return row | {"labels": [NO_VIOLATION], "speaker": speaker, "source": f"speaker:{speaker}", "split": ""}


def read_clips(args: PrepareArguments) -> list[dict]:
    """Rows of `CLIPS` for any of the formats. Clips with the id of an earlier one have a problem.

    Raises:
        ValueError: if there are none, or one has a split of another name; the message names file or clip.
    """
    path = Path(args.metadata)
    if args.label_mapping:
        mapping = read_mapping(args.label_mapping)
    else:
        mapping = MUTOX_LABELS if args.format == "mutox" else {label.lower(): [label] for label in LABELS}
    readers = {
        "mutox": lambda: read_mutox(path, args.language, mapping),
        "table": lambda: read_clip_table(path, mapping),
        "folder": lambda: read_speech_folder(path),
    }
    clips = list(readers[args.format]())
    if not clips:
        raise ValueError(f"--metadata {path} has no clips in the format {args.format}.")
    seen, keywords = set(), KeywordList.default()
    for clip in clips:
        check_split(clip["split"], f"Clip {clip['id']!r}")  # before the downloads
        if clip["id"] in seen:
            clip["problem"] = clip["problem"] or "another clip has its id"
        seen.add(clip["id"])
        if clip["transcript"] and find_mask(clip["transcript"], keywords):
            clip["transcript"] = None  # its labels were given by ear, but nobody knows the hidden word
    return clips


def run(args: PrepareArguments, work: WorkArguments) -> Manifest:
    """Gets all clips; what failed in an earlier run is tried again."""
    shards = []
    for number, rows in enumerate(batched(read_clips(args), ROWS_PER_SHARD)):
        path = Path(work.work_dir, "clips", f"{number:05d}-{content_hash(rows)}.parquet")
        shards.append(write_rows(path, f"{number:05d}", rows, CLIPS))
    for manifest in Path(work.work_dir, PrepareStage.name).glob("*.parquet.json"):
        if json.loads(manifest.read_text(encoding="utf-8"))["rejected"]:
            manifest.unlink()
    return run_stage(PrepareStage(str(Path(work.work_dir, "downloads"))), shards, work)


def main(args: PrepareArguments, work: WorkArguments) -> dict[str, dict]:
    """Writes the data set; returns `clips` and `hours` of each split.

    Raises:
        FileExistsError: if the folder holds data that this command did not write.
        ValueError: if no clip can be used, or splits are given that share speakers or sources.
    """
    output_dir = Path(args.output_dir)
    is_ours = (output_dir / QUARANTINE).exists() and not (output_dir / SETTINGS).exists()
    check_replaceable(output_dir, is_ours)
    manifest = run(args, work)
    columns = ("id", "speaker", "source", "split", "labels", "duration")
    rows = (row for shard in manifest.shards for row in read_rows(shard.path, list(columns)))
    entries = [Entry(**row | {"labels": tuple(row["labels"])}) for row in rows]
    if not entries:
        raise ValueError(f"No clip is left: {Path(work.work_dir, PrepareStage.name, QUARANTINE)} says why.")
    splits = assign_splits(entries, args.shares)
    statistics = {}
    with data_set_replaced(output_dir) as folder:
        for split in (name for name in SPLITS if name in splits.values()):
            chosen = [entry for entry in entries if splits[entry.id] == split]
            write_split(_rows(manifest, splits, split), folder, split)
            hours = hours_by_label((entry.labels, entry.duration) for entry in chosen)
            statistics[split] = {"clips": len(chosen), "hours": hours}
        write_json_lines(folder / QUARANTINE, map(asdict, manifest.rejected))
    print(f"{render_hours(statistics)}\n{len(manifest.rejected)} clips in {output_dir}/{QUARANTINE}")
    return statistics


def _rows(manifest, splits, split):
    for shard in manifest.shards:
        for row in read_rows(shard.path):
            if splits[row["id"]] == split:
                fields = {name: row[name] for name in ("id", "duration", "transcript", "speaker", "source")}
                audio, labels = row["audio"], tuple(row["labels"])
                extension = Path(audio["path"]).suffix[1:]
                yield Row(audio=audio["bytes"], labels=labels, split=split, extension=extension, **fields)


if __name__ == "__main__":
    main(*HfArgumentParser((PrepareArguments, WorkArguments), description=__doc__).parse_args_into_dataclasses())
