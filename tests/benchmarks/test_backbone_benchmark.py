import pytest
import torch

from benchmarks.backbone import REFERENCE, Case, batch_of, markdown, matrix_rate, timed, waveforms


def test_case():
    case = Case.parse("train:4x2.5", "float32")
    assert case == Case("train", (2.5, 2.5, 2.5, 2.5), "float32")
    assert str(case) == "train:4x2.5"
    mixed = Case.parse("inference:2.5+1", "float32")
    assert mixed == Case("inference", (2.5, 1.0), "float32")
    assert str(mixed) == "inference:2.5+1"
    for wrong in ("train", "train:a", "train:0x5", "train:ax5", "evaluate:1x5"):
        with pytest.raises(SystemExit, match=f"--cases: '{wrong}' is no case"):
            Case.parse(wrong, "float32")


def test_batch_of_mixed_lengths():
    clips = waveforms(Case.parse("inference:0.5+0.25", "float32"), "cpu")
    batch = batch_of(clips)
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 8000)
    assert batch["attention_mask"].sum(-1).tolist() == [8000, 4000]
    assert torch.equal(batch["input_values"][1, :4000], clips[1])
    assert list(batch_of(clips[:1] * 2)) == ["input_values"]


def test_table_by_hand():
    def record(dtype, variant, seconds, memory):
        row = {"case": "train:1x2", "dtype": dtype, "variant": variant, "seconds": seconds, "difference": 0.00025}
        return row | {"peak_memory": memory * 2**30, "floor_seconds": 0.5}

    about = {
        "machine": "A",
        "threads": 2,
        "operations_per_second": {"float32": 2e11},
        "torch": "T",
        "transformers": "F",
    }
    records = [record("float32", REFERENCE, 6.0, 2), record("float32", "sdpa", 4.0, 1)]
    records += [record("bfloat16", REFERENCE, 3.0, 1), record("bfloat16", "sdpa", 2.0, 1)]
    lines = markdown({"about": about, "records": records}).splitlines()
    assert "200 GFLOP/s in float32" in lines[0]
    assert lines[-3] == "| train:1x2 | float32 | sdpa | 4.000 | 1.50 | 8.00 | 1.00 GiB | 0.50 | 2.5e-04 |"
    assert lines[-1] == "| train:1x2 | bfloat16 | sdpa | 2.000 | 1.50 (3.00) | 4.00 | 1.00 GiB | 1.00 | 2.5e-04 |"


def test_rate_is_operations_over_time(monkeypatch):
    monkeypatch.setattr("benchmarks.backbone.timed", lambda function, device: 0.5)
    assert matrix_rate("float32", "cpu", size=10) == 2 * 10**3 / 0.5
    monkeypatch.undo()
    calls = []
    assert timed(lambda: calls.append(torch.ones(1)), "cpu") > 0
    assert len(calls) == 1
