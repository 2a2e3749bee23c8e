"""The demo corpus as files: reproducible bytes, readable by `datasets` and PyAV, never overwritten unasked."""

import json
import os
import re
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_scripts import make_demo_corpus
from datasets_scripts.demo_grammar import ClipText, Piece
from datasets_scripts.espeak import VOICES
from datasets_scripts.make_demo_corpus import DemoCorpusArguments, Recipe, lazy_map, make_clip, speak, summarize
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.data.card import ClipFacts
from modeling_toxmtl.data.schema import FEATURES, ROW_GROUP_SIZE, SPLITS, Row, split_path, write_split
from modeling_toxmtl.labels import LABELS


SIZES = {"train_clips": 12, "validation_clips": 6, "test_clips": 6}
ROW = Row("train-0", b"audio", 1.5, ("Profanity", "Other"), "damn", "en+m1", "template:x-000", "train")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("corpus") / "demo_data"
    make_demo_corpus.main(DemoCorpusArguments(str(output_dir), **SIZES, num_proc=1))
    return output_dir


@pytest.fixture(scope="module")
def corpus(corpus_dir, tmp_path_factory):
    return datasets.load_dataset(str(corpus_dir), cache_dir=str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def no_building(monkeypatch):
    """Building is expected not to be reached, and fails the test if it is."""

    def build(*_):
        raise AssertionError("the corpus was built")

    monkeypatch.setattr(make_demo_corpus, "build", build)


def test_the_files_load_with_the_schema(corpus):
    assert {split: rows.num_rows for split, rows in corpus.items()} == {"train": 12, "validation": 6, "test": 6}
    for split, rows in corpus.items():
        assert rows.features == FEATURES
        assert set(rows["split"]) == {split}
        assert len(set(rows["id"])) == len(rows)
        assert all(labels and set(labels) <= set(LABELS) for labels in rows["labels"])
        assert all(re.fullmatch(r"template:[a-z-]+-\d{3}(\+[a-z-]+-\d{3})*", source) for source in rows["source"])


def test_the_files_stream(corpus_dir):
    rows = datasets.load_dataset(str(corpus_dir), split="test", streaming=True)
    assert next(iter(rows))["audio"]["bytes"][:4] == b"OggS"


def test_audio_decodes_at_the_stated_duration_and_is_heard(corpus):
    for rows in corpus.values():
        for row in rows:
            samples = load_audio(row["audio"]["bytes"])
            assert len(samples) / 16_000 == pytest.approx(row["duration"], abs=0.005)
            assert 1.0 <= row["duration"] <= (15.0 if row["split"] == "train" else 60.0)
            assert np.sqrt(np.mean(samples**2)) > 0.003


def test_voices_are_disjoint_between_splits(corpus):
    speakers = {split: set(rows["speaker"]) for split, rows in corpus.items()}
    for split, voices in VOICES["en"].items():
        assert speakers[split] <= {voice.name for voice in voices}
    variants = [{voice.variant for voice in voices} for voices in VOICES["en"].values()]
    assert sum(map(len, variants)) == len(set.union(*variants))


def test_two_processes_make_the_same_files_as_one(corpus_dir, tmp_path):
    make_demo_corpus.main(DemoCorpusArguments(str(tmp_path / "again"), **SIZES, num_proc=2))
    assert contents(tmp_path / "again") == contents(corpus_dir)


@pytest.mark.parametrize("variant", ["m3", "f2", "caleb"])  # pitch flutter, breath, whisper
def test_a_clip_does_not_depend_on_what_was_said_before(variant):
    voice = next(voice for voice in VOICES["en"]["train"] if voice.variant == variant)

    def say(text):
        return speak(text, voice, 1.0, 15.0, np.random.default_rng(3))[0]

    first = say("meet me at the bridge")
    say("something else")
    np.testing.assert_array_equal(first, say("meet me at the bridge"))


def test_the_seed_changes_the_sound_of_a_text():
    text = ClipText("train", "meet me at the bridge", ("NoViolation",), (), ("benign-000",))
    clips = [make_clip(Recipe(seed, index, text)).audio for seed in (0, 1) for index in (0, 1)]
    assert len(set(clips)) == 4


def test_short_texts_are_padded_and_long_ones_spoken_faster():
    voice = VOICES["en"]["test"][0]
    shortest, rate = speak("no", voice, 1.0, 15.0, np.random.default_rng(0))
    assert len(shortest) / rate == pytest.approx(1.0, abs=1e-3)
    words = "one two three four five six seven eight nine ten " * 4
    unhurried, rate = speak(words, voice, 1.0, 15.0, np.random.default_rng(0))
    hurried, rate = speak(words, voice, 1.0, 5.0, np.random.default_rng(0))
    assert len(unhurried) / rate > 8.0 and 3.0 < len(hurried) / rate <= 5.0
    with pytest.raises(ValueError, match="longer than 2.0 s: shorten 'one two"):
        speak(words, voice, 1.0, 2.0, np.random.default_rng(0))


def test_a_playback_rate_shortens_speech_and_raises_its_pitch():
    voice = VOICES["en"]["train"][0]
    samples, rate = speak("meet me at the bridge", voice, 1.0, 15.0, np.random.default_rng(0))
    faster, faster_rate = speak("meet me at the bridge", voice, 1.1, 15.0, np.random.default_rng(0))
    assert faster_rate == round(1.1 * rate)
    speech, faster_speech = (np.trim_zeros(x) for x in (samples, faster))
    np.testing.assert_array_equal(speech, faster_speech)  # the same samples, played faster


def test_held_out_voices_are_played_as_they_are():
    assert make_demo_corpus.PLAYBACK_RATES["validation"] == make_demo_corpus.PLAYBACK_RATES["test"] == (1.0, 1.0)


def test_the_same_corpus_is_not_built_again(corpus_dir, no_building, capsys):
    make_demo_corpus.main(DemoCorpusArguments(str(corpus_dir), **SIZES))
    assert "nothing to do" in capsys.readouterr().out


def test_another_corpus_is_not_overwritten_unasked(corpus_dir, no_building):
    before = contents(corpus_dir)
    with pytest.raises(FileExistsError, match="--overwrite"):
        make_demo_corpus.main(DemoCorpusArguments(str(corpus_dir), **SIZES, seed=1))
    assert contents(corpus_dir) == before


def test_foreign_files_are_not_overwritten_unasked(tmp_path, no_building):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        make_demo_corpus.main(DemoCorpusArguments(str(tmp_path), **SIZES))


@pytest.mark.parametrize("case", ["asked", "unfinished"])
def test_asked_or_after_an_interruption_a_corpus_is_built_over(corpus_dir, tmp_path, monkeypatch, case):
    manifest = json.loads((corpus_dir / "manifest.json").read_text())
    if case == "asked":
        manifest["settings"]["seed"] = 7
    else:
        del manifest["statistics"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    clips = {
        split: [ClipFacts((), 2.0, split)] * count for split, count in DemoCorpusArguments(**SIZES).num_clips.items()
    }
    monkeypatch.setattr(make_demo_corpus, "build", lambda *_: clips)
    make_demo_corpus.main(DemoCorpusArguments(str(tmp_path), **SIZES, overwrite=case == "asked"))
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"]["seed"] == 0


def test_summary_of_hand_made_clips():
    def clip(labels, keyword=None):
        return ClipText("train", "text", labels, (Piece("insult", keyword, labels),), ())

    texts = [clip(("Profanity", "Bullying"), "asshole"), clip(("Bullying",)), clip(("NoViolation",), "clown")]
    figures = summarize(texts, [3600.0, 1800.0, 900.0])
    assert figures["hours"] == {
        **{"Profanity": 1.0, "DatingAndSexting": 0.0, "Racist": 0.0, "Bullying": 1.5, "Other": 0.0},
        **{"NoViolation": 0.25, "Total": 1.75},
    }
    counts = {name: value for name, value in figures.items() if name not in ("hours", "longest_seconds")}
    assert counts == {
        "clips": 3,
        "keywords": 2,
        "clips_with_several_labels": 1,
        "violating_clips": 2,
        "violating_clips_without_keyword": 1,
        "clips_with_keyword": 2,
        "benign_clips_with_keyword": 1,
    }


def test_the_card_states_the_figures_of_this_corpus(corpus_dir, corpus):
    card = (corpus_dir / "README.md").read_text()
    hours = {split: sum(rows["duration"]) / 3600 for split, rows in corpus.items()}
    for split, rows in corpus.items():
        line = next(line for line in card.splitlines() if line.startswith(f"| {split} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert int(cells[1]) == len(rows)
        assert float(cells[-1]) == pytest.approx(hours[split], abs=6e-4)
    assert "--train_clips 12 --validation_clips 6 --test_clips 6 --seed 0" in card
    assert "No speaker is heard in two splits." in card and not re.search(r"{[a-z{%]", card)


def test_rows_are_written_in_small_groups_and_read_back(tmp_path):
    rows = [replace(ROW, id=f"train-{number}") for number in range(ROW_GROUP_SIZE + 1)]
    path = write_split(iter(rows), tmp_path, "train")
    assert path == split_path(tmp_path, "train") == tmp_path / "data" / "train-00000-of-00001.parquet"
    assert pq.ParquetFile(path).num_row_groups == 2
    table = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert table[0] == {
        "id": "train-0",
        "audio": {"bytes": b"audio", "path": "train-0.ogg"},
        "duration": 1.5,
        "labels": ["Profanity", "Other"],
        "transcript": "damn",
        "speaker": "en+m1",
        "source": "template:x-000",
        "split": "train",
    }


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"labels": ("Rude",)}, r"Clip 'train-0': `labels` are \('Rude',\)"),
        ({"labels": ()}, "Clip 'train-0': `labels`"),
        ({"split": "test"}, "Clip 'train-0': `split` is 'test', but it is written to 'train'"),
    ],
)
def test_rows_with_faults_are_refused_and_leave_no_split(tmp_path, fault, message):
    with pytest.raises(ValueError, match=message):
        write_split([replace(ROW, **fault)], tmp_path, "train")
    assert not split_path(tmp_path, "train").exists()


@pytest.mark.parametrize(("name", "value"), [("num_proc", 0), ("seed", -1), ("test_clips", 0)])
def test_arguments_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=f"--{name} is {value}"):
        DemoCorpusArguments(**{name: value})


def test_every_split_has_voices_and_a_longest_duration():
    assert set(VOICES["en"]) == set(SPLITS) == set(make_demo_corpus.MAX_DURATIONS)


def test_a_process_that_dies_is_no_wait_without_end():
    with lazy_map(2) as map_lazily:
        assert list(map_lazily(abs, range(-20, 0))) == list(range(20, 0, -1))
        with pytest.raises(BrokenProcessPool):
            list(map_lazily(os._exit, [3]))
