import json

import pytest
from helpers import dataset_of, record, tiny_processor, tone, wav
from tiny_models import tiny_model

from modeling_toxmtl.training.arguments import DataArguments, ModelArguments, ToxicityTrainingArguments
from modeling_toxmtl.training.dataset import fingerprint, usable_dataset
from modeling_toxmtl.training.provenance import (
    check_resumed,
    current_commit,
    describe_run,
    reproducible_metrics,
    write_results,
)


def described(**fields) -> dict:
    run = {
        "model": {"tasks": ["keyword"]},
        "training": {"seed": 0, "max_steps": 9},
        "data": {"sha256": {"train": "a"}},
    }
    return run | fields


def test_a_run_is_described_by_what_decides_its_numbers(tmp_path):
    model, rows = tiny_model(use_info_sharing=True), dataset_of(record("a", wav(tone(16_000))), record("b", b"?"))
    dataset = usable_dataset(rows, tiny_processor(), model.config, "clips")
    arguments = (
        ModelArguments(keywords="my.json"),
        DataArguments("clips"),
        ToxicityTrainingArguments(str(tmp_path), seed=7),
    )
    run = json.loads(json.dumps(describe_run(*arguments, model, {"test": dataset})))
    assert run["model"]["keywords"] == "my.json" and run["model"]["use_info_sharing"] is True
    assert "model_revision" not in run["model"]
    assert (run["training"]["seed"], run["training"]["lr_scheduler_type"]) == (7, "linear")
    assert run["data"] == {
        "dataset": "clips",
        "sha256": {"test": fingerprint(dataset.rows)},
        "rejected": {"test": 1},
    }
    assert run["parameters"] == model.num_parameters() and "torch" in run["versions"]


def test_what_a_resumed_run_may_change(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(described()))
    check_resumed(tmp_path / "run.json", described(training={"seed": 0, "max_steps": 20, "new": 1}))
    with pytest.raises(ValueError, match="another run: seed is 1, and was 0. Choose another --output_dir"):
        check_resumed(tmp_path / "run.json", described(training={"seed": 1}))
    with pytest.raises(ValueError, match="SHA-256 of train is 'b', and was 'a'"):
        check_resumed(tmp_path / "run.json", described(data={"sha256": {"train": "b"}}))


def test_metrics_without_times():
    results = {"test_mAP": 1.0, "test_loss": 2.0, "test_runtime": 3.0, "test_samples_per_second": 4.0, "epoch": 5}
    assert list(reproducible_metrics(results, "test").items()) == [("loss", 2.0), ("mAP", 1.0)]


def test_the_table_is_of_the_test_set_or_else_of_the_validation_set(tmp_path, capsys):
    results = {"parameters": 1_500_000, "validation": {"mAP": 11.0}}
    write_results(tmp_path, results, "MTL")
    assert "| MTL | 1.5 |" in (tmp_path / "results.md").read_text() and " 11.00 |" in capsys.readouterr().out
    write_results(tmp_path, results | {"test": {"mAP": 22.0}}, "MTL")
    assert " 22.00 |" in (tmp_path / "results.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text()) == results | {"test": {"mAP": 22.0}}


def test_commit_where_there_is_none(tmp_path, monkeypatch):
    assert current_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert current_commit(tmp_path) is None
