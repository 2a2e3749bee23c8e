"""Builds the demo corpus: synthetic voice chat with toxicity labels, offline, in about a minute.

    python -m datasets_scripts.make_demo_corpus --output_dir demo_data
    python -m datasets_scripts.make_demo_corpus --output_dir demo_data_es --language es --train_clips 2000

Design choices:
- Texts are made first, in one process, because no sentence may occur twice; the costly part, speech and Opus, is
  spread over processes. Each clip has its own seed, so the files do not depend on the number of processes.
- A folder keeps a manifest with the settings and a hash of all texts: an equal corpus is not built again, another one
  is not overwritten unasked.
"""

import contextlib
import functools
import hashlib
import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import HfArgumentParser

from datasets_scripts.demo_grammar import ClipText, Grammar, generate_corpus
from datasets_scripts.effects import draw_channel, send
from datasets_scripts.espeak import VOICES, Voice, synthesize
from datasets_scripts.grammar_en import ENGLISH
from datasets_scripts.grammar_es import SPANISH
from modeling_toxmtl.data.card import ClipFacts, render_dataset_card
from modeling_toxmtl.data.schema import SPLITS, Row, split_path, write_split
from modeling_toxmtl.data.statistics import hours_by_label, render_hours
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import NO_VIOLATION


class Language(NamedTuple):
    """What is said in a language, and its name."""

    name: str
    grammar: Grammar
    keywords: KeywordList


LANGUAGES = {
    "en": Language("English", ENGLISH, KeywordList.default()),
    "es": Language("Spanish", SPANISH, KeywordList.from_file(Path(__file__).parent / "keywords_es.json")),
}

# Raise it when voices or effects change: the hash of the texts does not see them.
FORMAT_VERSION = 2
NUM_EXAMPLES = 3  # test clips that are written as files too, to be listened to and judged

SPEECH_RATES = (130, 200)  # words a minute, as espeak-ng counts
FASTEST_SPEECH_RATE = 450  # the limit of espeak-ng
PITCHES = (30, 70)  # of 0 to 100
WORD_GAP_SHARE = 0.2  # of the clips: spoken with pauses between the words
WORD_GAPS = (1, 8)  # of 10 ms
SILENCES = (0.0, 0.4)  # seconds, before and after the speech
MIN_DURATION = 1.0  # seconds
# Playback rates of the synthesised speech, which shorten or lengthen the vocal tract: many speakers out of the few
# train voices, while the held-out voices stay as they are.
PLAYBACK_RATES = {"train": (0.87, 1.15), "validation": (1.0, 1.0), "test": (1.0, 1.0)}
# In seconds. The paper trains on clips up to 15 s and evaluates on clips up to 60 s (section 4.2).
MAX_DURATIONS = {"train": 15.0, "validation": 60.0, "test": 60.0}

TITLE = "Demo corpus of synthetic toxic voice chat"
INTRODUCTION = """\
{language_name} sentences of voice chat in six classes of toxicity, spoken by espeak-ng and sent through a simulated
voice-chat channel (background noise, gain, clipping, Opus at 12 to 32 kbit/s). For demonstrations and tests: **no
figure measured on it says how a model does on people.** It contains swear words, insults and mild sexual language. The
Racist class is made of invented words, peoples and places.

    python -m datasets_scripts.make_demo_corpus --language {language} {sizes} --seed {seed}

Texts and labels are under Apache-2.0. The speech was synthesised by espeak-ng, a program under GPL-3.0-or-later; the
licence of the program does not extend to its output.

## Labels and keywords

{shares}

No sentence occurs twice. Voices and sentence templates are disjoint between the splits; words, keywords and the
phrases that violate without a keyword are shared. A clip's labels follow from its making: they are those of the
keywords meant (not quoted) and of the violating phrases in it. `source` has the ids of the templates, from the carrier
sentence, if there is one, to its content."""


@dataclass
class CorpusArguments:
    """How large a corpus to build, and where."""

    output_dir: str = field(default="data", metadata={"help": "Folder to write: Parquet files, card, manifest."})
    train_clips: int = field(default=3200, metadata={"help": "Number of training clips."})
    validation_clips: int = field(default=200, metadata={"help": "Number of validation clips."})
    test_clips: int = field(default=400, metadata={"help": "Number of test clips."})
    seed: int = field(default=0, metadata={"help": "The same seed and sizes give the same files."})
    num_proc: int = field(default=2, metadata={"help": "Number of processes; the files do not depend on it."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another corpus in the folder."})

    def __post_init__(self):
        if self.num_proc < 1:
            raise ValueError(f"--num_proc is {self.num_proc}: give at least 1.")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}: give 0 or more.")
        for split, count in self.num_clips.items():
            if count < 1:
                raise ValueError(f"--{split}_clips is {count}: every split needs at least one clip.")

    @property
    def num_clips(self) -> dict[str, int]:
        """Of each split."""
        return {"train": self.train_clips, "validation": self.validation_clips, "test": self.test_clips}

    @property
    def sizes(self) -> str:
        """The arguments of the numbers of clips, for the card."""
        return " ".join(f"--{split}_clips {count}" for split, count in self.num_clips.items())


@dataclass
class DemoCorpusArguments(CorpusArguments):
    """What to build, and where."""

    output_dir: str = field(default="demo_data", metadata={"help": "Folder to write: Parquet files, card, manifest."})
    language: str = field(default="en", metadata={"help": f"Language of the corpus: {' or '.join(LANGUAGES)}."})

    def __post_init__(self):
        super().__post_init__()
        if self.language not in LANGUAGES:
            raise ValueError(f"--language is {self.language!r}: choose one of {', '.join(LANGUAGES)}.")


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs to make a clip."""

    seed: int
    index: int
    text: ClipText
    language: str = "en"


def make_clip(recipe: Recipe) -> Row:
    """Speaks a text in a random voice of its split and sends it through a random channel."""
    text, split_number = recipe.text, SPLITS.index(recipe.text.split)
    # The 1 sets the stream apart from that of the text.
    rng = np.random.default_rng(np.random.SeedSequence([recipe.seed, split_number, recipe.index, 1]))
    voices = VOICES[recipe.language][text.split]
    voice = voices[rng.integers(len(voices))]
    playback_rate = rng.uniform(*PLAYBACK_RATES[text.split])
    speech, sampling_rate = speak(text.transcript, voice, playback_rate, MAX_DURATIONS[text.split], rng)
    audio, duration = send(speech, sampling_rate, draw_channel(rng), rng)
    return Row(
        id=f"{text.split}-{recipe.index:06d}",
        audio=audio,
        duration=duration,
        labels=text.labels,
        transcript=text.transcript,
        speaker=voice.name,
        source="template:" + "+".join(text.templates),
        split=text.split,
    )


def speak(
    text: str, voice: Voice, playback_rate: float, max_duration: float, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Speaks `text` at a random rate and pitch, with silence around it.

    Returns:
        Samples of `MIN_DURATION` to `max_duration` seconds, and their sampling rate in Hz. What would last longer is
        spoken faster.

    Raises:
        ValueError: if the text is too long even for the fastest speech.
    """
    slowest = int(rng.integers(*SPEECH_RATES, endpoint=True))
    pitch = int(rng.integers(*PITCHES, endpoint=True))
    word_gap = int(rng.integers(*WORD_GAPS, endpoint=True)) if rng.random() < WORD_GAP_SHARE else 0
    silences = rng.uniform(*SILENCES, size=2)
    noise_seed = int(rng.integers(2**31))
    for rate in range(slowest, FASTEST_SPEECH_RATE, 20):
        samples, sampling_rate = synthesize(text, voice, noise_seed, rate, pitch, word_gap=word_gap)
        sampling_rate = round(sampling_rate * playback_rate)
        before, after = (silences * sampling_rate).astype(int)
        if len(samples) + before + after <= max_duration * sampling_rate:
            missing = math.ceil(MIN_DURATION * sampling_rate) - len(samples) - before
            return np.pad(samples, (before, max(after, missing))), sampling_rate
    raise ValueError(f"Even the fastest speech is longer than {max_duration} s: shorten {text!r}.")


def main(args: DemoCorpusArguments) -> None:
    """Builds the corpus unless the folder already holds it.

    Raises:
        FileExistsError: if the folder holds something else and `overwrite` is not set.
    """
    output_dir = Path(args.output_dir)
    language = LANGUAGES[args.language]
    corpus = generate_corpus(args.num_clips, args.seed, language.keywords, language.grammar)
    settings = corpus_settings(args, corpus)
    manifest_path = output_dir / "manifest.json"
    if is_complete(manifest_path, settings):
        print(f"{output_dir} already holds this corpus ({manifest_path}): nothing to do.")
        return
    check_writable(output_dir, settings, args.overwrite)
    output_dir.mkdir(parents=True, exist_ok=True)
    # Without statistics it marks an unfinished corpus, which the next run may replace.
    manifest_path.write_text(json.dumps({"settings": settings}, indent=2) + "\n")
    clips = build(corpus, args, output_dir)
    statistics = {split: summarize(corpus[split], [clip.duration for clip in clips[split]]) for split in SPLITS}
    (output_dir / "README.md").write_text(render_card(clips, statistics, args))
    manifest = {"settings": settings, "statistics": statistics}
    manifest_path.write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"Wrote {sum(args.num_clips.values())} clips to {output_dir}, hours by label:\n{render_hours(statistics)}")


def corpus_settings(args: CorpusArguments, corpus: dict[str, list[ClipText]]) -> dict:
    """What tells one corpus from another."""
    texts = json.dumps([asdict(text) for texts in corpus.values() for text in texts])
    return {
        "format_version": FORMAT_VERSION,
        "num_clips": args.num_clips,
        "seed": args.seed,
        "texts_sha256": hashlib.sha256(texts.encode()).hexdigest(),
    }


def is_complete(manifest_path: Path, settings: dict) -> bool:
    """Whether a folder's manifest says that a corpus with these settings was finished."""
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    return manifest.get("settings") == settings and "statistics" in manifest


def check_writable(output_dir: Path, settings: dict, overwrite: bool) -> None:
    """Raises FileExistsError if building would replace anything but an unfinished run with the same settings."""
    if overwrite or not output_dir.exists() or not any(output_dir.iterdir()):
        return
    manifest_path = output_dir / "manifest.json"
    if manifest_path.exists() and json.loads(manifest_path.read_text()).get("settings") == settings:
        return
    raise FileExistsError(
        f"{output_dir} is not empty and holds no corpus with these settings: choose another --output_dir, or pass "
        "--overwrite to replace its corpus."
    )


def build(
    corpus: dict[str, list[ClipText]], args: DemoCorpusArguments, output_dir: Path
) -> dict[str, list[ClipFacts]]:
    """Makes the audio of all texts and writes the files; returns what the card says of the clips, by split."""
    clips = {}
    with (
        lazy_map(args.num_proc) as map_lazily,
        tqdm(total=sum(map(len, corpus.values())), desc="Speaking", unit="clip") as progress,
    ):
        for split, texts in corpus.items():
            recipes = [Recipe(args.seed, index, text, args.language) for index, text in enumerate(texts)]
            clips[split] = []
            rows = _noted(map_lazily(make_clip, recipes), clips[split], progress)
            write_split(rows, output_dir, split)
    write_examples(output_dir)
    return clips


def write_examples(output_dir: Path) -> None:
    """Writes the first test clips as Ogg-Opus files to `examples/`."""
    folder = output_dir / "examples"
    folder.mkdir(exist_ok=True)
    table = pq.ParquetFile(split_path(output_dir, "test")).read_row_group(0, columns=["audio"])
    for audio in table.slice(0, NUM_EXAMPLES)["audio"].to_pylist():
        (folder / audio["path"]).write_bytes(audio["bytes"])


@contextlib.contextmanager
def lazy_map(num_proc: int) -> Iterator[Callable[[Callable, Iterable], Iterator]]:
    """The built-in `map`, spread over processes if there are several.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if one of them is killed.
    """
    if num_proc == 1:
        yield map
    else:
        # Not forked: torch, PyAV and pyarrow have threads of their own.
        with ProcessPoolExecutor(num_proc, multiprocessing.get_context("spawn")) as pool:
            yield functools.partial(pool.map, chunksize=8)


def _noted(rows: Iterable[Row], clips: list[ClipFacts], progress: tqdm) -> Iterator[Row]:
    for row in rows:
        clips.append(ClipFacts(row.labels, row.duration, row.speaker))
        progress.update()
        yield row


def summarize(texts: Sequence[ClipText], durations: Sequence[float]) -> dict:
    """Figures of one split: hours by label, as in Table 1 of the paper, and how labels and keywords go together."""
    violating = [text for text in texts if text.labels != (NO_VIOLATION,)]
    with_keyword = [text for text in texts if text.keywords]
    return {
        "clips": len(texts),
        "hours": hours_by_label((text.labels, seconds) for text, seconds in zip(texts, durations, strict=True)),
        "longest_seconds": max(durations),
        "keywords": len({keyword for text in texts for keyword in text.keywords}),
        "clips_with_several_labels": sum(len(text.labels) > 1 for text in texts),
        "violating_clips": len(violating),
        "violating_clips_without_keyword": sum(not text.keywords for text in violating),
        "clips_with_keyword": len(with_keyword),
        "benign_clips_with_keyword": sum(text.labels == (NO_VIOLATION,) for text in with_keyword),
    }


def render_card(clips: dict[str, list[ClipFacts]], statistics: dict[str, dict], args: DemoCorpusArguments) -> str:
    """The data-set card, with the figures of this very corpus."""
    introduction = INTRODUCTION.format(
        language=args.language,
        language_name=LANGUAGES[args.language].name,
        sizes=args.sizes,
        seed=args.seed,
        shares=_render_shares(statistics),
    )
    return render_dataset_card(clips, TITLE, "apache-2.0", args.language, introduction)


def _render_shares(statistics: dict[str, dict]) -> str:
    rows = (
        ("Clips with several labels", "clips_with_several_labels", "clips"),
        ("Violating clips without any keyword", "violating_clips_without_keyword", "violating_clips"),
        ("Clips with a keyword that are benign", "benign_clips_with_keyword", "clips_with_keyword"),
    )
    lines = [f"| | {' | '.join(statistics)} |", "|---" * (len(statistics) + 1) + "|"]
    for title, part, whole in rows:
        shares = (f"{figures[part]} of {figures[whole]}" for figures in statistics.values())
        lines.append(f"| {title} | {' | '.join(shares)} |")
    for title, name in (("Different keywords", "keywords"), ("Longest clip in seconds", "longest_seconds")):
        lines.append(f"| {title} | {' | '.join(f'{figures[name]:.4g}' for figures in statistics.values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*HfArgumentParser(DemoCorpusArguments).parse_args_into_dataclasses())
