import json
import re

import pytest
import torch
from tiny_models import tiny_model

from modeling_toxmtl.training.checkpoints import find_damage, last_whole_checkpoint


@pytest.fixture
def checkpoints(tmp_path):
    """Three of a run, in shards, as `Trainer` writes them."""
    for step in (5, 10, 100):
        folder = tmp_path / f"checkpoint-{step}"
        tiny_model().save_pretrained(folder, max_shard_size="10KB")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            torch.save({"step": torch.arange(step)}, folder / name)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-900").write_text("a file")
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def test_the_last_by_number_if_all_are_whole(checkpoints, caplog):
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-100"
    assert find_damage(checkpoints / "checkpoint-100") is None
    assert not caplog.records
    assert last_whole_checkpoint(checkpoints / "checkpoint-best") is None
    assert last_whole_checkpoint(checkpoints / "nowhere") is None


@pytest.mark.parametrize(
    ("name", "harm", "damage"),
    [
        ("trainer_state.json", lambda file: file.unlink(), "trainer_state.json is missing"),
        ("trainer_state.json", cut, "trainer_state.json cannot be read"),
        ("config.json", cut, "config.json cannot be read"),
        ("optimizer.pt", cut, "optimizer.pt is cut short"),
        ("scheduler.pt", lambda file: file.write_bytes(b""), "scheduler.pt is cut short"),
        ("rng_state.pth", lambda file: file.write_bytes(bytes(file.stat().st_size)), "rng_state.pth is cut short"),
        ("model-00001-of-*.safetensors", cut, "model-00001-of-.*safetensors cannot be read"),
        ("model-00001-of-*.safetensors", lambda file: file.unlink(), "model-00001-of-.*safetensors is missing"),
    ],
)
def test_goes_on_from_the_one_before(checkpoints, caplog, name, harm, damage):
    (file,) = (checkpoints / "checkpoint-100").glob(name)
    harm(file)
    assert last_whole_checkpoint(checkpoints) == checkpoints / "checkpoint-10"
    assert re.search(rf"checkpoint-100 is damaged \({damage}.*: the run goes on from the one before", caplog.text)
