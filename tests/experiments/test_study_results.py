"""What is kept of each clip gives the metrics again, and intervals say what chance there is."""

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers import save_tiny_model, write_corpus

from experiments.study_results import (
    Clips,
    Comparisons,
    average_precisions,
    clip_table,
    draw_clips,
    measure,
    pooled_variance,
    read_clips,
    write_clips,
)
from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.training.metrics import average_precision, classification_metrics


def table_of(logits, targets, counts):
    columns = {"id": [f"clip-{number:04d}" for number in range(len(targets))]}
    columns |= {f"is_{name}": pa.array(targets[:, k].astype(bool)) for k, name in enumerate(LABELS)}
    columns |= {name: pa.array(logits[:, k].astype(np.float16)) for k, name in enumerate(LABELS)}
    columns |= {name: pa.array(counts[:, k], pa.uint8()) for k, name in enumerate(("tp", "fp", "fn", "tn"))}
    return pa.table(columns)


ARGUMENTS = {"model_name_or_path": "start", "tasks": ["keyword"], "num_train_epochs": 2, "keyword_target": "all"}


def write_run(folder, name, seed, logits, targets, counts, **arguments):
    table = table_of(logits, targets, counts)
    write_clips(folder / f"{name}-seed{seed}.parquet", {"balanced": table, "real": table[:1]})
    return {"run": name, "seed": seed, "arguments": ARGUMENTS | arguments}


def test_average_precision_of_weighted_clips_is_that_of_repeated_ones():
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 9, 40) / 2, rng.integers(0, 2, 40)  # many ties
    weights = rng.integers(0, 4, (5, 40))
    expected = [100 * average_precision(np.repeat(scores, row), np.repeat(targets, row)) for row in weights]
    np.testing.assert_allclose(average_precisions(scores, targets, weights.astype(float)), expected)
    assert np.isnan(average_precisions(scores, np.zeros(40), weights)).all()


def test_metrics_of_all_clips():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(50, 6)), rng.integers(0, 2, (50, 6))
    clips = Clips(np.arange(50), targets, logits, np.tile([3, 1, 2, 9], (50, 1)))
    once = np.ones((1, 50))
    assert measure(clips, "keyword_f1", once) == pytest.approx(100 * 6 / 9)
    expected = classification_metrics(logits, targets, LABELS)
    assert measure(clips, "mAP", once) == pytest.approx(expected["mAP"])
    assert measure(clips._replace(counts=np.zeros((50, 4))), "keyword_f1", once) == 0
    assert measure(clips._replace(counts=None), "keyword_f1", once) is None
    assert measure(clips._replace(logits=None), "mAP", once) is None


def test_predictions_become_logits_and_counts(tmp_path):
    write_corpus(tmp_path / "clips", test=3)
    model = save_tiny_model(tmp_path / "model")
    scores = dict(zip(LABELS, (0.5, 0.9, 0.1, 1.0, 0.0, 0.75), strict=True))
    lines = [{"id": f"test-{n:02d}", "scores": scores, "words": ["hello"]} for n in (2, 0)]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("\n".join(map(json.dumps, lines)))
    write_clips(tmp_path / "run.parquet", {"balanced": clip_table(model, predictions, str(tmp_path / "clips"))})
    clips = read_clips(tmp_path / "run.parquet", "balanced")
    assert clips.ids.tolist() == ["test-00", "test-02"]
    np.testing.assert_allclose(1 / (1 + np.exp(-clips.logits[0])), list(scores.values()), atol=1e-3)
    assert clips.targets.shape == (2, 6) and clips.targets.sum() >= 2
    lines = [{**line, "scores": None, "words": None} for line in lines]
    predictions.write_text("\n".join(map(json.dumps, lines)))
    assert not {"tp", *LABELS} & set(clip_table(model, predictions, str(tmp_path / "clips")).column_names)


def alike(folder, name, hits, **arguments):
    """Runs whose clips are all alike, so that seeds alone matter: hits of 0, 1, 2 and 4 are an F1 of 0, 50, 66.7 and
    80."""
    targets = np.tile(np.eye(6, dtype=int), (9, 1))
    return {
        seed: write_run(folder, name, seed, np.zeros((54, 6)), targets, np.tile([tp, 1, 1, 3], (54, 1)), **arguments)
        for seed, tp in enumerate(hits)
    }


def half_width(difference):
    return (difference.upper - difference.lower) / 2


def test_differences_are_real_only_beyond_the_chance_of_clips(tmp_path):
    rng = np.random.default_rng(2)
    targets, counts = rng.integers(0, 2, (200, 6)), np.tile([1, 0, 1, 3], (200, 1))

    def system(name, shift):
        logits = [targets * shift + rng.normal(size=(200, 6)) for _ in range(3)]
        return {seed: write_run(tmp_path, name, seed, logits[seed], targets, counts) for seed in range(3)}

    results = {name: system(name, shift) for name, shift in (("good", 3), ("bad", 0.2), ("also bad", 0.2))}
    comparisons = Comparisons(tmp_path, "balanced", results)
    better = comparisons.difference("good", "bad", "mAP")
    assert better.is_real and better.lower < better.value < better.upper and better.value > 20
    assert better.base == pytest.approx(np.mean(
        [measure(read_clips(tmp_path / f"bad-seed{seed}.parquet", "balanced"), "mAP", np.ones((1, 200)))
         for seed in range(3)]))  # fmt: skip
    assert better.percent(better.base / 4) == pytest.approx(25)
    no_better = comparisons.difference("also bad", "bad", "mAP")
    assert not no_better.is_real and no_better.lower < 0 < no_better.upper


def test_chance_of_seeds_is_that_of_all_systems_of_a_kind(tmp_path):
    results = {"sure": alike(tmp_path, "sure", (1, 1, 1)), "unsure": alike(tmp_path, "unsure", (0, 1, 4))}
    chance = Comparisons(tmp_path, "balanced", results).difference("unsure", "sure", "keyword_f1")
    assert chance.value == pytest.approx(130 / 3 - 50) and chance.base == pytest.approx(50)
    variance = np.var([0, 50, 80], ddof=1) / 2  # half of the four degrees of freedom vary (t = 2.776)
    assert half_width(chance) == pytest.approx(2.776 * np.sqrt(variance * 2 / 3), rel=0.02)
    results["single"] = alike(tmp_path, "single", (4,))  # one seed, which borrows from the others
    single = Comparisons(tmp_path, "balanced", results).difference("single", "sure", "keyword_f1")
    assert half_width(single) == pytest.approx(2.776 * np.sqrt(variance * 4 / 3), rel=0.02)


def test_chance_of_two_kinds_is_that_of_each(tmp_path):
    """Of two degrees of freedom each, t = 4.303; the sum of two such draws has 6.55 (drawn four million times)."""
    results = {"sure": alike(tmp_path, "sure", (1, 1, 1)), "unsure": alike(tmp_path, "unsure", (0, 1, 4), tasks=["x"])}
    error = np.std([0, 50, 80], ddof=1) / np.sqrt(3)

    def difference(reference, **others):
        return Comparisons(tmp_path, "balanced", results | others).difference("unsure", reference, "keyword_f1")

    assert half_width(difference("sure")) == pytest.approx(4.303 * error, rel=0.03)
    other = alike(tmp_path, "other", (4, 0, 1), keyword_target="keywords")
    assert half_width(difference("other", other=other)) == pytest.approx(6.55 * error, rel=0.05)
    single = alike(tmp_path, "single", (2,), keyword_target="keywords")
    found = difference("single", single=single)
    assert found.value == pytest.approx(130 / 3 - 200 / 3) and found.lower is None and not found.is_real


def test_fewer_seeds_widen_an_interval(tmp_path):
    results = {"unsure": alike(tmp_path, "unsure", (0, 1, 4), tasks=["x"])}
    widths = []
    for seeds in (3, 2, 1):
        some = alike(tmp_path, f"some{seeds}", (1, 1, 1)[:seeds])
        known = {"known": alike(tmp_path, "known", (1, 1, 2)), f"some{seeds}": some}
        comparisons = Comparisons(tmp_path, "balanced", results | known)
        widths.append(half_width(comparisons.difference(f"some{seeds}", "unsure", "keyword_f1")))
    assert sorted(widths) == widths


def test_what_two_systems_have_in_common_is_no_difference(tmp_path):
    results = {"mtl": alike(tmp_path, "mtl", (0, 1, 4)),
               "evidence": alike(tmp_path, "evidence", (0, 1, 4), use_keyword_evidence=True)}  # fmt: skip
    assert Comparisons(tmp_path, "balanced", results).difference("evidence", "mtl", "keyword_f1")[2:] == (0, 0)


def test_what_has_not_run_or_lacks_a_metric_has_no_difference(tmp_path):
    comparisons = Comparisons(tmp_path, "balanced", {"one": alike(tmp_path, "one", (1, 2))})
    assert comparisons.difference("one", "two", "mAP") is comparisons.difference("two", "one", "mAP") is None


def test_variance_about_the_means_of_groups():
    """By hand: 1 and 3 are 1 from their mean, 10, 10 and 13 are 1, 1 and 2 from theirs: 2 + 6 of three degrees."""
    assert pooled_variance([(1, 3), (10, 10, 13), (99,)]) == (pytest.approx(8 / 3), 3)
    assert pooled_variance([(5,)]) == pooled_variance([]) == (0, 0)


def test_systems_with_different_test_clips_are_not_compared(tmp_path):
    targets, counts = np.eye(6, dtype=int), np.ones((6, 4), dtype=int)
    one, other = (
        {0: write_run(tmp_path, name, 0, np.zeros((6, 6)), labels, counts)}
        for name, labels in (("one", targets), ("other", targets[::-1]))
    )
    with pytest.raises(ValueError, match="one-seed0.parquet and .*other-seed0.parquet have different test clips"):
        Comparisons(tmp_path, "balanced", {"one": one, "other": other}).difference("one", "other", "mAP")


def test_clips_are_drawn_with_replacement_and_the_same_for_all():
    draws = draw_clips(30)
    assert draws.shape == (1000, 30) and (draws.sum(1) == 30).all() and draws is draw_clips(30)
    assert draws.mean(0) == pytest.approx(np.ones(30), abs=0.15)
