"""CTC prefix beam search over the words of the keyword list, with a word n-gram model, and posteriors as scores.

Design choices:
- A reading of a clip is a sequence of words, and its probability the sum over all CTC paths that spell it, times the
  language model's weight of each word. The trie holds the spellings of the list and the filler: nothing else can be
  read, except an *other word*.
- An other word is whatever the head spells between two delimiters that the list does not hold (a removed keyword, a
  misspelling of nothing in particular). It is read as the filler. One state stands for it: it takes the likeliest
  letter or blank of each frame, and costs `other_word_penalty` once, which pruning overlooks until the word ends. So a
  word of the list is reported only if it fits the letters as well as the best spelling of all does, but for that many
  nats. (The sum over all spellings would gain on the list with every frame of an uncertain blank.)
- Delimiters split words; runs of them, and those at either end of the clip, count as one or none, as in greedy
  decoding.
- Python floats and dictionaries, in the probability domain, rescaled on the way: after training a handful of readings
  survive per frame, for which array operations cost more than they save. The width bounds the worst case.
- Frames that are all but blank are taken as blank, and a run of them as one frame.
"""

import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .decoding_toxmtl import DecodedWord, DecodingSettings, Reading, check_alphabet, score_words
from .language_model_toxmtl import WordLanguageModel, kenlm


ROOT, OTHER = 0, 1  # nodes of the trie: between words, and inside a word outside the list
RESCALE_BELOW = 1e-100


class _Frame(NamedTuple):
    """A frame as the search sees it.

    Args:
        index: in the clip.
        letters: `(id, probability)` of the letters worth a look.
        blank, delimiter, best_letter: probabilities, the last of the likeliest letter.
    """

    index: int
    letters: list[tuple[int, float]]
    blank: float
    delimiter: float
    best_letter: float


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
        self.words = list(dict.fromkeys([filler, *spellings.values()]))
        if len(self.words) < 2:
            raise ValueError("The keyword list is empty: there is nothing to look for beside the filler.")
        self._build_trie(spellings, vocabulary)
        self._alpha, self._language_model = alpha, None
        if language_model is not None and alpha:
            self._language_model = WordLanguageModel(language_model, self.words)
        self._weights: dict[tuple[int, int], tuple[float, int]] = {}  # (context, word) -> weight, next context

    def _build_trie(self, spellings, vocabulary):
        ids = {character: index for index, character in enumerate(vocabulary)}
        word_ids = {word: index for index, word in enumerate(self.words)}
        self.children: list[dict[int, int]] = [{}, {}]
        self.symbol = [self.blank, self.blank]
        self.word_at: list[int | None] = [None, 0]  # an other word is a filler
        for spelling, word in spellings.items():
            node = ROOT
            for character in spelling:
                if character not in ids:
                    raise ValueError(
                        f"{spelling!r} of the keyword list holds {character!r}, which the vocabulary lacks: change "
                        "the list, or train a keyword head on a vocabulary that has it."
                    )
                if ids[character] not in self.children[node]:
                    self.children[node][ids[character]] = len(self.children)
                    self.children.append({})
                    self.symbol.append(ids[character])
                    self.word_at.append(None)
                node = self.children[node][ids[character]]
            self.word_at[node] = word_ids[word]

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]:
        """The words of the likeliest reading; see [`Decoder`]."""
        return score_words(self.read(log_probs))

    def read(self, log_probs: np.ndarray) -> list[Reading]:
        """The readings of a clip that survive the search, likeliest first: at least one.

        Args:
            log_probs: `(frames, characters)` log posteriors.

        Raises:
            ValueError: as many characters as the vocabulary were expected.
        """
        check_alphabet(log_probs, self.vocabulary_size)
        return _Search(self).run(self._frames(np.exp(log_probs.astype(np.float64))))

    def _frames(self, probabilities):
        """The frames to look at; of a run of blank ones, the first."""
        blank = probabilities[:, self.blank]
        skipped = blank > self.blank_threshold
        kept = np.flatnonzero(~(skipped & np.append(False, skipped[:-1])))
        others = probabilities[kept]
        others[:, [self.blank, self.delimiter]] = 0.0
        rows, columns = np.nonzero(others > self.floor)
        bounds = np.searchsorted(rows, np.arange(len(kept) + 1)).tolist()
        letters = list(zip(columns.tolist(), others[rows, columns].tolist(), strict=True))
        best_letter = others.max(1, initial=0.0).tolist()
        for i, index in enumerate(kept.tolist()):
            if skipped[index]:
                yield _Frame(index, [], 1.0, 0.0, 0.0)
            else:
                delimiter = float(probabilities[index, self.delimiter])
                yield _Frame(index, letters[bounds[i] : bounds[i + 1]], float(blank[index]), delimiter, best_letter[i])

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
    """One clip's beam: `histories` are word sequences as a tree, `beam` maps (history, node) to a state.

    A state is a list: the masses of paths that end in a blank and in the node's letter, then of the path that
    contributes most: that contribution, its earlier words as a linked list `(earlier, start, last)`, and the first and
    last frame of the letters of the word under way.
    """

    def __init__(self, decoder: LexiconDecoder):
        self.decoder, self.num_nodes = decoder, len(decoder.children)
        self.parents, self.words, self.contexts = [0], [-1], [decoder.start_context]
        self.children: dict[tuple[int, int], tuple[int, float]] = {}  # (history, word) -> longer history, weight
        self.log_scale = 0.0

    def run(self, frames) -> list[Reading]:
        beam = {ROOT: [1.0, 0.0, 1.0, None, 0, 0]}
        for frame in frames:
            beam = self._prune(self._step(beam, frame))
        return self._readings(beam)

    def _step(self, beam, frame):
        """The beam one frame later. One long loop: it is where the time goes, and calls would double it."""
        decoder, num_nodes = self.decoder, self.num_nodes
        node_children, node_symbol, node_word = decoder.children, decoder.symbol, decoder.word_at
        index, letters, blank, delimiter, best_letter = frame
        floor, other, between_words = decoder.floor, best_letter * decoder.other_weight, blank + delimiter
        probability = dict(letters)
        new: dict[int, list] = {}
        smallest = 0.0  # what is lighter cannot stay in the beam

        for key, (in_blank, in_letter, _, earlier, start, last) in beam.items():
            total, node, end = in_blank + in_letter, key % num_nodes, last
            # 1. stay in the node
            if node == ROOT:
                in_blank, in_letter = total * between_words, 0.0
            elif node == OTHER:
                in_blank, in_letter = (total * blank, 0.0) if blank > best_letter else (0.0, total * best_letter)
                last = index if best_letter > blank else last
            else:
                free = in_blank  # only these paths can go on to the same letter again
                in_blank, in_letter = total * blank, in_letter * probability.get(node_symbol[node], 0.0)
                last = index if in_letter > in_blank else last
            mass = in_blank + in_letter
            if mass > (smallest if node != OTHER else smallest * decoder.other_weight):
                smallest = max(smallest, mass * floor)
                if key in new:
                    _merge(new[key], in_blank, in_letter, earlier, start, last)
                else:
                    new[key] = [in_blank, in_letter, mass, earlier, start, last]
            # 2. go on to a letter
            children = node_children[node]
            if children:
                first = index if node == ROOT else start
                for letter, p in letters:
                    if letter in children:
                        mass = p * (free if letter == node_symbol[node] else total)
                        if mass > smallest:
                            smallest = max(smallest, mass * floor)
                            child = key - node + children[letter]
                            if child in new:
                                _merge(new[child], 0.0, mass, earlier, first, index)
                            else:
                                new[child] = [0.0, mass, mass, earlier, first, index]
            if node == ROOT:
                mass = total * other
                if mass > smallest * decoder.other_weight:
                    if key + OTHER in new:
                        _merge(new[key + OTHER], 0.0, mass, earlier, index, index)
                    else:
                        new[key + OTHER] = [0.0, mass, mass, earlier, index, index]
            # 3. end the word
            word = node_word[node]
            if word is not None:
                history, weight = self._extend(key // num_nodes, word)
                mass = total * delimiter * weight
                if mass > smallest:
                    smallest = max(smallest, mass * floor)
                    child, earlier = history * num_nodes, (earlier, start, end)
                    if child in new:
                        _merge(new[child], mass, 0.0, earlier, index, index)
                    else:
                        new[child] = [mass, 0.0, mass, earlier, index, index]
        return new

    def _prune(self, beam):
        best = max((state[0] + state[1] for state in beam.values()), default=0.0)
        if len(beam) > self.decoder.beam_width:
            kept = heapq.nlargest(self.decoder.beam_width, beam.items(), key=_mass)
        else:
            kept = beam.items()
        smallest = best * self.decoder.floor
        smallest_other = smallest * self.decoder.other_weight
        beam = {
            key: state
            for key, state in kept
            if state[0] + state[1] >= (smallest_other if key % self.num_nodes == OTHER else smallest)
        }
        if 0.0 < best < RESCALE_BELOW:
            self.log_scale += math.log(best)
            for state in beam.values():
                state[:3] = [mass / best for mass in state[:3]]
        return beam

    def _extend(self, history, word):
        """The history one word longer, and that word's weight."""
        key = history, word
        if key not in self.children:
            weight, context = self.decoder.weight(self.contexts[history], word)
            self.children[key] = len(self.parents), weight
            self.parents.append(history)
            self.words.append(word)
            self.contexts.append(context)
        return self.children[key]

    def _readings(self, beam):
        finished: dict[int, list] = {}  # history -> mass, largest contribution, spans
        for key, (in_blank, in_letter, _, earlier, start, last) in beam.items():
            history, node = divmod(key, self.num_nodes)
            mass, word = in_blank + in_letter, self.decoder.word_at[node]
            if word is not None:
                history, weight = self._extend(history, word)
                mass, earlier = mass * weight, (earlier, start, last)
            elif node != ROOT:
                continue  # ends inside a word
            mass *= self.decoder.end_weight(self.contexts[history])
            entry = finished.setdefault(history, [0.0, 0.0, None])
            entry[0] += mass
            if mass >= entry[1]:
                entry[1:] = [mass, earlier]
        readings = [
            Reading(self._words(history), _spans(earlier), math.log(mass) + self.log_scale)
            for history, (mass, _, earlier) in finished.items()
            if mass > 0.0
        ]
        return sorted(readings, key=lambda reading: -reading.log_probability) or [Reading((), (), -math.inf)]

    def _words(self, history):
        words = []
        while history:
            words.append(self.decoder.words[self.words[history]])
            history = self.parents[history]
        return tuple(reversed(words))


def _merge(state, in_blank, in_letter, earlier, start, last):
    """More paths that lead to a state."""
    mass = in_blank + in_letter
    state[0] += in_blank
    state[1] += in_letter
    if mass > state[2]:
        state[2:] = [mass, earlier, start, last]


def _mass(item):
    return item[1][0] + item[1][1]


def _spans(earlier):
    spans = []
    while earlier is not None:
        earlier, start, last = earlier
        spans.append((start, last + 1))
    return tuple(reversed(spans))
