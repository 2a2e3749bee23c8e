"""The page of a run at the paper's scale says what was counted and measured, and no more."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.paper_scale import PaperScaleArguments, count, gpu_hours, markdown


ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "paper_scale.json"


def test_operations_and_activations_are_counted_without_computing():
    pytest.importorskip("torch", "2.7", reason="weight norm has no gradient on the device meta")
    one, two = (count({"num_hidden_layers": layers}) for layers in (1, 2))
    block = {name: two[name] - one[name] for name in one}
    size, inner, frames = 768, 3072, 749  # of a clip of 15 s
    weights = 4 * size * size + 2 * size * inner
    assert block["parameters"] == pytest.approx(weights, rel=0.01)  # biases and norms
    attention = 2 * frames * frames * size
    assert block["tflop"] == pytest.approx(6 * (frames * weights + attention) / 1e12, rel=0.1)  # 2 forward, 4 backward
    assert one["activation_gb"] > block["activation_gb"] > 4 * frames * inner / 1e9
    assert torch.get_default_device().type == "cpu"


def test_hours_by_hand():
    args = PaperScaleArguments(hours=10, epochs=2, utilisation=0.5)
    assert gpu_hours(3.0, args, 100) == pytest.approx(2 * 10 * 240 * 3 / 50 / 3600)  # 240 clips of 15 s in an hour


def test_the_page_has_the_figures_of_the_results():
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    results, args = content["results"], PaperScaleArguments(**content["arguments"])
    page = (ROOT / "docs" / "paper_scale.md").read_text(encoding="utf-8")
    assert markdown(results) in page and RESULTS.with_suffix(".md").read_text() == markdown(results) + "\n"
    core, mtl = results["core"], results["systems"]["MTL"]
    measured = core["training_gflops"] / core["best_gflops"]
    core_hours = args.epochs * args.hours * core["training_seconds_per_second"]
    audio_per_second = args.epochs * args.hours / mtl["hours"]["8 x A100"]
    for figure in (
        f"{core['best_gflops']:.0f} GFLOP/s",
        f"{core['training_gflops']:.0f} GFLOP/s, {100 * measured:.0f} %",
        f"{core_hours:,.0f} core hours",
        f"{mtl['hours']['8 x A100'] * args.utilisation / measured:.1f} h",
        f"{mtl['hours']['1 x A100']:.0f} hours of one A100",
        f"{core['decoded_seconds_per_second']:.0f} seconds of audio",
        f"{audio_per_second / core['decoded_seconds_per_second']:.0f} cores",
    ):
        assert figure in page, figure
