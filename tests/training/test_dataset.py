import hashlib
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from helpers import (
    RATE,
    SPEECH_FRAMES,
    as_read,
    clip_row,
    dataset_of,
    float_wav,
    record,
    tiny_processor,
    tone,
    wav,
    write_corpus,
)
from tiny_models import tiny_config

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.data.schema import write_split
from modeling_toxmtl.io.tables import read_labels, read_table
from modeling_toxmtl.training import dataset as dataset_module
from modeling_toxmtl.training import folders
from modeling_toxmtl.training.collator import ToxicityDataCollator
from modeling_toxmtl.training.dataset import (
    RejectedRow,
    RowInspector,
    ToxicityDataset,
    Window,
    fingerprint,
    inspect_rows,
)
from modeling_toxmtl.training.folders import load_clips


CONFIG = tiny_config(**SPEECH_FRAMES)
RECEPTIVE_FIELD = 325


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def no_load_dataset(monkeypatch):
    """`load_dataset` is what would ask the Hub."""

    def refuse(*args):
        raise AssertionError(f"load_dataset was called with {args}")

    monkeypatch.setattr(folders, "load_dataset", refuse)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture
def inspector(processor):
    return RowInspector(processor, CONFIG)


def write_audio_folder(folder, split: str, table: str, names: list[str]):
    (folder / split).mkdir(parents=True)
    for seed, name in enumerate(names):
        (folder / split / name).write_bytes(wav(tone(RATE, seed=seed)))
    suffix = "jsonl" if table.startswith("{") else "csv"
    (folder / split / f"metadata.{suffix}").write_text(table, encoding="utf-8")


# --- load_clips


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


TABLES = {
    "another encoding": ("a.csv", b"a,b\nol\xe9,2\n", "a.csv is not in UTF-8"),
    "no JSON": ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"a.jsonl, line 3: this is not JSON"),
    "no object": ("a.jsonl", b"[1]\n", r"a.jsonl, line 1: a line must be a JSON object"),
    "a tab in a text": ("a.tsv", b"a\tb\n1\t2\t3\n", r"a.tsv, line 2: more cells than columns; a text holds tabs"),
    "a missing value": ("a.csv", b"a,b\n1,2\n,2\n", r"a.csv, line 3: no 'a'"),
    "a missing column": ("a.tsv", b"b\n2\n", r"a.tsv, line 2: no 'a'"),
}


@pytest.mark.parametrize("name, content, message", TABLES.values(), ids=TABLES)
def test_tables_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, required=["a"])


def test_tables(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b'\xef\xbb\xbfa\tb\n"1, 2\t\n')
    assert read_table(tmp_path / "a.tsv", required=["a"]) == [{"a": '"1, 2', "b": None}]
    (tmp_path / "a.csv").write_bytes(b'a,b\n"1, 2",\n')
    assert read_table(tmp_path / "a.csv") == [{"a": "1, 2", "b": None}]


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


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, None),
        (float("nan"), None),
        ("", None),
        (" | ", None),
        ([], []),
        ("Other", ["Other"]),
        ("Other | Racist", ["Other", "Racist"]),
        (["Other", "Racist"], ["Other", "Racist"]),
    ],
)
def test_read_labels(value, names):
    assert read_labels(value) == names


def test_empty_list_of_labels_without_no_violation(processor):
    """None of the labels applies: a negative of each."""
    config = tiny_config(**SPEECH_FRAMES, id2label={0: "Profanity", 1: "Threat"})
    rows, rejected = inspect_rows(dataset_of(record("clean", wav(tone(RATE)), [])), RowInspector(processor, config))
    assert rejected == []
    assert ToxicityDataset(rows, processor, config)[0]["labels"].tolist() == [0, 0]


def test_values_that_are_no_texts(inspector):
    audio = {"bytes": wav(tone(RATE)), "path": None}
    rows = [{"audio": audio, "labels": [3], "transcript": None}, {"audio": audio, "labels": None, "transcript": 42}]
    problems = [inspector(row)["problem"] for row in rows]
    assert problems == ["a label is 3, not a name", "the transcript is 42, not a text"]


def test_not_a_number_in_a_clip(inspector):
    samples = tone(RATE)
    samples[100] = np.nan
    _, (rejected,) = inspect_rows(dataset_of(record("broken", float_wav(samples))), inspector)
    assert rejected.id == "broken" and "NaN" in rejected.reason


# --- inspect_rows


def frames_of(count: int) -> int:
    """Fewest samples that give `count` frames: the first sees 325, every further one adds 320."""
    return RECEPTIVE_FIELD + 320 * (count - 1)


def mixed_rows():
    """Rows with their reason to be rejected, empty for a good one."""
    good = wav(tone(RATE))
    return [
        (record("good", good), ""),
        (record("noise", b"this is no audio at all"), "unreadable audio: "),
        (record("gone", None, path="gone.wav"), "no audio file at gone.wav"),
        (record("nowhere", None), "no audio"),
        ({**record("nothing"), "audio": None}, "no audio"),
        (record("unknown", good, ["Profanity", "Spam", "Advert"]), "unknown label Advert, Spam: the model has Profa"),
        (record("short", wav(tone(RECEPTIVE_FIELD - 1))), "empty clip: 324 samples, and the model needs 325"),
        (record("shortest", wav(tone(RECEPTIVE_FIELD)), transcript=None), ""),
        # "good": 4 characters, and a blank between the two o
        (record("tight", wav(tone(frames_of(5)))), ""),
        (
            record("too tight", wav(tone(frames_of(5) - 1))),
            "target longer than its frames: it needs 5 frames, and the clip has 4",
        ),
        # "good|shut|up": 12 characters and the same blank
        (record("phrase", wav(tone(frames_of(13))), transcript="please shut up!"), ""),
        (
            record("cut phrase", wav(tone(frames_of(13) - 1)), transcript="please shut up!"),
            "target longer than its frames: it needs 13",
        ),
        (record("silence", wav(tone(RECEPTIVE_FIELD)), transcript=""), ""),
        (record("bare", good, None, None), "neither labels nor transcript"),
        (record("empty list", good, []), "the list of labels is empty: write NoViolation, or null"),
        (record("labels alone", good, ["Racist"], None), ""),
        (record("words alone", good, None, "damn"), ""),
    ]


@pytest.mark.parametrize("num_proc", [None, 2])
def test_inspect_rows(inspector, num_proc):
    table = mixed_rows()
    usable, rejected = inspect_rows(dataset_of(*(row for row, _ in table)), inspector, num_proc=num_proc)
    assert usable["id"] == [row["id"] for row, reason in table if not reason]  # in order
    expected = [(row["id"], reason) for row, reason in table if reason]
    assert [row.id for row in rejected] == [id_ for id_, _ in expected]
    for row, (_, reason) in zip(rejected, expected, strict=True):
        assert row.reason.startswith(reason), row
    assert len(usable) + len(rejected) == len(table)
    lengths = dict(zip(usable["id"], usable["num_samples"], strict=True))
    assert (lengths["good"], lengths["shortest"], lengths["tight"]) == (RATE, 325, 1605)


def test_file_without_samples(inspector):
    _, (rejected,) = inspect_rows(dataset_of(record("empty", wav(tone(0)))), inspector)
    assert rejected.id == "empty" and rejected.reason.startswith(("empty clip: 0", "unreadable audio"))


def test_max_seconds(inspector):
    rows = dataset_of(
        record("exact", wav(tone(RATE))), record("longer", wav(tone(RATE + 1600))), record("bad", b"?" * 40)
    )
    usable, rejected = inspect_rows(rows, inspector, max_seconds=1.0)
    assert usable["id"] == ["exact"]
    assert rejected[0] == RejectedRow("longer", "longer than 1 s: 1.10 s")
    assert rejected[1].reason.startswith("unreadable")  # the first reason stays
    assert inspect_rows(rows, inspector)[0]["id"] == ["exact", "longer"]


def test_relative_paths_start_from_the_root(tmp_path, processor):
    (tmp_path / "a.wav").write_bytes(wav(tone(RATE)))
    rows = dataset_of(record("a", path="a.wav"))
    usable, _ = inspect_rows(rows, RowInspector(processor, CONFIG, str(tmp_path)))
    assert usable["num_samples"] == [RATE]
    (item,) = ToxicityDataset(usable, processor, CONFIG, root=str(tmp_path))
    assert item["input_values"].shape == (RATE,)


# --- fingerprint


def test_fingerprint_changes_with_content_only(tmp_path, inspector):
    clip, other = wav(tone(RATE)), wav(tone(RATE, seed=1))

    def hash_of(*rows, inspector=inspector):
        return fingerprint(inspect_rows(dataset_of(*rows), inspector)[0])

    first, second = record("a", clip, ["Other"], "damn"), record("b", clip)
    same = hash_of(first, second)
    assert len(same) == 64 and same == hash_of(first, second)
    assert same == hash_of({**first, "audio": {"bytes": clip, "path": "/elsewhere/x.wav"}}, second)
    (tmp_path / "x.wav").write_bytes(clip)
    assert same == hash_of({**first, "audio": {"bytes": None, "path": str(tmp_path / "x.wav")}}, second)
    changed = [
        hash_of({**first, "audio": {"bytes": other, "path": None}}, second),
        hash_of({**first, "labels": ["Racist"]}, second),
        hash_of({**first, "labels": None}, second),
        hash_of({**first, "transcript": "hello"}, second),
        hash_of({**first, "transcript": None}, second),
        hash_of(second, first),
        hash_of(first),
    ]
    assert len({same, *changed}) == len(changed) + 1


def test_fingerprint_of_a_moved_data_set(tmp_path, inspector):
    write_audio_folder(tmp_path / "here", "train", "file_name,labels,transcript\na.wav,Other,hi\n", ["a.wav"])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    hashes = [
        fingerprint(inspect_rows(load_clips(str(tmp_path / f))["train"], inspector)[0]) for f in ("here", "there")
    ]
    assert hashes[0] == hashes[1]


# --- ToxicityDataset


def windows_of(processor, num_samples: int, seconds: float | None = 15.0) -> list[Window]:
    dataset = ToxicityDataset(dataset_of(record("a", num_samples=num_samples)), processor, CONFIG, seconds)
    return sorted(dataset.windows)


def test_windows_of_the_paper(processor):
    cut = 15 * RATE
    assert windows_of(processor, 40 * RATE) == [(0, 0, cut), (0, cut, 2 * cut), (0, 2 * cut, 40 * RATE)]
    assert windows_of(processor, cut) == [(0, 0, cut)]
    assert windows_of(processor, 40 * RATE, None) == [(0, 0, 40 * RATE)]
    # a rest that the model cannot hear joins the window before it
    assert windows_of(processor, 2 * cut + 324) == [(0, 0, cut), (0, cut, 2 * cut + 324)]
    assert windows_of(processor, 2 * cut + 325) == [(0, 0, cut), (0, cut, 2 * cut), (0, 2 * cut, 2 * cut + 325)]


def test_cut_clip_has_no_targets(processor, inspector):
    samples = tone(int(2.5 * RATE))
    rows = dataset_of(
        record("long", wav(samples), ["Other"], "damn"), record("short", wav(tone(RATE)), ["Other"], "damn")
    )
    dataset = ToxicityDataset(inspect_rows(rows, inspector)[0], processor, CONFIG, window_seconds=1.0)
    assert dataset.windows == [(0, 0, RATE), (0, RATE, 2 * RATE), (1, 0, RATE), (0, 2 * RATE, 5 * RATE // 2)]
    assert dataset.lengths == [RATE, RATE, RATE, RATE // 2]  # longest first, so that batches have little padding
    assert len(dataset) == 4
    for index, window in zip((0, 1, 3), np.split(as_read(samples), [RATE, 2 * RATE]), strict=True):
        item = dataset[index]
        expected = processor(window, sampling_rate=RATE)["input_values"][0]
        np.testing.assert_allclose(item["input_values"], expected, atol=1e-5)
        assert item["labels"].tolist() == [-100] * 6
        assert item["keyword_labels"] == [-100]
    assert dataset[2]["labels"].tolist() == [0, 0, 0, 0, 1, 0]
    assert dataset[2]["keyword_labels"] == processor.encode_keywords("damn")


def test_items_of_partly_labelled_rows(processor, inspector):
    clip = wav(tone(RATE))
    rows = dataset_of(
        record("both", clip, ["NoViolation", "Profanity"], ""),
        record("labels", clip, ["Bullying"], None),
        record("words", clip, None, "what the crap"),
    )
    items = list(ToxicityDataset(inspect_rows(rows, inspector)[0], processor, CONFIG))
    assert [item["labels"].tolist() for item in items] == [[1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0], [-100] * 6]
    assert items[0]["labels"].dtype == np.float32
    assert items[0]["keyword_labels"] == [processor.tokenizer.pad_token_id]  # nothing is said
    assert items[1]["keyword_labels"] == [-100]
    text = processor.tokenizer.convert_ids_to_tokens(items[2]["keyword_labels"])
    assert "".join(text) == "good|good|crap"


@pytest.mark.parametrize(("fits", "decodings"), [(True, 1), (False, 2)])
def test_a_dataset_that_fits_in_memory_is_decoded_once(fits, decodings, processor, inspector, monkeypatch):
    usable, _ = inspect_rows(dataset_of(record("a", wav(tone(RATE)))), inspector)
    monkeypatch.setattr(dataset_module, "MAX_SAMPLES_IN_MEMORY", RATE if fits else RATE - 1)
    calls = []
    monkeypatch.setattr(dataset_module, "load_audio", lambda *args: calls.append(args) or load_audio(*args))
    dataset = ToxicityDataset(usable, processor, CONFIG)
    first, second = dataset[0], dataset[0]
    np.testing.assert_array_equal(first["input_values"], second["input_values"])
    assert len(calls) == decodings


# --- ToxicityDataCollator


@pytest.mark.parametrize("default", [True, False])
def test_collator_by_hand(default):
    processor = tiny_processor()
    processor.feature_extractor.return_attention_mask = default  # many Base checkpoints have it off
    items = [
        {
            "input_values": np.array([1, 2, 3], dtype=np.float32),
            "labels": np.array([0, 1], dtype=np.float32),
            "keyword_labels": [5],
        },
        {
            "input_values": np.array([4, 0], dtype=np.float32),
            "labels": np.array([-100, -100], dtype=np.float32),
            "keyword_labels": [6, 7, 8],
        },
        {
            "input_values": np.array([9], dtype=np.float32),
            "labels": np.array([1, 0], dtype=np.float32),
            "keyword_labels": [-100],
        },
    ]
    batch = ToxicityDataCollator(processor)(items)
    expected = {
        "input_values": torch.tensor([[1.0, 2, 3], [4, 0, 0], [9, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]),  # a zero of the clip is no padding
        "labels": torch.tensor([[0.0, 1], [-100, -100], [1, 0]]),
        "keyword_labels": torch.tensor([[5, -100, -100], [6, 7, 8], [-100, -100, -100]]),
    }
    assert batch.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(batch[name], tensor, check_dtype=name != "attention_mask", rtol=0, atol=0)


def test_a_folder_whose_files_have_changed_is_read_anew(tmp_path, monkeypatch):
    """The cache of `datasets` does not notice it where a data-set card names the files."""
    monkeypatch.chdir(tmp_path)
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n"
    for size in (3, 2):
        shutil.rmtree("clips", ignore_errors=True)
        write_corpus(Path("clips"), train=size)
        Path("clips", "README.md").write_text(f"---\n{configs}---\n")
        assert len(load_clips("clips")["train"]) == size
