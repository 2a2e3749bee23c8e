"""From frame-wise character posteriors to words with times and scores.

A decoder is anything with `decode(log_probs) -> list[DecodedWord]`. Here is the greedy one; the others are in
`lexicon.py` (the default) and `pyctcdecode_decoder.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple, Protocol

import numpy as np


DECODERS = ("lexicon", "pyctcdecode", "greedy")


@dataclass(frozen=True)
class DecodingSettings:
    """How keywords are decoded; `toxmtl tune` finds the best on a validation set.

    Args:
        decoder: "lexicon", "pyctcdecode" or "greedy", to which nothing else applies.
        alpha: weight of the language model's log probabilities; 0 decodes without.
        beta: log weight of each word; above 0, more words are read.
        beam_width: readings that are followed at most.
        blank_threshold: frames with a blank above it count as blank; 1 turns that off. Lexicon only.
        other_word_penalty: in nats, of a word spelled otherwise than any that the decoder knows. Lexicon only.
        common_word_penalty: in nats, of a common word, times the logarithm of its rank. Lexicon only, and only where
            the head writes all words.
        hotword_weight: bonus in nats of each keyword. pyctcdecode only.

    Raises:
        ValueError: a value of another type, or outside its range.
    """

    decoder: str = "lexicon"
    alpha: float = 0.25
    beta: float = 0.0
    beam_width: int = 32
    blank_threshold: float = 0.98
    other_word_penalty: float = 12.0
    common_word_penalty: float = 0.35
    hotword_weight: float = 0.0

    def __post_init__(self):
        if self.decoder not in DECODERS:
            raise ValueError(f"`decoder` is {self.decoder!r}: choose one of {', '.join(DECODERS)}")
        for name, value in vars(self).items():
            if name != "decoder" and (isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value)):
                raise ValueError(f"`{name}` is {value!r}: give a number")
        if not self.alpha >= 0:
            raise ValueError(f"`alpha` is {self.alpha}: give a weight of 0 or more")
        if not (isinstance(self.beam_width, Integral) and self.beam_width >= 1):
            raise ValueError(f"`beam_width` is {self.beam_width}: give a whole number, 1 or more")
        if not 0 < self.blank_threshold <= 1:
            raise ValueError(f"`blank_threshold` is {self.blank_threshold}: give a probability, 1 to turn it off")
        for name in ("other_word_penalty", "common_word_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}: give 0 nats or more")


class DecodedWord(NamedTuple):
    """A word read from the keyword head.

    Args:
        text: the word.
        start_frame: first frame of its first character.
        end_frame: one past the last frame of its last character.
        score: how sure the head is of it, in [0, 1].
    """

    text: str
    start_frame: int
    end_frame: int
    score: float


class Reading(NamedTuple):
    """A word sequence that a clip can be read as.

    Args:
        words: the words.
        spans: first frame, and one past the last, of the letters of each word.
        log_probability: up to a constant that all readings of the clip share.
    """

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    log_probability: float


class DetectedKeyword(NamedTuple):
    """A keyword heard in a clip.

    Args:
        keyword: as the keyword list spells it.
        labels: the labels that the list gives it.
        start: in seconds from the start of the clip.
        end: in seconds.
        score: in [0, 1]; of the lexicon decoder, the posterior probability that it was said there.
    """

    keyword: str
    labels: tuple[str, ...]
    start: float
    end: float
    score: float

    def shifted(self, seconds: float) -> "DetectedKeyword":
        """The keyword of a window that starts `seconds` into its clip, in the clip's own time."""
        return self._replace(start=self.start + seconds, end=self.end + seconds)


class DecodedClip(NamedTuple):
    """What the keyword head read of a clip.

    Args:
        keywords: in order of time.
        words: the whole word sequence; a keyword, phrases too, is one item in its canonical spelling, and the filler
            where its score is below its threshold.
    """

    keywords: list[DetectedKeyword]
    words: list[str]


def score_words(readings: Sequence[Reading]) -> list[DecodedWord]:
    """The words of the first reading; a word's score is the share of all readings' mass that has it where it is.

    Places are the same if their frames overlap. The scores of different words in one place therefore sum to at most 1.
    """
    best = readings[0]
    masses = [math.exp(reading.log_probability - best.log_probability) for reading in readings]
    words = []
    for word, (start, end) in zip(best.words, best.spans, strict=True):
        agreeing = [mass for mass, other in zip(masses, readings, strict=True) if _has_word(other, word, start, end)]
        words.append(DecodedWord(word, start, end, min(math.fsum(agreeing) / math.fsum(masses), 1.0)))
    return words


def _has_word(reading, word, start, end):
    return any(w == word and s < end and start < e for w, (s, e) in zip(reading.words, reading.spans, strict=True))


class Decoder(Protocol):
    """Reads words from the `(frames, characters)` log posteriors of one clip's valid frames."""

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]: ...


def check_alphabet(log_probs: np.ndarray, size: int) -> None:
    """Raises ValueError if posteriors are not `(frames, size)`."""
    if log_probs.ndim != 2 or log_probs.shape[1] != size:
        raise ValueError(
            f"The keyword logits have {log_probs.shape[-1]} characters, but the tokenizer has {size}: processor and "
            "model do not belong together."
        )


class GreedyDecoder:
    """The best character of each frame; repeats collapse, blanks vanish, delimiters split words.

    The score of a word is the geometric mean of its characters' posteriors, each at its most certain frame. It ranks
    words but is no probability that the word was said.

    Args:
        vocabulary: the character of each output of the keyword head.
        blank: id of the CTC blank.
        delimiter: id of the character between words.
    """

    def __init__(self, vocabulary: list[str], blank: int, delimiter: int):
        self.vocabulary, self.blank, self.delimiter = vocabulary, blank, delimiter

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]:
        check_alphabet(log_probs, len(self.vocabulary))
        words, runs = [], []
        for run in self._runs(log_probs):
            if run[0] != self.delimiter:
                runs.append(run)
            elif runs:
                words.append(self._word(runs))
                runs = []
        return words + [self._word(runs)] if runs else words

    def _runs(self, log_probs):
        """`(character id, first frame, end frame, best log posterior)` of each run of equal non-blank best
        characters."""
        best = log_probs.argmax(-1)
        bounds = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
        for start, end in zip(bounds[:-1], bounds[1:], strict=True):
            if (character := int(best[start])) != self.blank:
                yield character, int(start), int(end), float(log_probs[start:end, character].max())

    def _word(self, runs):
        text = "".join(self.vocabulary[character] for character, *_ in runs)
        score = float(np.exp(np.mean([log_prob for *_, log_prob in runs])))
        return DecodedWord(text, runs[0][1], runs[-1][2], min(score, 1.0))
