import itertools
import math
from types import MappingProxyType

import numpy as np
import pytest
from helpers import needs_kenlm, write_arpa

from modeling_toxmtl.language_model import kenlm
from modeling_toxmtl.lexicon import LexiconDecoder


VOCABULARY = ["_", "|", "a", "b"]  # blank, delimiter, letters
SPELLINGS = {"ab": "ab", "b": "b", "aa": "aa", "ba": "ab"}  # two spellings of one word, a repeated letter
EXACT = {"beam_width": 10**9, "beam_margin": math.inf, "blank_threshold": 1.0}
# log10 of a model with back-off weights of one half
UNIGRAMS = {"b": -0.2, "ab": -0.9, "aa": -1.3}
BIGRAMS = {"<s> b": -0.4, "b ab": -0.6, "ab </s>": -0.1}


def decoder(**settings) -> LexiconDecoder:
    return LexiconDecoder(VOCABULARY, 0, 1, SPELLINGS, "b", **{"other_word_penalty": math.inf, **settings})


def random_log_probs(frames: int, seed: int = 0, characters: int = len(VOCABULARY), scale: float = 1.5) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, characters)) * scale
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def readings_by_enumeration(
    log_probs: np.ndarray,
    other_weight: float = 0.0,
    weigh=lambda words: 1.0,
    spellings: dict = SPELLINGS,
    common: dict = MappingProxyType({}),
) -> dict:
    """Mass of each word sequence over all paths: repeats collapse, blanks vanish, delimiters split.

    A stretch between delimiters is a spelling or a common word (given with its factor), or part of a phrase that goes
    on in the next stretch. It also is an other word if it begins with the likeliest letter of its frame and goes on
    with the likeliest label that is no delimiter, over frames whose delimiter is no likelier than blank and likeliest
    letter together.
    """
    letter, label = 2 + log_probs[:, 2:].argmax(1), log_probs[:, [0, 2, 3]].argmax(1)
    label += label > 0  # index among blank and letters -> label
    goes_on = np.exp(log_probs[:, 1]) <= np.exp(log_probs[:, 0]) + np.exp(log_probs[:, 2:]).max(1)

    def sequences(stretches):
        """Words and factor of each way to read the stretches, `(spelling, is best)` each."""
        if not stretches:
            yield (), 1.0
        for length in range(1, len(stretches) + 1):
            spelling = " ".join(text for text, _ in stretches[:length])
            choices = [(spellings[spelling], 1.0)] if spelling in spellings else []
            if length == 1:
                choices += [("b", common.get(spelling, 0.0)), ("b", other_weight * stretches[0][1])]
            for (word, weight), (words, rest) in itertools.product(choices, sequences(stretches[length:])):
                yield (word, *words), weight * rest

    masses = {}
    for path in itertools.product(range(len(VOCABULARY)), repeat=len(log_probs)):
        mass = math.exp(sum(log_probs[frame, label] for frame, label in enumerate(path)))
        stretches = []
        for is_delimiter, stretch in itertools.groupby(range(len(path)), key=[c == 1 for c in path].__getitem__):
            frames = list(stretch)
            while frames and path[frames[0]] == 0:
                del frames[0]
            if is_delimiter or not frames:
                continue
            spelling = "".join(VOCABULARY[key] for key, _ in itertools.groupby(path[frame] for frame in frames) if key)
            first, *rest = frames
            is_best = path[first] == letter[first] and all(
                path[frame] == label[frame] and goes_on[frame] for frame in rest
            )
            stretches.append((spelling, is_best))
        for words, weight in sequences(stretches):
            if weight:
                masses[words] = masses.get(words, 0.0) + mass * weight * weigh(words)
    return masses


def by_keywords(masses: dict) -> dict:
    """Mass of each sequence of keywords, whatever fillers are between them."""
    sums = {}
    for words, mass in masses.items():
        keywords = keywords_of(words)
        sums[keywords] = sums.get(keywords, 0.0) + mass
    return sums


def keywords_of(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word != "b")


def masses_of(readings) -> dict:
    masses = {keywords_of(reading.words): math.exp(reading.log_probability) for reading in readings}
    assert len(masses) == len(readings)
    return masses


def bigram_weight(words: tuple[str, ...], alpha: float, beta: float) -> float:
    """By hand from the tables above: a bigram, or half the unigram."""
    sequence, log10 = ["<s>", *words, "</s>"], 0.0
    for previous, word in itertools.pairwise(sequence):
        unigram = {**UNIGRAMS, "</s>": -1.0}[word]
        log10 += BIGRAMS.get(f"{previous} {word}", unigram - 0.30103)
    return 10 ** (alpha * log10) * math.exp(beta * len(words))


@pytest.mark.parametrize("other_word_penalty", [math.inf, 1.5])
@pytest.mark.parametrize("frames", [0, 1, 6])
def test_full_width_equals_enumeration(frames, other_word_penalty):
    log_probs = random_log_probs(frames)
    readings = decoder(beta=0.3, other_word_penalty=other_word_penalty, **EXACT).read(log_probs)
    expected = readings_by_enumeration(
        log_probs, math.exp(-other_word_penalty), weigh=lambda words: math.exp(0.3 * len(words))
    )
    assert masses_of(readings) == pytest.approx(by_keywords(expected))
    assert readings[0].words in expected
    assert [r.log_probability for r in readings] == sorted((r.log_probability for r in readings), reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_phrases_and_common_words_equal_enumeration(seed):
    """A phrase is one word, its parts alone are none; common words are fillers that cost by rank."""
    spellings = {"a b": "a b", "ab": "ab", "a b a": "phrase"}
    log_probs = random_log_probs(6, seed)
    search = LexiconDecoder(
        VOCABULARY,
        0,
        1,
        spellings,
        "b",
        other_word_penalty=2.0,
        common_words=[
            "b",
            "ab",
            "c",
            "a",
        ],  # a spelling, and a letter that the vocabulary lacks, count in the rank only
        common_word_penalty=0.5,
        beta=0.2,
        **EXACT,
    )
    expected = readings_by_enumeration(
        log_probs,
        math.exp(-2.0),
        weigh=lambda words: math.exp(0.2 * len(words)),
        spellings=spellings,
        common={"b": 1.0, "a": 0.5},
    )
    assert {("a b",), ("ab", "a b"), ("phrase",)} <= set(map(keywords_of, expected))
    assert masses_of(search.read(log_probs)) == pytest.approx(by_keywords(expected))


def test_a_phrase_spans_its_words_and_the_pause_between():
    log_probs = np.full((9, len(VOCABULARY)), math.log(0.01))
    for frame, label in enumerate([0, 2, 2, 1, 0, 1, 3, 0, 1]):  # _aa|_|b_|
        log_probs[frame, label] = math.log(0.97)
    (word,) = LexiconDecoder(VOCABULARY, 0, 1, {"a b": "a b"}, "b", other_word_penalty=3.0).decode(log_probs)
    assert word[:3] == ("a b", 1, 7) and word.score > 0.9


def test_common_words_compete_with_what_sounds_like_them():
    """The letters are between "ab" and "aa", where only the list of common words has the latter."""
    log_probs = np.log(np.array([[0.01, 0.01, 0.97, 0.01], [0.97, 0.01, 0.01, 0.01], [0.02, 0.02, 0.56, 0.4]]))

    def read(**settings):
        search = LexiconDecoder(VOCABULARY, 0, 1, {"ab": "ab"}, "good", other_word_penalty=6.0, **settings)
        return [word.text for word in search.decode(log_probs)]

    assert read() == ["ab"]
    assert read(common_words=["aa"]) == ["good"]
    assert read(common_words=["ba", "aa"], common_word_penalty=1.0) == ["ab"]  # 0.56 / 2 < 0.4
    assert read(common_words=["ba", "aa"], common_word_penalty=0.25) == ["good"]


def test_other_words_do_not_swallow_a_keyword_between_them():
    """The penalty of one of them costs more than two unsure delimiters taken for blanks."""
    log_probs = np.full((8, len(VOCABULARY)), math.log(1e-6))
    for frame, label in enumerate([3, 2, 1, 2, 3, 1, 3, 2]):  # ba|ab|ba
        log_probs[frame, label] = math.log(0.6 if label == 1 else 1 - 3e-6)
    log_probs[[2, 5], 0] = math.log(0.4 - 2e-6)
    search = LexiconDecoder(VOCABULARY, 0, 1, {"ab": "ab"}, "good", other_word_penalty=12.0)
    assert [word.text for word in search.decode(log_probs)] == ["good", "ab", "good"]


def test_an_other_word_survives_a_narrow_beam():
    letters = "abcdefghijklmnopqrstuvwxyz"
    spellings = {first + second: first + second for first in letters for second in letters}
    search = LexiconDecoder(["_", "|", *letters], 0, 1, spellings, "good", other_word_penalty=9.0, beam_width=4)
    log_probs = np.full((4, 28), math.log(0.1 / 27))
    for frame, letter in enumerate("wxyz"):
        log_probs[frame, 2 + letters.index(letter)] = math.log(0.9)
    assert [word.text for word in search.decode(log_probs)] == ["good"]


@needs_kenlm
def test_full_width_with_language_model_equals_enumeration(tmp_path):
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", UNIGRAMS, BIGRAMS)))
    log_probs = random_log_probs(6, seed=1)
    readings = decoder(language_model=model, alpha=0.7, beta=-0.2, other_word_penalty=1.0, **EXACT).read(log_probs)
    expected = readings_by_enumeration(
        log_probs, math.exp(-1.0), weigh=lambda words: bigram_weight(words, alpha=0.7, beta=-0.2)
    )
    assert masses_of(readings) == pytest.approx(by_keywords(expected), rel=1e-4)  # the tables have five digits


@needs_kenlm
def test_a_language_model_reads_a_phrase_word_by_word(tmp_path):
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", UNIGRAMS, BIGRAMS)))
    search = LexiconDecoder(VOCABULARY, 0, 1, {"b ab": "b ab", "aa": "aa"}, "b", model, alpha=1.0)
    weight, context = search.weight(search.start_context, search.words.index("b ab"))
    assert weight == pytest.approx(10 ** (-0.4 - 0.6), rel=1e-4)
    assert search.end_weight(context) == pytest.approx(10**-0.1, rel=1e-4)


@needs_kenlm
def test_language_model_of_weight_zero_is_none(tmp_path):
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", UNIGRAMS, BIGRAMS)))
    log_probs = random_log_probs(40)
    assert decoder(language_model=model, alpha=0.0).read(log_probs) == decoder().read(log_probs)
    assert decoder(language_model=model, alpha=1.0).read(log_probs) != decoder().read(log_probs)


@needs_kenlm
def test_a_word_unknown_to_the_language_model_counts_as_the_rarest_of_the_list(tmp_path):
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", {"b": -0.2, "ab": -2.5}, {"ab b": -0.3})))
    weight = decoder(language_model=model, alpha=1.0).weight
    start = decoder(language_model=model, alpha=1.0).start_context
    words = decoder().words
    assert weight(start, words.index("aa")) == weight(start, words.index("ab"))


def test_blank_skipping():
    """Off, it changes nothing; on, only blank frames are dropped."""
    log_probs = random_log_probs(30, seed=3)
    sure = np.full((3, len(VOCABULARY)), -np.inf)
    sure[:, 0] = 0.0
    padded = np.concatenate([sure, log_probs[:15], sure, log_probs[15:], sure])
    off, on = (decoder(blank_threshold=threshold, beam_margin=math.inf) for threshold in (1.0, 0.9999))
    for plain, skipping in zip(off.read(padded), on.read(padded), strict=True):
        assert skipping.words == plain.words
        assert skipping.log_probability == pytest.approx(plain.log_probability)
    kept = [index for index, *_ in on.frames(np.exp(padded))]
    assert kept == [0, *range(3, 18), 18, *range(21, 36), 36]
    assert len(list(off.frames(np.exp(padded)))) == len(padded)


def test_only_words_of_the_lexicon_in_order_inside_the_clip():
    for seed in range(20):
        words = decoder(other_word_penalty=float(seed % 5)).decode(random_log_probs(80, seed))
        assert {word.text for word in words} <= set(SPELLINGS.values())
        previous = 0
        for word in words:
            assert previous <= word.start_frame < word.end_frame <= 80
            assert 0 <= word.score <= 1
            previous = word.end_frame


def test_score_is_the_posterior_of_the_word():
    """With one word per clip at most, the score is the word's share of all paths."""
    log_probs = random_log_probs(5, seed=5)
    log_probs[:, 1] = -np.inf  # no delimiter, so one word
    (word,) = decoder(**EXACT).decode(log_probs)
    masses = readings_by_enumeration(log_probs)
    assert word.text == max(masses, key=masses.get)[0]
    assert word.score == pytest.approx(masses[(word.text,)] / sum(masses.values()))


@needs_kenlm
def test_forward_sum_and_what_is_left_without_a_word(tmp_path):
    model = kenlm.Model(str(write_arpa(tmp_path / "b.arpa", UNIGRAMS, BIGRAMS)))
    log_probs = random_log_probs(6, seed=8)
    expected = readings_by_enumeration(
        log_probs, math.exp(-1.0), weigh=lambda words: bigram_weight(words, alpha=0.7, beta=0.1)
    )
    settings = {"language_model": model, "alpha": 0.7, "beta": 0.1, "other_word_penalty": 1.0, **EXACT}
    total = decoder(**settings).log_total(log_probs)
    assert math.exp(total) == pytest.approx(sum(expected.values()), rel=1e-4)
    others = {spelling: word for spelling, word in SPELLINGS.items() if word != "ab"}
    left = LexiconDecoder(VOCABULARY, 0, 1, others, "b", **settings).log_total(log_probs)
    assert decoder(**settings).exhaustive(40.0, without="ab").log_total(log_probs) == pytest.approx(left, abs=1e-9)
    without = sum(mass for words, mass in expected.items() if "ab" not in words)
    assert math.exp(left - total) == pytest.approx(without / sum(expected.values()), rel=1e-4)
    nothing = np.full((2, len(VOCABULARY)), -np.inf)
    nothing[:, 2] = 0.0  # "a" begins words but is none
    assert decoder().log_total(nothing) == -math.inf


def test_scores_of_exclusive_readings_sum_to_at_most_one():
    log_probs = random_log_probs(6, seed=2)
    readings = decoder(**EXACT).read(log_probs)
    total = math.fsum(math.exp(reading.log_probability) for reading in readings)
    assert total <= 1 + 1e-9
    everything = decoder(other_word_penalty=0.0, **EXACT).read(log_probs)
    assert math.fsum(math.exp(reading.log_probability) for reading in everything) > total


def test_the_width_bounds_flat_posteriors():
    search_sizes = []
    flat = np.full((60, len(VOCABULARY)), -math.log(len(VOCABULARY)))
    narrow = decoder(beam_width=5, other_word_penalty=2.0)
    assert len(narrow.read(flat)) <= 5
    search_sizes = [len(decoder(beam_width=width).read(flat)) for width in (1, 4, 16)]
    assert search_sizes[0] <= 1 and search_sizes == sorted(search_sizes)


def test_long_clips_do_not_underflow():
    log_probs = np.tile(random_log_probs(50, seed=7), (40, 1)) - 5.0  # exp(-10,000) in all
    (best, *_) = decoder().read(log_probs)
    assert math.isfinite(best.log_probability) and best.log_probability < -10_000
    assert len(best.words) > 40


def test_uncertain_silence_does_not_swallow_a_word():
    letters = "abcdefghijklmnopqrstuvwxyz"
    wide = LexiconDecoder(["_", "|", *letters], 0, 1, {"damn": "damn", "good": "good"}, "good", other_word_penalty=8.0)
    log_probs = np.full((700, 28), math.log(0.1 / 27))
    log_probs[:, 0] = math.log(0.9)
    for frame, letter in enumerate("damn"):
        log_probs[frame] = math.log(0.1 / 27)
        log_probs[frame, 2 + letters.index(letter)] = math.log(0.9)
    assert [word.text for word in wide.decode(log_probs)] == ["damn"]


def test_a_clip_that_ends_inside_a_word_has_a_reading():
    log_probs = np.full((2, len(VOCABULARY)), -np.inf)
    log_probs[:, 2] = 0.0  # "a", which begins words but is none
    assert decoder().decode(log_probs) == []
    assert [word.text for word in decoder(other_word_penalty=3.0).decode(log_probs)] == ["b"]


def test_errors():
    with pytest.raises(ValueError, match="'ac'.*'c'"):
        LexiconDecoder(VOCABULARY, 0, 1, {"b": "b", "ac": "ac"}, "b")
    with pytest.raises(ValueError, match="empty"):
        LexiconDecoder(VOCABULARY, 0, 1, {"b": "b"}, "b")
    with pytest.raises(ValueError, match="5 characters.*has 4"):
        decoder().read(random_log_probs(3, characters=5))
