"""The corpus of natural voices as files: every split has its voices, and a run that was killed goes on."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_scripts import make_voice_corpus
from datasets_scripts.demo_grammar import ClipText
from datasets_scripts.effects import BACKGROUND_KINDS
from datasets_scripts.make_voice_corpus import (
    Recipe,
    VoiceCorpusArguments,
    dictate,
    engine_of,
    hours_by_engine,
    main,
    make_clip,
    make_no_speech,
    plan_shards,
    speak,
)
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.data.card import ClipFacts
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.labels import NO_VIOLATION


RATE = 16_000


class Recited:
    """An engine that says a second of a tone for every word, and remembers at which pace."""

    name = "recited"

    def __init__(self):
        self.paces = []

    def speak(self, text, voice, pace, rng):
        self.paces.append(pace)
        return np.full(round(len(text.split()) / pace * 8_000), 0.1, np.float32), 8_000


def test_every_engine_has_its_share_of_every_twenty_clips():
    text = ClipText("test", "hello", (NO_VIOLATION,), (), ())
    for start in (0, 20, 40):
        counts = Counter(engine_of(Recipe(0, index, text)) for index in range(start, start + 20))
        assert counts == Counter(make_voice_corpus.ENGINE_DECKS["test"])
    orders = [[engine_of(Recipe(seed, index, text)) for index in range(20)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_speech_is_padded_with_silence_at_the_corpus_rate():
    samples = speak("one two three", Recited(), None, np.random.default_rng(0))
    (heard,) = np.nonzero(samples > 0.05)
    assert (heard[-1] - heard[0]) / RATE == pytest.approx(3 / np.random.default_rng(0).uniform(0.8, 1.25), abs=0.01)
    assert 0 < heard[0] / RATE < 0.6 and 0 < (len(samples) - heard[-1]) / RATE < 0.61
    assert min(len(speak("no", Recited(), None, np.random.default_rng(seed))) for seed in range(20)) >= RATE


def test_what_is_too_long_is_said_faster_or_refused():
    engine = Recited()
    assert len(speak("word " * 18, engine, None, np.random.default_rng(1))) <= 15 * RATE
    assert len(engine.paces) > 1 and engine.paces[1] == pytest.approx(1.2 * engine.paces[0])
    with pytest.raises(ValueError, match="longer than 15.0 s: shorten 'word"):
        speak("word " * 50, engine, None, np.random.default_rng(1))


def test_dictated_words_stand_apart_each_as_loud_as_it_comes():
    samples = dictate("one two three", Recited(), None, np.random.default_rng(0))
    edges = np.flatnonzero(np.diff(np.r_[0, samples > 0.05, 0]))
    words, pauses = np.diff(edges)[::2] / RATE, np.diff(edges)[1::2] / RATE
    assert len(words) == 3 and np.all((words > 0.79) & (words < 1.26)) and len(set(words)) == 3
    assert np.all((pauses >= 0.05) & (pauses <= 0.4))
    levels = [samples[start:end].max() for start, end in edges.reshape(-1, 2)]
    assert len(set(levels)) == 3 and min(levels) >= 0.3 and max(levels) <= 1
    assert len(dictate("word " * 12, Recited(), None, np.random.default_rng(0))) <= 15 * RATE


def test_only_train_clips_are_dictated_or_go_over_a_telephone(monkeypatch):
    monkeypatch.setattr(make_voice_corpus, "ENGINE_DECKS", dict.fromkeys(SPLITS, ("espeak",)))
    monkeypatch.setattr(make_voice_corpus, "DICTATED_SHARE", 1.0)
    calls = []
    for name in ("dictate", "telephone"):
        original = getattr(make_voice_corpus, name)
        monkeypatch.setattr(
            make_voice_corpus, name, lambda *args, name=name, call=original: calls.append(name) or call(*args)
        )
    for split in SPLITS:
        calls.clear()
        for index in range(12):
            make_clip(Recipe(0, index, ClipText(split, "meet me", (NO_VIOLATION,), (), ())))
        assert (calls.count("dictate"), "telephone" in calls) == ((12, True) if split == "train" else (0, False))


def test_clips_without_speech_are_of_all_kinds_and_stay_in_range():
    clips = [make_no_speech(np.random.default_rng(seed)) for seed in range(120)]
    assert {kind for _, kind in clips} == {"silence", *BACKGROUND_KINDS}
    for samples, kind in clips:
        assert RATE <= len(samples) <= 10 * RATE and np.abs(samples).max() <= 1
        assert np.any(samples) == (kind != "silence")


def test_shards_of_the_splits_grow_side_by_side():
    shards = plan_shards({"train": range(1000), "validation": range(10), "test": range(260)})
    assert sorted(shards) == [("test", 0), ("test", 1), *(("train", number) for number in range(4)), ("validation", 0)]
    assert {split for split, _ in shards[:4]} == set(SPLITS)


def test_hours_are_counted_by_engine():
    speakers = {"piper:joe": 1800.0, "none:hum": 900.0, "piper:joe/en*1.1": 1800.0}
    hours = hours_by_engine([ClipFacts((), seconds, speaker) for speaker, seconds in speakers.items()])
    assert hours == {"none": 0.25, "piper": 1.0}


def test_the_speaker_names_engine_and_voice_and_the_seed_decides(monkeypatch):
    monkeypatch.setattr(make_voice_corpus, "ENGINE_DECKS", dict.fromkeys(SPLITS, ("espeak",)))
    text = ClipText("test", "meet me at the market", (NO_VIOLATION,), (), ("benign-000",))
    rows = [make_clip(Recipe(seed, 7, text)) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0].speaker.startswith("espeak:") and rows[0].id == "test-000007"
    assert rows[0].source == "template:benign-000"


def test_a_corpus_with_other_settings_is_not_replaced_unasked(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        main(VoiceCorpusArguments(str(tmp_path), 1, 1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_corpus_goes_on_and_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(make_voice_corpus, "ENGINE_DECKS", dict.fromkeys(SPLITS, ("espeak",)))
    sizes = {"train_clips": 30, "validation_clips": 2, "test_clips": 3, "num_proc": 1}
    main(VoiceCorpusArguments(str(tmp_path / "whole"), **sizes))
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "data").iterdir()}
    assert sorted(name.split("-")[0] for name in files) == ["test", "train", "validation"]

    rows = pq.read_table(tmp_path / "whole" / "data" / next(n for n in files if n.startswith("train"))).to_pylist()
    assert len(rows) == 30 and {row["speaker"].split(":")[0] for row in rows} == {"espeak", "none"}
    for row in rows:
        seconds = len(load_audio(row["audio"]["bytes"])) / RATE
        assert seconds == pytest.approx(row["duration"], abs=0.1) and 0.9 < seconds < 15.1
    (silent,) = [row for row in rows if not row["transcript"]]
    assert silent["labels"] == [NO_VIOLATION]

    for name in ("train", "validation"):  # as if it had been killed after the test split
        next((tmp_path / "whole" / "data").glob(f"{name}-*")).unlink()
    manifest = tmp_path / "whole" / "manifest.json"
    manifest.write_text(json.dumps({"settings": json.loads(manifest.read_text())["settings"]}))
    main(VoiceCorpusArguments(str(tmp_path / "whole"), **sizes))
    assert {path.name: path.read_bytes() for path in (tmp_path / "whole" / "data").iterdir()} == files
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "| Split | espeak | none |" in card and "--train_clips 30 --validation_clips 2 --test_clips 3" in card
