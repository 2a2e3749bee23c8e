"""The sentences of the corpus of natural voices: labels follow from them, and no split knows those of another."""

from collections import Counter

import pytest

from datasets_scripts.keyword_uses_en import SENSES, VARIANTS
from datasets_scripts.train_sentences_en import CUES, TEMPLATES
from datasets_scripts.voice_texts import (
    EVERYDAY_SHARE,
    deal,
    everyday_sentences,
    generate_voice_texts,
    vocabulary,
    voice_grammar,
)
from datasets_scripts.words_en import SOUND_ALIKES
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import NO_VIOLATION


KEYWORDS = KeywordList.default()


@pytest.fixture(scope="module")
def texts():
    return generate_voice_texts({"train": 1500, "validation": 100, "test": 200}, seed=0)


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


def test_one_clip_in_six_says_an_everyday_sentence_of_its_split(texts):
    for split in SPLITS:
        everyday = [text for text in texts[split] if text.templates[:1] and text.templates[0].startswith("everyday")]
        assert len(everyday) == round(EVERYDAY_SHARE * len(texts[split]))
        assert {text.transcript for text in everyday} <= set(deal(everyday_sentences(), split))
        assert all(text.labels == (NO_VIOLATION,) for text in everyday)


def test_everyday_sentences_say_no_keyword_and_nothing_of_the_listener():
    sentences = everyday_sentences()
    assert 1000 < len(sentences) == len(set(sentences))
    assert not [sentence for sentence in sentences if KEYWORDS.find(KEYWORDS.tokens(sentence))]
    assert not [sentence for sentence in sentences if sentence.startswith("you ")]


def test_where_everyday_sentences_run_out_other_clips_take_their_place():
    texts = generate_voice_texts({"train": 0, "validation": 600, "test": 0}, seed=0)["validation"]
    everyday = [text for text in texts if text.pieces and text.pieces[0].kind == "everyday"]
    assert len(texts) == 600 and len(everyday) == len(deal(everyday_sentences(), "validation")) < 100


def test_same_seed_same_texts(texts):
    again = generate_voice_texts({"train": 50, "validation": 100, "test": 200}, seed=0)
    same = round((1 - EVERYDAY_SHARE) * 50)
    assert again["train"][:same] == texts["train"][:same]
    assert generate_voice_texts({"train": 50, "validation": 1, "test": 1}, seed=1)["train"] != again["train"]


def test_words_templates_and_sound_alikes_are_dealt_to_one_split_each():
    for words in (vocabulary(), SOUND_ALIKES, everyday_sentences()):
        dealt = [deal(words, split) for split in SPLITS]
        assert sorted(word for part in dealt for word in part) == sorted(words)
        assert len(dealt[0]) > len(dealt[2]) > len(dealt[1]) > 0
    for kind, templates in voice_grammar("train").templates.items():
        wordings = Counter(template for split in SPLITS for template in templates[split])
        assert all(templates[split] for split in SPLITS) and max(wordings.values()) == 1, kind


def test_sentences_for_training_alone_are_said_in_no_other_split():
    for label, phrases in CUES.items():
        assert set(phrases) <= set(voice_grammar("train").cues[label])
        assert not {*phrases} & {*voice_grammar("validation").cues[label], *voice_grammar("test").cues[label]}
    for kind, sentences in TEMPLATES.items():
        assert set(sentences) <= set(voice_grammar("test").templates[kind]["train"])


def test_the_vocabulary_is_large_and_spells_no_keyword():
    assert len(vocabulary()) > 5000 and {"about", "abacus"} <= set(vocabulary())
    assert not [word for word in vocabulary() if KEYWORDS.find([word])]


def test_variants_and_senses_belong_to_their_keywords():
    for variants in VARIANTS.values():
        for keyword, spoken in variants.items():
            (match,) = KEYWORDS.find(KEYWORDS.tokens(spoken))
            assert match.keyword == keyword, spoken
    assert set(SENSES) <= set(KEYWORDS.keywords)


def test_labels_follow_from_the_keywords_that_are_meant(texts):
    """A clip has the labels of its pieces, whose keywords bring those of the list; what is benign brings none."""
    for text in (text for split in SPLITS for text in texts[split]):
        for piece in text.pieces:
            meant = KEYWORDS.labels_of(piece.keyword) if piece.keyword else piece.labels
            assert piece.labels in ((), meant)
            assert not piece.labels or not piece.kind.startswith(("sense", "quote"))
        assert set(text.labels) == {label for piece in text.pieces for label in piece.labels} or {NO_VIOLATION}
