"""The pipeline's benchmark: the table by hand, and that it runs."""

import json

import pytest
from helpers import tiny_checkpoint

from benchmarks.pipeline import BenchmarkArguments, main, markdown


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
