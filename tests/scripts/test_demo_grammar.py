"""The sentences of the demo corpus: what the splits share, and whether labels and keywords are as planned."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts.demo_grammar import ClipGenerator, KeywordDealer, generate_corpus
from datasets_scripts.grammar_en import ENGLISH
from datasets_scripts.make_demo_corpus import LANGUAGES
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION
from modeling_toxmtl.text import normalize_text


BENIGN = (NO_VIOLATION,)
KEYWORDS = KeywordList.default()
ROOT = Path(__file__).parents[2]
each_language = pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)


def sentence(text):
    return " ".join(normalize_text(text))


@pytest.fixture(scope="module")
def corpus():
    return generate_corpus(
        {"train": 2000, "validation": 200, "test": 400}, seed=0, keyword_list=KEYWORDS, grammar=ENGLISH
    )


@pytest.fixture(scope="module")
def train(corpus):
    return corpus["train"]


@each_language
def test_every_kind_of_template_differs_between_the_splits(language):
    for kind, templates in language.grammar.templates.items():
        assert set(templates) == set(SPLITS), kind
        texts = [sentence(text) for split in SPLITS for text in templates[split]]
        assert len(texts) == len(set(texts)), kind


@each_language
def test_template_ids_are_in_one_split_only(language):
    grammar = language.grammar
    ids = [id for kind in grammar.templates for split in SPLITS for id in grammar.template_ids(kind, split)]
    assert len(ids) == len(set(ids))


def test_template_ids_by_hand():
    assert ENGLISH.template_ids("insult", "test")[0] == f"insult-{10 + 5:03d}"  # after 10 of train and 5 of validation


def test_used_templates_are_disjoint_between_splits(corpus):
    used = {split: {identifier for clip in clips for identifier in clip.templates} for split, clips in corpus.items()}
    assert all(used.values())
    assert all(used[a].isdisjoint(used[b]) for a, b in itertools.combinations(SPLITS, 2))


def test_no_sentence_occurs_twice_in_the_corpus(corpus):
    sentences = [sentence(clip.transcript) for clips in corpus.values() for clip in clips]
    assert len(sentences) == len(set(sentences)) == 2600


def test_a_sentence_that_was_said_is_not_made_again():
    first = ClipGenerator("train", KEYWORDS, ENGLISH, set()).generate_clip(np.random.default_rng(5))
    said = {tuple(normalize_text(first.transcript))}
    second = ClipGenerator("train", KEYWORDS, ENGLISH, said).generate_clip(np.random.default_rng(5))
    assert second.transcript != first.transcript
    assert second.labels == first.labels and second.keywords == first.keywords  # only the wording changes
    assert len(said) == 2


@each_language
def test_slots_are_known(language):
    grammar, fills = language.grammar, {"content", "keyword", "a_keyword"}
    texts = [text for by_split in grammar.templates.values() for texts in by_split.values() for text in texts]
    texts += [text for cues in grammar.cues.values() for text in cues]
    slots = {slot for text in texts for slot in re.findall(r"\{([^{}|]+)\}", text)}
    assert slots <= fills | set(grammar.lexicons)
    assert slots >= set(grammar.lexicons)  # no lexicon is left over
    assert ("a_keyword" in slots) == (grammar.with_article is not None)


@each_language
def test_templates_have_the_slot_that_their_kind_needs(language):
    for kind, templates in language.grammar.templates.items():
        has_keyword = kind not in ("carrier", "benign", "near-miss")
        for text in itertools.chain.from_iterable(templates.values()):
            assert text.count("{content}") == (kind == "carrier"), text
            assert len(re.findall(r"\{(?:a_)?keyword\}", text)) == has_keyword, text


def test_render_fills_slots_from_fills_lexicons_and_alternatives():
    rng = np.random.default_rng(0)
    texts = {ENGLISH.render("{keyword}, {color} {sword|map}", rng, keyword="crap") for _ in range(200)}
    assert texts == {f"crap, {color} {item}" for color in ENGLISH.lexicons["color"] for item in ("sword", "map")}


@each_language
def test_forms_name_keywords_of_the_list_and_kinds_of_templates(language):
    assert set(language.grammar.forms) <= set(language.keywords.keywords)
    assert set(language.grammar.forms.values()) <= set(language.grammar.templates)
    assert set(language.grammar.cues) == set(language.grammar.cue_weights) == set(LABELS) - {NO_VIOLATION}


def test_a_keyword_without_a_form_is_an_exclamation():
    keyword_list = KeywordList([KeywordEntry("blimey", ("Profanity",))])
    clips = generate_corpus({"train": 50, "validation": 1, "test": 1}, 0, keyword_list, ENGLISH)["train"]
    pieces = [piece for clip in clips for piece in clip.pieces if piece.keyword and piece.labels]
    assert pieces and {(piece.keyword, piece.kind) for piece in pieces} == {("blimey", "exclamation")}


def test_labels_are_those_of_the_keywords_meant_and_the_cues(corpus):
    for clip in itertools.chain.from_iterable(corpus.values()):
        expected = set()
        for piece in clip.pieces:
            if piece.kind == "cue":
                expected |= set(piece.labels)
            elif piece.keyword and piece.kind != "quote" and not piece.kind.startswith("sense-"):
                expected |= set(KEYWORDS.labels_of(piece.keyword))
        assert clip.labels == (tuple(label for label in LABELS if label in expected) or BENIGN)


def test_transcripts_hold_the_planned_keywords_and_no_other(corpus):
    for clip in itertools.chain.from_iterable(corpus.values()):
        found = [match.keyword for match in KEYWORDS.find(normalize_text(clip.transcript))]
        assert found == list(clip.keywords), clip.transcript


@each_language
def test_cues_hold_no_keyword(language):
    rng = np.random.default_rng(0)
    for cue in itertools.chain.from_iterable(language.grammar.cues.values()):
        assert not language.keywords.find(normalize_text(language.grammar.render(cue, rng))), cue


def test_shares_of_labels_and_keywords(train):
    violating = [clip for clip in train if clip.labels != BENIGN]
    with_keyword = [clip for clip in train if clip.keywords]
    assert 0.35 <= 1 - len(violating) / len(train) <= 0.40
    assert 0.15 <= np.mean([len(clip.labels) > 1 for clip in train]) <= 0.20
    assert 0.20 <= np.mean([not clip.keywords for clip in violating]) <= 0.27
    assert 0.08 <= np.mean([clip.labels == BENIGN for clip in with_keyword]) <= 0.12
    for label in LABELS:
        assert np.mean([label in clip.labels for clip in train]) > 0.1, label


def test_length_tells_little_about_the_label(train):
    words = {True: [], False: []}
    for clip in train:
        words[clip.labels == BENIGN].append(len(clip.transcript.split()))
    assert abs(np.mean(words[True]) - np.mean(words[False])) < 1.5


def test_every_keyword_is_frequent_enough_to_learn_and_the_first_are_more_frequent():
    corpus = generate_corpus(
        {"train": 2400, "validation": 200, "test": 400}, seed=1, keyword_list=KEYWORDS, grammar=ENGLISH
    )
    counts = Counter(keyword for clip in corpus["train"] for keyword in clip.keywords)
    assert len(counts) == 6 * 4 + 1  # four of each set of labels, one of which has a single keyword
    assert min(counts.values()) >= 20
    assert counts["idiot"] > 2 * counts["loser"]  # the first and the last of one deck
    spoken_in_test = {keyword for clip in corpus["test"] for keyword in clip.keywords}
    assert spoken_in_test == set(counts)


def test_a_dealer_deals_every_keyword_of_its_labels_before_it_repeats_a_rare_one():
    entries = [KeywordEntry(f"w{'abcdefghij'[i]}", ("Other",)) for i in range(10)] + [KeywordEntry("x", ("Racist",))]
    dealer, rng = KeywordDealer(KeywordList(entries)), np.random.default_rng(0)
    deck = Counter(dealer.deal(("Other",), rng) for _ in range(6))
    assert deck == {"wa": 3, "wb": 1, "wc": 1, "wd": 1}  # 4 / (1.5 * rank) = 2.7, 1.3, 0.9, 0.7
    assert dealer.weights == {("Other",): 11, ("Racist",): 2}


def test_long_clips_are_in_validation_and_test_only(corpus):
    def long_clips(split):
        return [clip for clip in corpus[split] if len(clip.pieces) > 2]

    assert len(long_clips("train")) == 0
    assert len(long_clips("validation")) == 200 // 50
    assert len(long_clips("test")) == 400 // 50
    assert all(45 <= len(clip.transcript.split()) <= 180 for clip in long_clips("test"))


def test_the_seed_decides():
    sizes = {"train": 20, "validation": 5, "test": 5}
    assert generate_corpus(sizes, 3, KEYWORDS, ENGLISH) == generate_corpus(sizes, 3, KEYWORDS, ENGLISH)
    assert generate_corpus(sizes, 3, KEYWORDS, ENGLISH) != generate_corpus(sizes, 4, KEYWORDS, ENGLISH)


def test_a_list_with_everyday_words_is_refused_when_it_makes_the_labels_wrong():
    generator = ClipGenerator("train", KeywordList([KeywordEntry("the", ("Other",))]), ENGLISH, set())
    with pytest.raises(ValueError, match="everyday words"):
        for seed in range(200):
            generator.generate_clip(np.random.default_rng(seed), is_long=True)


def test_spanish_is_spelled_with_the_letters_of_its_experiment():
    """As the filler and the keywords are; its labels follow from the keywords meant and the cues as in English."""
    experiment = json.loads((ROOT / "experiments" / "spanish_mtl.json").read_text(encoding="utf-8"))
    name, spanish = Path(experiment["keywords"]).name, LANGUAGES["es"]
    assert KeywordList.from_file(ROOT / "datasets_scripts" / name).to_dict() == spanish.keywords.to_dict()
    corpus = generate_corpus({"train": 400, "validation": 50, "test": 100}, 0, spanish.keywords, spanish.grammar)
    clips = [clip for clips in corpus.values() for clip in clips]
    letters = {letter for clip in clips for word in normalize_text(clip.transcript) for letter in word}
    assert letters <= set(experiment["characters"]) and {"ñ", "í", "ó"} <= letters
    assert set("".join(spanish.keywords.decodable)) <= set(experiment["characters"])
    assert {keyword for clip in clips for keyword in clip.keywords} == set(spanish.keywords.keywords)
    for label in LABELS:
        assert np.mean([label in clip.labels for clip in clips]) > 0.1, label
