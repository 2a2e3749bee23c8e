"""Values by hand, scikit-learn as an oracle, invariances, injected faults."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, precision_score, recall_score

from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.training.metrics import (
    average_precision,
    calibration_metrics,
    classification_metrics,
    decision_metrics,
)


# Average precision


def test_average_precision_by_hand():
    # In descending order the targets are 1, 0, 1: half of the recall at precision 1/1, the other half at 2/3.
    assert average_precision([0.9, 0.6, 0.4], [1, 0, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # The two at 0.6 are one threshold: half of the recall at 1/1, the other half at 2/3, in whichever order they come.
    assert average_precision([0.9, 0.6, 0.6], [1, 0, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision([0.9, 0.6, 0.6], [1, 1, 0]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # All tied: the prevalence.
    assert average_precision([0.0, 0.0, 0.0, 0.0], [0, 0, 1, 0]) == pytest.approx(0.25)


def test_average_precision_without_positives_is_nan():
    assert np.isnan(average_precision([0.1, 0.2], [0, 0]))
    assert np.isnan(average_precision([], []))


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
def test_average_precision_equals_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    for _ in range(100):
        targets = rng.random(rng.integers(1, 60)) < rng.random()
        targets[rng.integers(targets.size)] = True
        scores = rng.integers(levels, size=targets.size) / levels
        assert average_precision(scores, targets) == pytest.approx(average_precision_score(targets, scores), abs=1e-12)


def test_average_precision_depends_on_order_alone():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=200), rng.random(200) < 0.3
    assert average_precision(1 / (1 + np.exp(-logits)), targets) == average_precision(logits, targets)


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([0.1, 0.2], [1], r"shape \(N,\), got \(2,\) and \(1,\)"),
        ([[0.1]], [[1]], r"shape \(N,\)"),
        ([0.1, float("nan")], [1, 0], "row 1 of scores holds NaN"),
        ([0.1, 0.2], [1, 2], "row 1 of targets"),
    ],
)
def test_average_precision_refuses(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        average_precision(scores, targets)


# Classification


def test_classification_metrics_by_hand():
    scores = [[0.9, 0.2, 0.5], [0.6, 0.7, 0.5], [0.4, 0.1, 0.5]]
    labels = [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert classification_metrics(scores, labels, ["Profanity", "Bullying", "Other"]) == {
        "AP_Profanity": pytest.approx(100 * 5 / 6),  # targets in descending order 1, 0, 1
        "AP_Bullying": 100.0,
        "AP_Other": None,  # no clip has it, and it does not enter the mean
        "mAP": pytest.approx(100 * (5 / 6 + 1) / 2),
        "support_Profanity": 2,
        "support_Bullying": 1,
        "support_Other": 0,
    }


def test_classification_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, len(LABELS))) < 0.2).astype(np.float32)
    scores = rng.normal(size=labels.shape).astype(np.float32).round(1)
    metrics = classification_metrics(scores, labels, LABELS)
    assert metrics["mAP"] == pytest.approx(100 * average_precision_score(labels, scores, average="macro"))
    for column, name in enumerate(LABELS):
        expected = 100 * average_precision_score(labels[:, column], scores[:, column])
        assert metrics[f"AP_{name}"] == pytest.approx(expected)


def test_classification_metrics_do_not_depend_on_the_order_of_clips():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=(50, 6)), rng.integers(8, size=(50, 6))
    order = rng.permutation(50)
    shuffled = classification_metrics(scores[order], labels[order], LABELS)
    assert shuffled == classification_metrics(scores, labels, LABELS)


def test_calibration_by_hand():
    scores = np.array([[0.25, 0.9], [0.21, 0.9], [0.75, 0.9], [1.0, 0.9]])
    labels = np.array([[0, 1], [1, 1], [1, 1], [1, 0]])
    # first label: bins 0.2 to 0.3 (mean score 0.23, share 1/2), 0.7 to 0.8 (0.75, 1), 0.9 to 1; second: (0.9, 3/4)
    errors = [(2 * 0.27 + 0.25 + 0) / 4, 0.15]
    brier = ((0.25**2 + 0.79**2 + 0.25**2 + 0) / 4 + (3 * 0.1**2 + 0.9**2) / 4) / 2
    metrics = calibration_metrics(scores, labels)
    assert metrics == pytest.approx({"brier_score": brier, "calibration_error": 100 * sum(errors) / 2})


def test_calibration_and_decisions_equal_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.random((200, 2))
    labels = (rng.random((200, 2)) < scores).astype(int)
    expected = np.mean([brier_score_loss(labels[:, column], scores[:, column]) for column in range(2)])
    assert calibration_metrics(scores, labels)["brier_score"] == pytest.approx(expected)
    metrics = decision_metrics(scores, labels, {"a": 0.3, "b": 0.8})
    for column, (name, threshold) in enumerate({"a": 0.3, "b": 0.8}.items()):
        reached = scores[:, column] >= threshold
        assert metrics[f"precision_{name}"] == pytest.approx(100 * precision_score(labels[:, column], reached))
        assert metrics[f"recall_{name}"] == pytest.approx(100 * recall_score(labels[:, column], reached))


def test_a_score_on_the_threshold_counts():
    assert decision_metrics([[0.5], [0.4]], [[1], [1]], {"a": 0.5}) == {"precision_a": 100, "recall_a": 50}


def test_calibration_and_decisions_without_clips():
    nothing = np.zeros((0, 1))
    assert calibration_metrics(nothing, nothing) == {"brier_score": None, "calibration_error": None}
    assert decision_metrics(nothing, nothing, {"a": 0.5}) == {"precision_a": None, "recall_a": None}


@pytest.mark.parametrize("clips", [0, 3])
def test_classification_metrics_without_positives_are_json(clips):
    metrics = classification_metrics(np.zeros((clips, 6)), np.zeros((clips, 6)), LABELS)
    assert metrics["mAP"] is None and metrics["AP_Racist"] is None and metrics["support_Racist"] == 0
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "labels", "names", "message"),
    [
        ([[0.1, 0.2]], [[1, 0], [0, 1]], ["a", "b"], "1 rows of scores but 2 of labels"),
        ([[0.1, 0.2], [0.3]], [[1, 0], [0, 1]], ["a", "b"], r"row 1 of scores has shape \(1,\).*2 labels"),
        ([[0.1, 0.2]], [[1]], ["a", "b"], "row 0 of labels has shape"),
        ([[0.1, 0.2]], [[1, 0]], ["a", "b", "c"], "3 labels"),
        ([[0.1, 0.2]], [[1, 0]], ["a", "a"], "must differ"),
        ([[0.1, 0.2], [0.3, float("nan")]], [[1, 0], [0, 1]], ["a", "b"], "row 1 of scores holds NaN"),
        ([[0.1, 0.2], [0.3, None]], [[1, 0], [0, 1]], ["a", "b"], "row 1 of scores holds NaN"),
        ([[0.1, 0.2]], [[0.5, 1]], ["a", "b"], r"row 0 of labels must hold only 0 and 1, got \[0.5, 1.0\]"),
        ([[0.1, 0.2]], [[float("nan"), 1]], ["a", "b"], "row 0 of labels must hold only 0 and 1"),
    ],
)
def test_classification_metrics_refuse(scores, labels, names, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(scores, labels, names)
