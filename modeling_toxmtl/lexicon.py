"""CTC prefix beam search over the words of the keyword list, with a word n-gram model, and posteriors as scores.

Design choices:
- A reading of a clip is a sequence of words, and its weight the sum over all CTC paths that spell it, times a factor
  of each word. The trie holds what can be read: the spellings of the list, and the words that are read as the filler.
  Anything else is an *other word*.
- How many fillers there are between keywords is nobody's question: readings that have the same keywords, and whose
  next words the language model judges alike, are one, so that the beam holds what differs.
- *Common words* are read as the filler, and compete with what sounds like them ("shut" with "shot"). By Zipf's law, a
  word's frequency is as one over its rank, and its factor a power of that. They are for a head that writes all words.
- An other word is whatever the head spells between two delimiters that the trie does not hold. It is read as the
  filler. One state stands for it: it takes the likeliest letter or blank of each frame, up to a delimiter that is
  likelier than both together, and costs `other_word_penalty` once, which pruning overlooks until the word ends. So a
  word of the list is reported only if it fits the letters as well as the best spelling of all does, but for that many
  nats. (The sum over all spellings would gain on the list with every frame of an uncertain blank.)
- Delimiters split words; runs of them, and those at either end of the clip, count as one or none, as in greedy
  decoding. A spelling may hold spaces, and is then one word.
- The width bounds the worst case. Frames that are all but blank are taken as blank, and a run of them as one frame.
"""

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .beam_search import FILLER, ROOT, BeamSearch
from .decoding import DecodedWord, DecodingSettings, Reading, check_alphabet, score_words
from .language_model import WordLanguageModel, kenlm


class _Node(NamedTuple):
    """Of the trie.

    Args:
        letter: the last one of the spelling so far; the delimiter between the words of a phrase.
        children: the nodes that follow, by letter.
        word: the word that is spelled so far; None if it is none.
        weight: factor of that word.
    """

    letter: int
    children: dict[int, int]
    word: int | None = None
    weight: float = 1.0


class LexiconDecoder:
    """Reads the words of a lexicon, and the filler for all others.

    The score of a word is its posterior probability: the share of the surviving readings' mass that has this word at
    this place.

    Args:
        vocabulary: the character of each output of the keyword head.
        blank: id of the CTC blank.
        delimiter: id of the character between words.
        spellings: the word that each spelling stands for; several may stand for one.
        filler: the word for every word outside the list.
        language_model: n-gram model of words, read by kenlm; None for none.
        alpha: weight of the language model's log probabilities.
        beta: log weight of each word; above 0, more words are read.
        beam_width: readings that are followed at most.
        blank_threshold: frames with a blank above it count as blank; 1 turns that off.
        other_word_penalty: in nats, of a word that is spelled otherwise than any in the trie; infinite for none such.
        common_words: read as the filler, the commonest first; those that are spellings, or hold a character outside
            the vocabulary, are left out.
        common_word_penalty: in nats, of a common word, times the logarithm of its rank.
        beam_margin: in nats; readings so much worse than the best are dropped; infinite keeps them.

    Raises:
        ValueError: a spelling holds a character outside the vocabulary, or there is no word beside the filler.
    """

    def __init__(
        self,
        vocabulary: list[str],
        blank: int,
        delimiter: int,
        spellings: Mapping[str, str],
        filler: str,
        language_model: "kenlm.Model | None" = None,
        alpha: float = DecodingSettings.alpha,
        beta: float = DecodingSettings.beta,
        beam_width: int = DecodingSettings.beam_width,
        blank_threshold: float = DecodingSettings.blank_threshold,
        other_word_penalty: float = DecodingSettings.other_word_penalty,
        common_words: Sequence[str] = (),
        common_word_penalty: float = DecodingSettings.common_word_penalty,
        beam_margin: float = 8.0,
    ):
        self.vocabulary_size, self.blank, self.delimiter = len(vocabulary), blank, delimiter
        self.beta, self.beam_width, self.blank_threshold = beta, beam_width, blank_threshold
        self.floor = math.exp(-beam_margin)
        self.other_weight = math.exp(-other_word_penalty)
        self.largest_weight = math.exp(beta)  # of a word; the language model only lessens it
        self.words = list(dict.fromkeys([filler, *spellings.values()]))
        if len(self.words) < 2:
            raise ValueError("The keyword list is empty: there is nothing to look for beside the filler.")
        self._spellings, self._vocabulary = dict(spellings), vocabulary
        self._fillers = {
            word: rank**-common_word_penalty
            for rank, word in enumerate(common_words, start=1)
            if word not in self._spellings and set(word) <= set(vocabulary)
        }
        self._build_trie(self._spellings)
        self._alpha, self._language_model = alpha, None
        if language_model is not None and alpha:
            parts = dict.fromkeys(part for word in self.words for part in word.split())
            self._language_model = WordLanguageModel(language_model, list(parts))
        self._weights: dict[tuple[int, int], tuple[float, int]] = {}  # (context, word) -> weight, next context

    def _build_trie(self, spellings):
        self.nodes = [_Node(self.blank, {}), _Node(self.blank, {}, FILLER)]  # ROOT and OTHER
        ids = {character: index for index, character in enumerate(self._vocabulary)} | {" ": self.delimiter}
        word_ids = {word: index for index, word in enumerate(self.words)}
        for word, weight in self._fillers.items():
            self._add_to_trie(word, ids, FILLER, weight)
        for spelling, word in spellings.items():
            self._add_to_trie(spelling, ids, word_ids[word], 1.0)

    def _add_to_trie(self, spelling, ids, word, weight):
        node = ROOT
        for character in spelling:
            if character not in ids:
                raise ValueError(
                    f"{spelling!r} of the keyword list holds {character!r}, which the vocabulary lacks: change "
                    "the list, or train a keyword head on a vocabulary that has it."
                )
            letter, children = ids[character], self.nodes[node].children
            if letter not in children:
                children[letter] = len(self.nodes)
                self.nodes.append(_Node(letter, {}))
            node = children[letter]
        self.nodes[node] = self.nodes[node]._replace(word=word, weight=weight)

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]:
        """The words of the likeliest reading; see [`Decoder`]."""
        return score_words(self.read(log_probs))

    def read(self, log_probs: np.ndarray) -> list[Reading]:
        """The readings of a clip that survive the search, likeliest first: at least one.

        Readings differ in their keywords. The fillers of each, and the places of its words, are those of the path
        that contributes most.

        Args:
            log_probs: `(frames, characters)` log posteriors.

        Raises:
            ValueError: as many characters as the vocabulary were expected.
        """
        check_alphabet(log_probs, self.vocabulary_size)
        return BeamSearch(self).run(self.frames(np.exp(log_probs)))

    def log_total(self, log_probs: np.ndarray) -> float:
        """Log weight of all readings together, -inf if there is none: CTC's forward sum over the lexicon.

        Exact with a beam without limits, which stays small, for keywords need not be told apart. The share of a
        keyword's readings is one minus the share that is left without its spellings.
        """
        check_alphabet(log_probs, self.vocabulary_size)
        search = BeamSearch(self, tells_keywords=False)
        return search.run(self.frames(np.exp(log_probs)))[0].log_probability

    def exhaustive(self, margin: float, without: str | None = None) -> "LexiconDecoder":
        """This decoder for [`log_total`]: every frame, a beam that the margin alone limits, in nats, and, where a word
        is named, none of its spellings."""
        decoder = copy.copy(self)
        decoder.beam_width, decoder.blank_threshold, decoder.floor = 10**9, 1.0, math.exp(-margin)
        decoder._build_trie({spelling: word for spelling, word in self._spellings.items() if word != without})
        return decoder

    def frames(self, probabilities: np.ndarray) -> Iterable[tuple]:
        """The frames to look at; of a run of blank ones, the first.

        Of each its index, whether it counts as blank, the probabilities of the labels worth a look by their id, and
        those of the blank, the delimiter, and the likeliest letter.
        """
        blank = probabilities[:, self.blank]
        is_blank = blank > self.blank_threshold
        indices = np.flatnonzero(~(is_blank & np.append(False, is_blank[:-1])))
        labels = probabilities[indices]
        labels[:, self.blank] = 0.0
        rows, columns = np.nonzero(labels > self.floor)
        items = list(zip(columns.tolist(), labels[rows, columns].tolist(), strict=True))
        bounds = np.searchsorted(rows, np.arange(len(indices) + 1)).tolist()
        delimiter = labels[:, self.delimiter].tolist()
        labels[:, self.delimiter] = 0.0
        return zip(
            indices.tolist(),
            is_blank[indices].tolist(),
            [dict(items[start:end]) for start, end in itertools.pairwise(bounds)],
            blank[indices].tolist(),
            delimiter,
            labels.max(1, initial=0.0).tolist(),
            strict=True,
        )

    def weight(self, context: int, word: int) -> tuple[float, int]:
        """The factor of a word after a context of the language model, and the context that follows."""
        key = context, word
        if key not in self._weights:
            total = 0.0
            for part in self.words[word].split() if self._language_model is not None else ():
                log_prob, context = self._language_model.score(context, part)
                total += log_prob
            self._weights[key] = math.exp(self._alpha * total + self.beta), context
        return self._weights[key]

    def end_weight(self, context: int) -> float:
        """The factor of a transcript that ends after a context."""
        if self._language_model is None:
            return 1.0
        return math.exp(self._alpha * self._language_model.end_score(context))

    @property
    def start_context(self) -> int:
        """The language model's context at the start of a clip."""
        return 0 if self._language_model is None else self._language_model.start
