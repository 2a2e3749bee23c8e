"""The estimator against fractions worked out by hand, a naive reading of the formulas, and a file of `lmplz`."""

import math
import random
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.training import ngram
from modeling_toxmtl.training.ngram import (
    BOS,
    FALLBACK_DISCOUNTS,
    adjusted_counts,
    closed_form_discounts,
    count_ngrams,
    estimate,
    write_arpa,
)


kenlm = pytest.importorskip("kenlm")

GOLDEN = Path(__file__).parent / "golden"
FIVE_LINES = ["a b", "a b", "a", "b a", "a a"]


def build(lines, order, path, **options):
    """The model as tables, and as kenlm reads it."""
    model = estimate(count_ngrams(lines, order), **options)
    write_arpa(model, path)
    return model, kenlm.Model(str(path))


def kenlm_probability(model, history: str, word: str) -> float:
    """P(word | history), where a history may begin with <s>."""
    words = history.split()
    state, following = kenlm.State(), kenlm.State()
    if words[:1] == ["<s>"]:
        model.BeginSentenceWrite(state)
        words = words[1:]
    else:
        model.NullContextWrite(state)
    for known in words:
        model.BaseScore(state, known, following)
        state, following = following, kenlm.State()
    return 10 ** model.BaseScore(state, word, following)


def table_probability(model, history: tuple[int, ...], word: int) -> float:
    """P(word | history) as the definition of ARPA's back-off has it."""
    entries = {}
    for table in model.tables:
        entries |= {
            tuple(row): (p, b)
            for row, p, b in zip(table.ids.tolist(), table.probabilities, table.backoffs, strict=True)
        }
    weight = 1.0
    while (*history, word) not in entries:
        weight *= entries.get(history, (0, 1.0))[1]
        history = history[1:]
    return weight * entries[(*history, word)][0]


def random_lines(seed, num_lines, num_words=30):
    rng = random.Random(seed)
    return [
        " ".join(f"w{int(num_words * rng.random() ** 3)}" for _ in range(rng.randint(0, 8))) for _ in range(num_lines)
    ]


# --- worked out by hand


def test_bigram_model_of_five_lines(tmp_path):
    # Bigrams: <s> a 4, <s> b 1, a b 2, a </s> 3, a a 1, b a 1, b </s> 2, so n1..n4 = 3, 2, 1, 1.
    # y = 3 / (3 + 2·2) = 3/7; D1 = 1 - 2y·2/3 = 3/7; D2 = 2 - 3y·1/2 = 19/14; D3+ = 3 - 4y·1/1 = 9/7.
    # Unigrams by the words before them: a (<s> a b) 3, b (<s> a) 2, </s> (a b) 2. None has 1: fallback 1/2, 1, 3/2.
    model, scorer = build(FIVE_LINES, 2, tmp_path / "lm.arpa")
    assert model.words == ["<unk>", "<s>", "</s>", "a", "b"]
    assert model.discounts == [FALLBACK_DISCOUNTS, pytest.approx((3 / 7, 19 / 14, 9 / 7))]
    # b() = (3/2 + 1 + 1) / 7 = 1/2, uniform over <unk> </s> a b: P(a) = (3 - 3/2)/7 + 1/2·1/4 = 19/56, …
    unigrams = {"a": Fraction(19, 56), "b": Fraction(15, 56), "</s>": Fraction(15, 56), "unseen": Fraction(7, 56)}
    # b(<s>) = (9/7 + 3/7) / 5 = 12/35: P(a | <s>) = (4 - 9/7)/5 + 12/35·19/56 = 323/490, …
    after_start = {"a": (323, 490), "b": (101, 490), "</s>": (45, 490), "unseen": (21, 490)}
    # b(a) = (19/14 + 9/7 + 3/7) / 6 = 43/84: P(b | a) = (2 - 19/14)/6 + 43/84·15/56 = 1149/4704, …
    after_a = {"b": (1149, 4704), "</s>": (1989, 4704), "a": (1265, 4704), "unseen": (301, 4704)}
    # b(b) = (19/14 + 3/7) / 3 = 25/42: P(</s> | b) = (2 - 19/14)/3 + 25/42·15/56 = 879/2352, …
    after_b = {"</s>": (879, 2352), "a": (923, 2352), "b": (375, 2352), "unseen": (175, 2352)}
    expected = {("", word): value for word, value in unigrams.items()}
    for history, following in (("<s>", after_start), ("a", after_a), ("b", after_b)):
        expected |= {(history, word): Fraction(*value) for word, value in following.items()}
    for (history, word), value in expected.items():
        assert kenlm_probability(scorer, history, word) == pytest.approx(float(value), rel=1e-6), (history, word)
    # a whole sentence: P(b | <s>) P(a | b) P(</s> | a)
    product = Fraction(101, 490) * Fraction(923, 2352) * Fraction(1989, 4704)
    assert 10 ** scorer.score("b a") == pytest.approx(float(product), rel=1e-6)


def test_trigram_model_of_five_lines(tmp_path):
    # Bigrams: with <s>, how often: <s> a 4, <s> b 1. Others, words before: a b 1, b </s> 1, a </s> 3, b a 1, a a 1.
    # No 2 among the bigrams, no 3 among the trigrams, no 1 among the unigrams: the fallback everywhere.
    model, scorer = build(FIVE_LINES, 3, tmp_path / "lm.arpa")
    assert model.discounts == [FALLBACK_DISCOUNTS] * 3
    expected = {
        # b(a) = (1/2 + 3/2 + 1/2) / 5 = 1/2: P(</s> | a) = (3 - 3/2)/5 + 1/2·15/56
        ("a", "</s>"): Fraction(243, 560),
        ("a", "b"): Fraction(131, 560),
        # b(<s> a) = (1 + 1/2 + 1/2) / 4 = 1/2: P(b | <s> a) = (2 - 1)/4 + 1/2·131/560
        ("<s> a", "b"): Fraction(411, 1120),
        ("<s> a", "</s>"): Fraction(383, 1120),
        # b(a b) = 1/2, and a b a was never seen: 1/2 P(a | b) = 1/2 (1/4 + 1/2·19/56)
        ("a b", "a"): Fraction(47, 224),
    }
    for (history, word), value in expected.items():
        assert kenlm_probability(scorer, history, word) == pytest.approx(float(value), rel=1e-6), (history, word)


def test_discounts_of_a_known_table():
    # n1..n4 = 8, 4, 2, 1: y = 8/16; D1 = 1 - 2·½·4/8; D2 = 2 - 3·½·2/4; D3+ = 3 - 4·½·1/2. A count of 0 is none.
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 8, 4, 2, 1, 3])
    assert closed_form_discounts(counts) == (0.5, 1.25, 2.0)


# --- against others


def test_lmplz_gives_the_same_file(tmp_path):
    """`lmplz --order 3 < lmplz.txt > lmplz.arpa`, of the sources of kenlm 0.3.0: 32-bit floats, 8 digits."""
    write_arpa(estimate(count_ngrams((GOLDEN / "lmplz.txt").open(), 3), fallback=None), tmp_path / "lm.arpa")
    ours, theirs = (read_arpa(path) for path in (tmp_path / "lm.arpa", GOLDEN / "lmplz.arpa"))
    assert ours.keys() == theirs.keys() and len(ours) > 600
    for words, values in theirs.items():
        assert ours[words] == pytest.approx(values, abs=2e-6), words


def read_arpa(path):
    """n-gram, or name of a count -> numbers."""
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        if len(fields) > 1:
            values[fields[1]] = tuple(map(float, fields[:1] + fields[2:]))
        elif line.startswith("ngram "):
            values[line.split("=")[0]] = (int(line.split("=")[1]),)
    return values


class NaiveModel:
    """Chen and Goodman's formulas, one n-gram at a time. The closed form of the discounts where it works."""

    def __init__(self, lines, order):
        self.order, self.words = order, {word for line in lines for word in line.split()} | {"</s>", "<unk>"}
        sentences = [("<s>", *line.split(), "</s>") for line in lines]
        occurrences = Counter()
        preceding = defaultdict(set)
        for sentence in sentences:
            for end in range(2, len(sentence) + 1):
                for start in range(end):
                    occurrences[sentence[start:end]] += 1
                    if start > 0:
                        preceding[sentence[start:end]].add(sentence[start - 1])
        self.counts = {
            gram: count if len(gram) == order or gram[0] == "<s>" else len(preceding[gram])
            for gram, count in occurrences.items()
            if len(gram) <= order
        }
        self.following = defaultdict(dict)
        for gram, count in self.counts.items():
            self.following[gram[:-1]][gram[-1]] = count
        self.discounts = [self.estimate_discounts(n) for n in range(1, order + 1)]

    def estimate_discounts(self, n):
        n1, n2, n3, n4 = (sum(len(g) == n and c == j for g, c in self.counts.items()) for j in (1, 2, 3, 4))
        if n1 * n2 * n3:
            y = n1 / (n1 + 2 * n2)
            discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            if all(0 <= d <= j for j, d in zip((1, 2, 3), discounts, strict=True)):
                return (0, *discounts)
        return (0, 0.5, 1.0, 1.5)

    def probability(self, history, word):
        word = word if word in self.words else "<unk>"
        history = history[len(history) - self.order + 1 :] if len(history) >= self.order else history
        lower = self.probability(history[1:], word) if history else 1 / len(self.words)
        if history not in self.following:
            return lower
        seen, discount = self.following[history], self.discounts[len(history)]
        total = sum(seen.values())
        left = sum(discount[min(count, 3)] for count in seen.values()) / total
        count = seen.get(word, 0)
        return (count - discount[min(count, 3)]) / total + left * lower

    def log10(self, line):
        words = ("<s>", *line.split(), "</s>")
        return sum(math.log10(self.probability(words[:end], words[end])) for end in range(1, len(words)))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_held_out_perplexity_is_that_of_the_naive_model(tmp_path, order):
    keywords = KeywordList.default()
    corpus = generate_corpus({"train": 60, "validation": 6, "test": 6}, 0, keywords, ENGLISH)
    train, held_out = (
        [clip.transcript.lower() for clip in corpus[split]]
        + [keywords.substitute(clip.transcript) for clip in corpus[split]]
        for split in ("train", "validation")
    )
    _, scorer = build(train, order, tmp_path / "lm.arpa")
    naive = NaiveModel(train, order)
    assert any(word not in naive.words for line in held_out for word in line.split())
    num_words = sum(len(line.split()) + 1 for line in held_out)
    perplexity = 10 ** (-sum(scorer.score(line) for line in held_out) / num_words)
    expected = 10 ** (-sum(map(naive.log10, held_out)) / num_words)
    assert perplexity == pytest.approx(expected, rel=1e-5)  # the requirement is 1 %


# --- properties


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("num_lines", [3, 200])
def test_probabilities_of_every_history_sum_to_one(tmp_path, order, num_lines):
    lines = random_lines(order, num_lines, num_words=12)
    model = estimate(count_ngrams(lines, order))
    predictable = [index for index in range(len(model.words)) if index != BOS]
    histories = {()} | {tuple(row) for table in model.tables[:-1] for row in table.ids.tolist()}
    for history in random.Random(0).sample(sorted(histories), min(len(histories), 25)):
        total = sum(table_probability(model, history, word) for word in predictable)
        assert total == pytest.approx(1, abs=1e-9), history


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_sum_to_one_through_kenlm(tmp_path, order):
    model, scorer = build(random_lines(1, 150), order, tmp_path / "lm.arpa")
    words = [word for word in model.words if word != "<s>"]
    histories = ["", "<s>", "never", "w0 never", *(f"{start} {word}" for start in ("<s>", "w0") for word in words[2:])]
    for history in histories:
        total = sum(kenlm_probability(scorer, history, word) for word in words)
        assert total == pytest.approx(1, abs=1e-5), history


def test_adjusted_counts_are_those_of_the_definition():
    lines = random_lines(7, 80, num_words=6)
    counts = count_ngrams(lines, 4)
    ours = {
        tuple(counts.words[i] for i in row): count
        for ids, adjusted in adjusted_counts(counts)
        for row, count in zip(ids.tolist(), adjusted.tolist(), strict=True)
    }
    assert ours == NaiveModel(lines, 4).counts | {("<unk>",): 0, ("<s>",): 0}


@pytest.mark.parametrize("num_words", [5, 100_000])  # one sort key, and two
def test_chunks_do_not_change_the_counts(monkeypatch, num_words):
    lines = random_lines(3, 300, num_words)
    whole = count_ngrams(lines, 4)
    monkeypatch.setattr(ngram, "CHUNK_WORDS", 50)
    parts = count_ngrams(iter(lines), 4)
    assert whole.words == parts.words
    np.testing.assert_array_equal(whole.ids, parts.ids)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == sum(len(line.split()) + 1 for line in lines)


def test_the_order_of_the_lines_changes_no_probability(tmp_path):
    lines = random_lines(4, 100)
    scorers = [build(part, 3, tmp_path / f"{i}.arpa")[1] for i, part in enumerate((lines, lines[::-1]))]
    for line in random_lines(5, 20):
        assert scorers[0].score(line) == pytest.approx(scorers[1].score(line), abs=1e-5)


def test_words_of_any_alphabet(tmp_path):
    _, scorer = build(["año ano", "дурак", "バカ año"], 2, tmp_path / "lm.arpa")
    for word in ("año", "ano", "дурак", "バカ"):
        assert word in scorer
    assert kenlm_probability(scorer, "バカ", "año") > kenlm_probability(scorer, "バカ", "ano")


def test_empty_lines_are_empty_sentences(tmp_path):
    _, scorer = build(["a"] * 5 + [""] * 5, 2, tmp_path / "lm.arpa")
    assert scorer.score("") > math.log10(0.3)


def test_words_only_seen_at_unlike_places_back_off(tmp_path):
    # "San Francisco": as frequent as "tea", but after one word only, so unlikelier after a new one
    lines = ["in san francisco"] * 6 + [f"{word} tea" for word in "abcdef"] + ["new"]
    _, scorer = build(lines, 2, tmp_path / "lm.arpa")
    assert kenlm_probability(scorer, "new", "tea") > 3 * kenlm_probability(scorer, "new", "francisco")


# --- faults


def test_too_small_a_text_for_discounts_names_the_cure():
    counts = count_ngrams(FIVE_LINES, 2)
    with pytest.raises(ValueError, match="1-grams.*adjusted count of 1.*--discount_fallback"):
        estimate(counts, fallback=None)
    assert estimate(counts, fallback=(0.1, 0.2, 0.3)).discounts[0] == (0.1, 0.2, 0.3)


def test_discounts_out_of_range_are_refused():
    counts = np.repeat([1, 2, 3, 4], [10, 2, 1, 9])  # D3+ = 3 - 4·10/14·9 < 0
    with pytest.raises(ValueError, match="out of range"):
        closed_form_discounts(counts)


@pytest.mark.parametrize("fallback", [(0, 1, 1.5), (0.5, 2.5, 1.5), (0.5, 1, 3.5)])
def test_bad_fallback_discounts(fallback):
    with pytest.raises(ValueError, match="fallback"):
        estimate(count_ngrams(FIVE_LINES, 2), fallback)


@pytest.mark.parametrize("word", ["<s>", "</s>", "<unk>", "<UNK>", "nu\0ll"])
def test_words_with_a_meaning_of_their_own(word):
    with pytest.raises(ValueError, match="line 2: .*remove it"):
        count_ngrams(["a b", f"a {word} b"], 3)


@pytest.mark.parametrize("lines", [[], [""], [" ", "\n"]])
def test_a_text_without_words(lines):
    with pytest.raises(ValueError, match="no word"):
        count_ngrams(lines, 3)


@pytest.mark.parametrize("order", [0, -1])
def test_bad_order(order):
    with pytest.raises(ValueError, match="`order`"):
        count_ngrams(["a"], order)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "lm.arpa"
    path.write_text("old")
    model = estimate(count_ngrams(FIVE_LINES, 2))
    with pytest.raises(IndexError):
        write_arpa(model._replace(words=model.words[:3]), path)
    assert [file.name for file in tmp_path.iterdir()] == ["lm.arpa"] and path.read_text() == "old"
