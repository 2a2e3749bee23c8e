import json
import shutil

import pytest
import torch
from run_mtl_helpers import run
from safetensors.torch import load_file


# what a seed decides: dropout, LayerDrop and SpecAugment are on
CHANCE = {"hidden_dropout": 0.1, "layerdrop": 0.3, "apply_spec_augment": True, "mask_time_length": 3}


def test_same_seed_gives_the_same_results(workbench, tmp_path):
    fields = {"config_overrides": json.dumps(CHANCE), "max_samples": 6}
    for name in ("first", "second"):
        run(workbench, tmp_path / name, **fields)
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("first", "second")]
    assert json.loads(results[0]) == json.loads(results[1])  # says what differs
    assert results[0] == results[1]
    predictions = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("first", "second")]
    assert predictions[0] == predictions[1]
    other = run(workbench, tmp_path / "other", seed=1, **fields)
    assert other["test"]["loss"] != json.loads(results[0])["test"]["loss"]


@pytest.mark.parametrize("strategy", ["steps", "unfinished"])
def test_resumed_run_ends_as_the_undisturbed_one(workbench, tmp_path, strategy):
    fields = {
        "config_overrides": json.dumps(CHANCE),
        "num_train_epochs": 3,
        "save_total_limit": 9,
        "per_device_train_batch_size": 2,  # four steps an epoch
    }
    if strategy == "steps":
        fields |= {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 5, "eval_steps": 5}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    expected = run(workbench, whole, **fields)
    checkpoint = "checkpoint-5" if strategy == "steps" else "checkpoint-4"
    shutil.copytree(whole / checkpoint, resumed / checkpoint)
    if strategy == "unfinished":  # the machine stopped in the midst of the next
        (resumed / "checkpoint-8").mkdir()
        weights = (whole / "checkpoint-8" / "model.safetensors").read_bytes()
        (resumed / "checkpoint-8" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    results = run(workbench, resumed, **fields)
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(resumed / "model.safetensors")[name], tensor), name
    assert results["test"] == expected["test"]
    described, partly = (json.loads((folder / "train_results.json").read_text()) for folder in (whole, resumed))
    assert described["train_runtime"] > 0 and partly == {"epoch": 3.0}


def steps_of(folder) -> list[int]:
    """Of the checkpoints."""
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


def test_early_stopping_counts_the_evaluations_before_the_checkpoint(workbench, tmp_path):
    """At a learning rate of 0, nothing gets better than the first of the epochs, which have one step each."""
    fields = {"num_train_epochs": 9, "learning_rate": 0, "max_samples": 4, "save_total_limit": 9}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    expected = run(workbench, whole, "--do_train", early_stopping_patience=3, **fields)
    assert steps_of(whole) == [1, 2, 3, 4]
    for step in (1, 3):
        shutil.copytree(whole / f"checkpoint-{step}", resumed / f"checkpoint-{step}")
    results = run(workbench, resumed, "--do_train", early_stopping_patience=3, **fields)
    assert steps_of(resumed) == [1, 3, 4] and results == expected
    again = run(workbench, resumed, "--do_train", early_stopping_patience=3, **fields)  # has nothing to do
    assert steps_of(resumed) == [1, 3, 4] and again == expected
    assert json.loads((resumed / "train_results.json").read_text()) == {"epoch": 4.0}
    run(workbench, resumed, "--do_train", early_stopping_patience=5, **fields)  # the patience is the new one
    assert steps_of(resumed) == [1, 3, 4, 5, 6]


@pytest.mark.parametrize("limit", [{"max_steps": 3}, {"num_train_epochs": 1.5}])
def test_a_run_that_has_ended_does_not_train_on(workbench, tmp_path, limit):
    """Not even a step, in the midst of an epoch of two; its best checkpoint is found though the folder has moved."""
    fields = {"max_samples": 8, "save_strategy": "steps", "eval_strategy": "steps", "save_steps": 1, "eval_steps": 1}
    first, moved = tmp_path / "first", tmp_path / "moved"
    expected = run(workbench, first, **limit, **fields)
    weights = load_file(first / "model.safetensors")
    shutil.move(first, moved)
    assert run(workbench, moved, **limit, **fields) == expected
    assert max(steps_of(moved)) == 3
    for name, tensor in load_file(moved / "model.safetensors").items():
        assert torch.equal(weights[name], tensor), name


def test_a_damaged_checkpoint_that_is_asked_for_is_named(workbench, tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    with pytest.raises(ValueError, match="checkpoint-4 is damaged .trainer_state.json is missing.: name another"):
        run(workbench, tmp_path, "--do_train", resume_from_checkpoint=tmp_path / "checkpoint-4")


def test_another_run_does_not_go_on_with_the_checkpoints_of_the_first(workbench, tmp_path):
    fields = {"num_train_epochs": 1, "max_samples": 4}
    run(workbench, tmp_path, "--do_train", **fields)
    with pytest.raises(ValueError, match="holds the checkpoints of another run: learning_rate is 0.5, and was 0.001"):
        run(workbench, tmp_path, "--do_train", learning_rate=0.5, **fields)
    with pytest.raises(ValueError, match="use_info_sharing is True, and was False.*SHA-256 of train is '"):
        run(workbench, tmp_path, "--do_train", "--use_info_sharing", **fields | {"max_samples": 2})
    longer = run(workbench, tmp_path, "--do_train", "--do_eval", **fields | {"num_train_epochs": 2})
    assert longer["test"] and json.loads((tmp_path / "train_results.json").read_text()) == {"epoch": 2.0}
