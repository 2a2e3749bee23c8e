"""The beam search of [`LexiconDecoder`]: one clip's readings, frame by frame.

Python floats and dictionaries, in the probability domain, rescaled on the way: after training a handful of states
survive per frame, for which array operations cost more than they save.
"""

import heapq
import math
from collections.abc import Iterable

from .decoding import Reading


ROOT, OTHER = 0, 1  # nodes of the trie: between words, and inside a word outside it
FILLER = 0  # index among the words
RESCALE_BELOW = 1e-100


class BeamSearch:
    """One clip's beam, which maps (history, node) to a state.

    A history is what matters of the words before the node: the keywords, and the language model's context. A state is
    a list: the masses of paths that end in a blank and in the node's letter, then of the path that contributes most:
    that contribution, its earlier words as a linked list `(earlier, word, start, last)`, and the first and last frame
    of the letters of the word under way.
    """

    def __init__(self, decoder: "LexiconDecoder", tells_keywords: bool = True):  # noqa: F821 (would be a circle)
        self.decoder, self.num_nodes = decoder, len(decoder.nodes)
        self.tells_keywords = tells_keywords
        self.histories = [(0, decoder.start_context)]  # keywords, context
        self.history_ids = {self.histories[0]: 0}
        self.keyword_ids: dict[tuple[int, int], int] = {}  # (keywords, one more) -> longer keywords
        self.ends: dict[int, tuple[int, float]] = {}  # where a state leads at the end of its word, and the weight
        self.log_scale = 0.0
        self.heaviest = 1.0  # mass of a state

    def run(self, frames: Iterable[tuple]) -> list[Reading]:
        """Searches the frames of `LexiconDecoder.frames`."""
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
        best_label, gap = max(best_letter, delimiter), decoder.delimiter
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
            own_letter, children, word, _ = nodes[node]
            end, needed = last, smallest
            # 1. stay in the node
            if node == ROOT or own_letter == gap:
                free = total
                in_blank, in_letter = total * between_words, 0.0
            elif node == OTHER:
                in_blank, in_letter = (total * blank, 0.0) if blank > best_letter else (0.0, total * best_letter)
                needed = smallest * other_weight if delimiter <= blank + best_letter else math.inf  # it ends here
                if in_letter:
                    last = index
            else:
                free = in_blank  # only these paths can go on to the same letter again
                in_blank, in_letter = total * blank, in_letter * letters.get(own_letter, 0.0)
                if in_letter > in_blank:
                    last = index
            mass = in_blank + in_letter
            if mass > needed:
                if mass > heaviest:
                    heaviest, smallest = mass, mass * floor
                if key in new:
                    _merge(new[key], in_blank, in_letter, earlier, start, last)
                else:
                    new[key] = [in_blank, in_letter, mass, earlier, start, last]
            # 2. go on to a letter
            if children and total * best_label > smallest:
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
        survivors = [item for item in beam.items() if self._mass(item) >= smallest]
        return dict(heapq.nlargest(width, survivors, key=self._mass) if len(survivors) > width else survivors)

    def _mass(self, item):
        """Of a state; that of an other word without its penalty."""
        key, (in_blank, in_letter, *_) = item
        mass = in_blank + in_letter
        return mass / self.decoder.other_weight if key % self.num_nodes == OTHER else mass

    def _rescale(self, beam):
        self.log_scale += math.log(self.heaviest)
        for state in beam.values():
            state[:2] = state[0] / self.heaviest, state[1] / self.heaviest
        self.heaviest = 1.0

    def _end(self, key, word):
        """Where a state leads at the end of its word, and the weight of that word."""
        keywords, context = self.histories[key // self.num_nodes]
        weight, context = self.decoder.weight(context, word)
        weight *= self.decoder.nodes[key % self.num_nodes].weight
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
