"""What judging costs, at the smallest size: what is compared, and what the tables say of it."""

import json

import numpy as np
import pytest
import torch
from helpers import save_tiny_model

from benchmarks import inference, scaling
from benchmarks.inference import InferenceArguments, main, markdown, rows_table, write_clips
from benchmarks.systems import PUBLISHED, exported
from modeling_toxmtl.listening import plan_windows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput")
def test_one_command_at_small_size(tmp_path, monkeypatch):
    """All parts, of two systems: each in processes of its own."""
    model, work = str(save_tiny_model(tmp_path / "tiny", family="whisper")), tmp_path / "work"
    rows = {PUBLISHED: inference.System("torch", path=model), "tiny, onnx int8": exported(model, work, "onnx", "int8")}
    monkeypatch.setattr(inference, "systems", lambda *args: rows)
    monkeypatch.setattr(inference, "beside_others", lambda args: {"tiny": rows["tiny, onnx int8"]})
    monkeypatch.setattr(scaling, "BATCHES", (1, 2))
    args = InferenceArguments(model, rounds=1, work_dir=str(work), results_file=str(tmp_path / "out.json"))
    results = main(args)
    assert list(results["systems"]) == list(rows)
    floors = {(row["operations"], row["floor_seconds"]) for row in results["systems"].values()}
    assert len(floors) == 1 and all(row["start_up"] > row["latency"] > 0 for row in results["systems"].values())
    assert list(results["scaling"]) == ["tiny, PyTorch float32", "tiny, onnx int8"]
    assert {"alone", "beside"} == results["neighbours"]["tiny"]["1"].keys()
    assert json.loads((tmp_path / "out.json").read_text())["results"] == results
    assert (tmp_path / "out.md").read_text() == markdown(results) + "\n"
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_speed_floor_and_price_by_hand():
    row = {"latency": 0.1, "rounds": 3, "start_up": 2.0, "peak_memory": 5e8, "weights": 4e7, "dollars": 0.4}
    ours = {**row, "real_time_factor": 0.01, "floor_seconds": 0.06}
    table = rows_table({"ours": ours, PUBLISHED: {**row, "real_time_factor": 0.25, "floor_seconds": None}})
    assert "| ours | 0.0100 | 25.0× | 2.5 | 0.40 | 0.100 | 2.0 | 500 | 40 |" in table
    assert f"| {PUBLISHED} | 0.2500 | 1.0× | - |" in table


def test_all_of_the_clips_that_are_timed_is_heard(tmp_path):
    clips = np.load(write_clips(tmp_path / "clips.npz"))
    assert {name: len(clips[name]) for name in ("15 s", "1", "30")} == {"15 s": 240_000, "1": 16_000, "30": 480_000}
    ((window, samples),) = plan_windows([[clips["15 s"][None]]], 240_000, 160_000, 400)
    assert not window.is_silent and len(samples) == 240_000
