import json
from dataclasses import asdict

import pytest
import torch
from helpers import tiny_whisper_checkpoint
from run_mtl_helpers import flags_of, read_lines, run
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForAudioClassification, AutoProcessor, pipeline

import run_mtl
from modeling_toxmtl import LABELS, ToxicityDetectionPipeline
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.training.calibration import LabelCalibration
from modeling_toxmtl.training.evaluation import markdown_table
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.provenance import MODEL_FIELDS


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


def test_validation_results_are_those_of_the_saved_model(trained, workbench, tmp_path):
    """Measured after calibration."""
    folder, results = trained
    again = run(workbench, tmp_path, "--do_eval", model_name_or_path=folder, test_split="validation")
    assert results["validation"].keys() == again["test"].keys()
    assert results["validation"] == pytest.approx(again["test"], abs=1e-4)


# --- what is asked of a run


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


def test_nothing_to_do(workbench, tmp_path):
    with pytest.raises(ValueError, match="Nothing to do"):
        run_mtl.main(*run_mtl.parse_arguments(flags_of(workbench, tmp_path)))
