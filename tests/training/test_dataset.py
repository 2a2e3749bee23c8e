import shutil

import datasets
import numpy as np
import pytest
from helpers import (
    MEL_FRAMES,
    RATE,
    SPEECH_FRAMES,
    as_read,
    dataset_of,
    float_wav,
    record,
    tiny_processor,
    tone,
    wav,
    write_audio_folder,
)
from tiny_models import tiny_config

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.training import dataset as dataset_module
from modeling_toxmtl.training.dataset import (
    RejectedRow,
    RowInspector,
    ToxicityDataset,
    Window,
    fingerprint,
    inspect_rows,
    rank_words,
    usable_dataset,
)
from modeling_toxmtl.training.folders import load_clips


CONFIG = tiny_config(**SPEECH_FRAMES)
RECEPTIVE_FIELD = 325


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture
def inspector(processor):
    return RowInspector(processor, CONFIG)


# --- rows


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
        (record("masked", good, ["NoViolation"], "you ****"), "the transcript hides a word: '****'"),
        (record("bleep", good, None, "what the [ __ ]"), "the transcript hides a word: '[ __ ]'"),
        (record("disguise", good, None, "d*mn it"), ""),
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


def test_a_classifier_learns_nothing_from_a_clip_whose_insult_is_hidden(processor):
    """Its label was given to the transcript, or by someone who heard what the transcript hides: nobody knows."""
    rows = dataset_of(record("masked", wav(tone(RATE)), ["NoViolation"], "you s***"))
    config = tiny_config(**SPEECH_FRAMES, tasks=["classification"])
    _, (rejected,) = inspect_rows(rows, RowInspector(processor, config))
    assert rejected.reason == "the transcript hides a word: 's***'"


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("classification", "no labels, and the model has no keyword head to learn the transcript"),
        ("keyword", "no transcript, and the model has no classifier to learn the labels"),
    ],
)
def test_rows_that_hold_nothing_for_the_models_task(processor, task, reason):
    clip = wav(tone(RATE))
    words, labels = record("words", clip, None, "damn"), record("labels", clip, ["Other"], None)
    rows = dataset_of(record("both", clip), words, labels)
    config = tiny_config(**SPEECH_FRAMES, tasks=[task])
    usable, rejected = inspect_rows(rows, RowInspector(processor, config))
    useless = {"classification": "words", "keyword": "labels"}[task]
    assert rejected == [RejectedRow(useless, reason)] and len(usable) == 2


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


# --- items


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


def test_items_for_whisper():
    """A window's own log-mel features; clips that do not fit into its positions are rejected, and windows refused."""
    processor, config = tiny_processor(family="whisper"), tiny_config("whisper", **MEL_FRAMES)
    samples = tone(int(2.5 * RATE))
    rows = dataset_of(record("cut", wav(samples)), record("long", wav(tone(31 * RATE, rate=RATE))))
    cut = usable_dataset(rows, processor, config, "Split 'test' of clips", window_seconds=1.0)
    assert len(cut) == 3 + 31
    (index,) = (index for index, window in enumerate(cut.windows) if window == (0, 2 * RATE, 5 * RATE // 2))
    expected = processor(as_read(samples)[2 * RATE :], sampling_rate=RATE)["input_features"][0]
    np.testing.assert_allclose(cut[index]["input_features"], expected, atol=1e-4)
    whole = usable_dataset(rows, processor, config, "Split 'train' of clips", window_seconds=None)
    assert [(row.id, row.reason) for row in whole.rejected] == [("long", "longer than 30 s: 31.00 s")]
    with pytest.raises(ValueError, match="`window_seconds` is 40, but the model hears at most 29.9 s at once"):
        usable_dataset(rows, processor, config, "Split 'test' of clips", window_seconds=40.0)


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
        record("both", clip, ["Bullying", "Profanity"], ""),
        record("labels", clip, ["Bullying"], None),
        record("words", clip, None, "what the crap"),
    )
    items = list(ToxicityDataset(inspect_rows(rows, inspector)[0], processor, CONFIG))
    assert [item["labels"].tolist() for item in items] == [[1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], [-100] * 6]
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


def test_usable_dataset(processor):
    rows = dataset_of(record("good", wav(tone(2 * RATE))), record("noise", b"this is no audio at all"))
    dataset = usable_dataset(rows, processor, CONFIG, "Split 'test' of clips", window_seconds=1.0)
    assert dataset.rows["id"] == ["good"] and len(dataset) == 2
    assert [row.id for row in dataset.rejected] == ["noise"]
    with pytest.raises(ValueError, match=r"Split 'test' of clips has no usable row \(row good: longer than 1 s"):
        usable_dataset(rows, processor, CONFIG, "Split 'test' of clips", max_seconds=1.0)
    with pytest.raises(ValueError, match="Split 'test' of clips is empty"):
        usable_dataset(rows.select([]), processor, CONFIG, "Split 'test' of clips")


def test_transcript_targets():
    """A transcript that cannot be spelled is reported; the words of the others are ranked by how common they are."""
    processor = tiny_processor()
    processor.keyword_target = "transcript"
    clip = wav(tone(2 * RATE))
    texts = ["The end, the damn end", "a café", "d4mn, a nice game", None]
    rows = dataset_of(*(record(str(index), clip, transcript=text) for index, text in enumerate(texts)))
    dataset = usable_dataset(rows, processor, CONFIG, "clips")
    assert dataset.rejected == [RejectedRow("1", "the transcript holds é, which the tokenizer's vocabulary lacks")]
    assert rank_words(dataset) == ["damn", "end", "the", "a", "game", "nice"]
    assert dataset[0]["keyword_labels"] == processor.tokenizer("the end the damn end").input_ids
