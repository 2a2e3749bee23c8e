import json
from pathlib import Path

import pytest

import run_mtl


ROOT = Path(run_mtl.__file__).parent
OTHERS = ("study.json", "study_start.json")  # the plan of the study, and the training that its runs start from
EXPERIMENTS = [path for path in sorted((ROOT / "experiments").glob("*.json")) if path.name not in OTHERS]


def write_json(folder: Path, **fields) -> str:
    path = folder / "run.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    return str(path)


def test_flags_override_json(tmp_path):
    config = write_json(
        tmp_path,
        dataset="clips",
        tasks=["keyword"],
        learning_rate=1e-3,
        freeze_feature_encoder=False,
        do_train=True,
        config_overrides={"layerdrop": 0.0},
    )
    model, data, training = run_mtl.parse_arguments([config])
    assert (data.dataset, model.tasks, training.learning_rate) == ("clips", ["keyword"], 1e-3)
    assert (model.freeze_feature_encoder, training.do_train) == (False, True)
    assert model.config_overrides == {"layerdrop": 0.0}
    flags = ["--learning_rate", "1e-5", "--tasks", "classification", "keyword", "--freeze_feature_encoder", "true"]
    model, data, training = run_mtl.parse_arguments([config, *flags])
    assert (data.dataset, model.tasks) == ("clips", ["classification", "keyword"])  # from file and flag
    assert (model.freeze_feature_encoder, training.learning_rate) == (True, 1e-5)


def test_flags_without_json():
    model, data, training = run_mtl.parse_arguments(["--use_info_sharing", "--labels", "A", "B", "--seed", "7"])
    assert (model.use_info_sharing, model.use_task_adapter) == (True, None)
    assert run_mtl.parse_arguments(["--use_info_sharing", "false"])[0].use_info_sharing is False
    assert (model.labels, training.seed) == (["A", "B"], 7)
    assert (data.max_train_seconds, data.window_seconds) == (15.0, 15.0)


def test_unknown_field_or_flag(tmp_path, capsys):
    config = write_json(tmp_path, learning_rat=1e-3, dataset="clips")
    with pytest.raises(SystemExit):
        run_mtl.parse_arguments([config])
    assert "run.json: unknown field learning_rat;" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--learning_rat_e"):
        run_mtl.parse_arguments(["--learning_rat_e", "3"])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_shipped_experiments_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = {}
    for arguments in run_mtl.parse_arguments([str(path)]):
        parsed |= vars(arguments)
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert fields["do_train"] and fields["do_eval"] and fields["do_predict"]
    for name, value in fields.items():
        expected = [] if (name, value) == ("report_to", "none") else value
        assert parsed[name] == expected, name
    assert list(tmp_path.iterdir()) == []  # reading arguments writes nothing


def test_experiment_of_the_paper(tmp_path):
    path = str(ROOT / "experiments" / "paper_mtl.json")
    model, data, training = run_mtl.parse_arguments([path, "--output_dir", str(tmp_path)])
    assert model.model_name_or_path == "patrickvonplaten/wavlm-libri-clean-100h-base-plus"
    assert model.classification_loss_weight == 0.7
    assert model.tasks is model.use_info_sharing is model.use_task_adapter is None  # plain MTL
    assert data.max_train_seconds == data.window_seconds == 15
    assert training.optim.value.startswith("adamw")
    assert (training.learning_rate, training.adam_epsilon, training.weight_decay) == (4e-5, 1e-8, 0.2)
    assert training.lr_scheduler_type == "linear" and training.get_warmup_steps(1000) == 100
    assert (training.num_train_epochs, training.per_device_train_batch_size) == (25, 32)
    assert model.labels is model.keywords is None  # the paper's labels, 81 keywords
