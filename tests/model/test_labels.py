import numpy as np
import pytest
import torch

from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.labels import LABELS, add_evidence, aggregate_windows, keyword_evidence, scores_from_logits


def test_scores_are_sigmoids():
    assert scores_from_logits([[0.0, np.log(3)], [-np.log(3), 40.0]]).tolist() == [
        [0.5, pytest.approx(0.75)],
        [pytest.approx(0.25), 1.0],
    ]
    logits = np.linspace(-30, 30, 101)
    np.testing.assert_allclose(scores_from_logits(logits), torch.sigmoid(torch.tensor(logits)), atol=1e-15)


@pytest.mark.filterwarnings("error")
def test_scores_of_extreme_logits():
    assert scores_from_logits(np.array([-1e4, 1e4], dtype=np.float32)).tolist() == [0.0, 1.0]


def test_keywords_count_for_their_labels_and_against_no_violation():
    names = ["Profanity", "Bullying", "NoViolation"]
    heard = [
        DetectedKeyword("damn", ("Profanity",), 0.0, 0.3, 0.5),
        DetectedKeyword("asshole", ("Profanity", "Bullying"), 0.5, 0.9, 0.8),
        DetectedKeyword("pipe bomb", ("Other",), 1.0, 1.5, 0.9),  # a label that this model does not have
    ]
    evidence = [keyword_evidence(heard, names), keyword_evidence([], names)]
    assert np.array(evidence).tolist() == [[0.8, 0.8, 0.9], [0.0, 0.0, 0.0]]
    logits = add_evidence(np.ones((2, 3)), evidence, {"Profanity": 2.0, "NoViolation": -10.0}, names)
    assert logits.tolist() == [[2.6, 1.0, -8.0], [1.0, 1.0, 1.0]]
    assert add_evidence(np.ones((2, 3)), evidence, None, names).tolist() == np.ones((2, 3)).tolist()


def test_aggregate_windows_takes_the_worst_window():
    windows = [[0.1, 0.8, 0.9], [0.7, 0.2, 0.3]]
    assert aggregate_windows(windows, ["Profanity", "Bullying", "NoViolation"]).tolist() == [0.7, 0.8, 0.3]
    assert aggregate_windows(windows, ["Profanity", "Bullying", "Other"]).tolist() == [0.7, 0.8, 0.9]


def test_aggregate_windows_of_one_window_is_that_window():
    scores = np.arange(6, dtype=np.float32)
    clip_scores = aggregate_windows(scores[None], LABELS)
    assert clip_scores.dtype == np.float32 and clip_scores.tolist() == scores.tolist()


@pytest.mark.parametrize("shape", [(0, 6), (2, 5), (6,)])
def test_aggregate_windows_refuses(shape):
    with pytest.raises(ValueError, match=r"\(windows >= 1, 6 labels\)"):
        aggregate_windows(np.zeros(shape), LABELS)
