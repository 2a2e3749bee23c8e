"""CTC prefix beam search over the words of the keyword list, with a word n-gram model, and posteriors as scores.

Design choices:
- A reading of a clip is a sequence of words, and its weight the sum over all CTC paths that spell it, times the
  language model's factor of each word. The trie holds the spellings of the list and the filler: nothing else can be
  read, except an *other word*.
- How many fillers there are between keywords is nobody's question: readings that have the same keywords, and whose
  next words the language model judges alike, are one, so that the beam holds what differs.
- An other word is whatever the head spells between two delimiters that the list does not hold (a removed keyword, a
  misspelling of nothing in particular). It is read as the filler. One state stands for it: it takes the likeliest
  letter or blank of each frame, and costs `other_word_penalty` once, which pruning overlooks until the word ends. So a
  word of the list is reported only if it fits the letters as well as the best spelling of all does, but for that many
  nats. (The sum over all spellings would gain on the list with every frame of an uncertain blank.)
- Delimiters split words; runs of them, and those at either end of the clip, count as one or none, as in greedy
  decoding.
- Python floats and dictionaries, in the probability domain, rescaled on the way: after training a handful of states
  survive per frame, for which array operations cost more than they save. The width bounds the worst case.
- Frames that are all but blank are taken as blank, and a run of them as one frame.
"""

import copy
import heapq
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .decoding import DecodedWord, DecodingSettings, Reading, check_alphabet, score_words
from .language_model import WordLanguageModel, kenlm


ROOT, OTHER = 0, 1  # nodes of the trie: between words, and inside a word outside the list
FILLER = 0  # index among the words
RESCALE_BELOW = 1e-100


class _Node(NamedTuple):
    """Of the trie.

    Args:
        letter: the last one of the spelling so far.
        children: the nodes that follow, by letter.
        word: the word that is spelled so far; None if it is none.
    """

    letter: int
    children: dict[int, int]
    word: int | None


class LexiconDecoder:
    """Reads the words of a lexicon, and the filler for all others.

    The score of a word is its posterior probability: the share of the surviving readings' mass that has this word at
    this place.

    Args:
        vocabulary: the character of each output of the keyword head.
        blank: id of the CTC blank.
        delimiter: id of the character between words.
        spellings: the word that each spelling stands for; several may stand for one.
        filler: the word for every word outside the list; must be a spelling.
        language_model: n-gram model of words, read by kenlm; None for none.
        alpha: weight of the language model's log probabilities.
        beta: log weight of each word; above 0, more words are read.
        beam_width: readings that are followed at most.
        blank_threshold: frames with a blank above it count as blank; 1 turns that off.
        other_word_penalty: in nats, of a word that is spelled otherwise than any in the list; infinite for none such.
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
        self._build_trie(self._spellings)
        self._alpha, self._language_model = alpha, None
        if language_model is not None and alpha:
            self._language_model = WordLanguageModel(language_model, self.words)
        self._weights: dict[tuple[int, int], tuple[float, int]] = {}  # (context, word) -> weight, next context

    def _build_trie(self, spellings):
        ids = {character: index for index, character in enumerate(self._vocabulary)}
        word_ids = {word: index for index, word in enumerate(self.words)}
        self.nodes = [_Node(self.blank, {}, None), _Node(self.blank, {}, FILLER)]  # an other word is a filler
        for spelling, word in spellings.items():
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
                    self.nodes.append(_Node(letter, {}, None))
                node = children[letter]
            self.nodes[node] = self.nodes[node]._replace(word=word_ids[word])

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
        return _Search(self).run(self._frames(np.exp(log_probs)))

    def log_total(self, log_probs: np.ndarray) -> float:
        """Log weight of all readings together, -inf if there is none: CTC's forward sum over the lexicon.

        Exact with a beam without limits, which stays small, for keywords need not be told apart. The share of a
        keyword's readings is one minus the share that is left without its spellings.
        """
        check_alphabet(log_probs, self.vocabulary_size)
        search = _Search(self, tells_keywords=False)
        return search.run(self._frames(np.exp(log_probs)))[0].log_probability

    def exhaustive(self, margin: float, without: str | None = None) -> "LexiconDecoder":
        """This decoder for [`log_total`]: every frame, a beam that the margin alone limits, in nats, and, where a word
        is named, none of its spellings."""
        decoder = copy.copy(self)
        decoder.beam_width, decoder.blank_threshold, decoder.floor = 10**9, 1.0, math.exp(-margin)
        decoder._build_trie({spelling: word for spelling, word in self._spellings.items() if word != without})
        return decoder

    def _frames(self, probabilities):
        """The frames to look at; of a run of blank ones, the first.

        Of each its index, whether it counts as blank, the probabilities of the letters worth a look by their id, and
        those of the blank, the delimiter, and the likeliest letter.
        """
        blank = probabilities[:, self.blank]
        skipped = blank > self.blank_threshold
        kept = np.flatnonzero(~(skipped & np.append(False, skipped[:-1])))
        others = probabilities[kept]
        others[:, [self.blank, self.delimiter]] = 0.0
        rows, columns = np.nonzero(others > self.floor)
        letters = list(zip(columns.tolist(), others[rows, columns].tolist(), strict=True))
        bounds = np.searchsorted(rows, np.arange(len(kept) + 1)).tolist()
        return zip(
            kept.tolist(),
            skipped[kept].tolist(),
            [dict(letters[start:end]) for start, end in itertools.pairwise(bounds)],
            blank[kept].tolist(),
            probabilities[kept, self.delimiter].tolist(),
            others.max(1, initial=0.0).tolist(),
            strict=True,
        )

    def weight(self, context: int, word: int) -> tuple[float, int]:
        """The factor of a word after a context of the language model, and the context that follows."""
        key = context, word
        if key not in self._weights:
            log_prob = 0.0
            if self._language_model is not None:
                log_prob, context = self._language_model.score(context, self.words[word])
            self._weights[key] = math.exp(self._alpha * log_prob + self.beta), context
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


class _Search:
    """One clip's beam, which maps (history, node) to a state.

    A history is what matters of the words before the node: the keywords, and the language model's context. A state is
    a list: the masses of paths that end in a blank and in the node's letter, then of the path that contributes most:
    that contribution, its earlier words as a linked list `(earlier, word, start, last)`, and the first and last frame
    of the letters of the word under way.
    """

    def __init__(self, decoder: LexiconDecoder, tells_keywords: bool = True):
        self.decoder, self.num_nodes = decoder, len(decoder.nodes)
        self.tells_keywords = tells_keywords
        self.histories = [(0, decoder.start_context)]  # keywords, context
        self.history_ids = {self.histories[0]: 0}
        self.keyword_ids: dict[tuple[int, int], int] = {}  # (keywords, one more) -> longer keywords
        self.ends: dict[int, tuple[int, float]] = {}  # where a state leads at the end of its word, and the weight
        self.log_scale = 0.0
        self.heaviest = 1.0  # mass of a state

    def run(self, frames: Iterable[tuple]) -> list[Reading]:
        """Searches the frames of `LexiconDecoder._frames`."""
        beam = {ROOT: [1.0, 0.0, 1.0, None, 0, 0]}
        for index, is_blank, letters, blank, delimiter, best_letter in frames:
            if is_blank:
                for state in beam.values():
                    state[0], state[1] = state[0] + state[1], 0.0
            else:
                beam = self._step(beam, index, letters, blank, delimiter, best_letter)
        return self._readings(self._prune(beam, len(beam)))

    def _step(self, beam, index, letters, blank, delimiter, best_letter):
        """The beam one frame later. One long loop: it is where the time goes, and calls would double it."""
        decoder, num_nodes, nodes, ends = self.decoder, self.num_nodes, self.decoder.nodes, self.ends
        floor, other_weight, between_words = decoder.floor, decoder.other_weight, blank + delimiter
        word_end = delimiter * decoder.largest_weight
        dropped = self.heaviest * floor
        dropped_other = dropped * other_weight
        new: dict[int, list] = {}
        heaviest = self.heaviest * blank  # at least so heavy: any state may stay where it is
        smallest = heaviest * floor

        for key, (in_blank, in_letter, _, earlier, start, last) in beam.items():
            total, node = in_blank + in_letter, key % num_nodes
            if total < dropped and (node != OTHER or total < dropped_other):
                continue
            own_letter, children, word = nodes[node]
            end = last
            # 1. stay in the node
            if node > OTHER:
                free = in_blank  # only these paths can go on to the same letter again
                in_blank, in_letter = total * blank, in_letter * letters.get(own_letter, 0.0)
                if in_letter > in_blank:
                    last = index
                mass = in_blank + in_letter
                is_kept = mass > smallest
            elif node == ROOT:
                free = total
                in_blank, in_letter = total * between_words, 0.0
                mass = in_blank
                is_kept = mass > smallest
            else:
                in_blank, in_letter = (total * blank, 0.0) if blank > best_letter else (0.0, total * best_letter)
                if in_letter:
                    last = index
                mass = in_blank + in_letter
                is_kept = mass > smallest * other_weight
            if is_kept:
                if mass > heaviest:
                    heaviest, smallest = mass, mass * floor
                if key in new:
                    _merge(new[key], in_blank, in_letter, earlier, start, last)
                else:
                    new[key] = [in_blank, in_letter, mass, earlier, start, last]
            # 2. go on to a letter
            if children and total * best_letter > smallest:
                first = index if node == ROOT else start
                for letter, p in letters.items():
                    if letter in children:
                        mass = p * (free if letter == own_letter else total)
                        if mass > smallest:
                            if mass > heaviest:
                                heaviest, smallest = mass, mass * floor
                            child = key - node + children[letter]
                            if child in new:
                                _merge(new[child], 0.0, mass, earlier, first, index)
                            else:
                                new[child] = [0.0, mass, mass, earlier, first, index]
            if node == ROOT:
                mass = total * best_letter * other_weight
                if mass > smallest * other_weight:
                    if key + OTHER in new:
                        _merge(new[key + OTHER], 0.0, mass, earlier, index, index)
                    else:
                        new[key + OTHER] = [0.0, mass, mass, earlier, index, index]
            # 3. end the word
            if word is not None and total * word_end > smallest:
                child, weight = ends[key] if key in ends else self._end(key, word)
                mass = total * delimiter * weight
                if mass > smallest:
                    if mass > heaviest:
                        heaviest, smallest = mass, mass * floor
                    earlier = earlier, word, start, end
                    if child in new:
                        _merge(new[child], mass, 0.0, earlier, index, index)
                    else:
                        new[child] = [mass, 0.0, mass, earlier, index, index]
        self.heaviest = heaviest
        if len(new) > decoder.beam_width:
            new = self._prune(new, decoder.beam_width)
        if 0.0 < heaviest < RESCALE_BELOW:
            self._rescale(new)
        return new

    def _prune(self, beam, width):
        """The states that are worth following, and no more of them than the width."""
        smallest = self.heaviest * self.decoder.floor
        smallest_other = smallest * self.decoder.other_weight
        kept = {
            key: state
            for key, state in beam.items()
            if state[0] + state[1] >= (smallest_other if key % self.num_nodes == OTHER else smallest)
        }
        return dict(heapq.nlargest(width, kept.items(), key=_mass)) if len(kept) > width else kept

    def _rescale(self, beam):
        self.log_scale += math.log(self.heaviest)
        for state in beam.values():
            state[:2] = state[0] / self.heaviest, state[1] / self.heaviest
        self.heaviest = 1.0

    def _end(self, key, word):
        """Where a state leads at the end of its word, and the weight of that word."""
        keywords, context = self.histories[key // self.num_nodes]
        weight, context = self.decoder.weight(context, word)
        if word != FILLER and self.tells_keywords:
            keywords = self.keyword_ids.setdefault((keywords, word), len(self.keyword_ids) + 1)
        history = self.history_ids.setdefault((keywords, context), len(self.histories))
        if history == len(self.histories):
            self.histories.append((keywords, context))
        self.ends[key] = history * self.num_nodes, weight
        return self.ends[key]

    def _readings(self, beam):
        finished: dict[int, list] = {}  # keywords -> mass, largest contribution, words of that
        for key, (in_blank, in_letter, _, earlier, start, last) in beam.items():
            mass, word = in_blank + in_letter, self.decoder.nodes[key % self.num_nodes].word
            if word is not None:
                key, weight = self._end(key, word)
                mass, earlier = mass * weight, (earlier, word, start, last)
            elif key % self.num_nodes != ROOT:
                continue  # ends inside a word
            keywords, context = self.histories[key // self.num_nodes]
            mass *= self.decoder.end_weight(context)
            entry = finished.setdefault(keywords, [0.0, 0.0, None])
            entry[0] += mass
            if mass >= entry[1]:
                entry[1:] = mass, earlier
        readings = [
            Reading(*self._words(earlier), math.log(mass) + self.log_scale)
            for mass, _, earlier in finished.values()
            if mass > 0.0
        ]
        return sorted(readings, key=lambda reading: -reading.log_probability) or [Reading((), (), -math.inf)]

    def _words(self, earlier):
        """Words and spans of a linked list."""
        words, spans = [], []
        while earlier is not None:
            earlier, word, start, last = earlier
            words.append(self.decoder.words[word])
            spans.append((start, last + 1))
        return tuple(reversed(words)), tuple(reversed(spans))


def _merge(state, in_blank, in_letter, earlier, start, last):
    """More paths that lead to a state."""
    mass = in_blank + in_letter
    state[0] += in_blank
    state[1] += in_letter
    if mass > state[2]:
        state[2:] = mass, earlier, start, last


def _mass(item):
    return item[1][0] + item[1][1]
