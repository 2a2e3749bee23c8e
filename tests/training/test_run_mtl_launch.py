import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import write_corpus
from run_mtl_helpers import flags_of, read_lines, run
from safetensors.torch import load_file
from transformers import WavLMConfig, WavLMForCTC

import run_mtl
from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.processing_toxmtl import speech_feature_extractor


ROOT = Path(run_mtl.__file__).parent


def run_script(command: list[str], cache: Path, timeout: int) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def free_port() -> str:
    """Port 0, by which newer launchers choose one, lets PyTorch 2.6 wait for ever."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


@pytest.mark.slow
def test_experiment_of_the_paper_runs_at_full_size(tmp_path):
    """Random weights of the size of WavLM Base+, stored in half precision as the Hub's are."""
    WavLMForCTC(WavLMConfig(pad_token_id=0)).half().save_pretrained(tmp_path / "checkpoint")
    character_tokenizer().save_pretrained(tmp_path / "checkpoint")
    speech_feature_extractor().save_pretrained(tmp_path / "checkpoint")
    write_corpus(tmp_path / "clips", train=4, validation=1, test=1)
    fields = {
        "model_name_or_path": tmp_path / "checkpoint",
        "dataset": tmp_path / "clips",
        "output_dir": tmp_path / "run",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "save_only_model": True,  # no gigabyte of optimizer state
        "use_cpu": True,
    }
    flags = [str(part) for name, value in fields.items() for part in (f"--{name}", value)]
    run_script(["run_mtl.py", "experiments/paper_mtl.json", *flags], tmp_path / "cache", timeout=600)
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["parameters"] == 94_604_950  # paper, Table 2: 94.6 M
    assert results["test"]["support_Profanity"] == results["test"]["keyword_support"] == 1
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    start = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert start.keys() <= weights.keys()
    changes = {name: (weights[name] - tensor.float()).abs().max().item() for name, tensor in start.items()}
    assert max(changes.values()) < 1e-3  # it did start from the checkpoint
    assert changes["wavlm.feature_extractor.conv_layers.0.conv.weight"] > 0  # the paper trains the whole model


@pytest.mark.slow
def test_accelerate_launch(workbench, tmp_path):
    """Of two processes: accelerate 1.15 starts one for `--cpu`, whatever `--num_processes` says; this starts two."""
    flags = flags_of(workbench, tmp_path / "run", num_train_epochs=1, per_device_train_batch_size=2)
    launch = ["accelerate.commands.launch", "--num_processes", "2", "--multi_gpu", "--main_process_port", free_port()]
    command = ["-m", *launch, "run_mtl.py", *flags]
    run_script([*command, "--do_train", "--do_eval", "--do_predict"], tmp_path / "cache", timeout=600)
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["training"]["world_size"] == 2
    alone = run(workbench, tmp_path / "one", "--do_eval", "--do_predict", model_name_or_path=tmp_path / "run")
    expected = {name: pytest.approx(value) for name, value in alone["test"].items() if name != "loss"}
    assert {name: value for name, value in results["test"].items() if name != "loss"} == expected
    predictions = [read_lines(tmp_path / name / "predictions.jsonl") for name in ("run", "one")]
    assert [clip["id"] for clip in predictions[0]] == ["test-00", "test-01", "test-02", "test-03"]
    for several, one in zip(*predictions, strict=True):
        assert several["scores"] == pytest.approx(one["scores"], abs=1e-5)
        assert several["words"] == one["words"]
