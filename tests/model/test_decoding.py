import numpy as np
import pytest

from modeling_toxmtl.decoding import DecodedWord, GreedyDecoder, Reading, score_words


VOCABULARY = ["_", "|", "a", "b", "c"]  # blank, delimiter, characters


@pytest.fixture
def decoder() -> GreedyDecoder:
    return GreedyDecoder(VOCABULARY, blank=0, delimiter=1)


def posteriors(best: str, probabilities: list[float] | None = None) -> np.ndarray:
    """Log posteriors whose best character in each frame is that of `best`; the rest is shared by the others."""
    probabilities = probabilities or [0.8] * len(best)
    rows = np.empty((len(best), len(VOCABULARY)))
    for row, character, probability in zip(rows, best, probabilities, strict=True):
        row[:] = (1 - probability) / (len(VOCABULARY) - 1)
        row[VOCABULARY.index(character)] = probability
    return np.log(rows)


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("ab|ca", [("ab", 0, 2), ("ca", 3, 5)]),
        ("aabb", [("ab", 0, 4)]),  # repeats collapse
        ("a_a", [("aa", 0, 3)]),  # a blank between repeats keeps both
        ("a__ab_b", [("aabb", 0, 7)]),
        ("_ab__", [("ab", 1, 3)]),  # blanks around a word are not part of it
        ("a_|_b", [("a", 0, 1), ("b", 4, 5)]),
        ("|ab|", [("ab", 1, 3)]),
        ("||_|a||_|b|_|", [("a", 4, 5), ("b", 9, 10)]),
        ("a|a", [("a", 0, 1), ("a", 2, 3)]),
        ("____", []),
        ("||_||", []),
        ("|", []),
        ("c", [("c", 0, 1)]),
    ],
)
def test_words_and_spans(decoder, best, words):
    assert [word[:3] for word in decoder.decode(posteriors(best))] == words


def test_no_frames(decoder):
    assert decoder.decode(np.zeros((0, len(VOCABULARY)))) == []


def test_score_is_the_geometric_mean_of_the_surest_frames(decoder):
    (first, second) = decoder.decode(posteriors("aab|c", [0.5, 0.9, 0.4, 0.99, 0.7]))
    assert first.text == "ab"
    assert first.score == pytest.approx((0.9 * 0.4) ** 0.5)
    assert second.score == pytest.approx(0.7)
    assert isinstance(first, DecodedWord)


def test_score_stays_in_its_range(decoder):
    certain = np.full((2, len(VOCABULARY)), -np.inf)
    certain[:, 2] = 1e-7  # float32 rounding can lift a log posterior above 0
    (word,) = decoder.decode(certain)
    assert word.score == 1.0
    (word,) = decoder.decode(np.full((1, len(VOCABULARY)), np.log(0.2)) + np.eye(5)[2] * 1e-9)
    assert 0 < word.score < 0.21


def test_words_of_random_posteriors_are_in_order(decoder):
    logits = np.random.default_rng(0).normal(size=(200, len(VOCABULARY))) * 3
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    words = decoder.decode(log_probs)
    assert len(words) > 20
    previous = 0
    for word in words:
        assert previous <= word.start_frame < word.end_frame <= 200
        assert 0 <= word.score <= 1
        previous = word.end_frame


def test_texts_are_the_textbook_collapse(decoder):
    """Collapse repeats, drop blanks, split at delimiters: the same as by string operations."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        best = "".join(rng.choice(list("__|abc"), size=30))
        collapsed = "".join(c for i, c in enumerate(best) if i == 0 or c != best[i - 1])
        expected = collapsed.replace("_", "").replace("|", " ").split()
        assert [word.text for word in decoder.decode(posteriors(best))] == expected


def test_scores_are_shares_of_the_readings_mass():
    readings = [
        Reading(("good", "damn"), ((0, 4), (6, 9)), np.log(0.5)),
        Reading(("good", "dame"), ((0, 4), (6, 9)), np.log(0.3)),
        Reading(("damn",), ((7, 9),), np.log(0.1)),
        Reading(("damn", "good"), ((0, 4), (6, 9)), np.log(0.1)),  # both elsewhere
    ]
    good, damn = score_words(readings)
    assert good[:3] == ("good", 0, 4) and good.score == pytest.approx(0.8)
    assert damn[:3] == ("damn", 6, 9) and damn.score == pytest.approx(0.6)
    (dame,) = [word for word in score_words([readings[1], *readings]) if word.text == "dame"]
    assert dame.score == pytest.approx(0.6 / 1.3)
