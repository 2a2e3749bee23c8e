"""Scale, offset and threshold of each label: by oracle, by hand, and through the model."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import save_tiny_model, tiny_model, tiny_speech_model, write_corpus
from sklearn.linear_model import LogisticRegression

from modeling_toxmtl import LABELS, WavLMForToxicityMTL
from modeling_toxmtl.labels import NO_VIOLATION, scores_from_logits
from modeling_toxmtl.training import calibration
from modeling_toxmtl.training.calibration import (
    SMALLEST_SCALE,
    CalibrationArguments,
    LabelCalibration,
    apply,
    choose_threshold,
    fit,
    fit_scale,
    markdown,
    uncalibrated,
)
from modeling_toxmtl.training.metrics import calibration_metrics


def overconfident(size: int = 20_000, seed: int = 0):
    """Logits thrice as far from 1 as those that the labels were drawn by."""
    generator = np.random.default_rng(seed)
    true_logits = generator.normal(-1, 1.5, size)
    targets = generator.random(size) < scores_from_logits(true_logits)
    return 3 * true_logits + 1, targets.astype(float)


# --- scale and offset


def test_true_probabilities_are_found():
    logits, targets = overconfident()
    scale, offset, _ = fit_scale(logits, targets)
    assert (scale, offset) == pytest.approx((1 / 3, -1 / 3), rel=0.1)
    before, after = (
        calibration_metrics(scores_from_logits(values)[:, None], targets[:, None])
        for values in (logits, scale * logits + offset)
    )
    assert before["calibration_error"] > 5 > 1.5 > after["calibration_error"]
    assert after["brier_score"] < before["brier_score"]


def test_equals_logistic_regression_where_smoothing_counts_nothing():
    logits, targets = overconfident()
    oracle = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], targets)
    expected = oracle.coef_.item(), oracle.intercept_.item(), 0.0
    assert fit_scale(logits, targets) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_weight_of_keywords_is_that_of_logistic_regression(sign):
    generator = np.random.default_rng(1)
    logits, evidence = generator.normal(size=20_000), generator.integers(0, 2, 20_000).astype(float)
    targets = (generator.random(20_000) < scores_from_logits(0.5 * logits + 2 * sign * evidence)).astype(float)
    oracle = LogisticRegression(C=np.inf, tol=1e-8).fit(np.stack([logits, evidence], 1), targets)
    scale, weight = oracle.coef_[0]
    expected = scale, oracle.intercept_.item(), weight
    assert fit_scale(logits, targets, evidence, sign) == pytest.approx(expected, abs=5e-3)


def test_a_keyword_never_speaks_against_its_label_nor_for_no_violation():
    evidence = np.array([1.0, 0.0] * 50)
    for sign in (1, -1):
        against = evidence if sign == -1 else 1 - evidence  # the data say the contrary
        *_, weight = fit_scale(np.zeros(100), against, evidence, sign)
        assert 0 <= weight * sign < 1e-3


def test_separated_clips_do_not_become_certain():
    """Platt's targets: 3/4 for two clips with the label, 1/5 for three without."""
    scale, offset, _ = fit_scale(np.array([5.0, 5, -5, -5, -5]), np.array([1.0, 1, 0, 0, 0]))
    scores = scores_from_logits(scale * np.array([5.0, -5]) + offset)
    assert scores == pytest.approx([3 / 4, 1 / 5], abs=1e-3)


def test_order_is_kept_even_where_it_is_wrong():
    scale, offset, _ = fit_scale(np.arange(10.0), (np.arange(10) < 5).astype(float))
    assert scale == pytest.approx(SMALLEST_SCALE)
    scores = scores_from_logits(scale * np.arange(10.0) + offset)
    assert (np.diff(scores) > 0).all() and scores.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("spread", [1e-12, 1e-8, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("targets", [[0, 1], [0, 0, 1], [1, 0, 1, 1, 0]])
def test_labels_that_few_clips_tell_apart_have_finite_scales(spread, targets):
    """Told apart without error, by logits of any size: the likeliest scale may be beyond all bounds."""
    targets = np.array(targets)
    for logits in (spread * targets, spread * (targets - 0.5) + 1e-3, spread * (1.0 - targets)):
        for evidence in (None, spread * targets):
            assert np.isfinite(fit_scale(logits, targets, evidence)).all()


# --- thresholds


SCORES = np.array([0.9, 0.8, 0.6, 0.6, 0.2])
TARGETS = np.array([1, 0, 1, 1, 0])


def test_threshold_of_the_best_f1_by_hand():
    # F1 at 0.9: 2/4; 0.8: 2/5; 0.6: 6/7; 0.2: 6/8
    assert choose_threshold(SCORES, TARGETS) == pytest.approx(0.4)
    assert choose_threshold(SCORES, TARGETS[::-1]) == pytest.approx(0.1)  # even the last clip has it


# --- labels and models


def test_labels_without_evidence_stay_as_they_are(caplog):
    logging.getLogger("transformers").addHandler(caplog.handler)
    logits = np.random.default_rng(0).normal(size=(6, 3))
    targets = np.array([[0, 1, value] for value in (0, 1, 1, 0, 1, 0)])
    fitted = fit(logits, targets, {"never": 0.2, "always": 0.5, "sometimes": 0.5})
    assert fitted["never"] == LabelCalibration(threshold=0.2) and fitted["always"] == LabelCalibration()
    assert fitted["sometimes"].scale != 1
    assert "never: not calibrated" in caplog.text and "always: not calibrated" in caplog.text
    with pytest.raises(ValueError, match="no labelled clips to calibrate on"):
        fit(logits[:0], targets[:0], dict.fromkeys("abc", 0.5))


@pytest.mark.parametrize("system", [{}, {"use_info_sharing": True}, {"tasks": ["classification"]}])
def test_the_models_logits_are_scaled(system, tmp_path):
    model = tiny_model(**system).eval()
    audio = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(audio).logits.numpy()
    scales, offsets = np.linspace(0.5, 2, len(LABELS)), np.linspace(-1, 1, len(LABELS))
    calibrations = {
        label: LabelCalibration(scale, offset, 0.25)
        for label, scale, offset in zip(LABELS, scales.tolist(), offsets.tolist(), strict=True)
    }
    apply(model, calibrations)
    model.save_pretrained(tmp_path)
    loaded = WavLMForToxicityMTL.from_pretrained(tmp_path)
    with torch.no_grad():
        after = loaded(audio).logits.numpy()
    np.testing.assert_allclose(after, before * scales + offsets, atol=1e-5)
    np.testing.assert_allclose(uncalibrated(after, calibrations), before, atol=1e-5)
    assert loaded.config.thresholds == dict.fromkeys(LABELS, 0.25)


def test_keywords_decide_where_the_classifier_does_not_know():
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 1]] * 10)
    evidence = np.array([[1.0, 1], [1, 1], [0, 0], [0, 0]] * 10)
    thresholds = {"Profanity": 0.5, NO_VIOLATION: 0.5}
    calibrations = fit(np.zeros((40, 2)), targets, thresholds, evidence=evidence)
    assert calibrations["Profanity"].evidence > 3 and calibrations[NO_VIOLATION].evidence < -3
    model = tiny_model(id2label=dict(enumerate(thresholds)))
    apply(model, calibrations)
    assert model.config.keyword_evidence["Profanity"] == calibrations["Profanity"].evidence
    apply(model, fit(np.zeros((40, 2)), targets, thresholds))
    assert model.config.keyword_evidence is None


def test_table():
    assert "| Other | 0.500 | -1.000 | 0.250 | 0.000 |" in markdown({"Other": LabelCalibration(0.5, -1, 0.25)})


# --- command


@pytest.fixture
def arguments(tmp_path):
    model, corpus = save_tiny_model(tmp_path / "model"), write_corpus(tmp_path / "corpus", validation=8)
    return CalibrationArguments(str(model), str(corpus))


def test_command(arguments, tmp_path, capsys):
    before = tiny_speech_model().classifier.weight
    found = calibration.main(arguments)
    model = WavLMForToxicityMTL.from_pretrained(tmp_path / "model")
    assert model.config.label_thresholds == {name: label["threshold"] for name, label in found.items()}
    scales = torch.tensor([label["scale"] for label in found.values()])
    torch.testing.assert_close(model.classifier.weight, before * scales[:, None])
    assert scales[0] != 1 and scales[1] == 1  # Profanity; no clip has DatingAndSexting
    assert "| Profanity |" in capsys.readouterr().out
    json.dumps(found)


def test_what_cannot_be_calibrated(arguments, tmp_path):
    with pytest.raises(ValueError, match="--min-precision must lie between 0 and 1, but is 90"):
        calibration.main(replace(arguments, min_precision=90))
    with pytest.raises(ValueError, match="someone/model is no model folder"):
        calibration.main(CalibrationArguments("someone/model"))
    with pytest.raises(ValueError, match="but lacks \\['dev'\\]"):
        calibration.main(replace(arguments, split="dev"))
    tiny_speech_model(tasks=["keyword"]).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="no classifier"):
        calibration.main(arguments)
