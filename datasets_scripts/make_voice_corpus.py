"""Builds the corpus of natural voices: toxic voice chat, spoken by three kinds of synthesisers, offline.

    python -m datasets_scripts.make_voice_corpus --output_dir voice_data --num_proc 2

Design choices:
- As in `make_demo_corpus`, texts are made first, each clip has a seed of its own, and a manifest tells corpora apart.
- A split is written in shards. A shard is a file that appears only when it is complete, so that training can begin
  with what is there, and a run that was killed goes on where it stopped. Shards of all splits grow side by side.
- Which engine speaks is dealt, not drawn: every shard has its share of each, whatever the seed.
- Neural voices are heard at their own pitch and shifted (see `speech_engines`); all are heard in rooms, through narrow
  microphones and over the talk of others. Those are voices of espeak-ng of the same split.
- Some training clips are said word by word, and some go over a telephone: people do both, test voices do neither.
"""

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import HfArgumentParser

from datasets_scripts.demo_grammar import ClipText
from datasets_scripts.effects import BACKGROUND_KINDS, draw_scene, encode, make_noise, record, telephone
from datasets_scripts.make_demo_corpus import (
    CorpusArguments,
    check_writable,
    corpus_settings,
    is_complete,
    lazy_map,
    summarize,
)
from datasets_scripts.speakers import shift_formants
from datasets_scripts.speech_engines import ENGINES, Engine, Voice
from datasets_scripts.voice_texts import deal, generate_voice_texts, vocabulary
from modeling_toxmtl.audio import SAMPLING_RATE, resample
from modeling_toxmtl.data.card import ClipFacts, render_dataset_card
from modeling_toxmtl.data.schema import SPLIT_FILE, SPLITS, Row, split_path, write_split
from modeling_toxmtl.data.statistics import render_hours


FORMAT_VERSION = 3  # raise it when voices or effects change: the hash of the texts does not see them
CLIPS_PER_SHARD = 250

# Of twenty clips of a split; Kokoro takes nine times as long as Piper.
ENGINE_DECKS = {
    "train": ("espeak",) * 7 + ("piper",) * 10 + ("kokoro",) * 3,
    "validation": ("espeak",) * 7 + ("piper",) * 10 + ("kokoro",) * 3,
    "test": ("espeak",) * 6 + ("piper",) * 5 + ("kokoro",) * 9,
}
PACES = (0.8, 1.25)
MAX_DURATION = 15.0  # seconds, the window of the model
HURRY = 1.2  # how much faster a text is spoken again that lasts longer
SILENCES = (0.0, 0.6)  # seconds, before and after the speech
MIN_DURATION = 1.0  # seconds
FORMANT_SHARE = 0.3  # of the train clips: formants are moved, on top of pitch factors
FORMANT_FACTORS = (0.9, 1.1)
DICTATED_SHARE = 0.15  # of the train clips of few words: said word by word
DICTATED_WORDS = 8  # at most
DICTATED_PAUSES = (0.05, 0.4)  # seconds, between words
DICTATED_LEVELS = (0.3, 1.0)  # of the loudest word that is possible
TELEPHONE_SHARE = 0.25  # of the train clips
NO_SPEECH_DURATIONS = (1.0, 10.0)  # seconds
NO_SPEECH_LEVELS = (-60.0, -15.0)  # dB below full scale
SILENCE_SHARE = 0.2  # of the clips without speech: digital silence
NUM_TALKERS = (3, 6)
TALKER_WORDS = 40
TALKERS_PER_SPLIT = 8

TITLE = "Synthetic toxic voice chat in natural voices"
INTRODUCTION = """\
English sentences of voice chat in six classes of toxicity, spoken by espeak-ng, Piper and Kokoro, in simulated rooms
and over a simulated voice-chat channel. **No human speaker is in it: no figure measured on it says how a model does on
people.** It contains swear words, insults and mild sexual language. The Racist class is made of invented words,
peoples and places.

    python -m datasets_scripts.make_voice_corpus {sizes} --seed {seed}

Texts and labels are under Apache-2.0. Piper's `en_US-joe-medium` was trained on recordings in the public domain (CC0),
Kokoro-82M is under Apache-2.0, and the licence of espeak-ng, GPL-3.0-or-later, does not extend to its output.

## Hours by engine

{engines}

The test split is spoken by voices that train and validation do not have: espeak-ng variants, Kokoro's `jf_nezumi` and
`jm_kumo`, and blends and pitch factors of the neural voices that are left out of the others. The Piper voice is one
man: in the test split he speaks at other pitches. A `speaker` is the engine, a colon and the voice, such as
`kokoro:jf_nezumi/en-us*1.00`: style or blend in per cent, accent, factor of pitch and formants. A clip without speech
has `none:` and what is heard.

## Sentences

No sentence occurs twice. One clip in six says a sentence of small talk, a question or a request for help from
[chatterbot-corpus](https://github.com/gunthercox/chatterbot-corpus) (BSD-3-Clause), and is harmless; these sentences
are dealt to the splits one by one. In the others, templates and most words are disjoint between the splits; keywords,
and most phrases that violate without a keyword, are shared. A clip's labels follow from its making. A clip without
speech has an empty transcript and the label `NoViolation`."""


@dataclass
class VoiceCorpusArguments(CorpusArguments):
    """What to build, and where."""

    output_dir: str = field(default="voice_data", metadata={"help": "Folder to write: Parquet files, card, manifest."})
    train_clips: int = field(default=6000, metadata={"help": "Number of training clips."})
    validation_clips: int = field(default=600, metadata={"help": "Number of validation clips."})
    test_clips: int = field(default=720, metadata={"help": "Number of test clips."})


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs to make a clip; the text is empty in a clip without speech, and engines are dealt from
    the deck of the split unless there is another."""

    seed: int
    index: int
    text: ClipText
    deck: tuple[str, ...] = ()

    def generator(self, stream: int) -> np.random.Generator:
        """A generator of this clip alone; `generate_voice_texts` uses the one without a stream."""
        return np.random.default_rng(
            np.random.SeedSequence([self.seed, SPLITS.index(self.text.split), self.index, stream])
        )


def make_clip(recipe: Recipe) -> Row:
    """Speaks a text in a voice of its split, or says nothing, in a random scene."""
    text, rng, extras = recipe.text, recipe.generator(1), recipe.generator(4)
    scene = draw_scene(rng)
    if text.transcript:
        engine = get_engine(engine_of(recipe))
        voice = engine.draw_voice(text.split, rng)
        is_short = len(text.transcript.split()) <= DICTATED_WORDS
        is_dictated = text.split == "train" and extras.random() < DICTATED_SHARE and is_short
        samples = (dictate if is_dictated else speak)(text.transcript, engine, voice, rng)
        if text.split == "train" and rng.random() < FORMANT_SHARE:
            samples = shift_formants(samples, SAMPLING_RATE, rng.uniform(*FORMANT_FACTORS))
        samples = record(samples, SAMPLING_RATE, scene, rng, draw_talkers(text.split, rng))
        speaker, source = f"{engine.name}:{voice.name}", "template:" + "+".join(text.templates)
    else:
        samples, kind = make_no_speech(rng)
        speaker, source = f"none:{kind}", f"background:{kind}"
    if text.split == "train" and extras.random() < TELEPHONE_SHARE:
        samples = telephone(samples, SAMPLING_RATE)
    audio, duration = encode(samples, SAMPLING_RATE, scene.channel)
    return Row(
        id=f"{text.split}-{recipe.index:06d}",
        audio=audio,
        duration=duration,
        labels=text.labels,
        transcript=text.transcript,
        speaker=speaker,
        source=source,
        split=text.split,
    )


def engine_of(recipe: Recipe) -> str:
    """The name of the engine that speaks a clip: decks are shuffled anew whenever they are used up."""
    deck = recipe.deck or ENGINE_DECKS[recipe.text.split]
    number, position = divmod(recipe.index, len(deck))
    order = Recipe(recipe.seed, number, recipe.text).generator(2).permutation(len(deck))
    return deck[order[position]]


@functools.cache
def get_engine(name: str) -> Engine:
    """The engine of this process; models are loaded once."""
    return ENGINES[name]()


def speak(text: str, engine: Engine, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Speaks `text` at a random pace, with silence around it: samples at 16 kHz of 1 to 15 seconds.

    Raises:
        ValueError: if the text is too long even for fast speech.
    """
    pace = rng.uniform(*PACES)
    before, after = (rng.uniform(*SILENCES, size=2) * SAMPLING_RATE).astype(int)
    for _ in range(5):
        samples, sampling_rate = engine.speak(text, voice, pace, rng)
        samples = resample(samples, sampling_rate, SAMPLING_RATE)
        if len(samples) + before + after <= MAX_DURATION * SAMPLING_RATE:
            missing = round(MIN_DURATION * SAMPLING_RATE) - len(samples) - before
            return np.pad(samples, (before, max(after, missing)))
        pace *= HURRY
    raise ValueError(f"Even fast speech is longer than {MAX_DURATION} s: shorten {text!r}.")


def dictate(text: str, engine: Engine, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Speaks every word of `text` by itself, each as loud as it comes, with pauses: samples at 16 kHz of up to 15
    seconds. What would be longer is said as a sentence."""
    pieces = [np.zeros(round(rng.uniform(*SILENCES) * SAMPLING_RATE), np.float32)]
    for word in text.split():
        samples, sampling_rate = engine.speak(word, voice, rng.uniform(*PACES), rng)
        samples = trim_silence(resample(samples, sampling_rate, SAMPLING_RATE))
        level = rng.uniform(*DICTATED_LEVELS) / max(float(np.abs(samples).max(initial=0)), 1e-3)
        pause = np.zeros(round(rng.uniform(*DICTATED_PAUSES) * SAMPLING_RATE), np.float32)
        pieces += [samples * np.float32(level), pause]
    samples = np.concatenate(pieces)
    if len(samples) > MAX_DURATION * SAMPLING_RATE:
        return speak(text, engine, voice, rng)
    return np.pad(samples, (0, max(0, round(MIN_DURATION * SAMPLING_RATE) - len(samples))))


def trim_silence(samples: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """The samples from the first to the last that reach a share of the peak."""
    (loud,) = np.nonzero(np.abs(samples) >= threshold * np.abs(samples).max(initial=0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def make_no_speech(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A background without speech at 16 kHz, or digital silence, and its name."""
    num_samples = round(rng.uniform(*NO_SPEECH_DURATIONS) * SAMPLING_RATE)
    if rng.random() < SILENCE_SHARE:
        return np.zeros(num_samples, np.float32), "silence"
    kind = BACKGROUND_KINDS[rng.integers(len(BACKGROUND_KINDS))]
    level = 10 ** (rng.uniform(*NO_SPEECH_LEVELS) / 20)
    return np.clip(make_noise(kind, num_samples, SAMPLING_RATE, rng) * np.float32(level), -1, 1), kind


def draw_talkers(split: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Some of the talkers of a split."""
    talkers = all_talkers(split)
    count = int(rng.integers(*NUM_TALKERS, endpoint=True))
    return [talkers[number] for number in rng.choice(len(talkers), count, replace=False)]


@functools.cache
def all_talkers(split: str) -> list[np.ndarray]:
    """Espeak-ng voices of a split that say harmless words of it, at 16 kHz."""
    rng = np.random.default_rng([SPLITS.index(split), 3])
    engine, words = get_engine("espeak"), deal(vocabulary(), split)
    talkers = []
    for _ in range(TALKERS_PER_SPLIT):
        text = " ".join(words[number] for number in rng.integers(len(words), size=TALKER_WORDS))
        samples, sampling_rate = engine.speak(text, engine.draw_voice(split, rng), 1.0, rng)
        talkers.append(resample(samples, sampling_rate, SAMPLING_RATE))
    return talkers


def main(args: VoiceCorpusArguments) -> None:
    """Builds the corpus unless the folder already holds it; goes on with an unfinished one.

    Raises:
        FileExistsError: if the folder holds something else and `overwrite` is not set.
    """
    output_dir = Path(args.output_dir)
    corpus = generate_voice_texts(args.num_clips, args.seed)
    settings = {**corpus_settings(args, corpus), "format_version": FORMAT_VERSION, "corpus": "voices"}
    manifest_path = output_dir / "manifest.json"
    if is_complete(manifest_path, settings):
        print(f"{output_dir} already holds this corpus ({manifest_path}): nothing to do.")
        return
    check_writable(output_dir, settings, args.overwrite)
    output_dir.mkdir(parents=True, exist_ok=True)
    clear_other_corpus(output_dir, settings)
    manifest_path.write_text(json.dumps({"settings": settings}, indent=2) + "\n")
    build(corpus, args, output_dir)
    clips = {split: read_split(output_dir, split, count_shards(len(corpus[split]))) for split in SPLITS}
    statistics = {split: summarize(corpus[split], [clip.duration for clip in clips[split]]) for split in SPLITS}
    engines = {split: hours_by_engine(clips[split]) for split in SPLITS}
    (output_dir / "README.md").write_text(render_card(clips, engines, args))
    manifest = {"settings": settings, "statistics": statistics, "hours_by_engine": engines}
    manifest_path.write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"Wrote {sum(args.num_clips.values())} clips to {output_dir}, hours by label:\n{render_hours(statistics)}")


def clear_other_corpus(output_dir: Path, settings: dict) -> None:
    """Removes the shards of a corpus with other settings: they would pass for finished ones of this."""
    manifest_path = output_dir / "manifest.json"
    if manifest_path.exists() and json.loads(manifest_path.read_text()).get("settings") == settings:
        return
    for path in (output_dir / "data").glob("*.parquet"):
        if SPLIT_FILE.fullmatch(path.name):
            path.unlink()


def count_shards(num_clips: int) -> int:
    """The number of files that a split is written to."""
    return -(-num_clips // CLIPS_PER_SHARD)


def build(corpus: dict[str, list[ClipText]], args: VoiceCorpusArguments, output_dir: Path) -> None:
    """Makes the shards that are not there yet."""
    shards = plan_shards(corpus)
    with (
        lazy_map(args.num_proc) as map_lazily,
        tqdm(total=sum(map(len, corpus.values())), desc="Speaking", unit="clip") as progress,
    ):
        for split, number in shards:
            count = count_shards(len(corpus[split]))
            start = number * CLIPS_PER_SHARD
            texts = corpus[split][start : start + CLIPS_PER_SHARD]
            if split_path(output_dir, split, number, count).exists():
                progress.update(len(texts))
                continue
            recipes = [Recipe(args.seed, start + offset, text) for offset, text in enumerate(texts)]
            write_split(_counted(map_lazily(make_clip, recipes), progress), output_dir, split, number, count)


def plan_shards(corpus: dict[str, Sequence]) -> list[tuple[str, int]]:
    """Split and number of all shards, so ordered that the splits grow side by side."""
    shards = []
    for split, texts in corpus.items():
        count = count_shards(len(texts))
        shards += [((number + 0.5) / count, split, number) for number in range(count)]
    return [(split, number) for _, split, number in sorted(shards)]


def _counted(rows: Iterator[Row], progress: tqdm) -> Iterator[Row]:
    for row in rows:
        progress.update()
        yield row


def read_split(output_dir: Path, split: str, count: int) -> list[ClipFacts]:
    """What the card says of the clips of a finished split."""
    clips = []
    for number in range(count):
        columns = pq.read_table(split_path(output_dir, split, number, count), columns=list(ClipFacts._fields))
        clips += [ClipFacts(**row) for row in columns.to_pylist()]
    return clips


def hours_by_engine(clips: Sequence[ClipFacts]) -> dict[str, float]:
    """Hours of each engine, from the names of the speakers; "none" are the clips without speech."""
    hours = defaultdict(float)
    for clip in clips:
        hours[clip.speaker.split(":")[0]] += clip.duration / 3600
    return dict(sorted(hours.items()))


def render_card(
    clips: dict[str, list[ClipFacts]], engines: dict[str, dict[str, float]], args: VoiceCorpusArguments
) -> str:
    """The data-set card, with the figures of this very corpus."""
    names = sorted({name for hours in engines.values() for name in hours})
    rows = [f"| Split | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    rows += [
        f"| {split} | {' | '.join(f'{hours.get(name, 0):.3f}' for name in names)} |"
        for split, hours in engines.items()
    ]
    introduction = INTRODUCTION.format(sizes=args.sizes, seed=args.seed, engines="\n".join(rows))
    return render_dataset_card(clips, TITLE, "apache-2.0", "en", introduction)


if __name__ == "__main__":
    main(*HfArgumentParser(VoiceCorpusArguments).parse_args_into_dataclasses())
