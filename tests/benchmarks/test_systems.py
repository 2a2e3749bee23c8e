"""Systems and their processes: what is compared where, what it multiplies, and who is told of a failure."""

import numpy as np
import pytest
import torch
from helpers import save_tiny_model

from benchmarks import systems as module
from benchmarks.backbone import counted
from benchmarks.judges import TOKENS, RandomWhisper
from benchmarks.systems import CASCADE, PUBLISHED, SINGLE, System, Worker, operations, systems, weights_size


def test_rows_of_a_cpu_and_of_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "exported", lambda model, work, to, dtype, threads: System("exported", threads))
    monkeypatch.setattr(module, "single_task_models", lambda model, folder: ("a", "b"))
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    rows = systems("models/tiny", tmp_path, 2, "cpu", base_plus=False)
    kinds = ("PyTorch float32", "onnx float32", "onnx int8", "openvino float32")
    assert list(rows) == [*(f"tiny, {kind}" for kind in kinds), SINGLE, PUBLISHED, CASCADE]
    rows = systems("models/tiny", tmp_path, 2, "cuda", base_plus=False)
    assert list(rows) == ["tiny, PyTorch float32", "tiny, PyTorch bfloat16", SINGLE, PUBLISHED, CASCADE]
    assert "dtype='bfloat16', device='cuda'" in rows["tiny, PyTorch bfloat16"].code


def test_a_process_judges_and_says_how_long_it_took(tmp_path, capfd):
    model = str(save_tiny_model(tmp_path / "tiny", family="whisper"))
    np.savez(tmp_path / "clips.npz", short=np.zeros(8000, dtype=np.float32))
    worker = Worker(System("torch", path=model), tmp_path / "clips.npz")
    assert worker.start_up > 0 and worker.peak_memory > 1e7
    assert worker.time("judge(clips['short'], return_keywords=True)") > 0
    worker.begin("print(len(judge([clips['short']] * 3, return_keywords=True)))")
    processor, clock = worker.end()
    assert processor > 0 and clock > 0
    with pytest.raises(SystemExit, match="failed"):
        worker.time("judge(clips['long'])")
    worker.close()
    assert "KeyError: 'long" in capfd.readouterr().err


def test_threads_wait_as_the_system_says():
    system = System("exported", path="a", spins=True)
    assert "OnnxEngine.spins = True" in system.code and system.environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "OnnxEngine.spins = False" in System("exported", path="a").code
    assert System("torch", spins=False).environment["OMP_WAIT_POLICY"] == "PASSIVE"


def test_operations_are_counted_in_attention_too():
    query = torch.ones(1, 2, 8, 4)  # batch, heads, frames, width
    product = 2 * 8 * 4 * 8 * 2
    assert counted(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query)) == 2 * product
    assert counted(lambda: torch.nn.functional.linear(torch.ones(3, 5), torch.ones(7, 5))) == 2 * 3 * 5 * 7


def test_an_export_does_its_sources_operations(tmp_path):
    model = str(save_tiny_model(tmp_path / "tiny", family="whisper"))
    clips = tmp_path / "clips.npz"
    np.savez(clips, **{"15 s": np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)})
    expected = operations(System("torch", path=model), clips)
    assert expected > 1e5 and operations(System("exported", path="folder", source=model), clips) == expected
    assert operations(System("cascade"), clips) is None


def test_whisper_by_shape_writes_forty_tokens_for_each_15_seconds(monkeypatch):
    monkeypatch.setattr("benchmarks.judges.WHISPER_SIZES", {"nano": (64, 1)})
    judge = RandomWhisper("nano")
    assert [tokens.shape for tokens in judge(np.zeros(15 * 16_000, dtype=np.float32))] == [(1, TOKENS)]
    assert [tokens.shape for tokens in judge(np.zeros(31 * 16_000, dtype=np.float32))] == [
        (1, 2 * TOKENS),
        (1, TOKENS),
    ]


def test_weights_are_those_of_all_models(tmp_path):
    for name, size in (("a", 10), ("b", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    assert weights_size(System("two models", path=(str(tmp_path / "a"), str(tmp_path / "b")))) == 17
    assert weights_size(System("published")) == 0
