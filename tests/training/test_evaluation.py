import itertools
import math

import numpy as np
import pytest
import torch
from helpers import RATE, SPEECH_FRAMES, dataset_of, record, spell, tiny_processor
from tiny_models import tiny_config
from transformers import EvalPrediction

from modeling_toxmtl.training.dataset import ToxicityDataset
from modeling_toxmtl.training.evaluation import ClipEvaluation, ClipPrediction, markdown_table
from modeling_toxmtl.training.metrics import classification_metrics, keyword_metrics


FRAMES = 49  # of a second
# One row per window; columns Profanity, DatingAndSexting, Racist, Bullying, Other, NoViolation
LOGITS = np.array(
    [
        [-1.0, -9, -9, -9, -9, 3.0],  # clip a, 0 to 1 s
        [2.0, -9, -9, -9, -9, -2.0],  # clip a, 1 to 2 s
        [0.0, -9, -9, -9, -9, 1.0],  # clip a, 2 to 2.5 s
        [0.5, -9, -9, -9, -9, 1.0],  # clip b
        [-1.0, -9, -9, -9, -9, 2.0],  # clip c
    ]
)
EVIDENCE = {"Profanity": 2.0, "NoViolation": -3.0}
BLANKS = "_" * 10
# clip a's last window has 24 frames; what follows is padding
TEXTS = [f"{BLANKS}go_od", f"{BLANKS}damn", "_" * 24 + "damn", f"{BLANKS}go_od crap", f"{BLANKS}damn"]
KEYWORD_LOGITS = np.stack([spell(text, FRAMES) for text in TEXTS])


def clips():
    """Clip a is heard in three windows, c has no transcript."""
    return [
        record("a", None, ["Profanity"], "well damn, shut up", num_samples=RATE * 5 // 2),
        record("b", None, ["NoViolation"], "hi there", num_samples=RATE),
        record("c", None, ["Profanity"], None, num_samples=RATE),
    ]


def dataset(rows=None, **config) -> ToxicityDataset:
    config = tiny_config(**SPEECH_FRAMES, **config)
    return ToxicityDataset(dataset_of(*(rows or clips())), tiny_processor(), config, window_seconds=1.0)


def run(evaluation: ClipEvaluation, *outputs: np.ndarray, sizes=(2, 2, 1)) -> dict[str, float]:
    """Feeds the outputs batch by batch, as the trainer does; they are given clip by clip, window by window."""
    windows = evaluation.dataset.windows
    outputs = [output[[sorted(windows).index(window) for window in windows]] for output in outputs]
    ends = np.cumsum(sizes)
    assert ends[-1] == len(outputs[0])
    for start, end in zip(ends - sizes, ends, strict=True):
        batch = tuple(torch.tensor(output[start:end]) for output in outputs)
        is_last = bool(end == ends[-1])
        metrics = evaluation(EvalPrediction(batch if len(batch) > 1 else batch[0], None), compute_result=is_last)
        assert is_last or metrics == {}
    return metrics


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# --- both tasks


def test_metrics_by_hand():
    metrics = run(ClipEvaluation(dataset()), LOGITS, KEYWORD_LOGITS)
    # Profanity: a 2.0 (hit), b 0.5 (miss), c -1.0 (hit): (1/1 + 2/3) / 2; a mean over a's windows ranks it below b
    # NoViolation: c 2.0 (miss), b 1.0 (hit), a -2.0: 1/2; a maximum over a's windows would give 1/3
    classification = {
        "AP_Profanity": 100 * 5 / 6,
        "AP_NoViolation": 50,
        "mAP": 100 * (5 / 6 + 1 / 2) / 2,
        "support_Profanity": 2,
        "support_NoViolation": 1,
    } | {f"support_{name}": 0 for name in ("DatingAndSexting", "Racist", "Bullying", "Other")}
    # each score in a bin of its own, but for the other labels
    logits = np.array([[2.0, -2.0], [0.5, 1.0], [-1.0, 2.0]])
    scores, targets, other = 1 / (1 + np.exp(-logits)), np.array([[1, 0], [0, 1], [1, 0]]), sigmoid(-9)
    calibration = {
        "brier_score": (np.square(scores - targets).sum() + 4 * 3 * other**2) / 18,
        "calibration_error": 100 * (np.abs(scores - targets).sum() + 4 * 3 * other) / 18,
        "precision_Profanity": 50,  # a, b
        "recall_Profanity": 50,
        "precision_NoViolation": 50,  # b, c
        "recall_NoViolation": 100,
    }
    # a: good/good (tn), damn/damn (tp), shut up/nothing (fn); b: good/good (tn), good/crap (fp); c does not count
    keyword = {
        "false_accept_rate": 100 / 3,
        "false_reject_rate": 50,
        "precision": 50,
        "recall": 50,
        "f1": 50,
        "weighted_ap": 100 * (1 + 1 / 5) / 2,  # "shut up" is found in no slot: one of five
        "weighted_ap_scores": 100 * (1 + 1 / 5) / 2,
        "tp": 1,
        "fp": 1,
        "fn": 1,
        "tn": 2,
        "support": 2,
    }
    expected = classification | calibration | {f"keyword_{name}": value for name, value in keyword.items()}
    expected["quality"] = (classification["mAP"] + 50) / 2
    assert metrics == pytest.approx(expected)


def test_predictions_join_the_windows_of_a_clip():
    evaluation = ClipEvaluation(dataset())
    run(evaluation, LOGITS, KEYWORD_LOGITS)
    a, b, c = evaluation.predictions
    assert [clip.id for clip in (a, b, c)] == ["a", "b", "c"]
    assert a.scores["Profanity"] == pytest.approx(sigmoid(2.0))
    assert a.scores["NoViolation"] == pytest.approx(sigmoid(-2.0))
    assert b.scores["Profanity"] == pytest.approx(sigmoid(0.5))
    assert list(a.scores) == list(evaluation.config.label2id)
    assert "Profanity" in a.violations and "Profanity" not in c.violations and "NoViolation" not in c.violations
    assert [clip.words for clip in (a, b, c)] == [["good", "damn"], ["good", "crap"], ["damn"]]
    (keyword,) = a.keywords
    assert keyword.keyword == "damn" and keyword.labels == ("Profanity",)
    # second window; frames of 20 ms, "damn" in frames 10 to 13
    assert (keyword.start, keyword.end) == pytest.approx((1.2, 1.28))
    assert 0.9 < keyword.score <= 1
    assert (c.keywords[0].start, c.keywords[0].end) == pytest.approx((0.2, 0.28))


def test_keywords_count_in_the_scores_of_their_labels():
    """Those of each window in the scores of that window."""
    plain, evaluation = (ClipEvaluation(dataset(**fields)) for fields in ({}, {"keyword_evidence": EVIDENCE}))
    without = run(plain, LOGITS, KEYWORD_LOGITS)
    metrics = run(evaluation, LOGITS, KEYWORD_LOGITS)
    a, b, c = evaluation.predictions
    said = [clip.keywords[0].score for clip in (a, b, c)]
    assert [clip.scores["Profanity"] for clip in (a, b, c)] == pytest.approx(
        [sigmoid(logit + 2 * score) for logit, score in zip([2.0, 0.5, -1.0], said, strict=True)]
    )
    assert a.scores["NoViolation"] == pytest.approx(sigmoid(-2 - 3 * said[0]))
    assert a.scores["Other"] == pytest.approx(sigmoid(-9))
    assert metrics["mAP_classifier"] == without["mAP"] and "mAP_classifier" not in without
    logits, evidence, targets = evaluation.labelled_parts()
    assert logits.tolist() == plain.labelled()[0].tolist() and targets.tolist() == plain.labelled()[1].tolist()
    assert evidence[:, 0].tolist() == evidence[:, -1].tolist() == said and not evidence[:, 1:-1].any()


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (5,), (4, 1)])
def test_batch_size_does_not_matter(sizes):
    expected, evaluation = ClipEvaluation(dataset()), ClipEvaluation(dataset())
    assert run(evaluation, LOGITS, KEYWORD_LOGITS, sizes=sizes) == run(expected, LOGITS, KEYWORD_LOGITS)
    assert evaluation.predictions == expected.predictions


def test_evaluations_do_not_add_up():
    evaluation, fresh = ClipEvaluation(dataset()), ClipEvaluation(dataset())
    run(evaluation, LOGITS, KEYWORD_LOGITS)
    metrics = run(evaluation, -LOGITS, np.roll(KEYWORD_LOGITS, 1, axis=0))
    assert metrics == run(fresh, -LOGITS, np.roll(KEYWORD_LOGITS, 1, axis=0))
    assert evaluation.predictions == fresh.predictions
    assert metrics != run(fresh, LOGITS, KEYWORD_LOGITS)


def test_phrase_is_one_word():
    rows = [record("a", None, None, "now shut up", num_samples=RATE)]
    evaluation = ClipEvaluation(dataset(rows, tasks=["keyword"]))
    metrics = run(evaluation, spell("go_od shut up", FRAMES)[None], sizes=(1,))
    assert evaluation.predictions[0].words == ["good", "shut up"]
    assert (metrics["keyword_tp"], metrics["keyword_tn"], metrics["keyword_support"]) == (1, 1, 1)


# --- what is left out


def test_clips_without_labels_do_not_count():
    rows = clips()
    rows[1]["labels"] = None
    metrics = run(ClipEvaluation(dataset(rows)), LOGITS, KEYWORD_LOGITS)
    assert metrics["AP_Profanity"] == metrics["mAP"] == 100  # of a and c
    assert "AP_NoViolation" not in metrics and metrics["support_NoViolation"] == 0


def test_no_labels_at_all():
    rows = [{**row, "labels": None} for row in clips()]
    evaluation = ClipEvaluation(dataset(rows))
    metrics = run(evaluation, LOGITS, KEYWORD_LOGITS)
    assert not any(name.startswith(("AP_", "mAP")) for name in metrics)
    assert metrics["quality"] == metrics["keyword_f1"] == pytest.approx(50)
    assert evaluation.predictions[0].scores["Profanity"] == pytest.approx(sigmoid(2.0))  # still predicted


def test_no_transcripts_at_all():
    rows = [{**row, "transcript": None} for row in clips()]
    metrics = run(ClipEvaluation(dataset(rows)), LOGITS, KEYWORD_LOGITS)
    assert "keyword_f1" not in metrics and metrics["keyword_support"] == 0
    assert metrics["quality"] == metrics["mAP"]


# --- single tasks


def test_classifier_alone():
    evaluation = ClipEvaluation(dataset(tasks=["classification"]))
    metrics = run(evaluation, LOGITS)
    assert metrics["mAP"] == pytest.approx(200 / 3)
    assert metrics["quality"] == metrics["mAP"]
    assert not any(name.startswith("keyword") for name in metrics)
    prediction = evaluation.predictions[0]
    assert prediction.keywords is prediction.words is None
    assert prediction.scores["Profanity"] == pytest.approx(sigmoid(2.0))


def test_keyword_head_alone():
    evaluation = ClipEvaluation(dataset(tasks=["keyword"]))
    metrics = run(evaluation, KEYWORD_LOGITS)
    assert metrics["quality"] == metrics["keyword_f1"] == pytest.approx(50)
    assert not any("AP" in name or name.startswith("support") for name in metrics)
    assert evaluation.predictions[0].scores is None
    assert evaluation.predictions[0].words == ["good", "damn"]


def test_order_of_tasks_is_not_that_of_outputs():
    """The model's output always has the label logits first."""
    evaluation = ClipEvaluation(dataset(tasks=["keyword", "classification"]))
    metrics = run(evaluation, LOGITS, KEYWORD_LOGITS)
    assert metrics == run(ClipEvaluation(dataset()), LOGITS, KEYWORD_LOGITS)


# --- output


def test_confidence_intervals_are_those_of_all_resamples():
    """Three labelled clips have 27 resamples and two transcribed ones 4: the bootstrap draws from these."""
    evaluation = ClipEvaluation(dataset())
    run(evaluation, LOGITS, KEYWORD_LOGITS)
    logits = np.array([[2.0, -9, -9, -9, -9, -2.0], LOGITS[3], LOGITS[4]])
    targets = np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]])
    names = list(evaluation.config.label2id)
    all_of_three = [list(rows) for rows in itertools.product(range(3), repeat=3)]
    drawn = [classification_metrics(logits[rows], targets[rows], names) for rows in all_of_three]
    said, heard = [["good", "damn", "shut up"], ["good", "good"]], [["good", "damn"], ["good", "crap"]]
    pairs = [list(rows) for rows in itertools.product(range(2), repeat=2)]
    keywords = evaluation.processor.keywords.keywords
    drawn_words = [keyword_metrics([said[i] for i in rows], [heard[i] for i in rows], keywords) for rows in pairs]

    intervals = evaluation.confidence_intervals(resamples=3000)
    assert set(intervals) == {
        *("AP_Profanity", "AP_NoViolation", "mAP"),
        *("keyword_false_accept_rate", "keyword_false_reject_rate", "keyword_f1"),
    }
    for name, (low, high) in intervals.items():
        metrics, key = (drawn_words, name[8:]) if name.startswith("keyword_") else (drawn, name)
        values = [clip[key] for clip in metrics if clip[key] is not None]
        assert (low, high) == pytest.approx(tuple(np.percentile(np.repeat(values, 100), [2.5, 97.5])), abs=0.5), name
    assert intervals == evaluation.confidence_intervals(resamples=3000)


def test_prediction_as_json():
    evaluation = ClipEvaluation(dataset())
    run(evaluation, LOGITS, KEYWORD_LOGITS)
    score = evaluation.predictions[0].keywords[0].score
    fields = evaluation.predictions[0].to_dict()
    assert fields["id"] == "a" and fields["words"] == ["good", "damn"]
    assert fields["keywords"] == [
        {"keyword": "damn", "labels": ("Profanity",), "start": 1.2, "end": 1.28, "score": score}
    ]
    assert ClipPrediction("x", None, None, None, None).to_dict() == {
        "id": "x",
        "scores": None,
        "violations": None,
        "keywords": None,
        "words": None,
    }


def test_markdown_table():
    metrics = {"AP_Profanity": 12.346, "AP_NoViolation": 100.0, "mAP": 56.173, "keyword_f1": 0.0, "loss": 3.0}
    lines = markdown_table({"MTL": (94_604_950, metrics), "Audio to Keyword": (94_406_544, {})}).split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == [
        *("Model", "Params (M)", "Profanity", "Dating & Sexting", "Racist", "Bullying", "Other", "No Violation"),
        *("mAP", "False Accept Rate", "False Reject Rate", "Weighted AP", "F1"),
    ]
    assert cells[1] == ["---"] + ["---:"] * 12
    assert cells[2] == ["MTL", "94.6", "12.35", *"----", "100.00", "56.17", *"---", "0.00"]
    assert cells[3] == ["Audio to Keyword", "94.4", *"-" * 11]
    assert len(lines) == 4
