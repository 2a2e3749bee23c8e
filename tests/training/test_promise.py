"""Thresholds with a promise: exact bounds, and how often they fail."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import save_tiny_model, write_corpus
from scipy import stats

from modeling_toxmtl import LABELS
from modeling_toxmtl.labels import VIOLATIONS
from modeling_toxmtl.training import calibration
from modeling_toxmtl.training.calibration import CalibrationArguments
from modeling_toxmtl.training.promise import (
    Goal,
    _clips_at_share,
    allowed_errors,
    choose_promised,
    clips_needed,
    promised_precision,
    promised_threshold,
)


def test_rule_of_three_hundred():
    """A share of 1 % at 95 % needs 299 clips without an error, and 473 for one error."""
    assert clips_needed(0.01, 0.95) == 299 and clips_needed(0, 0.95) is None
    assert allowed_errors(298, 0.01, 0.95) is None and allowed_errors(299, 0.01, 0.95) == 0
    assert allowed_errors(472, 0.01, 0.95) == 0 and allowed_errors(473, 0.01, 0.95) == 1


def test_figures_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "promises.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) % \| (\d+) \| (\d+) % \| ([\d,]+) \|$", page, flags=re.M)
    assert len(rows) == 4
    for rate, windows, confidence, clips in rows:
        goal = Goal("max_fpr", int(rate) / 100, int(confidence) / 100, int(windows))
        assert f"{clips_needed(goal.max_errors, goal.confidence):,}" == clips


def test_too_few_clips_are_refused_with_the_number_needed():
    with pytest.raises(ValueError, match=r"max_fpr 0.01 at a confidence of 0.95 needs 299 things, and there are 298"):
        promised_threshold(np.zeros(298), Goal("max_fpr", 0.01), "things")
    with pytest.raises(ValueError, match="needs 2,995 things"):  # ten windows have ten chances
        promised_threshold(np.zeros(299), Goal("max_fpr", 0.01, windows=10), "things")
    with pytest.raises(ValueError, match="min_recall 1 .* cannot be promised by any number of clips"):
        promised_threshold(np.zeros(299), Goal("min_recall", 1.0), "things")
    with pytest.raises(ValueError, match="1 things have a score of 1"):
        promised_threshold(np.ones(299), Goal("max_fpr", 0.01), "things")


def test_thresholds_by_hand():
    """Of 473 harmless clips one may be reported: the second highest score is just below the threshold."""
    scores = np.arange(473) / 1000
    promise = promised_threshold(scores, Goal("max_fpr", 0.01), "clips")
    assert promise.threshold == pytest.approx(0.471001) and promise.errors == 1 and promise.bound <= 0.01
    promise = promised_threshold(scores, Goal("min_recall", 0.99), "clips")
    assert promise.threshold == pytest.approx(0.001) and promise.errors == 1
    ties = promised_threshold(np.full(473, 0.3), Goal("max_fpr", 0.01), "clips")
    assert ties.threshold == pytest.approx(0.300001) and ties.errors == 0


@pytest.mark.parametrize("digits", [6, 2])
@pytest.mark.parametrize("scope", ["decision", "label"])
@pytest.mark.parametrize(("kind", "rate"), [("max_fpr", 0.05), ("min_recall", 0.9), ("min_precision", 0.6)])
def test_promises_fail_no_more_often_than_their_confidence_says(kind, rate, scope, digits):
    """On 400 sets drawn from 50,000 clips, whose true rates are known: a promise at 90 % fails in a tenth of them or
    less, whether scores are all different or many are equal."""
    rng, goal, failures, names = np.random.default_rng(0), Goal(kind, rate, confidence=0.9), 0, list(LABELS)
    size = (50_000, len(LABELS) if scope == "decision" else 1)
    population = np.broadcast_to(rng.random(size).round(digits), (50_000, len(LABELS)))
    judged = population[:, : len(VIOLATIONS)].max(1)
    is_right = rng.random(50_000) < judged ** (len(VIOLATIONS) if scope == "decision" else 1)  # half of all
    truth = np.repeat(is_right[:, None], len(LABELS), axis=1)
    concerned = {"max_fpr": ~is_right, "min_recall": is_right, "min_precision": np.ones(50_000, bool)}[kind]
    for _ in range(400):
        drawn = rng.choice(np.flatnonzero(concerned), 300)
        threshold = choose_promised(population[drawn], truth[drawn], names, goal, scope)["Racist"].threshold
        reported = judged >= threshold
        rates = {
            "max_fpr": reported[~is_right].mean(),
            "min_recall": 1 - reported[is_right].mean(),
            "min_precision": 1 - is_right[reported].mean(),
        }
        failures += rates[kind] > goal.max_errors
    assert failures <= stats.binom.ppf(0.999, 400, 0.1)
    assert failures >= 10 or kind == "min_precision" or digits < 6  # and it is no more careful than it must be


def test_thresholds_hold_for_scores_as_they_are_and_as_they_are_recorded():
    """Records round to six digits, which may lift a score to the threshold, and floats are no decimal numbers."""
    for score in (0.056, 0.0560004, 0.0560006, 0.0559996, 0.1 + 0.2, *(np.arange(1, 1000) / 1000 - 2.4e-6)):
        scores = np.full(300, score)
        above = promised_threshold(scores, Goal("max_fpr", 0.01), "clips").threshold
        assert max(score, round(score, 6)) < above <= score + 2.1e-6
        below = promised_threshold(scores, Goal("min_recall", 0.99), "clips").threshold
        assert min(score, round(score, 6)) >= below >= score - 1.1e-6


def test_precision_by_hand():
    """Of 101 clips, the 100 with the highest scores are tried, then 66, 44, 29: at 95 %, each at a quarter of 5 %."""
    goal, scores = Goal("min_precision", 0.9), np.arange(101) / 1000
    is_right = scores >= 0.046  # the highest 55
    promise = promised_precision(scores, is_right, goal, "clips")
    assert (promise.threshold, promise.clips, promise.errors) == (0.056001, 44, 0)
    assert promise.bound == pytest.approx(1 - 0.0125 ** (1 / 44)) and promise.bound < 0.1
    wrong = is_right & (scores != 0.1)
    with pytest.raises(ValueError, match=r"min_precision 0.9 .* at best, 43 of 44 clips are right; about \d+ clips"):
        promised_precision(scores, wrong, goal, "clips")
    with pytest.raises(ValueError, match="needs 29 clips, and there are 28"):
        promised_precision(scores[:29], is_right[:29], goal, "clips")
    with pytest.raises(ValueError, match="at best, 0 of 100 clips are right; more would not do"):
        promised_precision(scores, np.zeros(101, bool), goal, "clips")


@pytest.mark.parametrize(("corrected", "cure"), [(0, "more would not do"), (10, r"about [\d,]+ clips like these")])
def test_reports_that_are_wrong_as_often_as_allowed_are_refused_at_once(corrected, cure):
    """1 - 0.95 is a hair more than 5 of 100, and no number of clips will do; just below, very many do."""
    scores, is_right = np.linspace(0.99, 0.01, 100_001), np.arange(100_001) % 100 >= 5
    is_right[: 10_000 * corrected : 10_000] = True
    with pytest.raises(ValueError, match=f"min_precision 0.95 at a confidence of 0.95 is not kept .*; {cure}"):
        promised_precision(scores, is_right, Goal("min_precision", 0.95), "clips")


@pytest.mark.parametrize(("wrong", "reports"), [(0, 40), (1, 60), (45, 1000)])
def test_about_as_many_clips_as_are_named_would_do(wrong, reports):
    """A fifth more do, and half of them do not, where as large a share is wrong."""
    clips = _clips_at_share(wrong, reports, 0.05, 0.95, reports)
    for factor, keeps in ((1.2, True), (0.5, False)):
        more = factor * clips / reports
        chance = stats.binom.cdf(round(wrong * more), round(reports * more), 0.05)
        assert (chance <= 0.05) == keeps


def test_longer_recordings_have_more_chances():
    """With a tenth of the rate for each of ten windows, recordings of ten are kept below the rate."""
    rng = np.random.default_rng(1)
    scores = rng.random(4000)
    one, ten = (promised_threshold(scores, Goal("max_fpr", 0.05, windows=n), "clips").threshold for n in (1, 10))
    recordings = rng.random((20_000, 10)).max(1)
    assert (recordings >= ten).mean() <= 0.05 < (recordings >= one).mean()


def test_labels_are_promised_each_by_itself():
    """By the clips without it, whatever else they have; and NoViolation by none."""
    scores = np.full((600, len(LABELS)), 0.1)
    targets = np.zeros_like(scores)
    targets[:300, 0], scores[:300, 0] = 1, 0.9  # half the clips have Profanity
    scores[300:, 1] = 0.4
    names, goal = list(LABELS), Goal("max_fpr", 0.01)
    promises = choose_promised(scores, targets, names, goal, "label")
    assert set(promises) == set(VIOLATIONS)
    assert [promises[name].threshold for name in VIOLATIONS[:3]] == pytest.approx([0.100001, 0.400001, 0.100001])
    assert promises["Profanity"].clips == 300 and promises["Racist"].clips == 600
    decision = choose_promised(scores, targets, names, goal, "decision")  # by the clips that have no violation
    assert [decision[name].threshold for name in VIOLATIONS] == pytest.approx([0.400001] * len(VIOLATIONS))
    with pytest.raises(ValueError, match="needs 299 clips with DatingAndSexting, and there are 0"):
        choose_promised(scores, targets, names, replace(goal, kind="min_recall", rate=0.99), "label")


def test_command(tmp_path):
    """Scores stay; thresholds and the promise go into the folder, and a new calibration takes the promise away."""
    folder = save_tiny_model(tmp_path / "model")
    write_corpus(tmp_path / "clips", train=1, validation=12, test=1)
    weights = (folder / "model.safetensors").read_bytes()
    options = {"dataset": str(tmp_path / "clips"), "max_fpr": 0.5, "confidence": 0.8}
    stated = calibration.main(CalibrationArguments(str(folder), **options))
    written = json.loads((folder / "calibration.json").read_text())
    assert written["promises"] == stated and written["clips"] == 12 and written["scope"] == "decision"
    thresholds = json.loads((folder / "config.json").read_text())["label_thresholds"]
    assert {thresholds[name] for name in VIOLATIONS} == {stated["Racist"]["threshold"]}
    assert (folder / "model.safetensors").read_bytes() == weights
    with pytest.raises(ValueError, match="clips without a violation, and there are"):
        calibration.main(CalibrationArguments(str(folder), **{**options, "max_fpr": 0.01}))
    calibration.main(CalibrationArguments(str(folder), dataset=options["dataset"]))
    assert not Path(folder, "calibration.json").exists()
    with pytest.raises(ValueError, match="--max-fpr and --min-precision exclude each other"):
        CalibrationArguments("m", min_precision=0.5, max_fpr=0.5)
    with pytest.raises(ValueError, match="--windows is for --max-fpr alone"):
        CalibrationArguments("m", min_precision=0.5, windows=2)
