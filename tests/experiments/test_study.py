"""The study's runner: what is left is run in order, each run once, and what finished is what the plan asks for."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from transformers import WavLMConfig, WhisperConfig

import run_mtl
from experiments import study
from experiments.study import Plan, Processes, commands, execute, left, main, run_all
from modeling_toxmtl.configuration_toxmtl import configuration_for
from modeling_toxmtl.training.provenance import MODEL_FIELDS


# Stands in for training and tests: writes what `run_mtl.py` would, with a better quality for the higher rate
STUB = """
import json, pathlib, sys
flags = dict(zip(sys.argv, sys.argv[1:]))
output, rate = pathlib.Path(flags["--output_dir"]), float(flags.get("--learning_rate", 1))
print(*sys.argv[1:], file=open("calls.txt", "a"))
if pathlib.Path("fail").exists() and output.name == "real":
    sys.exit(3)
(output / "checkpoint-9").mkdir(parents=True, exist_ok=True)
results = {"commit": "abc", "versions": {}, "parameters": 7, "data": {"sha256": {"test": "t-" + output.name}},
           "validation": {"quality": rate}, "test": {"mAP": 50.0}}
(output / "results.json").write_text(json.dumps(results))
(output / "train_results.json").write_text(json.dumps({"train_runtime": 5.0}))
"""
SHARED = {
    **{"dataset": "clips", "per_device_eval_batch_size": 4, "disable_tqdm": True, "report_to": "none"},
    **{"model_name_or_path": "start", "learning_rate": 1.0, "config_overrides": {"mask_time_prob": 0.1}},
    "num_train_epochs": 2,
}
PLAN = {
    **{"settings": "shared.json", "real_dataset": "real_clips", "results": "results", "minutes": 6},
    "variants": {
        "slow": {"title": "slow", "arguments": {"learning_rate": 2.0}},
        "fast": {"title": "fast", "arguments": {"learning_rate": 3.0}},
        "mtl": {"title": "MTL", "arguments": {}},
        "own": {"title": "own", "arguments": {"learning_rate": 5.0, "config_overrides": {"layerdrop": 0.0}}},
    },
    "tuning": {"variants": ["slow", "fast"], "seed": 0, "metric": "quality"},
    "order": [{"variants": ["mtl", "own"], "seeds": [0]}, {"variants": ["mtl"], "seeds": [1]}],
}
NAMES = ["slow-seed0", "fast-seed0", "mtl-seed0", "own-seed0", "mtl-seed1"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A folder with a plan, whose runs take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "clip_table", lambda *_: None)
    monkeypatch.setattr(study, "write_clips", lambda path, _: path.parent.mkdir(exist_ok=True))
    Path("run_mtl.py").write_text(STUB)
    Path("start").mkdir()
    Path("start/model.safetensors").write_text("weights")
    Path("shared.json").write_text(json.dumps(SHARED))
    Path("plan.json").write_text(json.dumps(PLAN))
    return Path("plan.json")


def calls():
    return [line.split("--output_dir ")[1].split()[0] for line in Path("calls.txt").read_text().splitlines()]


def test_all_runs_of_the_plan_are_made_once_and_in_order(bench, capsys):
    assert [(run.name, minutes) for run, minutes in left(Plan(bench))] == [(name, 6) for name in NAMES]
    main(["run", "--plan", str(bench), "--bf16"])
    assert calls() == [f"runs/study/{name}{part}" for name in NAMES for part in ("", "/real")]
    assert "0 of 5 runs are left: 0.0 hours." in capsys.readouterr().out
    main(["run", "--plan", str(bench), "--bf16"])
    assert len(calls()) == 2 * len(NAMES) and not list(Path("runs").rglob("study/*/checkpoint-*"))

    results = Plan(bench).results()
    assert list(results["mtl"]) == [0, 1]
    run = results["own"][0]
    assert run["arguments"]["config_overrides"] == {"mask_time_prob": 0.1, "layerdrop": 0.0}
    assert [run["data_sha256"][name] for name in ("balanced", "real")] == ["t-own-seed0", "t-real"]
    assert run["seconds"]["training"] == 5.0 and run["seconds"]["all"] >= 0
    assert run["commands"][0].startswith("python run_mtl.py shared.json --learning_rate 5.0 --config_overrides ")
    assert run["start_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert all(command.endswith("--bf16") for command in run["commands"])


def test_the_best_of_the_tuned_gives_its_arguments_to_those_that_set_none(bench):
    assert Plan(bench).tuned is None
    with pytest.raises(ValueError, match="--only mtl: the variants slow, fast come first"):
        run_all(bench, 1, "mtl", [])
    run_all(bench, 1, "slow|fast", [])
    rates = {run.name: run.arguments["learning_rate"] for run in Plan(bench).runs()}
    assert Plan(bench).tuned == {"learning_rate": 3.0} and rates["mtl-seed1"] == 3.0 and rates["own-seed0"] == 5.0


def test_a_run_that_was_stopped_goes_on_and_has_no_time(bench):
    plan = Plan(bench)
    run = plan.runs()[0]
    Path("fail").touch()
    with pytest.raises(subprocess.CalledProcessError):
        execute(plan, run, [], Processes(1))
    assert plan.read(run) is None
    Path("fail").unlink()
    execute(plan, run, [], Processes(1))
    assert calls() == ["runs/study/slow-seed0", "runs/study/slow-seed0/real", "runs/study/slow-seed0/real"]
    assert plan.read(run)["seconds"]["all"] is None
    assert left(plan)[0][1] == 6  # nothing is measured yet
    Path("results/slow-seed0.json").unlink()
    with pytest.raises(ValueError, match=r"arguments.json is of another run .flags is \['--bf16'\], and was \[\]"):
        execute(plan, run, ["--bf16"], Processes(1))


def test_runs_side_by_side(bench):
    """Those of tuning wait for each other here, so that only two at a time get through; the others for both."""
    waiting = """
import os, time
assert os.environ["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))
if output.parent.name == "study" and rate in (2.0, 3.0) and output.name in ("slow-seed0", "fast-seed0"):
    pathlib.Path(output.name).touch()
    while not (pathlib.Path("slow-seed0").exists() and pathlib.Path("fast-seed0").exists()):
        time.sleep(0.01)
"""
    Path("run_mtl.py").write_text(STUB + waiting)
    run_all(bench, 1, "", [], jobs=2)
    assert sorted(calls()) == sorted(f"runs/study/{name}{part}" for name in NAMES for part in ("", "/real"))
    assert Plan(bench).results()["mtl"][1]["arguments"]["learning_rate"] == 3.0


def test_a_run_that_fails_ends_the_others(bench):
    """The first fails once the second has begun, which would go on for a minute."""
    waiting = """
import time
pathlib.Path(output.name).touch()
if output.name == "fast-seed0":
    time.sleep(60)
while not pathlib.Path("fast-seed0").exists():
    time.sleep(0.01)
sys.exit(3)
"""
    Path("run_mtl.py").write_text(STUB.replace("print(*sys", waiting + "print(*sys"))
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        run_all(bench, 1, "", [], jobs=2)
    assert not list(Path("results").glob("*.json")) and not Path("mtl-seed0").exists()


def test_no_run_begins_that_would_end_too_late(bench, capsys):
    run_all(bench, 0.05, "", [])
    assert "5 of 5 runs are left: 0.5 hours." in capsys.readouterr().out and not Path("calls.txt").exists()


def test_what_was_made_with_other_arguments_is_refused(bench):
    plan = Plan(bench)
    execute(plan, plan.runs()[0], [], Processes(1))
    Path("shared.json").write_text(json.dumps({**SHARED, "dataset": "others"}))
    with pytest.raises(ValueError, match="slow-seed0.json is of another run .dataset is 'others', and was 'clips'"):
        left(Plan(bench))
    Path("results/slow-seed0.json").unlink()
    with pytest.raises(ValueError, match="slow-seed0/arguments.json is of another run"):
        execute(Plan(bench), Plan(bench).runs()[0], [], Processes(1))
    bench.write_text(json.dumps({**PLAN, "order": [{"variants": ["mlt"], "seeds": [0]}]}))
    with pytest.raises(ValueError, match="names 'mlt', which is none of `variants`"):
        Plan(bench)
    null = {"title": "no limit", "arguments": {"learning_rate": None}}  # would be that of the shared settings
    bench.write_text(json.dumps({**PLAN, "variants": PLAN["variants"] | {"mtl": null}}))
    with pytest.raises(ValueError, match="mtl sets 'learning_rate' to null"):
        Plan(bench)


def test_commands_of_the_plan_are_those_of_run_mtl_and_its_models_can_be_built():
    plan = Plan()
    # a run has the tasks of the model that it starts from, unless it says which
    start = configuration_for("whisper").from_encoder(
        WhisperConfig(), tasks=json.loads(Path("experiments/study_start.json").read_text())["tasks"]
    )
    encoders = {"whisper": start, "wavlm": WavLMConfig()}
    single = {"classifier": ["classification"], "keyword": ["keyword"]}
    for run in plan.runs():
        train, real = (command[1:] for command in commands(plan, run, ["--bf16", "--use_cpu"]).values())
        model, data, training = run_mtl.parse_arguments(train)
        assert training.do_train and training.seed == run.seed and training.bf16 and data.dataset == "study_data"
        overrides = json.loads(model.config_overrides) if isinstance(model.config_overrides, str) else {}
        assert overrides == run.arguments["config_overrides"] or not overrides
        overrides = run.arguments["config_overrides"] | {name: getattr(model, name) for name in MODEL_FIELDS
                                                         if getattr(model, name) is not None}  # fmt: skip
        family = "wavlm" if "wavlm" in model.model_name_or_path else "whisper"
        config = configuration_for(family).from_encoder(encoders[family], vocab_size=32, pad_token_id=0, **overrides)
        assert all(getattr(config, name) == value for name, value in overrides.items())
        system = run.variant.removeprefix("wavlm-").split("-")[0]
        assert config.tasks == single.get(system, ["classification", "keyword"])
        model, data, training = run_mtl.parse_arguments(real)
        assert training.do_eval and training.do_predict and not training.do_train and data.dataset == "study_data_real"
