"""Builds the corpora of the study of the five systems (docs/study.md), in the proportions of the paper's Table 1.

    python -m datasets_scripts.make_voice_corpus --output_dir voice_data --train_clips 1000 --validation_clips 300
    python -m datasets_scripts.make_study_corpus --dataset voice_data --output_dir study_data

writes two data sets: `study_data` with train, validation and a test split where violations are as frequent as harmless
clips, and `study_data_real`, whose test split has them as rarely as voice chat does.

Design choices:
- Train clips are those of the corpus of natural voices as far as they have what Table 1 asks for. It has fewer clips
  with several labels, so new ones are spoken. Validation and the balanced test split are those of that corpus.
- The paper gives hours by class and in all, not which classes go together: the labels of a new clip are drawn
  independently of each other, which is the least that can be assumed. Of the next few candidates, always the one is
  taken whose classes are furthest behind the proportions of the table.
- Real-world clips are said by the voices, sentences and noises of the test split, and no sentence is said twice in
  all of these splits. Harmless clips say so many keywords that about 3 % of all words are keywords: the share that
  follows from the error rates of the paper's Table 2.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import HfArgumentParser

from datasets_scripts.demo_grammar import KEYWORD_AGAIN_SHARE, ClipText, Piece
from datasets_scripts.make_demo_corpus import check_writable, is_complete, lazy_map
from datasets_scripts.make_voice_corpus import Recipe, make_clip
from datasets_scripts.voice_texts import NO_SPEECH_EVERY, VoiceTextGenerator
from modeling_toxmtl.data.card import ClipFacts, render_dataset_card
from modeling_toxmtl.data.schema import ROW_GROUP_SIZE, SPLITS, Row, split_path, write_split
from modeling_toxmtl.data.statistics import hours_by_label, render_hours
from modeling_toxmtl.io.files import content_hash, file_hash, read_json, write_json, write_text
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION, VIOLATIONS
from modeling_toxmtl.text import normalize_text


FORMAT_VERSION = 1
# Table 1 of the paper, hours
TRAINING_HOURS = {
    **{"Profanity": 1755.1, "DatingAndSexting": 307.2, "Racist": 225.0, "Bullying": 902.5, "Other": 1559.5},
    **{"NoViolation": 1791.4, "Total": 4080.3},
}
REAL_WORLD_HOURS = {
    **{"Profanity": 155.50, "DatingAndSexting": 34.11, "Racist": 27.81, "Bullying": 99.92, "Other": 145.09},
    **{"NoViolation": 1539.50, "Total": 1733.50},
}
DECK = ("espeak",) * 9 + ("piper",) * 10 + ("kokoro",)  # of twenty new clips; Kokoro takes nine times as long
FIRST_INDEX = {"train": 100_000, "test": 200_000}  # of new clips: no clip of the other corpus has such a number
CANDIDATES = 3  # texts to choose from for every new clip
SECONDS_PER_WORD = 0.4  # of a text that nobody has spoken yet
CHOICES = 800  # candidates from which the one is taken that is needed most
REAL_BENIGN_KEYWORD_SHARE = 0.18  # of the harmless real-world clips: then 3 % of all words are keywords
CLIPS_PER_SHARD = 250

INTRODUCTION = """\
English sentences of voice chat, spoken by espeak-ng, Piper and Kokoro over a simulated voice-chat channel, as in the
corpus of natural voices that it was made from: what is said there of voices, sentences and licences holds here.
**No human speaker is in it: no figure measured on it says how a model does on people.** It contains swear words,
insults and mild sexual language. The Racist class is made of invented words, peoples and places.

    python -m datasets_scripts.make_study_corpus --seed {seed} --train_clips {train_clips} \\
        --new_train_clips {new_train_clips} --real_clips {real_clips}

## Proportions

Share of the hours, in percent; a clip with several labels counts for each. "Paper" is Table 1.

{proportions}

{keywords:.1f} % of the words of the split `{split}` are keywords."""


@dataclass
class StudyCorpusArguments:
    """What to build, from what, and where."""

    dataset: str = field(default="voice_data", metadata={"help": "Folder that make_voice_corpus wrote."})
    output_dir: str = field(
        default="study_data", metadata={"help": "Folder to write; the real-world test split goes to OUTPUT_DIR_real."}
    )
    train_clips: int = field(default=1600, metadata={"help": "Number of training clips."})
    new_train_clips: int = field(default=800, metadata={"help": "How many of them are new ones."})
    real_clips: int = field(default=1000, metadata={"help": "Number of real-world test clips."})
    seed: int = field(default=1, metadata={"help": "The same seed, sizes and data set give the same files."})
    num_proc: int = field(default=1, metadata={"help": "Number of processes; the files do not depend on it."})
    overwrite: bool = field(default=False, metadata={"help": "Replace other corpora in the folders."})


@dataclass(frozen=True)
class Candidate:
    """A clip that can be taken: a row of the other corpus, or the text of a new clip."""

    labels: tuple[str, ...]
    seconds: float
    row: int | None = None
    text: ClipText | None = None


class StudyTextGenerator(VoiceTextGenerator):
    """Makes the texts of clips whose labels are drawn with the frequencies of a row of Table 1.

    Args:
        split, keyword_list, said: as of the base class.
        hours: of each class and "Total".
        benign_keyword_share: of the harmless clips.
    """

    def __init__(
        self,
        split: str,
        keyword_list: KeywordList,
        said: set[tuple[str, ...]],
        hours: Mapping[str, float],
        benign_keyword_share: float,
    ):
        super().__init__(split, keyword_list, said)
        self.benign_keyword_share = benign_keyword_share
        self.violating_share = 1 - hours[NO_VIOLATION] / hours["Total"]
        self.shares = {label: hours[label] / hours["Total"] / self.violating_share for label in VIOLATIONS}

    def _plan(self, rng: np.random.Generator) -> list[Piece]:
        if rng.random() >= self.violating_share:
            first = self._quote(rng) if rng.random() < self.benign_keyword_share else self._benign(rng)
            return [first, self._benign(rng)] if rng.random() < self.second_piece_shares["benign"] else [first]
        wanted: set[str] = set()
        while not wanted:
            wanted = {label for label, share in self.shares.items() if rng.random() < share}
        missing, pieces = set(wanted), []
        while missing:
            allowed = _allowed(wanted, missing)
            has_cue = any(map(allowed, self._cue_weights))
            pieces.append(self._violation(not has_cue or rng.random() < KEYWORD_AGAIN_SHARE, rng, allowed))
            missing -= set(pieces[-1].labels)
        return pieces


def _allowed(wanted: set[str], missing: set[str]) -> Callable[[tuple[str, ...]], bool]:
    return lambda labels: wanted.issuperset(labels) and not missing.isdisjoint(labels)


def candidate_texts(generator: StudyTextGenerator, count: int, seed: int) -> list[Candidate]:
    """Texts of a split; as in the corpus of natural voices, some say nothing."""
    candidates = []
    for index in range(count):
        if index % NO_SPEECH_EVERY == NO_SPEECH_EVERY - 1:
            text = ClipText(generator.split, "", (NO_VIOLATION,), (), ())
        else:
            rng = np.random.default_rng([seed, SPLITS.index(generator.split), FIRST_INDEX[generator.split] + index])
            text = generator.generate_clip(rng)
        candidates.append(Candidate(text.labels, 1 + SECONDS_PER_WORD * len(text.transcript.split()), text=text))
    return candidates


def choose(
    candidates: Sequence[Candidate],
    hours: Mapping[str, float],
    count: int,
    max_new: int,
    seed: int,
    taken: Sequence[Candidate] = (),
) -> list[Candidate]:
    """Takes `count` candidates, at most `max_new` of them new, whose seconds by class, with those of `taken`, are in
    the proportions of `hours`: of the next few known and new ones, each time the one whose labels are missing most.

    Raises:
        ValueError: if there are too few candidates.
    """
    target = np.array([hours[name] / hours["Total"] for name in LABELS])
    excess = np.array([_excess(candidate, target) for candidate in candidates])
    order = np.random.default_rng(seed).permutation(len(candidates)).tolist()
    known = [index for index in order if candidates[index].row is not None]
    new = [index for index in order if candidates[index].row is None]
    if count > len(known) + min(max_new, len(new)):
        raise ValueError(
            f"{count} clips are asked for, but there are {len(known)} and {min(max_new, len(new))} new ones: ask for "
            "fewer."
        )
    # seconds beyond what is due, by class
    total = sum((clip.seconds * _excess(clip, target) for clip in taken), np.zeros(len(LABELS)))
    chosen = []
    due = 0.0  # new ones, spread over all
    while len(chosen) < count:
        due += max_new / count
        queue = new if due >= 1 and new or not known else known
        due -= queue is new
        best = min(range(min(CHOICES, len(queue))), key=lambda place: total @ excess[queue[place]])
        chosen.append(queue.pop(best))
        total += candidates[chosen[-1]].seconds * excess[chosen[-1]]
    return [candidates[index] for index in sorted(chosen)]


def _excess(candidate: Candidate, target: np.ndarray) -> np.ndarray:
    return np.array([name in candidate.labels for name in LABELS]) - target


def read_rows(dataset: Path, split: str, columns: Sequence[str] | None = None) -> Iterator[dict]:
    """The rows of a split, in order, a row group in memory at a time."""
    for path in sorted(dataset.glob(f"data/{split}-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(ROW_GROUP_SIZE, columns=columns):
            yield from batch.to_pylist()


def copy_rows(dataset: Path, split: str, wanted: set[int] | None = None) -> Iterator[Row]:
    """Rows of another data set, all or those of the given numbers."""
    for number, row in enumerate(read_rows(dataset, split)):
        if wanted is None or number in wanted:
            yield Row(**row | {"audio": row["audio"]["bytes"], "labels": tuple(row["labels"])})


def sentences(dataset: Path, splits: Sequence[str]) -> set[tuple[str, ...]]:
    """What is said in some splits, as normalised words."""
    rows = (row for split in splits for row in read_rows(dataset, split, ["transcript"]))
    return {tuple(normalize_text(row["transcript"], "en")) for row in rows}


def speak_shards(
    texts: Sequence[ClipText], output_dir: Path, args: StudyCorpusArguments, first: int, count: int
) -> None:
    """Speaks texts of one split to the files from number `first` on, of `count`; those that are there stay."""
    recipes = [Recipe(args.seed, FIRST_INDEX[text.split] + index, text, DECK) for index, text in enumerate(texts)]
    with lazy_map(args.num_proc) as map_lazily, tqdm(total=len(recipes), desc="Speaking", unit="clip") as progress:
        for number, start in enumerate(range(0, len(recipes), CLIPS_PER_SHARD), start=first):
            shard = recipes[start : start + CLIPS_PER_SHARD]
            split = shard[0].text.split
            if not split_path(output_dir, split, number, count).exists():
                write_split(map_lazily(make_clip, shard), output_dir, split, number, count)
            progress.update(len(shard))


def finish(
    output_dir: Path, settings: dict, title: str, split: str, hours: Mapping, args: StudyCorpusArguments
) -> None:
    """Writes card and manifest, the sign that a data set is whole."""
    keywords, facts, words, said = KeywordList.default(), {}, 0, 0
    for name in SPLITS:
        columns = ["labels", "duration", "speaker", "transcript"]
        rows = list(read_rows(output_dir, name, columns))
        if not rows:
            continue
        facts[name] = [ClipFacts(row["labels"], row["duration"], row["speaker"]) for row in rows]
        if name == split:
            tokens = [keywords.merge(keywords.tokens(row["transcript"])) for row in rows]
            words, said = sum(map(len, tokens)), sum(word in keywords for clip in tokens for word in clip)
    statistics = {
        name: {"clips": len(clips), "hours": hours_by_label((clip.labels, clip.duration) for clip in clips)}
        for name, clips in facts.items()
    }
    introduction = INTRODUCTION.format(
        **vars(args), proportions=render_proportions(statistics, hours), keywords=100 * said / words, split=split
    )
    write_text(output_dir / "README.md", render_dataset_card(facts, title, "apache-2.0", "en", introduction))
    files = {path.name: file_hash(path) for path in sorted(output_dir.glob("data/*.parquet"))}
    write_json(output_dir / "manifest.json", {"settings": settings, "statistics": statistics, "sha256": files})
    print(f"Wrote {output_dir}, hours by label:\n{render_hours(statistics)}")


def render_proportions(statistics: Mapping[str, dict], paper: Mapping[str, float]) -> str:
    """Share of the hours of each class, by split, and those of the paper."""
    rows = {**{name: figures["hours"] for name, figures in statistics.items()}, "Paper": paper}
    lines = [f"| | {' | '.join(LABELS)} |", "|---" * (len(LABELS) + 1) + "|"]
    for name, hours in rows.items():
        shares = " | ".join(f"{100 * hours[label] / hours['Total']:.1f}" for label in LABELS)
        lines.append(f"| {name} | {shares} |")
    return "\n".join(lines)


def start(output_dir: Path, settings: dict, overwrite: bool) -> bool:
    """Whether there is something to do in a folder; clears that of another corpus.

    Raises:
        FileExistsError: if it holds something else and `overwrite` is not set.
    """
    manifest = output_dir / "manifest.json"
    if is_complete(manifest, settings):
        print(f"{output_dir} already holds this corpus: nothing to do.")
        return False
    check_writable(output_dir, settings, overwrite)
    if not manifest.exists() or read_json(manifest).get("settings") != settings:
        for path in output_dir.glob("data/*.parquet"):
            path.unlink()
    write_json(manifest, {"settings": settings})
    return True


def make_real(output_dir: Path, settings: dict, said: set, args: StudyCorpusArguments) -> None:
    """Chooses and speaks the real-world test split."""
    generator = StudyTextGenerator("test", KeywordList.default(), said, REAL_WORLD_HOURS, REAL_BENIGN_KEYWORD_SHARE)
    candidates = candidate_texts(generator, 2 * args.real_clips, args.seed)
    texts = [c.text for c in choose(candidates, REAL_WORLD_HOURS, args.real_clips, args.real_clips, args.seed)]
    speak_shards(texts, output_dir, args, 0, -(-len(texts) // CLIPS_PER_SHARD))
    finish(output_dir, settings, "Synthetic voice chat at real-world rates", "test", REAL_WORLD_HOURS, args)


def make_balanced(dataset: Path, output_dir: Path, settings: dict, said: set, args: StudyCorpusArguments) -> None:
    """Chooses and speaks the train split, and copies the others."""
    rows = enumerate(read_rows(dataset, "train", ["labels", "duration"]))
    known = [Candidate(tuple(row["labels"]), row["duration"], row=number) for number, row in rows]
    generator = StudyTextGenerator(
        "train", KeywordList.default(), said, TRAINING_HOURS, VoiceTextGenerator.benign_keyword_share
    )
    candidates = [*known, *candidate_texts(generator, CANDIDATES * args.new_train_clips, args.seed)]
    chosen = choose(candidates, TRAINING_HOURS, args.train_clips, args.new_train_clips, args.seed)
    texts = [candidate.text for candidate in chosen if candidate.text is not None]
    count = 1 + -(-len(texts) // CLIPS_PER_SHARD)
    for split in SPLITS[1:]:
        write_split(copy_rows(dataset, split), output_dir, split)
    first = split_path(output_dir, "train", 0, count)
    first.unlink(missing_ok=True)
    speak_shards(texts, output_dir, args, 1, count)
    # now that it is known how long the new ones are, the others make up for what was expected of them
    rows = read_rows(output_dir, "train", ["labels", "duration"])
    spoken = [Candidate(tuple(row["labels"]), row["duration"]) for row in rows]
    chosen = choose(known, TRAINING_HOURS, args.train_clips - len(texts), 0, args.seed, spoken)
    write_split(copy_rows(dataset, "train", {clip.row for clip in chosen}), output_dir, "train", 0, count)
    finish(output_dir, settings, "Synthetic voice chat in the paper's proportions", "train", TRAINING_HOURS, args)


def main(args: StudyCorpusArguments) -> None:
    """Builds both data sets unless they are there; goes on with unfinished ones.

    Raises:
        FileNotFoundError: if the corpus of natural voices is not there or unfinished.
        FileExistsError: if a folder holds something else and `overwrite` is not set.
    """
    dataset, output_dir = Path(args.dataset), Path(args.output_dir)
    manifest_path = dataset / "manifest.json"
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    if "statistics" not in manifest:
        raise FileNotFoundError(f"{dataset} holds no finished corpus: run datasets_scripts.make_voice_corpus first.")
    sizes = {name: value for name, value in asdict(args).items() if name.endswith("_clips") or name == "seed"}
    settings = {
        **{"corpus": "study", "format_version": FORMAT_VERSION, **sizes},
        "made_from": content_hash(manifest["settings"]),
    }
    said = sentences(dataset, SPLITS)
    if start(output_dir, settings, args.overwrite):
        make_balanced(dataset, output_dir, settings, set(said), args)
    real_dir, settings = output_dir.with_name(f"{output_dir.name}_real"), {**settings, "split": "real"}
    if start(real_dir, settings, args.overwrite):
        make_real(real_dir, settings, said | sentences(output_dir, ("train",)), args)


if __name__ == "__main__":
    main(*HfArgumentParser(StudyCorpusArguments, description=__doc__).parse_args_into_dataclasses())
