"""Speech synthesis: the same arguments give the same samples, and no speaker is in two splits."""

import itertools
import re

import numpy as np
import pytest

from datasets_scripts.espeak import (
    MADE_UP_VARIANTS,
    VARIANTS,
    VOICES,
    Voice,
    draw_variant,
    phonemize,
    synthesize,
    synthesize_words,
)


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
    speakers = {}
    for variant in itertools.chain(*VARIANTS.values()):
        samples, _ = synthesize(SENTENCE, Voice("en-us", variant))
        other = speakers.setdefault(samples.tobytes(), variant)
        assert other == variant, f"{variant} sounds like {other}"
    assert {voice.variant for split in VOICES["en"].values() for voice in split} == set(speakers.values())


def test_made_up_variants_speak_in_the_train_split_alone():
    assert set(MADE_UP_VARIANTS) < set(VARIANTS["train"])
    assert len(set(MADE_UP_VARIANTS)) == len(MADE_UP_VARIANTS)


def test_a_made_up_variant_leaves_no_trace_in_the_next_voice():
    plain, _ = synthesize(SENTENCE, Voice("en-us", "m3"))
    made, _ = synthesize(SENTENCE, Voice("en-us", "made1"))
    np.testing.assert_array_equal(synthesize(SENTENCE, Voice("en-us", "m3"))[0], plain)
    np.testing.assert_array_equal(synthesize(SENTENCE, Voice("en-us", "made1"))[0], made)


def test_a_definition_is_drawn_from_the_generator_within_the_ranges():
    texts = {draw_variant(np.random.default_rng(seed)) for seed in range(50)}
    assert len(texts) == 50 and draw_variant(np.random.default_rng(0)) in texts
    for text in texts:
        fields = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
        low, high = map(int, fields["pitch"])
        assert 65 <= low < high <= 65 * 3.2 * 1.8
        first_formant, *_ = re.search(r"formant 1 (\d+) (\d+) (\d+)", text).groups()
        assert 100 * 0.85 * 0.94 - 1 <= int(first_formant) <= 100 * 1.2 * 1.06 + 1


def test_words_come_with_their_times():
    voice = Voice("en-us", "m3")
    samples, sampling_rate, words = synthesize_words("you are such an idiot", voice)
    np.testing.assert_array_equal(samples, synthesize("you are such an idiot", voice)[0])
    assert [word.text for word in words] == ["you", "are", "such", "an", "idiot"]
    assert words[0].start == 0 and words[-1].end == pytest.approx(len(samples) / sampling_rate, abs=0.05)
    assert all(word.start < word.end for word in words)
    assert all(one.end == other.start for one, other in itertools.pairwise(words))
    # a word alone is about as long as in its sentence
    alone, _, _ = synthesize_words("idiot", voice)
    assert words[-1].end - words[-1].start == pytest.approx(len(alone) / sampling_rate, rel=0.2)


def test_pronunciation_keeps_the_punctuation_and_follows_the_accent():
    assert phonemize("you damn idiot, stop it!", "en-us") == "juː dˈæm ˈɪdɪət, stˈɑːp ɪt!"
    assert phonemize("car", "en-us") == "kˈɑːɹ" and phonemize("car", "en-gb-x-rp") == "kˈɑː"
    assert phonemize("how", "en-us", has_ties=True) == "hˈa^ʊ"
    with pytest.raises(ValueError, match="'xx-none'"):
        phonemize("car", "xx-none")
