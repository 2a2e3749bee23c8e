import hashlib
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers import (
    RATE,
    SPEECH_FRAMES,
    as_read,
    clip_row,
    dataset_of,
    record,
    tiny_processor,
    tone,
    wav,
    write_audio_folder,
    write_corpus,
)
from tiny_models import tiny_config

from modeling_toxmtl.data.schema import write_split
from modeling_toxmtl.training import folders
from modeling_toxmtl.training.dataset import RowInspector, ToxicityDataset, inspect_rows
from modeling_toxmtl.training.folders import load_clips


CONFIG = tiny_config(**SPEECH_FRAMES)


@pytest.fixture
def inspector():
    return RowInspector(tiny_processor(), CONFIG)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def no_load_dataset(monkeypatch):
    """`load_dataset` is what would ask the Hub."""

    def refuse(*args):
        raise AssertionError(f"load_dataset was called with {args}")

    monkeypatch.setattr(folders, "load_dataset", refuse)


def test_loads_parquet(tmp_path):
    rows = {split: clip_row(f"{split}-0", split, 2, 1.0) for split in ("train", "test")}
    for split, row in rows.items():
        write_split([row], tmp_path / "clips", split)
    clips = load_clips(str(tmp_path / "clips"))
    assert set(clips) == {"train", "test"}
    (row,) = clips["train"]
    assert row["audio"] == {"bytes": rows["train"].audio, "path": "train-0.ogg"}  # encoded
    assert (row["id"], row["labels"]) == ("train-0", ["Bullying", "Profanity"])
    assert row["transcript"] == "shut up you crap player"


def test_loads_an_audio_folder_with_metadata_csv(tmp_path, inspector):
    table = "file_name,labels,transcript\na.wav,Profanity|Other,oh damn\nb.wav,NoViolation,\nc.wav,,hello\n"
    write_audio_folder(tmp_path / "clips", "train", table, ["a.wav", "b.wav", "c.wav"])
    rows = load_clips(str(tmp_path / "clips"))["train"]
    assert rows["id"] == ["train-0", "train-1", "train-2"]  # made up
    usable, rejected = inspect_rows(rows, inspector)
    assert rejected == [] and list(usable["num_samples"]) == [RATE] * 3
    items = list(ToxicityDataset(usable, inspector.processor, CONFIG))
    assert items[0]["labels"].tolist() == [1, 0, 0, 0, 1, 0]
    assert items[1]["keyword_labels"] == [-100]
    assert items[2]["labels"].tolist() == [-100] * 6
    assert items[2]["keyword_labels"] == inspector.processor.encode_keywords("hello")


def test_loads_a_csv_without_any_transcript(tmp_path, inspector):
    table = "file_name,labels,transcript\na.wav,Other,\nb.wav,NoViolation,\n"
    write_audio_folder(tmp_path / "clips", "train", table, ["a.wav", "b.wav"])
    usable, rejected = inspect_rows(load_clips(str(tmp_path / "clips"))["train"], inspector)
    assert rejected == []
    assert [item["keyword_labels"] for item in ToxicityDataset(usable, inspector.processor, CONFIG)] == [[-100]] * 2


def test_loads_an_audio_folder_with_metadata_jsonl(tmp_path, inspector):
    rows = [
        {"file_name": "a.wav", "id": "first", "labels": ["Profanity", "Racist"], "transcript": "damn"},
        {"file_name": "b.wav", "id": "second", "labels": None, "transcript": "hi"},
    ]
    write_audio_folder(tmp_path / "clips", "test", "\n".join(map(json.dumps, rows)), ["a.wav", "b.wav"])
    loaded = load_clips(str(tmp_path / "clips"))["test"]
    assert loaded["id"] == ["first", "second"]
    usable, rejected = inspect_rows(loaded, inspector)
    items = list(ToxicityDataset(usable, inspector.processor, CONFIG))
    assert rejected == []
    assert [item["labels"].tolist() for item in items] == [[1, 0, 1, 0, 0, 0], [-100] * 6]
    samples = as_read(tone(RATE, seed=1))
    expected = inspector.processor(samples, sampling_rate=RATE)["input_values"][0]
    np.testing.assert_allclose(items[1]["input_values"], expected, atol=1e-5)


def test_splits_of_an_audio_folder(tmp_path, inspector):
    """By the column `split`, or else by folder, or else "train"; files are relative to their metadata."""
    for name in ("a.wav", "more/b.wav", "test/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav(tone(RATE, seed=ord(Path(name).stem))))
    root = "file_name,labels,transcript,split\na.wav,Other,911,\nmore/b.wav,Racist,hi,validation\n"
    (tmp_path / "metadata.csv").write_text(root, encoding="utf-8-sig")  # as spreadsheets write it
    line = {"file_name": "c.wav", "labels": ["Bullying"]}
    (tmp_path / "test" / "metadata.jsonl").write_text(
        json.dumps(line) + "\n\n" + json.dumps({**line, "transcript": "damn"}) + "\n"
    )
    clips = load_clips(str(tmp_path))
    assert {split: rows["transcript"][:] for split, rows in clips.items()} == {
        "train": ["911"],
        "validation": ["hi"],
        "test": [None, "damn"],
    }
    for split, letter in {"train": "a", "validation": "b", "test": "c"}.items():
        usable, rejected = inspect_rows(clips[split], inspector)
        assert rejected == []
        assert usable[0]["sha256"] == hashlib.sha256(wav(tone(RATE, seed=ord(letter)))).hexdigest()


def test_metadata_of_different_kinds(tmp_path):
    lines = [{"file_name": "a.wav", "labels": ["Other"]}, {"file_name": "b.wav", "labels": "Other"}]
    write_audio_folder(tmp_path / "clips", "train", "\n".join(map(json.dumps, lines)), ["a.wav", "b.wav"])
    with pytest.raises(ValueError, match="clips, split 'train': a column of the metadata holds values of different"):
        load_clips(str(tmp_path / "clips"))


@pytest.mark.parametrize("is_list", [True, False])
def test_numbered_labels_get_their_names(is_list, tmp_path):
    """As most classification datasets of the Hub have them."""
    classes = datasets.ClassLabel(names=["Other", "Racist"])
    labels = [[1], [0], [-1]] if is_list else [1, 0, -1]
    columns = {
        "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "labels": datasets.List(classes) if is_list else classes,
        "transcript": datasets.Value("string"),
    }
    audio = [{"bytes": wav(tone(RATE)), "path": None}] * 3
    rows = datasets.Dataset.from_dict(
        {"audio": audio, "labels": labels, "transcript": [None] * 3}, features=datasets.Features(columns)
    )
    (tmp_path / "clips").mkdir()
    rows.to_parquet(tmp_path / "clips" / "train.parquet")
    clips = load_clips(str(tmp_path / "clips"))["train"]
    assert clips["labels"] == [["Racist"], ["Other"], None]


def test_chosen_splits_and_samples(tmp_path):
    for split in ("train", "test"):
        write_split([clip_row(f"{split}-{i}", split, i, 1.0) for i in range(3)], tmp_path / "clips", split)
    clips = load_clips(str(tmp_path / "clips"), splits=["test"], max_samples=2)
    assert set(clips) == {"test"} and clips["test"]["id"] == ["test-0", "test-1"]
    with pytest.raises(ValueError, match=r"has the splits \['test', 'train'\], but lacks \['validation'\]"):
        load_clips(str(tmp_path / "clips"), splits=["train", "validation"])


def test_a_split_without_rows_is_one_that_is_not_there(tmp_path):
    write_split([], tmp_path / "clips", "train")
    with pytest.raises(ValueError, match="clips have no rows"):
        load_clips(str(tmp_path / "clips"))
    write_split([clip_row("a", "test", 0, 1.0)], tmp_path / "clips", "test")
    assert load_clips(str(tmp_path / "clips"), splits=["test"])["test"]["id"] == ["a"]
    with pytest.raises(ValueError, match=r"has the splits \['test'\], but lacks \['train'\]"):
        load_clips(str(tmp_path / "clips"), splits=["train"])


def test_metadata_without_file_name(tmp_path):
    write_audio_folder(tmp_path / "clips", "train", "file,labels,transcript\na.wav,Other,hi\n", ["a.wav"])
    with pytest.raises(ValueError, match=r"metadata\.csv, line 2: no 'file_name'"):
        load_clips(str(tmp_path / "clips"))


def test_metadata_with_a_comma_in_a_text(tmp_path):
    table = 'file_name,labels,transcript\na.wav,Other,"well, hi"\nb.wav,Other,well, hi\n'
    write_audio_folder(tmp_path / "clips", "train", table, ["a.wav", "b.wav"])
    with pytest.raises(ValueError, match=r"metadata\.csv, line 3: .*quote"):
        load_clips(str(tmp_path / "clips"))


def test_missing_column_is_named(tmp_path):
    write_audio_folder(tmp_path / "clips", "train", "file_name,labels\na.wav,Other\n", ["a.wav"])
    with pytest.raises(ValueError, match=r"'train'.*lacks \['transcript'\]"):
        load_clips(str(tmp_path / "clips"))


@pytest.mark.parametrize("name", ["nowhere", "empty", "clip.wav", "empty/a/b"])
def test_no_data_is_an_error_without_network(tmp_path, no_load_dataset, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.wav").write_bytes(wav(tone(100)))
    with pytest.raises(FileNotFoundError, match=name):
        load_clips(str(tmp_path / name))


def test_relative_path_that_is_no_hub_id(tmp_path, monkeypatch, no_load_dataset):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="clips/of/mine"):
        load_clips("clips/of/mine")


def test_hub_id_goes_to_datasets(monkeypatch):
    rows = dataset_of(record("a", wav(tone(RATE))))
    monkeypatch.setattr(folders, "load_dataset", lambda *args: datasets.DatasetDict({"/".join(map(str, args)): rows}))
    assert list(load_clips("someone/clips", "small")) == ["someone/clips/small"]


def test_a_folder_whose_files_have_changed_is_read_anew(tmp_path, monkeypatch):
    """The cache of `datasets` does not notice it where a data-set card names the files."""
    monkeypatch.chdir(tmp_path)
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n"
    for size in (3, 2):
        shutil.rmtree("clips", ignore_errors=True)
        write_corpus(Path("clips"), train=size)
        Path("clips", "README.md").write_text(f"---\n{configs}---\n")
        assert len(load_clips("clips")["train"]) == size
