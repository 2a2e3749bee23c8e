"""Alignment and keyword detection: values by hand, scikit-learn and brute force as oracles, invariances, faults.

`A` and `B` stand for keywords and `x`, `y` for fillers.
"""

import itertools
import json
import random

import pytest
from helpers import KEYWORDS, random_clips
from sklearn.metrics import average_precision_score

from modeling_toxmtl.training.metrics import align_words, keyword_metrics


# Table 2 of the paper, in percent: false accept rate, false reject rate and F1 of the systems with a keyword head.
HUMAN_ROWS = [(19.59, 2.51, 62.36), (17.11, 2.89, 66.55), (13.10, 2.86, 70.57), (12.46, 3.27, 71.55)]
LARGE_ROWS = [(5.41, 3.98, 54.30), (4.45, 4.70, 58.27), (4.00, 4.81, 59.65), (3.76, 4.94, 60.53)]


def counts(reference, hypothesis):
    """(tp, fp, fn, tn) of one clip."""
    metrics = keyword_metrics([reference], [hypothesis], KEYWORDS)
    return tuple(metrics[name] for name in ("tp", "fp", "fn", "tn"))


# Alignment


def edits_and_counts(slots, reference, hypothesis):
    """What `align_words` minimises, in order: edits, -keywords matched, -reference fillers not facing a keyword."""
    said = [None if r is None else reference[r] for r, _ in slots]
    heard = [None if h is None else hypothesis[h] for _, h in slots]
    matched = [left is not None and left == right for left, right in zip(said, heard, strict=True)]
    keywords_matched = sum(match and word in KEYWORDS for match, word in zip(matched, said, strict=True))
    true_negatives = sum(left == "x" and right not in KEYWORDS for left, right in zip(said, heard, strict=True))
    return matched.count(False), -keywords_matched, -true_negatives


def all_alignments(r, h):
    """Every alignment of r with h words, as slots of positions."""
    if r == h == 0:
        yield []
    if r and h:
        yield from ([*slots, (r - 1, h - 1)] for slots in all_alignments(r - 1, h - 1))
    if r:
        yield from ([*slots, (r - 1, None)] for slots in all_alignments(r - 1, h))
    if h:
        yield from ([*slots, (None, h - 1)] for slots in all_alignments(r, h - 1))


def test_alignment_is_the_best_of_all_alignments():
    alignments = {sizes: list(all_alignments(*sizes)) for sizes in itertools.product(range(5), repeat=2)}
    sequences = [words for size in range(4) for words in itertools.product("ABx", repeat=size)]
    pairs = list(itertools.product(sequences, repeat=2))
    rng = random.Random(0)
    pairs += [(rng.choices("ABx", k=4), rng.choices("ABx", k=4)) for _ in range(200)]
    for reference, hypothesis in pairs:
        best = min(
            edits_and_counts(slots, reference, hypothesis) for slots in alignments[len(reference), len(hypothesis)]
        )
        found = align_words(reference, hypothesis, KEYWORDS)
        assert found in alignments[len(reference), len(hypothesis)]
        assert edits_and_counts(found, reference, hypothesis) == best
        metrics = keyword_metrics([reference], [hypothesis], KEYWORDS)
        assert (metrics["tp"], metrics["tn"]) == (-best[1], -best[2])


@pytest.mark.parametrize(
    ("reference", "hypothesis", "slots"),
    [
        ("x A x", "x A x", [(0, 0), (1, 1), (2, 2)]),
        ("x A", "A", [(0, None), (1, 0)]),
        ("A", "x A", [(None, 0), (0, 1)]),
        ("", "x", [(None, 0)]),
        ("x", "", [(0, None)]),
        # Two substitutions cost as much as a deletion and an insertion, which match A (and not x).
        ("x A", "A x", [(0, None), (1, 0), (None, 1)]),
        # Either keyword could be matched; from the last word back, the deletion of B comes before the insertion of A.
        ("A B", "B A", [(None, 0), (0, 1), (1, None)]),
        # Four edits either way: one keyword matched comes before two fillers matched.
        ("B x x", "x x B A A", [(None, 0), (None, 1), (0, 2), (1, 3), (2, 4)]),
        # A was heard as B: the deletion falls on the filler.
        ("A x", "B", [(0, 0), (1, None)]),
        ("x y", "y x", [(0, 0), (1, 1)]),  # fillers match whatever their spelling
    ],
)
def test_alignment_by_hand(reference, hypothesis, slots):
    assert align_words(reference.split(), hypothesis.split(), ["A", "B"]) == slots


# Keyword detection


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("A", "A", (1, 0, 0, 0)),
        ("A", "x", (0, 0, 1, 0)),
        ("A", "", (0, 0, 1, 0)),
        ("x", "A", (0, 1, 0, 0)),
        ("", "A", (0, 1, 0, 0)),
        ("A", "B", (0, 1, 1, 0)),
        ("x", "y", (0, 0, 0, 1)),
        ("x", "", (0, 0, 0, 1)),
        ("", "x", (0, 0, 0, 0)),
        ("", "", (0, 0, 0, 0)),
        ("x A x B x", "x A x A y y", (1, 1, 1, 3)),
        ("x A", "A x", (1, 0, 0, 1)),
    ],
)
def test_counts_by_hand(reference, hypothesis, expected):
    assert counts(reference.split(), hypothesis.split()) == expected


def test_keyword_metrics_by_hand():
    references = [["B", "x", "A", "x"], ["A", "x", "x"]]
    hypotheses = [["x", "x", "A", "A"], ["A", "x"]]
    scores = [[0.9, 0.5, 0.8, 0.3], [0.2, 0.9]]
    # Slots: B/x fn, x/x tn, A/A tp, x/A fp; A/A tp, then x/x and x/nothing, both tn.
    assert keyword_metrics(references, hypotheses, KEYWORDS, scores) == {
        "false_accept_rate": 25.0,  # 1 of 1 fp + 3 tn
        "false_reject_rate": pytest.approx(100 / 3),
        "precision": pytest.approx(200 / 3),
        "recall": pytest.approx(200 / 3),
        "f1": pytest.approx(200 / 3),
        # A, support 2: both found among 3 accepted, AP 2/3. B, support 1: all 7 slots tie at 0, AP 1/7.
        "weighted_ap": pytest.approx(100 * (2 * 2 / 3 + 1 / 7) / 3),
        # A: targets by descending score 1 (0.8), 0 (0.3), 1 (0.2): AP 1/2 + 1/2 * 2/3 = 5/6. B as before.
        "weighted_ap_scores": pytest.approx(100 * (2 * 5 / 6 + 1 / 7) / 3),
        "tp": 2,
        "fp": 1,
        "fn": 1,
        "tn": 3,
        "num_keywords": 3,
    }


def test_a_phrase_is_one_word():
    metrics = keyword_metrics([["shut up", "shut"]], [["shut up", "up"]], ["shut up"])
    assert (metrics["tp"], metrics["tn"], metrics["f1"]) == (1, 1, 100.0)


def test_undefined_rates_are_none_and_json():
    metrics = keyword_metrics([[], ["x"]], [[], []], KEYWORDS)
    undefined = ("false_reject_rate", "precision", "recall", "f1", "weighted_ap", "weighted_ap_scores")
    assert all(metrics[name] is None for name in undefined) and metrics["false_accept_rate"] == 0.0
    assert all(value is None or value == 0 for value in keyword_metrics([], [], KEYWORDS, []).values())
    json.dumps(metrics, allow_nan=False)


def test_weighted_average_precision_equals_scikit_learn():
    references, hypotheses, scores = random_clips(200, seed=1)
    slots = []  # reference word, hypothesis word, score
    for said, heard, heard_scores in zip(references, hypotheses, scores, strict=True):
        for r, h in align_words(said, heard, KEYWORDS):
            if r is not None or heard[h] in KEYWORDS:
                slots.append(
                    (r is not None and said[r], h is not None and heard[h], h is not None and heard_scores[h])
                )
    hard = scored = 0.0
    for keyword in KEYWORDS:
        targets = [said == keyword for said, _, _ in slots]
        hard += sum(targets) * average_precision_score(targets, [heard == keyword for _, heard, _ in slots])
        scored += sum(targets) * average_precision_score(
            targets, [(heard == keyword) * score for _, heard, score in slots]
        )
    metrics = keyword_metrics(references, hypotheses, KEYWORDS, scores)
    assert metrics["weighted_ap"] == pytest.approx(100 * hard / metrics["num_keywords"])
    assert metrics["weighted_ap_scores"] == pytest.approx(100 * scored / metrics["num_keywords"])


def test_scores_of_one_give_hard_decisions():
    references, hypotheses, _ = random_clips(50, seed=2)
    metrics = keyword_metrics(references, hypotheses, KEYWORDS, [[1.0] * len(words) for words in hypotheses])
    assert metrics["weighted_ap_scores"] == metrics["weighted_ap"]


def test_keyword_metrics_do_not_depend_on_the_order_of_clips_or_keywords():
    clips = random_clips(100, seed=3)
    order = random.Random(0).sample(range(100), 100)
    shuffled = [[column[clip] for clip in order] for column in clips]
    metrics = keyword_metrics(clips[0], clips[1], ["A", "B"], clips[2])
    assert keyword_metrics(shuffled[0], shuffled[1], ["B", "A"], shuffled[2]) == metrics


def test_keyword_metrics_do_not_depend_on_how_fillers_are_spelled():
    references, hypotheses, scores = random_clips(100, seed=4)
    replaced = [[word if word in KEYWORDS else "good" for word in words] for words in references]
    expected = keyword_metrics(references, hypotheses, KEYWORDS, scores)
    assert keyword_metrics(replaced, hypotheses, KEYWORDS, scores) == expected


def test_counts_are_the_same_read_backwards():
    references, hypotheses, _ = random_clips(300, seed=5)
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        assert counts(reference, hypothesis) == counts(reference[::-1], hypothesis[::-1])


def test_babbling_fillers_does_not_lower_the_false_accept_rate():
    for babble in ([], ["x"] * 3):
        metrics = keyword_metrics([["x", "B", "x"]], [["A", "B", "x", *babble]], KEYWORDS)
        assert metrics["false_accept_rate"] == 50.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([["A"]], [], KEYWORDS), ValueError, "1 references but 0 hypotheses"),
        ((["A x"], [["A"]], KEYWORDS), TypeError, "clip 0 of references is 'A x'"),
        (([["A"], ["A"]], [["A"], None], KEYWORDS), TypeError, "clip 1 of hypotheses is None"),
        (([["A"]], [["A"]], "AB"), TypeError, "keywords is the string 'AB'"),
        (([["A"]], [["A"]], []), ValueError, "keywords is empty"),
        (([["A"]], [["A"]], KEYWORDS, []), ValueError, "0 lists of scores but 1 hypotheses"),
        (([[], ["A"]], [[], ["A"]], KEYWORDS, [[], [0.1, 0.2]]), ValueError, "clip 1 has 1 hypothesis words but 2"),
        (([[], ["A"]], [[], ["A"]], KEYWORDS, [[], [float("nan")]]), ValueError, "clip 1 has scores outside"),
        (([["A"]], [["A"]], KEYWORDS, [[1.5]]), ValueError, "clip 0 has scores outside"),
        (([["A"]], [["A"]], KEYWORDS, [[-3.0]]), ValueError, "clip 0 has scores outside"),
    ],
)
def test_keyword_metrics_refuse(arguments, error, message):
    with pytest.raises(error, match=message):
        keyword_metrics(*arguments)


def f1_from_rates(false_accept_rate, false_reject_rate, prevalence, words=20_000):
    """F1 of a set of one-word clips with the given rates in percent and the given share of keywords."""
    keywords = round(words * prevalence)
    fn, fp = round(keywords * false_reject_rate / 100), round((words - keywords) * false_accept_rate / 100)
    tp, tn = keywords - fn, words - keywords - fp
    references = [["A"]] * (tp + fn) + [["x"]] * (fp + tn)
    hypotheses = [["A"]] * tp + [["x"]] * fn + [["A"]] * fp + [["x"]] * tn
    return keyword_metrics(references, hypotheses, ["A"])["f1"]


@pytest.mark.parametrize(("rows", "prevalence"), [(HUMAN_ROWS, 0.148), (LARGE_ROWS, 0.032)])
def test_word_counting_explains_table_2(rows, prevalence):
    """One keyword prevalence per set turns the paper's rates into its F1, within 1.1 points in all eight rows."""
    for false_accept_rate, false_reject_rate, f1 in rows:
        assert f1_from_rates(false_accept_rate, false_reject_rate, prevalence) == pytest.approx(f1, abs=1.1)
        # Not vacuous: with a share of keywords a quarter larger, every row is off by more than three points.
        assert f1_from_rates(false_accept_rate, false_reject_rate, 1.25 * prevalence) > f1 + 3.0
