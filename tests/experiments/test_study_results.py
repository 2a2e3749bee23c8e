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
    read_clips,
    residual_deviation,
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


ARGUMENTS = {"model_name_or_path": "start", "num_train_epochs": 2, "keyword_target": "transcript"}


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
    for name in ("mAP", "AP_Racist"):
        assert measure(clips, name, once) == pytest.approx(expected[name])
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


def test_differences_are_real_only_beyond_the_chance_of_clips_and_seeds(tmp_path):
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 2, (200, 6))
    counts = np.tile([1, 0, 1, 3], (200, 1))

    def system(name, shifts, hits):
        runs = {}
        for seed, (shift, tp) in enumerate(zip(shifts, hits, strict=True)):
            logits = targets * shift + rng.normal(size=(200, 6))
            runs[seed] = write_run(tmp_path, name, seed, logits, targets, counts * [tp, 1, 1, 1])
        return runs

    results = {"good": system("good", (3, 3, 3), (1, 1, 1)), "bad": system("bad", (0.2, 0.2, 0.2), (1, 1, 1))}
    comparisons = Comparisons(tmp_path, "balanced", results)
    better = comparisons.difference("good", "bad", "mAP")
    assert better.is_real and better.lower < better.value < better.upper and better.value > 20
    assert better.relative == pytest.approx(100 * better.value / np.mean(
        [measure(read_clips(tmp_path / f"bad-seed{seed}.parquet", "balanced"), "mAP", np.ones((1, 200)))
         for seed in range(3)]))  # fmt: skip
    same = comparisons.difference("good", "good", "mAP")
    assert same.value == 0 and not same.is_real and same.lower < 0 < same.upper

    # all clips are alike, so that seeds alone matter: two degrees of freedom (t = 4.303)
    results = {"good": results["good"], "unsure": system("unsure", (1, 1, 1), (0, 2, 4))}  # F1 of 0, 80, 88.9
    values = np.array([0, 80, 800 / 9])
    error = np.sqrt(values.var(ddof=1) / 2)  # the seeds' means take half of what differs
    chance = Comparisons(tmp_path, "balanced", results).difference("unsure", "good", "keyword_f1")
    assert chance.value == pytest.approx(values.mean() - 200 / 3)
    assert (chance.upper - chance.lower) / 2 == pytest.approx(4.303 * error * np.sqrt(2 / 3), rel=0.15)


def test_chance_is_that_of_runs_of_the_same_kind(tmp_path):
    """All clips are alike, F1 is 0, 80 and 88.9: a system that learns for longer, with 50, 66.7 and 50, has chance of
    its own, which is half of that of a difference between the two kinds."""
    targets = np.tile(np.eye(6, dtype=int), (9, 1))

    def system(name, hits, **arguments):
        return {seed: write_run(tmp_path, name, seed, np.zeros((54, 6)), targets, np.tile([tp, 1, 1, 3], (54, 1)),
                                **arguments) for seed, tp in enumerate(hits)}  # fmt: skip

    results = {"sure": system("sure", (1, 1, 1)), "unsure": system("unsure", (0, 2, 4)),
               "long": system("long", (1, 1, 1), num_train_epochs=6)}  # fmt: skip
    comparisons = Comparisons(tmp_path, "balanced", results)
    assert comparisons.difference("long", "sure", "keyword_f1").lower is None  # one system, no chance to be seen
    results["longer"] = system("longer", (1, 2, 1), num_train_epochs=6)
    widths = {}
    for pair in (("sure", "unsure"), ("long", "longer"), ("long", "sure")):
        found = Comparisons(tmp_path, "balanced", results).difference(*pair, "keyword_f1")
        widths[pair] = found.upper - found.lower
    assert 0 < widths["long", "longer"] < widths["long", "sure"] < widths["sure", "unsure"]


def test_the_seeds_that_two_systems_share_are_compared(tmp_path):
    targets = np.tile(np.eye(6, dtype=int), (9, 1))
    rng = np.random.default_rng(3)

    def run(name, seed):
        return write_run(
            tmp_path, name, seed, targets + rng.normal(size=targets.shape), targets, np.ones((54, 4), int)
        )

    results = {name: {seed: run(name, seed) for seed in seeds} for name, seeds in (("a", (0, 1, 2)), ("b", (0, 1)))}
    one_seed = {"a": {0: results["a"][0]}, "b": results["b"]}
    alone = Comparisons(tmp_path, "balanced", one_seed).difference("a", "b", "mAP")
    assert alone.lower is None and not alone.is_real
    both = Comparisons(tmp_path, "balanced", results).difference("a", "b", "mAP")
    values = [Comparisons(tmp_path, "balanced", {name: {0: runs[seed]} for name, runs in results.items()})
              .difference("a", "b", "mAP").value for seed in (0, 1)]  # fmt: skip
    assert both.value == pytest.approx(np.mean(values)) and both.lower < both.value < both.upper
    comparisons = Comparisons(tmp_path, "balanced", {**results, "c": {2: results["b"][1]}})
    assert comparisons.difference("c", "b", "mAP") is None and comparisons.difference("d", "b", "mAP") is None
    # that of the one seed has an interval as soon as others say how much seeds matter
    others = {**results, "c": {0: run("c", 0)}}
    single, double = (Comparisons(tmp_path, "balanced", others).difference(*pair, "mAP") for pair in ("ca", "ba"))
    assert single.upper - single.lower > double.upper - double.lower


def test_what_systems_and_seeds_leave():
    """By hand: means of the systems 2 and 4, of the seeds 2 and 4; the rest is 0.5 in each of the four."""
    values = {("a", 0): 1.5, ("a", 1): 2.5, ("b", 0): 2.5, ("b", 1): 5.5}
    deviation, freedom = residual_deviation(values)
    assert (deviation, freedom) == (pytest.approx(1.0), 1)  # 4 · 0.5², divided by 4 - 3
    assert residual_deviation({**values, ("c", 1): 99.0}) == (pytest.approx(1.0), 1)  # says nothing of chance
    shifted = {place: value + 7 * place[1] for place, value in values.items()}  # what all runs of a seed share
    assert residual_deviation(shifted) == (pytest.approx(1.0), 1)
    assert residual_deviation({("a", 0): 1.0, ("b", 0): 2.0}) == (0, 0)


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
