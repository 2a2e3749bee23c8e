import logging
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import RATE, SENTENCES, dataset_of, record, tiny_processor, tiny_speech_model
from run_mtl_helpers import flags_of, read_lines, run
from safetensors.torch import load_file
from transformers import AutoConfig, AutoProcessor

import run_mtl
from modeling_toxmtl import LABELS
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.training.dataset import ToxicityDataset
from modeling_toxmtl.training.folders import load_clips


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
    partial = write_partial(tmp_path, workbench, "validation", transcript="hello my friend")
    with pytest.raises(ValueError, match="No clip of the validation split has a keyword in its transcript"):
        run(partial, tmp_path / "run", tasks=["keyword"])
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("tasks", "labels", "transcript", "missing"),
    [
        (["keyword"], None, "hello my friend", "a keyword in its transcript"),
        (["keyword"], None, "oh damn", None),
        (["classification"], [], None, "a label"),
        (["classification"], ["Threat"], None, None),
        (["classification", "keyword"], [], "hello", "a label or a keyword in its transcript"),
        (["classification", "keyword"], None, "oh damn", None),
        (["classification", "keyword"], ["Threat"], None, None),
    ],
)
def test_a_validation_split_that_tells_nothing(tasks, labels, transcript, missing):
    """There would be no `quality` to compare checkpoints by, which training asks for after the first epoch."""
    config = tiny_speech_model(tasks=tasks, id2label={0: "Insult", 1: "Threat"}).config
    rows = dataset_of(*(record(str(index), None, labels, transcript, num_samples=RATE) for index in range(2)))
    dataset = ToxicityDataset(rows, tiny_processor(), config)
    if missing is None:
        return run_mtl.check_validation(dataset, config)
    with pytest.raises(ValueError, match=f"No clip of the validation split has {missing}, so .* --validation_split"):
        run_mtl.check_validation(dataset, config)


def test_validation_split_without_labels(workbench, tmp_path, caplog):
    """The keywords name the best checkpoint, and the model is saved as it is trained."""
    logging.getLogger("run_mtl").addHandler(caplog.handler)
    partial = write_partial(tmp_path, workbench, "validation", labels=None)
    results = run(partial, tmp_path / "run", num_train_epochs=1)
    assert "calibration" not in results and results["thresholds"] == dict.fromkeys(LABELS, 0.5)
    assert "keyword_f1" in results["validation"] and "mAP" in results["test"]
    assert AutoConfig.from_pretrained(tmp_path / "run").label_thresholds is None
    assert "No clip of the validation split has labels: scores are not calibrated" in caplog.text
    assert "alibrat" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_training_split_without_what_is_learnt(workbench, tmp_path):
    partial = write_partial(tmp_path, workbench, "train", labels=None)
    with pytest.raises(ValueError, match=r"Split 'train' of .* no usable row \(row train-00: no labels, and"):
        run(partial, tmp_path / "run", tasks=["classification"])


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


def test_missing_split_is_named(workbench, tmp_path):
    with pytest.raises(ValueError, match=r"\['test', 'train', 'validation'\], but lacks \['dev'\]"):
        run(workbench, tmp_path, "--do_train", validation_split="dev")


def test_missing_data(workbench, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(workbench, tmp_path, "--do_eval", dataset=tmp_path / "nowhere")
