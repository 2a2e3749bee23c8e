import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import SENTENCES, clip_row, tiny_checkpoint, tiny_whisper_checkpoint, write_corpus
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForAudioClassification, AutoProcessor, WavLMConfig, WavLMForCTC, pipeline

import run_mtl
from modeling_toxmtl import LABELS, ToxicityDetectionPipeline
from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.data.schema import Row, write_split
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.processing_toxmtl import speech_feature_extractor
from modeling_toxmtl.training.calibration import LabelCalibration
from modeling_toxmtl.training.evaluation import markdown_table
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.provenance import MODEL_FIELDS


ROOT = Path(run_mtl.__file__).parent
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.json"))
# what a seed decides: dropout, LayerDrop and SpecAugment are on
CHANCE = {"hidden_dropout": 0.1, "layerdrop": 0.3, "apply_spec_augment": True, "mask_time_length": 3}


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    """A tiny checkpoint and a tiny corpus with a broken clip in two of its splits."""
    folder = tmp_path_factory.mktemp("workbench")
    tiny_checkpoint(folder / "checkpoint")
    write_corpus(folder / "clips")
    for split, where in (("train", 3), ("test", 0)):
        rows = [clip_row(f"{split}-{index:02d}", split, index, 1.0) for index in range(8 if split == "train" else 4)]
        if split == "test":
            rows[-1] = clip_row("test-03", "test", 3, 2.5)
        broken = Row(f"{split}-broken", b"not audio", 1.0, ("Other",), "hi", "nobody", "none", split)
        write_split([*rows[:where], broken, *rows[where:]], folder / "clips", split)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets_cache")


def flags_of(workbench, output_dir, **fields) -> list[str]:
    fields = {
        "model_name_or_path": workbench / "checkpoint",
        "dataset": workbench / "clips",
        "output_dir": output_dir,
        "window_seconds": 1.0,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 2,
        "learning_rate": 1e-3,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **fields,
    }
    flags = []
    for name, value in fields.items():
        flags.append(f"--{name}")
        flags += [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return flags


def run(workbench, output_dir, *switches: str, **fields) -> dict:
    switches = switches or ("--do_train", "--do_eval", "--do_predict")
    return run_mtl.main(*run_mtl.parse_arguments([*flags_of(workbench, output_dir, **fields), *switches]))


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(workbench, tmp_path_factory):
    """Output folder of a whole run, and what `main` returned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets_cache")
        folder = tmp_path_factory.mktemp("trained")
        return folder, run(workbench, folder)


# --- arguments


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


# --- a whole run


def test_results(trained, workbench):
    folder, returned = trained
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results == json.loads(json.dumps(returned))
    assert results["versions"].keys() == {"python", "torch", "transformers", "datasets", "accelerate", "numpy"}
    model = AutoModelForAudioClassification.from_pretrained(folder)
    assert results["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert results["data"]["rejected"] == {"train": 1, "validation": 0, "test": 1}
    assert set(results["data"]["sha256"]) == {"train", "validation", "test"}
    assert results["training"]["seed"] == 42 and results["training"]["num_train_epochs"] == 2
    assert results["model"]["tasks"] == ["classification", "keyword"]
    for split, clips, keywords in (("validation", 3, 3), ("test", 4, 3)):
        metrics = results[split]
        assert sum(metrics[f"support_{label}"] for label in LABELS) == clips + 1  # one clip has two labels
        assert metrics["keyword_support"] == metrics["keyword_tp"] + metrics["keyword_fn"] == keywords
        assert metrics["quality"] == pytest.approx((metrics["mAP"] + metrics["keyword_f1"]) / 2)
        assert metrics["loss"] > 0
        assert not any("per_second" in name or "time" in name or "epoch" in name for name in metrics)


def test_calibration(trained):
    """What was chosen on the validation split is in the saved model, and gives the scores of the test split."""
    folder, results = trained
    config = AutoConfig.from_pretrained(folder)
    assert {name: label["threshold"] for name, label in results["calibration"].items()} == config.thresholds
    assert results["calibration"]["NoViolation"] != asdict(LabelCalibration())
    raw = results["calibration"]["DatingAndSexting"]  # no clip has it
    assert raw == asdict(LabelCalibration())
    test, before = results["test"], results["test_uncalibrated"]
    assert before.keys() == {"brier_score", "calibration_error"} <= test.keys()
    assert before["brier_score"] != test["brier_score"]
    for clip in read_lines(folder / "predictions.jsonl"):
        assert clip["violations"] == config.violations(clip["scores"])


def test_table(trained, capsys):
    folder, results = trained
    table = (folder / "results.md").read_text(encoding="utf-8")
    assert table == markdown_table({"MTL": (results["parameters"], results["test"])}) + "\n"
    assert f"{results['test']['mAP']:.2f}" in table


def test_rejected_rows(trained):
    folder, _ = trained
    rejected = read_lines(folder / "rejected.jsonl")
    assert [(row["split"], row["id"]) for row in rejected] == [("test", "test-broken"), ("train", "train-broken")]
    assert all(row["reason"].startswith("unreadable audio") for row in rejected)


def test_saved_model_gives_the_predictions(trained, workbench):
    folder, _ = trained
    predictions = read_lines(folder / "predictions.jsonl")
    assert [clip["id"] for clip in predictions] == ["test-00", "test-01", "test-02", "test-03"]

    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == "wavlm_toxmtl" and tuple(config.id2label.values()) == LABELS
    model, processor = AutoModelForAudioClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert processor.keywords.to_dict() == KeywordList.default().to_dict()
    pipe = ToxicityDetectionPipeline(model=model, processor=processor, window_seconds=1.0, stride_seconds=1.0)
    rows = load_clips(str(workbench / "clips"))["test"]
    clips = {row["id"]: row["audio"]["bytes"] for row in rows}
    for predicted in predictions:
        verdict = pipe(clips[predicted["id"]], return_keywords=True)
        scores = {item["label"]: item["score"] for item in verdict["labels"]}
        assert scores == pytest.approx(predicted["scores"], abs=1e-5)
        assert list(predicted["scores"]) == list(LABELS)
        assert [word["keyword"] for word in verdict["keywords"]] == [word["keyword"] for word in predicted["keywords"]]
        assert all(isinstance(word, str) for word in predicted["words"])


def test_training_starts_from_whisper(workbench, tmp_path):
    """From a checkpoint as on the Hub to a folder that knows what it is."""
    checkpoint = tiny_whisper_checkpoint(tmp_path / "whisper")
    results = run(workbench, tmp_path / "run", num_train_epochs=1, model_name_or_path=checkpoint)
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "run"))
    change = (after["model.encoder.layers.0.fc1.weight"] - before["model.encoder.layers.0.fc1.weight"]).abs().max()
    assert 0 < change < 0.02  # 2 steps of at most the learning rate
    assert torch.equal(after["model.encoder.conv1.weight"], before["model.encoder.conv1.weight"])  # frozen
    assert not any("decoder" in name for name in after)
    again = run(workbench, tmp_path / "again", "--do_eval", model_name_or_path=tmp_path / "run")
    assert again["test"] == pytest.approx(results["test"])
    moderate = pipeline("audio-classification", model=str(tmp_path / "run"), window_seconds=1.0, stride_seconds=1.0)
    assert type(moderate) is ToxicityDetectionPipeline
    clips = {row["id"]: row["audio"]["bytes"] for row in load_clips(str(workbench / "clips"))["test"]}
    for predicted in read_lines(tmp_path / "run" / "predictions.jsonl"):
        scores = {item["label"]: item["score"] for item in moderate(clips[predicted["id"]])}
        assert scores == pytest.approx(predicted["scores"], abs=1e-5)


def test_training_starts_from_the_checkpoint_and_changes_it(trained, workbench):
    before = load_file(workbench / "checkpoint" / "model.safetensors")
    after = load_file(trained[0] / "model.safetensors")
    name = "wavlm.encoder.layers.0.attention.q_proj.weight"
    change = (after[name] - before[name]).abs().max()
    assert 0 < change < 0.02  # 4 steps of at most the learning rate
    frozen = [name for name in before if "feature_extractor" in name]
    assert frozen and all(torch.equal(after[name], before[name]) for name in frozen)
    assert (after["lm_head.weight"] - before["lm_head.weight"]).abs().max() < 0.02  # the head is taken over


# --- repeatability


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


@pytest.mark.parametrize("strategy", ["epoch", "steps", "unfinished"])
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


def test_evaluation_alone_reproduces_the_results(trained, workbench, tmp_path):
    folder, results = trained
    again = run(workbench, tmp_path, "--do_eval", model_name_or_path=folder)
    assert again["test"] == pytest.approx(results["test"])
    assert "validation" not in again
    assert set(again["data"]["sha256"]) == {"test"}
    assert again["data"]["sha256"]["test"] == results["data"]["sha256"]["test"]
    assert not (tmp_path / "predictions.jsonl").exists() and not (tmp_path / "model.safetensors").exists()
    first = (tmp_path / "results.json").read_bytes()
    run(workbench, tmp_path, "--do_eval", model_name_or_path=folder)
    assert (tmp_path / "results.json").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Toxicity Classifier", {"tasks": ["classification"]}),
        ("Audio to Keyword", {"tasks": ["keyword"]}),
        ("MTL + Info. Sharing", {"use_info_sharing": True}),
        ("MTL + Task Adapter", {"use_task_adapter": True}),
    ],
)
def test_other_systems(workbench, tmp_path, name, fields):
    results = run(workbench, tmp_path / "run", num_train_epochs=1, **fields)
    assert (tmp_path / "run" / "results.md").read_text(encoding="utf-8").splitlines()[2].startswith(f"| {name} |")
    assert ("mAP" in results["test"]) == (name != "Audio to Keyword")
    assert ("keyword_tn" in results["test"]) == (name != "Toxicity Classifier")
    (*_, last) = read_lines(tmp_path / "run" / "predictions.jsonl")
    assert (last["scores"] is None) == (name == "Audio to Keyword")
    assert (last["words"] is None) == (name == "Toxicity Classifier")
    # without the flags again: the folder knows what it is
    again = run(workbench, tmp_path / "again", "--do_eval", model_name_or_path=tmp_path / "run")
    assert again["test"] == pytest.approx(results["test"])
    assert again["parameters"] == results["parameters"]


def test_flags_change_a_trained_system(trained, workbench, tmp_path):
    fields = {"model_name_or_path": trained[0], "tasks": ["classification"], "classification_loss_weight": 0.5}
    results = run(workbench, tmp_path, "--do_eval", **fields)
    assert {name: results["model"][name] for name in MODEL_FIELDS} == {
        "tasks": ["classification"],
        "use_info_sharing": False,
        "use_task_adapter": False,
        "classification_loss_weight": 0.5,
    }
    assert results["test"]["mAP"] == pytest.approx(trained[1]["test"]["mAP"])  # the classifier is the trained one


# --- labels, keywords, subsets


def test_custom_labels_and_keywords(workbench, tmp_path):
    labels = ["NoViolation", "Bullying", "Profanity"]
    KeywordList([KeywordEntry("hello", ("Bullying",)), KeywordEntry("damn", ("Profanity",))]).save(tmp_path / "k.json")
    results = run(workbench, tmp_path / "run", labels=labels, keywords=tmp_path / "k.json", num_train_epochs=1)
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert config.id2label == dict(enumerate(labels))
    assert AutoProcessor.from_pretrained(tmp_path / "run").keywords.keywords == ["hello", "damn"]
    test = results["test"]
    assert {name for name in test if name.startswith("support_")} == {f"support_{label}" for label in labels}
    assert (test["support_NoViolation"], test["support_Bullying"], test["support_Profanity"]) == (2, 1, 2)
    assert test["keyword_support"] == 2  # "damn" and "hello"; "shut up" and "crap" are fillers now


def test_other_labels_start_the_classifier_anew(trained, workbench, tmp_path):
    """Even as many as before, which would pass for the old ones."""
    fields = {"model_name_or_path": trained[0], "max_samples": 4, "num_train_epochs": 1, "learning_rate": 0.0}
    before = load_file(trained[0] / "model.safetensors")["projector.weight"]
    heads = {}
    for name, labels in {"same": list(LABELS), "turned": list(reversed(LABELS))}.items():
        model, _ = run_mtl.load_model(
            run_mtl.parse_arguments(flags_of(workbench, tmp_path, labels=labels, **fields))[0]
        )
        heads[name] = model.classifier.weight
        assert torch.equal(model.projector.weight, before)
        assert (model.config.label_thresholds is None) == (name == "turned")
    trained_head = load_file(trained[0] / "model.safetensors")["classifier.weight"]
    assert torch.equal(heads["same"], trained_head)
    assert not torch.allclose(heads["turned"], trained_head, atol=1e-3)


def test_another_alphabet(trained, workbench, tmp_path):
    """A new head for new letters, even for as many as before."""
    letters = "zyxwvutsrqponmlkjihgfedcba'"  # the packaged ones in another order
    run(workbench, tmp_path / "out", characters=letters, max_samples=4, num_train_epochs=1, learning_rate=0.0)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.tokenizer.convert_ids_to_tokens(range(5, 32)) == list(letters)
    before, after = (
        load_file(folder / "model.safetensors")["lm_head.weight"]
        for folder in (workbench / "checkpoint", tmp_path / "out")
    )
    assert before.shape == after.shape and not torch.allclose(before, after, atol=1e-3)
    KeywordList([KeywordEntry("dañé", ("Other",))]).save(tmp_path / "list.json")
    fields = {"keywords": tmp_path / "list.json", "max_samples": 4, "num_train_epochs": 1}
    run(workbench, tmp_path / "more", characters="adegoñé", **fields)  # those of the filler too
    assert AutoConfig.from_pretrained(tmp_path / "more").vocab_size == 5 + 7


def test_labels_that_the_model_lacks_are_reported(workbench, tmp_path):
    results = run(workbench, tmp_path, labels=["NoViolation", "Profanity"], num_train_epochs=1)
    assert results["data"]["rejected"] == {"train": 3, "validation": 1, "test": 2}  # and the clips with Bullying
    reasons = {row["id"]: row["reason"] for row in read_lines(tmp_path / "rejected.jsonl")}
    assert reasons["test-02"] == "unknown label Bullying: the model has NoViolation, Profanity"


def test_audio_folder_gives_the_same_results(trained, workbench, tmp_path, monkeypatch):
    folder = tmp_path / "clips" / "test"
    folder.mkdir(parents=True)
    lines = ["file_name,id,labels,transcript"]
    for row in load_clips(str(workbench / "clips"))["test"]:
        (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
        lines.append(f"{row['audio']['path']},{row['id']},{'|'.join(row['labels'])},{row['transcript']}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    results = run(workbench, "run", "--do_eval", dataset="clips", model_name_or_path=trained[0])
    assert results["test"] == pytest.approx(trained[1]["test"])
    assert results["data"]["rejected"] == {"test": 1}


def test_max_samples_and_max_train_seconds(workbench, tmp_path):
    results = run(workbench, tmp_path, "--do_train", max_samples=2, num_train_epochs=1, max_train_seconds=1.05)
    assert results["data"]["rejected"] == {"train": 0, "validation": 0}
    assert "test" not in results
    (table_line,) = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()[2:]
    assert f"{results['validation']['mAP']:.2f}" in table_line  # of the validation set then
    with pytest.raises(ValueError, match=r"Split 'train' of .* no usable row \(row train-00: longer than 0.5 s"):
        run(workbench, tmp_path / "short", "--do_train", max_train_seconds=0.5)


def test_early_stopping(workbench, tmp_path):
    run(
        workbench,
        tmp_path,
        "--do_train",
        num_train_epochs=6,
        learning_rate=0,
        early_stopping_patience=2,
        max_samples=4,
    )
    steps = sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*"))
    assert steps == [1, 3]  # best and last: of one step an epoch, two brought nothing


def test_a_head_that_writes_all_words(workbench, tmp_path):
    fields = {"keyword_target": "transcript", "num_train_epochs": 1, "tasks": ["keyword"]}
    results = run(workbench, tmp_path / "run", **fields)
    assert results["model"]["keyword_target"] == "transcript"
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    assert processor.keyword_target == "transcript"
    words = Path(processor.common_words).read_text(encoding="utf-8").split()
    assert sorted(words) == sorted({word for _, transcript in SENTENCES for word in transcript.split()})
    again = run(workbench, tmp_path / "again", "--do_eval", model_name_or_path=tmp_path / "run")
    assert again["test"] == pytest.approx(results["test"]) and again["model"]["keyword_target"] == "transcript"
    (tmp_path / "words.txt").write_text("the\nof\n")
    fields |= {"model_name_or_path": tmp_path / "run", "common_words": tmp_path / "words.txt"}
    run(workbench, tmp_path / "more", "--do_train", **fields)
    assert Path(AutoProcessor.from_pretrained(tmp_path / "more").common_words).read_text() == "the\nof\n"


# --- errors


def test_what_would_fail_at_the_end_fails_at_the_start(trained, workbench, tmp_path):
    with pytest.raises(ValueError, match="--config_overrides: vocab_size follows the tokenizer"):
        run(workbench, tmp_path, config_overrides='{"vocab_size": 40}')
    with pytest.raises(FileNotFoundError, match="gone.arpa"):
        run(workbench, tmp_path, language_model="gone.arpa")
    with pytest.raises(ValueError, match="No clip of the validation split has a value in transcript"):
        run(write_partial(tmp_path, workbench, "validation", transcript=None), tmp_path / "run", tasks=["keyword"])
    assert not (tmp_path / "run" / "run.json").exists()


def test_test_split_without_labels(workbench, tmp_path):
    results = run(write_partial(tmp_path, workbench, "test", labels=None), tmp_path / "run", num_train_epochs=1)
    assert "mAP" not in results["test"] and "keyword_tn" in results["test"]
    assert "alibrat" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def write_partial(folder, workbench, split, **fields):
    """A copy of the workbench, with these fields in all rows of a split."""
    shutil.copytree(workbench, folder / "partial")
    (file,) = (folder / "partial" / "clips").rglob(f"{split}-*.parquet")
    table = pq.read_table(file)
    for name, value in fields.items():
        column = pa.array([value] * len(table), table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    pq.write_table(table, file)
    return folder / "partial"


def test_nothing_to_do(workbench, tmp_path):
    with pytest.raises(ValueError, match="Nothing to do"):
        run_mtl.main(*run_mtl.parse_arguments(flags_of(workbench, tmp_path)))


def test_missing_split_is_named(workbench, tmp_path):
    with pytest.raises(ValueError, match=r"\['test', 'train', 'validation'\], but lacks \['dev'\]"):
        run(workbench, tmp_path, "--do_train", validation_split="dev")


def test_missing_data(workbench, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(workbench, tmp_path, "--do_eval", dataset=tmp_path / "nowhere")


# --- as a user runs it


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


# accelerate 1.15 starts one process for `--cpu` whatever `--num_processes` says; torchrun's launcher starts two
@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "processes"), [("--cpu", None), ("--multi_gpu", 2)], ids=["cpu", "two"])
def test_accelerate_launch(workbench, tmp_path, launcher, processes):
    flags = flags_of(workbench, tmp_path / "run", num_train_epochs=1, per_device_train_batch_size=2)
    launch = ["accelerate.commands.launch", "--num_processes", "2", launcher, "--main_process_port", free_port()]
    command = ["-m", *launch, "run_mtl.py", *flags]
    run_script([*command, "--do_train", "--do_eval", "--do_predict"], tmp_path / "cache", timeout=600)
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["training"]["world_size"] == processes or processes is None
    alone = run(workbench, tmp_path / "one", "--do_eval", "--do_predict", model_name_or_path=tmp_path / "run")
    expected = {name: pytest.approx(value) for name, value in alone["test"].items() if name != "loss"}
    assert {name: value for name, value in results["test"].items() if name != "loss"} == expected
    predictions = [read_lines(tmp_path / name / "predictions.jsonl") for name in ("run", "one")]
    assert [clip["id"] for clip in predictions[0]] == ["test-00", "test-01", "test-02", "test-03"]
    for several, one in zip(*predictions, strict=True):
        assert several["scores"] == pytest.approx(one["scores"], abs=1e-5)
        assert several["words"] == one["words"]


def test_validation_results_are_those_of_the_saved_model(workbench, tmp_path):
    """Measured after calibration."""
    trained = run(workbench, tmp_path / "trained", "--do_train", num_train_epochs=3)
    again = run(
        workbench, tmp_path / "again", "--do_eval", model_name_or_path=tmp_path / "trained", test_split="validation"
    )
    assert trained["validation"].keys() == again["test"].keys()
    assert trained["validation"] == pytest.approx(again["test"], abs=1e-4)
