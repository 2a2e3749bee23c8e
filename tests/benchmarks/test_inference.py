"""What judging costs, at the smallest size: what is compared, and what the table says of it."""

import json

import pytest
import torch
from helpers import save_tiny_model

from benchmarks import inference
from benchmarks.inference import PUBLISHED, InferenceArguments, System, main, markdown, weights_size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput")
def test_one_command_at_small_size(tmp_path, monkeypatch):
    """The systems take turns, and each starts in a process of its own."""
    model = save_tiny_model(tmp_path / "tiny", family="whisper")
    monkeypatch.setitem(inference.LOADED, "published", inference.LOADED["exported"])  # Base+ takes seconds a clip
    monkeypatch.setattr(inference, "find_spec", lambda name: None)  # nor the cascade
    exported = inference.exported(model, tmp_path / "published", "onnx", "float32")
    real = inference.systems
    monkeypatch.setattr(inference, "systems", lambda args: real(args) | {PUBLISHED: System("published", 1, exported)})
    args = InferenceArguments(
        str(model), rounds=1, base_plus=False, work_dir=str(tmp_path / "work"), results_file=str(tmp_path / "out.json")
    )
    results = main(args)
    assert list(results) == [
        "tiny, PyTorch float32",
        "tiny, PyTorch bfloat16",
        "tiny, onnx float32",
        "tiny, onnx int8",
        "two single-task models, PyTorch float32",
        PUBLISHED,
    ]
    assert all(row["rounds"] == 1 and row["start_up"] > row["latency"] > 0 for row in results.values())
    assert json.loads((tmp_path / "out.json").read_text())["results"] == results
    assert (tmp_path / "out.md").read_text() == markdown(results) + "\n"


def test_speed_is_relative_to_the_published_recipe():
    row = {"latency": 0.1, "rounds": 3, "start_up": 2.0, "peak_memory": 5e8, "weights": 4e7}
    results = {"ours": {**row, "real_time_factor": 0.01}, PUBLISHED: {**row, "real_time_factor": 0.25}}
    assert "| ours | 0.0100 | 25.0× | 0.100 | 2.0 | 500 | 40 |" in markdown(results)


def test_weights_are_those_of_all_models(tmp_path):
    for name, size in (("a", 10), ("b", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    assert weights_size(System("two models", 1, [str(tmp_path / "a"), str(tmp_path / "b")])) == 17
    assert weights_size(System("published", 1)) == 0
