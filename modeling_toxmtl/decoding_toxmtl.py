"""From frame-wise character posteriors to words with times and scores.

A decoder is anything with `decode(log_probs) -> list[DecodedWord]`; `GreedyDecoder` is the one without a language
model.
"""

from typing import NamedTuple, Protocol

import numpy as np


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


class Decoder(Protocol):
    """Reads words from the `(frames, characters)` log posteriors of one clip's valid frames."""

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]: ...


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
