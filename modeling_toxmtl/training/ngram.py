"""Estimates an n-gram language model from text and writes it as ARPA: interpolated modified Kneser-Ney (Chen and
Goodman 1998, sections 3 and 4.1.6), with the conventions of KenLM's `lmplz` (Heafield et al. 2013).

    P(w | h) = (a(hw) - D(a(hw))) / Σ_v a(hv) + b(h) P(w | h'),    b(h) = Σ_v D(a(hv)) / Σ_v a(hv)

where h' is h without its first word, and the recursion ends in the uniform distribution over the vocabulary. a is the
adjusted count: in the highest order, and for n-grams that begin with `<s>`, how often the n-gram occurs; otherwise
how many different words, or `<s>`, precede it. D has three values in each order, for adjusted counts 1, 2 and above.

Design choices:
- The vocabulary of the uniform distribution is the words of the corpus, `</s>` and `<unk>`; `<s>` is never predicted,
  and is written with log-probability 0. An empty line is an empty sentence. All this is as in `lmplz`.
- The discounts are those of all adjusted counts. `lmplz` (of kenlm 0.3.0) enters the very last n-gram of each lower
  order into the counts of counts with its occurrences instead, which a text of few different n-grams can feel;
  nothing else differs but its single precision.
- Nothing is pruned: keyword transcripts have a small vocabulary.
- N-grams are rows of word ids sorted by their last word, then the last but one, …: n-grams with a common suffix are
  neighbours, and every step is a NumPy operation on whole tables. Memory grows with the number of different n-grams,
  not with the text.
"""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from transformers.utils import logging

from ..io.files import atomic_write


logger = logging.get_logger(__name__)

SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
BOS, EOS = SPECIAL_WORDS.index("<s>"), SPECIAL_WORDS.index("</s>")
CHUNK_WORDS = 2**20  # n-grams held before they are counted
CHUNK_LINES = 2**16  # of an ARPA file


class Discounts(NamedTuple):
    """What is taken off adjusted counts of one, of two, and of three or more."""

    one: float
    two: float
    three_or_more: float


FALLBACK_DISCOUNTS = Discounts(0.5, 1.0, 1.5)  # of `lmplz --discount_fallback`


class NgramCounts(NamedTuple):
    """How often each n-gram of the highest order occurs, in sentences that begin with `order - 1` times `<s>`.

    Args:
        words: the vocabulary, `SPECIAL_WORDS` first, then in order of appearance.
        ids: `(n-grams, order)` indices into `words`, sorted by the last column, then the last but one, and so on.
        counts: `(n-grams,)`, at least 1.
    """

    words: list[str]
    ids: np.ndarray
    counts: np.ndarray


class NgramTable(NamedTuple):
    """The n-grams of one order: `ids` `(n-grams, n)`, and `(n-grams,)` each of P and of b (1 where none follows)."""

    ids: np.ndarray
    probabilities: np.ndarray
    backoffs: np.ndarray


class NgramModel(NamedTuple):
    """An estimated model: its vocabulary, and for each order from 1 its table and its discounts."""

    words: list[str]
    tables: list[NgramTable]
    discounts: list[Discounts]


class _Vocabulary(dict):
    """Word -> id; gives every new word the next id."""

    def __missing__(self, word):
        if word in (*SPECIAL_WORDS, "<UNK>"):
            raise ValueError(f"{word} stands in the text, and has a meaning of its own in a language model: remove it")
        if "\0" in word:
            raise ValueError(f"the word {word!r} has a null character, which an ARPA file cannot hold: remove it")
        self[word] = len(self) + len(SPECIAL_WORDS)
        return self[word]


def count_ngrams(lines: Iterable[str], order: int) -> NgramCounts:
    """Counts the n-grams of `order` in sentences, one a line, whose words have white space between them.

    Raises:
        ValueError: if `order` is below 1, if there is no word, or if a word is one of `SPECIAL_WORDS`; the message
            gives the number of the line.
    """
    if order < 1:
        raise ValueError(f"`order` is {order}: give 1 or more, such as 4")
    vocabulary, stack, chunk = _Vocabulary(), [], []
    padding = [BOS] * (order - 1)
    for number, line in enumerate(tqdm(lines, desc="Counting n-grams", unit=" lines"), start=1):
        chunk += padding
        try:
            chunk += map(vocabulary.__getitem__, line.split())
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        chunk.append(EOS)
        if len(chunk) >= CHUNK_WORDS:
            _push(stack, _count_chunk(chunk, order))
            chunk.clear()
    if not vocabulary:
        raise ValueError("the corpus has no word: a language model needs at least one")
    if chunk:
        _push(stack, _count_chunk(chunk, order))
    while len(stack) > 1:
        stack.append(_merge(stack.pop(), stack.pop()))
    return NgramCounts([*SPECIAL_WORDS, *vocabulary], *stack[0])


def _count_chunk(chunk, order):
    ids = np.lib.stride_tricks.sliding_window_view(np.array(chunk, dtype=np.int32), order)
    # neither predictions of <s> nor windows over the end of a sentence
    ids = ids[(ids[:, -1] != BOS) & (ids[:, :-1] != EOS).all(axis=1)]
    return _sum_equal(ids, np.ones(len(ids), dtype=np.int64))


def _push(stack, table):
    """Merges tables of like size only, so that an n-gram is sorted a logarithmic number of times."""
    while stack and len(stack[-1][0]) < 2 * len(table[0]):
        table = _merge(stack.pop(), table)
    stack.append(table)


def _merge(one, other):
    return _sum_equal(np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]))


def _sum_equal(ids, counts):
    """Sorts the rows as `NgramCounts` has them, and adds up the counts of equal rows."""
    keys = _sort_keys(ids)
    order = np.argsort(keys[0]) if len(keys) == 1 else np.lexsort(keys)
    ids = ids[order]
    starts = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]).any(axis=1)))
    return ids[starts], np.add.reduceat(counts[order], starts)


def _sort_keys(ids):
    """As few integers per row as hold its ids, the least significant first: one for a small vocabulary, for speed."""
    base, order = int(ids.max()) + 1, ids.shape[1]
    columns_per_key = max(1, 63 // base.bit_length())
    keys = []
    for start in range(0, order, columns_per_key):
        key = np.zeros(len(ids), dtype=np.int64)
        for column in reversed(range(start, min(start + columns_per_key, order))):
            key = key * base + ids[:, column]
        keys.append(key)
    return keys


def adjusted_counts(counts: NgramCounts) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each order n from 1, the n-grams `(n-grams, n)` and their adjusted counts `(n-grams,)`.

    The rows are sorted as in `NgramCounts`. `<unk>` and `<s>` are unigrams of count 0.
    """
    ids, order = counts.ids, counts.ids.shape[1]
    # starts[i, n-1]: the last n words of row i are others than those of row i-1
    starts = np.ones(ids.shape, dtype=bool)
    np.logical_or.accumulate((ids[1:] != ids[:-1])[:, ::-1], axis=1, out=starts[1:])
    result = []
    for n in range(1, order + 1):
        rows = ids[starts[:, n - 1], order - n :]
        group = np.cumsum(starts[:, n - 1]) - 1
        adjusted = np.bincount(group, weights=counts.counts)
        if n < order:
            preceding = np.bincount(group, weights=starts[:, n])
            adjusted = np.where(rows[:, 0] == BOS, adjusted, preceding)
        proper = (rows[:, 1:] != BOS).all(axis=1)  # no padding: `<s>` comes first or not at all
        result.append((rows[proper], adjusted[proper].astype(np.int64)))
    rows, adjusted = result[0]
    result[0] = np.append([[0], [BOS]], rows, axis=0).astype(rows.dtype), np.append([0, 0], adjusted)
    return result


def closed_form_discounts(adjusted: np.ndarray) -> Discounts:
    """The discounts of one order (equation 26 of Chen and Goodman).

    Raises:
        ValueError: if there are no counts of 1, 2 or 3, or a discount is not between 0 and its count, as in small or
            artificial texts.
    """
    frequency = np.bincount(np.minimum(adjusted, 5), minlength=5)[:5].astype(np.float64)
    if not frequency[1:4].all():
        missing = 1 + int(np.argmin(frequency[1:4] > 0))
        raise ValueError(f"no n-gram has an adjusted count of {missing}")
    y = frequency[1] / (frequency[1] + 2 * frequency[2])
    discounts = Discounts(*(float(j - (j + 1) * y * frequency[j + 1] / frequency[j]) for j in (1, 2, 3)))
    if any(not 0 <= discount <= j for j, discount in enumerate(discounts, start=1)):
        raise ValueError(f"the discounts {', '.join(f'{d:.3g}' for d in discounts)} are out of range")
    return discounts


def estimate(counts: NgramCounts, fallback: Sequence[float] | None = FALLBACK_DISCOUNTS) -> NgramModel:
    """The interpolated modified Kneser-Ney model of these counts.

    Args:
        counts: of [`count_ngrams`].
        fallback: three discounts for the orders where the closed form fails, which is usual for keyword transcripts:
            with few words, there are no rare ones. None makes that an error.

    Raises:
        ValueError: if a discount of `fallback` is not above 0 and at most its count (1, 2, 3); or if the closed form
            fails, and `fallback` is None.
    """
    if fallback is not None:
        fallback = Discounts(*fallback)
        if any(not 0 < discount <= j for j, discount in enumerate(fallback, start=1)):
            raise ValueError(f"`fallback` is {tuple(fallback)}: give discounts above 0, and at most 1, 2 and 3")
    num_words = len(counts.words)
    tables, discounts, keys = [], [], []
    for n, (ids, adjusted) in enumerate(adjusted_counts(counts), start=1):
        discounts.append(_discounts(adjusted, n, fallback))
        if n == 1:
            contexts, suffixes, num_contexts = np.zeros(len(ids), dtype=np.int64), None, 1
            lower = 1 / (num_words - 1)  # uniform over all but <s>
        else:
            contexts, suffixes = _locate(ids[:, :-1], keys, num_words), _locate(ids[:, 1:], keys, num_words)
            num_contexts, lower = len(tables[-1].ids), tables[-1].probabilities[suffixes]
        taken = np.array([0.0, *discounts[-1]])[np.minimum(adjusted, 3)]
        total = np.bincount(contexts, weights=adjusted, minlength=num_contexts)
        backoffs = np.ones(num_contexts)
        np.divide(np.bincount(contexts, weights=taken, minlength=num_contexts), total, out=backoffs, where=total > 0)
        probabilities = (adjusted - taken) / total[contexts] + backoffs[contexts] * lower
        if n == 1:
            probabilities[BOS] = 1.0
        else:
            tables[-1] = tables[-1]._replace(backoffs=backoffs)
        tables.append(NgramTable(ids, probabilities, np.ones(len(ids))))
        keys.append(ids[:, 0] if n == 1 else suffixes * num_words + ids[:, 0])
    return NgramModel(counts.words, tables, discounts)


def _discounts(adjusted, n, fallback):
    try:
        return closed_form_discounts(adjusted)
    except ValueError as error:
        message = f"the Kneser-Ney discounts of the {n}-grams cannot be estimated, because {error}"
        if fallback is None:
            raise ValueError(
                f"{message}: give a larger text, or allow fixed discounts (`fallback`, --discount_fallback)"
            ) from None
        logger.warning(f"{message}; using {', '.join(f'{d:g}' for d in fallback)} (for counts of 1, 2, 3 and more)")
        return fallback


def _locate(rows, keys, num_words):
    """Row number in the table of order n of each of `rows` `(any number, n)`, all of which it has.

    `keys[n - 1]` identifies and sorts the n-grams: the row number of the last n-1 words in their table, and the first
    word.
    """
    found = rows[:, -1].astype(np.int64)  # the unigram of a word is in the row of its id
    for n in range(2, rows.shape[1] + 1):
        found = np.searchsorted(keys[n - 1], found * num_words + rows[:, -n])
    return found


def write_arpa(model: NgramModel, path: str | PathLike) -> None:
    """Writes an ARPA file, in base-10 logarithms, that `kenlm.Model` and other toolkits read (kenlm: from order 2)."""
    words = model.words
    with atomic_write(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={len(table.ids)}\n" for n, table in enumerate(model.tables, start=1))
        for n, (ids, probabilities, backoffs) in enumerate(model.tables, start=1):
            file.write(f"\n\\{n}-grams:\n")
            log_p, log_b = np.minimum(np.log10(probabilities), 0), np.log10(backoffs)  # rounding may exceed P = 1
            line = "{:.8g}\t{}\t{:.8g}\n" if n < len(model.tables) else "{:.8g}\t{}\n"
            for start in tqdm(range(0, len(ids), CHUNK_LINES), f"Writing {n}-grams"):
                rows = slice(start, start + CHUNK_LINES)
                texts = [" ".join([words[i] for i in row]) for row in ids[rows].tolist()]
                file.writelines(map(line.format, log_p[rows].tolist(), texts, log_b[rows].tolist()))
        file.write("\n\\end\\\n")
