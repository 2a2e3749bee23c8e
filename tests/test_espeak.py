"""Speech synthesis: the same arguments give the same samples, and no speaker is in two splits."""

import itertools

import numpy as np
import pytest

from datasets_scripts.espeak import VARIANTS, VOICES, Voice, synthesize


SENTENCE = "are you there"


def test_samples_are_speech_in_range():
    samples, sampling_rate = synthesize(SENTENCE, Voice("en-us", "m3"))
    assert sampling_rate == 22_050 and samples.dtype == np.float32 and samples.ndim == 1
    assert 0.5 < len(samples) / sampling_rate < 3
    assert samples.std() > 0.01 and np.abs(samples).max() <= 1


@pytest.mark.parametrize("voice", [Voice("en", "m3"), Voice("en-us", "Andy"), Voice("en-gb-x-rp", "klatt")])
def test_what_was_said_before_does_not_matter(voice):
    first, _ = synthesize(SENTENCE, voice, seed=3)
    synthesize("something quite different", Voice("en-us", "f2"), seed=4)
    again, _ = synthesize(SENTENCE, voice, seed=3)
    np.testing.assert_array_equal(first, again)


def test_prosody_is_obeyed():
    voice = Voice("en-us", "m3")
    slow, fast = (len(synthesize(SENTENCE, voice, rate=rate)[0]) for rate in (120, 220))
    assert slow > 1.3 * fast
    assert len(synthesize(SENTENCE, voice, word_gap=20)[0]) > len(synthesize(SENTENCE, voice)[0]) + 0.3 * 22_050


def test_unknown_voice_is_named():
    with pytest.raises(ValueError, match="xx-none"):
        synthesize(SENTENCE, Voice("xx-none", "m3"))


def test_no_variant_is_in_two_splits():
    for one, other in itertools.combinations(VARIANTS.values(), 2):
        assert not set(one) & set(other)


def test_every_variant_is_a_voice_of_its_own():
    samples = {v: synthesize(SENTENCE, Voice("en-us", v))[0] for v in itertools.chain(*VARIANTS.values())}
    for one, other in itertools.combinations(samples, 2):
        assert not np.array_equal(samples[one], samples[other]), f"{one} sounds like {other}"
    assert {voice.variant for split in VOICES.values() for voice in split} == set(samples)
