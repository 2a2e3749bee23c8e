"""What the corpus of natural voices says: the demo corpus's way of making labels, with thousands of words.

As in `demo_grammar`, labels follow from the making of a sentence. What differs:
- All keywords of the list are spoken, equally often, and some of their variants.
- Most clips also say something benign, violating ones too, and half of that is drawn from a vocabulary of thousands of
  words: a keyword head that is to write whatever is said must not know its sentences by heart.
- The vocabulary is made of word lists that were checked word by word by their makers (the EFF's for passphrases, and
  BIP-39), not of a corpus's most frequent words, which contain slurs.
- Words and sound-alikes are dealt to the splits, not shared.
- The training clips say hundreds of sentences more than those that they share their kinds with: a classifier that met
  few harmless ones takes a new one for a violation.
- One clip in six says a sentence that none of us wrote, of a corpus of small talk, questions and requests for help. A
  model that knows only our harmless sentences accuses one in eight of these.
- No clip is longer than a window of the model.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources

import numpy as np
import yaml

from datasets_scripts.demo_grammar import (
    ClipGenerator,
    ClipText,
    Grammar,
    KeywordDealer,
    Piece,
    weighted_pick,
    words_of,
)
from datasets_scripts.grammar_en import ENGLISH
from datasets_scripts.grammar_voices_en import CUES, TEMPLATES
from datasets_scripts.keyword_uses_en import SENSES, VARIANTS
from datasets_scripts.train_sentences_en import CUES as TRAIN_CUES
from datasets_scripts.train_sentences_en import TEMPLATES as TRAIN_TEMPLATES
from datasets_scripts.words_en import LEXICONS, SOUND_ALIKES
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import NO_VIOLATION
from modeling_toxmtl.text import normalize_text


NO_SPEECH_EVERY = 25  # clips: 4 % say nothing
BENIGN_KINDS = {
    **{"benign": 0.13, "near-miss": 0.1, "chat": 0.25, "any-word": 0.15, "words": 0.18, "sound-alike": 0.14},
    "digits": 0.05,
}
EVERYDAY_SHARE = 1 / 6  # of the clips: the last ones of a split
EVERYDAY_WORDS = range(3, 17)  # of a sentence
# Whether a sentence with one of these is harmless is a matter of who says it, and so is what says something of the
# listener: neither is taken.
DOUBTFUL = frozenset(
    words_of(
        "arrogant, ashamed, bragging, crazy, dead, deathless, die, dies, drunk, dumb, hate, jealous, kill, killed, "
        "killing, mad, mate, murder, race, shot, suicide, terminated, testicles"
    )
)
OF_LISTENER = ("you", "you're", "your")  # first words
VARIANT_SHARE = 0.2  # of the keywords meant that have a variant for some kind of sentence
RAREST_WORD = 2.5  # Zipf frequency: 10 ** 2.5 times in 10 ** 9 words
# Of twenty words: which are said in which split
SPLIT_POSITIONS = {"train": range(0, 15), "validation": range(15, 16), "test": range(16, 20)}


def deal(words: tuple[str, ...], split: str) -> tuple[str, ...]:
    """The words of a list that are said in a split; no word is dealt to two."""
    return tuple(word for number, word in enumerate(words) if number % 20 in SPLIT_POSITIONS[split])


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Thousands of everyday English words, without any spelling of a keyword, in alphabetical order.

    Raises:
        ImportError: if a package with a word list is missing.
    """
    try:
        from wordfreq import zipf_frequency

        passphrases = (resources.files("xkcdpass") / "static" / "eff-long").read_text().split()
        mnemonics = (resources.files("mnemonic") / "wordlist" / "english.txt").read_text().split()
    except ImportError as error:
        raise ImportError("The vocabulary needs wordfreq, xkcdpass, mnemonic: pip install -e '.[corpora]'.") from error
    keywords = KeywordList.default()
    return tuple(
        word
        for word in sorted({*passphrases, *mnemonics})
        if word.isalpha() and zipf_frequency(word, "en") >= RAREST_WORD and not keywords.find([word])
    )


@functools.cache
def everyday_sentences() -> tuple[str, ...]:
    """More than a thousand sentences of small talk, questions and requests for help, in normalised words, without any
    spelling of a keyword, in an order that mixes their subjects.

    Raises:
        ImportError: if chatterbot-corpus is missing.
    """
    try:
        folder = resources.files("chatterbot_corpus") / "data" / "english"
    except ImportError as error:
        raise ImportError("Everyday sentences need chatterbot-corpus: pip install -e '.[corpora]'.") from error
    keywords, sentences = KeywordList.default(), set()
    for path in folder.iterdir():
        if path.name.endswith(".yml"):
            for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
                sentences |= {tuple(normalize_text(line, "en")) for line in conversation if isinstance(line, str)}
    harmless = sorted(
        " ".join(words)
        for words in sentences
        if len(words) in EVERYDAY_WORDS
        and words[0] not in OF_LISTENER
        and DOUBTFUL.isdisjoint(words)
        and not keywords.find(words)
    )
    return tuple(harmless[number] for number in np.random.default_rng(0).permutation(len(harmless)))


def numbers() -> tuple[str, ...]:
    """Numbers in words: all from 2 to 199, then fewer and fewer to 9,999."""
    values = (*range(2, 200), *np.geomspace(200, 9999, 400).astype(int))
    return tuple(" ".join(normalize_text(str(value))) for value in values)


@functools.cache
def voice_grammar(split: str) -> Grammar:
    """The English of the demo corpus and what `grammar_voices_en` adds, with the words of one split."""
    own_words = {name: deal(words, split) for name, words in LEXICONS.items() if name in ENGLISH.lexicons}
    lexicons = {name: (*words, *own_words.get(name, ())) for name, words in ENGLISH.lexicons.items()} | {
        "word": deal(vocabulary(), split),
        "sound-alike": deal(SOUND_ALIKES, split),
        "number": (*ENGLISH.lexicons["number"], *deal(numbers(), split)),
        "action": deal(LEXICONS["action"], split),
        "digit": LEXICONS["digit"],
    }
    senses = {
        f"sense-{keyword}": {"train": sentences[:-2], "validation": sentences[-2:-1], "test": sentences[-1:]}
        for keyword, sentences in SENSES.items()
    }
    templates = dict(ENGLISH.templates) | senses
    for kind, added in TEMPLATES.items():
        old = ENGLISH.templates.get(kind, dict.fromkeys(SPLITS, ()))
        templates[kind] = {name: (*old[name], *added[name]) for name in SPLITS}
    for kind, added in TRAIN_TEMPLATES.items():
        templates[kind] = templates[kind] | {"train": (*templates[kind]["train"], *added)}
    cues = {label: (*phrases, *CUES[label]) for label, phrases in ENGLISH.cues.items()}
    if split == "train":
        cues = {label: (*phrases, *TRAIN_CUES[label]) for label, phrases in cues.items()}
    return replace(ENGLISH, lexicons=lexicons, templates=templates, cues=cues, variants=VARIANTS)


class VoiceTextGenerator(ClipGenerator):
    """Makes the texts of one split of the corpus of natural voices; see [`ClipGenerator`]."""

    benign_keyword_share = 0.25
    second_piece_shares = {"same labels": 0.1, "other labels": 0.15, "benign": 0.45, None: 0.3}

    def __init__(self, split: str, keyword_list: KeywordList, said: set[tuple[str, ...]]):
        super().__init__(split, keyword_list, voice_grammar(split), said)
        self._dealer = KeywordDealer(keyword_list, keywords_per_deck=None)

    def _benign(self, rng: np.random.Generator) -> Piece:
        return Piece(weighted_pick(BENIGN_KINDS, rng))

    def _violation(self, has_keyword: bool, rng: np.random.Generator, *allowed: Callable) -> Piece:
        piece = super()._violation(has_keyword, rng, *allowed)
        kinds = [kind for kind, variants in VARIANTS.items() if piece.keyword in variants]
        if kinds and rng.random() < VARIANT_SHARE:
            return replace(piece, kind=kinds[rng.integers(len(kinds))])
        return piece


def generate_voice_texts(num_clips: Mapping[str, int], seed: int) -> dict[str, list[ClipText]]:
    """Makes the texts of a corpus: no sentence twice, in one split or in two; some clips say nothing.

    Args:
        num_clips: number of clips for each split.
        seed: the same seed and sizes give the same corpus.
    """
    said: set[tuple[str, ...]] = set()
    corpus = {}
    for number, split in enumerate(SPLITS):
        generator = VoiceTextGenerator(split, KeywordList.default(), said)
        everyday = everyday_texts(split, round(EVERYDAY_SHARE * num_clips[split]), seed)
        corpus[split] = []
        for index in range(num_clips[split] - len(everyday)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, number, index]))
            is_silent = index % NO_SPEECH_EVERY == NO_SPEECH_EVERY - 1
            silent = ClipText(split, "", (NO_VIOLATION,), (), ())
            corpus[split].append(silent if is_silent else generator.generate_clip(rng))
        corpus[split] += everyday
    return corpus


def everyday_texts(split: str, count: int, seed: int) -> list[ClipText]:
    """Clips that say an everyday sentence of a split each: `count` of them, or all that there are."""
    sentences = deal(everyday_sentences(), split)
    order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(sentences))[:count]
    return [
        ClipText(split, sentences[number], (NO_VIOLATION,), (Piece("everyday"),), (f"everyday-{split}-{number:04d}",))
        for number in order
    ]
