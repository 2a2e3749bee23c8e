"""The pipeline's benchmark: the table by hand, and that it runs."""

import json
from pathlib import Path

import pytest
from helpers import tiny_checkpoint

from benchmarks.pipeline import BenchmarkArguments, main, markdown


ROOT = Path(__file__).parents[2]


def test_table_by_hand():
    speeds = {"1": {"chunk": 1000.0, "label": 80.0}, "2": {"chunk": 900.0, "label": 40.0}}
    assert markdown({"hours_per_hour_and_core": speeds}).splitlines() == [
        "| Stage | 1 worker | 2 workers | speed-up |",
        "|---|---:|---:|---:|",
        "| chunk | 1000 | 900 | 1.80 |",
        "| label | 80 | 40 | 1.00 |",
    ]


@pytest.mark.slow
def test_it_runs(tmp_path, capsys):
    checkpoint, file = tiny_checkpoint(tmp_path / "asr"), tmp_path / "out" / "pipeline.json"
    results = main(BenchmarkArguments(1.0, 2, [1], str(checkpoint), str(file)))
    assert results["cuts_of_an_hour"]["chunks"] > 100
    assert set(results["hours_per_hour_and_core"]["1"]) == {"chunk", "transcribe", "label", "annotate"}
    assert json.loads(file.read_text())["results"] == json.loads(json.dumps(results))
    assert file.with_suffix(".md").read_text() == markdown(results) + "\n"
    assert "| transcribe |" in capsys.readouterr().out


def test_figures_of_the_documentation_are_those_of_the_benchmark():
    folder = ROOT / "benchmarks" / "results"
    results = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))["results"]
    page = (ROOT / "datasets_scripts" / "README.md").read_text(encoding="utf-8")
    assert (folder / "pipeline.md").read_text(encoding="utf-8") == markdown(results) + "\n"
    assert markdown(results) in page
    assert f"found in {results['cuts_of_an_hour']['seconds']:.1f} s" in page
