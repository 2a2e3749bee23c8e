import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_toxmtl import keywords
from modeling_toxmtl.keywords import FILLER_WORD, KeywordEntry, KeywordList, KeywordMatch
from modeling_toxmtl.labels import LABELS, NO_VIOLATION
from modeling_toxmtl.text import normalize_text


@pytest.fixture(scope="module")
def default() -> KeywordList:
    return KeywordList.default()


@pytest.fixture
def small() -> KeywordList:
    return KeywordList(
        [
            KeywordEntry("damn", ("Profanity",), ("dammit", "damned")),
            KeywordEntry("shit", ("Profanity",), ("shits",)),
            KeywordEntry("shut up", ("Bullying",), ("shutting up",)),
            KeywordEntry("shut", ("Other",)),
            KeywordEntry("goddamn", ("Profanity", "Bullying"), ("god damn",)),
        ]
    )


# --- substitution


def test_substitute_word_by_word(small):
    assert small.substitute("Well, DAMNED if I know. Dammit!") == "good damn good good good damn"
    assert small.substitute("nothing to see here") == "good good good good"
    assert small.substitute("") == small.substitute("?! ...") == ""


def test_substitute_prefers_the_longest_leftmost_phrase(small):
    assert small.substitute("shut up now") == "shut up good"
    assert small.substitute("shut the door up") == "shut good good good"
    assert small.substitute("shut shut up") == "shut shut up"
    assert small.substitute("shutting up damned") == "shut up damn"
    overlapping = KeywordList([KeywordEntry(k, ("Other",)) for k in ("a b", "b c d", "d", "a b e f")])
    assert overlapping.substitute("a b c d") == "a b good d"
    assert overlapping.substitute("a b e g") == "a b good good"
    assert overlapping.substitute("a b e f") == "a b e f"


def test_substitute_variants_decide_the_number_of_words(small):
    assert small.substitute("god damn it") == "goddamn good"
    assert small.substitute("god-damn") == "goddamn"
    assert small.substitute("god it damn") == "good good damn"


def test_substitute_counts_spoken_numbers(small):
    assert small.substitute("42 damn 1st") == "good good damn good"


def test_substitute_sentence_of_disguises(default):
    assert default.substitute("f*ck yooou, sh1t $hit a$$ fuuuuck can't") == "fuck good shit shit ass fuck good"


@pytest.mark.parametrize(
    "text",
    [
        "shiiit",
        "SHITTT",
        "sssshhhhiiiitttt",
        "sh1t",
        "sh!t",
        "$hit",
        "5h1t",
        "$h1111t!!!",
        "sh*t",
        "s**t",
        "sh**",
        "s*1t",
    ]
    + ["“sh1t”", "*shit*", "**sh*t**", "shit*", "ｓｈｉｔ", "sh\u200bit", "shits"],
)
def test_disguises_of_one_keyword(default, text):
    assert default.substitute(text) == "shit"


@pytest.mark.parametrize(
    "text",
    ["class", "assess", "scunthorpe", "hello", "shitake", "dickens", "cocktail", "pass", "as", "is", "luck", "classss"]
    + [
        "5417",
        "455",
        "$417",
        "@55",
        "4$5",
        "@@",
        "1001",
        "2nd",
        "mp3",
        "5h17",
    ]  # numbers and lone signs are never leet
    + ["****", "*hit*", "*uck", "p***", "s********t", "sh**t**", "$hitt", "a$"],
)
def test_near_misses_are_not_keywords(default, text):
    assert set(default.substitute(text).split()) <= {FILLER_WORD}


def test_disguises_within_phrases_and_of_either_letter(default):
    assert default.substitute("$HUT uuuup you, scr3w yooou") == "shut up good screw you"
    assert default.substitute("c10wn") == "clown"  # 1 for l as well as for i
    assert default.substitute("sh*t up") == "shut up"
    assert default.substitute("sh*t") == "shit"  # "shut" alone is no keyword


def test_a_disguise_that_fits_two_keywords_matches_neither():
    twins = KeywordList([KeywordEntry(k, ("Other",)) for k in ("cot", "cat", "coot", "pill")])
    assert twins.substitute("c*t") == twins.substitute("cooot") == "good"
    assert twins.substitute("cooot cat") == "good cat"
    assert twins.substitute("c4t p1ll c0t") == "cat pill cot"
    twins.alias("cat", "cut")
    twins.remove("cot")
    assert twins.substitute("c*t") == "cat"  # two spellings, one keyword


def test_a_masked_word_outside_the_list_is_one_word(small):
    assert small.substitute("what the f*ck, damn h**l") == "good good good damn good"


def test_words_spelt_exactly_are_never_undone():
    laughs = KeywordList([KeywordEntry("hmm", ("Other",)), KeywordEntry("hmmm", ("Other",))])
    assert laughs.substitute("hmmm hmm hmmmm") == "hmmm hmm hmm"


def test_other_languages():
    spanish = KeywordList([KeywordEntry("coño", ("Profanity",))], filler="bueno", language="es")
    assert spanish.substitute("¡COÑO! coooño cono") == "coño coño bueno"
    assert spanish.words == {"coño", "bueno"}
    assert spanish.tokens("42 coños") == ["cuarenta", "y", "dos", "coños"]
    assert spanish.substitute("¡42 coños, coño!") == "bueno bueno bueno bueno coño"
    numbers = KeywordList([KeywordEntry("dos", ("Other",), ("mil",))], language="es")
    assert numbers.substitute("2 y 1.000") == "dos good dos"
    with pytest.raises(ValueError, match="entry 1 .'420'.*write 'cuatrocientos veinte'"):
        KeywordList([KeywordEntry("420", ("Other",))], language="es")


TEXTS = [
    "f*ck yooou, sh1t $hit a$$ fuuuuck can't",
    "Shut up, you IDIOT! It's 3.5% of the damned motherfucking total...",
    "piss off piss up shut hook up off get get lost screw screw you",
    "42 1st $5 mp3 *sighs* ¿qué? Чёрт the good, the bad & the ugly; mother-fucker",
]


@pytest.mark.parametrize("text", TEXTS)
def test_substitution_is_idempotent_and_stays_in_its_vocabulary(default, text):
    target = default.substitute(text)
    assert set(target.split()) <= default.words
    assert default.substitute(target) == target


def test_any_two_neighbouring_spellings_substitute_idempotently(default):
    spellings = [spelling for entry in default for spelling in (entry.keyword, *entry.variants)]
    for pair in itertools.product(spellings[::2], spellings[1::2]):
        target = default.substitute(" ".join(pair))
        assert default.substitute(target) == target


def test_one_word_for_each_word_said(default):
    for text in TEXTS[:3]:
        assert len(default.substitute(text).split()) == len(text.replace("3.5%", "three point five percent").split())
    for entry in default:
        assert default.substitute(f"so {entry.keyword} then") == f"good {entry.keyword} good"
        for variant in entry.variants:
            assert default.substitute(f"so {variant} then") == f"good {entry.keyword} good"


NUMBERS = [  # amounts, times, and the names of models, roads, gates, seats, forms, postcodes
    *("respawn in 45s", "the A55 is closed", "my galaxy a55 died", "form P155 please", "gate A55", "two A5s and A55s"),
    *("we left at 5h17", "a P15s and an E14", "he weighs 10st", "get 10st off", "postcode SH17 5HU7", "flight AS5"),
    *("buses 71s and 717s", "room HE11", "the 705ser", "part TI75", "a $45s ticket", "T17s for sale", "BU11 5HI7"),
    *("bit error 4e5", "as 4s5", "row 45se5", "1v1 me", "mp3 and b4", "4*s hotel", "A0 A1 A2 a3 a4", "R2D2", "M4A1"),
]
DISGUISES = {  # digits among letters, and at their edge where more letters follow or stand before
    "shit": ["sh1t", "5hit", "shi7", "5h1t", "$h1t", "sh!7"],
    "ass": ["@ss", "a$$", "4ss", "as$"],
    "asshole": ["a55hole", "assh0le", "a55h0le", "455hole", "@ssh0l3", "4rseh0le"],
    "bitch": ["b1tch", "bi7ch", "b!tch", "8itch", "b17ch", "bitch3s"],
    "idiot": ["idi0t", "1diot", "1d10t", "id10t"],
    "noob": ["n00b", "no0b", "n00b5", "n00bs"],
    "tits": ["t1ts", "tit5", "t1t5"],
    "piss": ["p1ss", "p!ss", "p1ssed", "pis5"],
    "loser": ["l0ser", "los3r", "10ser", "l053r"],
}


def test_numbers_are_no_disguises(default):
    """Digits are letters where they stand among letters. What this costs is known: disguises that look like the name
    of a model ("a55", "5h17") are missed, for the harmless kind is said far more often."""
    false_alarms = [text for text in NUMBERS if set(default.substitute(text).split()) != {FILLER_WORD}]
    assert false_alarms == []
    missed = [text for keyword, texts in DISGUISES.items() for text in texts if default.substitute(text) != keyword]
    assert missed == ["8itch"]  # of 41; 8 is no letter of ours
    assert set(default.substitute("you a55, 5h17, as5, p155").split()) == {FILLER_WORD}


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("the idiot's throwing", "good idiot good"),
        ("that moron’s mic, loser's bracket", "good moron good loser good"),
        ("that b1tch's mic", "good bitch good"),
        ("the idiot'll throw, the wanker'd've won", "good idiot good good wanker good"),
        ("he'll say it's o'clock, y'all", "good good good good good"),
        ("shut up's a rude word", "shut up good good good"),
    ],
)
def test_what_an_apostrophe_joins_is_no_part_of_the_word(default, text, target):
    assert default.substitute(text) == default.substitute(" ".join(default.undisguise(text))) == target


@pytest.mark.parametrize(
    ("language", "keyword", "text", "target"),
    [
        ("fr", "idiot", "c'est l’idiot du village", "_ idiot _ _"),
        ("fr-CA", "idiot", "qu'idiot, jusqu'à l'hidiot, aujourd'hui", "idiot _ _ _"),
        ("it", "idiota", "Quell'IDIOTA! dell'idiozia", "idiota _"),
        ("ca", "idiota", "l'idiota d'aquí", "idiota _"),
        ("es", "idiota", "l'idiota", "_"),  # no elision that the language knows
        ("zh", "笨蛋", "你是笨蛋吗？", "_ _ 笨蛋 _"),
        ("zh", "笨蛋", "你 是 笨 蛋 吗", "_ _ 笨蛋 _"),
        ("zh", "笨蛋", "你是 笨蛋 吗", "_ _ 笨蛋 _"),
        ("zh", "sb", "你是SB吗", "_ _ sb _"),
        ("zh", "笨蛋", "笨*", "笨蛋"),
        ("ja", "馬鹿", "お前は馬鹿だ", "_ _ _ 馬鹿 _"),
        ("ja", "バカ", "ﾊﾞｶ", "バカ"),
        ("th", "โง่", "คุณโง่มาก", "_ _ โง่ _ _ _"),
        ("th", "โง่", "คุณ\u200bโง่\u200bมาก", "_ _ โง่ _ _ _"),
        ("th", "น้ำ", "กินน้ำนะ", "_ _ น้ำ _ _"),
        ("th", "โง", "โง่", "_ _"),  # a tone mark is part of its letter
        ("km", "ឆ្កួត", "អ្នកឆ្កួត", "_ _ _ ឆ្កួត"),
        ("tr", "it", "İt herif", "it _"),
        ("tr", "siktir", "SİKTİR git", "siktir _"),
        ("az-AZ", "qız", "QIZ Qiz", "qız _"),
        ("en", "istanbul", "İstanbul", "istanbul"),
        ("ar", "غبي", "أنت غَبِيّ", "_ غبي"),
        ("ar", "غبي", "غبـــي", "غبي"),
        ("he", "טיפש", "טִיפֵּשׁ", "טיפש"),
    ],
)
def test_words_of_other_languages(language, keyword, text, target):
    filler = "_"
    words = KeywordList([KeywordEntry(keyword, ("Bullying",))], filler="x", language=language)
    assert words.substitute(text).replace("x", filler) == target
    assert words.substitute(words.substitute(text)) == words.substitute(text)
    assert words.substitute(" ".join(words.undisguise(text))) == words.substitute(text)
    assert words.merge(words.substitute(text).split()) == words.substitute(text).split()
    assert words.spellings == {keyword: keyword}


def test_lists_of_other_languages_are_checked_by_their_rules():
    for language, written, cure in (("tr", "SIKIŞ", "sıkış"), ("ar", "غَبِيّ", "غبي"), ("en", "İ", "i")):
        with pytest.raises(ValueError, match=f"write '{cure}'"):
            KeywordList([KeywordEntry(written, ("Other",))], language=language)
    with pytest.raises(ValueError, match="'笨 蛋' already is a spelling of '笨蛋'"):
        KeywordList([KeywordEntry("笨蛋", ("Other",), ("笨 蛋",))], language="zh")


# --- find


def test_find_gives_word_indices(small):
    words = ["good", "shut", "up", "damned", "good", "shut"]
    assert small.find(words) == [
        KeywordMatch("shut up", 1, 3),
        KeywordMatch("damn", 3, 4),
        KeywordMatch("shut", 5, 6),
    ]
    assert small.find([]) == small.find(["good", "up"]) == []


def test_find_agrees_with_substitute(default):
    words = ["well", "shut", "up", "you", "damned", "motherfucker", "it", "is", "a", "pipe", "bomb"]
    target = words.copy()
    for match in reversed(default.find(words)):
        target[match.start : match.end] = [match.keyword]
    assert default.substitute(" ".join(words)) == "good shut up good damn motherfucker good good good pipe bomb"
    assert target == ["well", "shut up", "you", "damn", "motherfucker", "it", "is", "a", "pipe bomb"]


@pytest.mark.parametrize(
    "text", [*TEXTS, "you f*cking idi0t, $HUT uuuup", "sh1t mp3 c10wn", "*sh!t* a b***h and s**t", "damn 5h1t 42"]
)
def test_find_in_tokens_agrees_with_substitute_on_disguises(default, text):
    tokens = default.tokens(text)
    matches = default.find(tokens)
    covered = {index for match in matches for index in range(match.start, match.end)}
    target = [FILLER_WORD if index not in covered else "" for index in range(len(tokens))]
    for match in matches:
        target[match.start] = match.keyword
    assert " ".join(filter(None, target)) == default.substitute(text)
    assert matches and all(normalize_text(token) == [token] for i, token in enumerate(tokens) if i not in covered)


def test_find_takes_phrases_that_are_one_item(small):
    assert small.find(["good", "shut up", "damned"]) == [
        KeywordMatch("shut up", 1, 2),
        KeywordMatch("damn", 2, 3),
    ]
    assert small.find(["shutting up"]) == []  # `merge` gives the canonical spelling
    assert small.merge(small.merge(["shutting", "up", "now"])) == ["shut up", "now"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Well, DAMNED if I know: 42!", "well damned if i know forty two"),
        ("sh1t happens, daaamn", "shit happens damn"),
        ("sh*ts and g*d d4mn", "shits and god damn"),
        ("$hutting uuup now", "shutting up now"),
        ("what the f*ck mp3 b***h", "what the fck mp three bh"),  # none of them is in the list
        ("", ""),
    ],
)
def test_undisguise(small, text, words):
    assert small.undisguise(text) == words.split()


def test_undisguise_leaves_what_fits_two_keywords():
    twins = KeywordList([KeywordEntry(k, ("Other",)) for k in ("cot", "cat")])
    assert twins.undisguise("c*t cat caaat") == ["ct", "cat", "cat"]


@pytest.mark.parametrize("text", TEXTS)
def test_undisguised_words_have_the_same_keywords(default, text):
    assert default.substitute(" ".join(default.undisguise(text))) == default.substitute(text)


# --- looking up and editing


def test_lookup(small):
    assert len(small) == 5
    assert small.keywords == ["damn", "shit", "shut up", "shut", "goddamn"] == [entry.keyword for entry in small]
    assert small.words == {"good", "damn", "shit", "shut", "up", "goddamn"}
    assert "shut up" in small and "dammit" not in small and "up" not in small
    assert small.labels_of("goddamn") == ("Profanity", "Bullying")
    with pytest.raises(KeyError, match="dammit"):
        small.labels_of("dammit")


def test_editing_acts_at_once(small):
    assert small.substitute("you muppet, quit it") == "good good good good"
    small.add("muppet", ["Bullying"], ["muppets"])
    small.add("quit it", ("Other",))
    assert small.substitute("you muppets, quit it") == "good muppet quit it"
    assert small.labels_of("muppet") == ("Bullying",) and {"muppet", "quit", "it"} <= small.words
    small.alias("muppet", "puppet")
    assert small.substitute("puppet m*ppet") == "muppet muppet"
    small.remove("muppet")
    assert small.substitute("muppet puppet muppets") == "good good good"
    assert "muppet" not in small and small.keywords[-1] == "quit it"
    small.add("puppet", ["Other"])
    assert small.substitute("puppet") == "puppet"


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda k: k.add("damn", ["Other"]), ValueError, "'damn' already is a spelling of 'damn'"),
        (lambda k: k.add("dammit", ["Other"]), ValueError, "'dammit' already is a spelling of 'damn'"),
        (lambda k: k.add("new", ["Other"], ["shits"]), ValueError, "'shits' already is a spelling of 'shit'"),
        (lambda k: k.add("new", ["Other"], ["new"]), ValueError, "'new' already is a spelling of 'new'"),
        (lambda k: k.add("new", []), ValueError, "`labels` is empty"),
        (lambda k: k.add("new", "Other"), ValueError, "`labels` must be a list"),
        (lambda k: k.add("good grief", ["Other"]), ValueError, "contains the filler 'good'"),
        (lambda k: k.alias("shit", "damned"), ValueError, "'damned' already is a spelling of 'damn'"),
        (lambda k: k.alias("damn", "Darn"), ValueError, "write 'darn'"),
        (lambda k: k.alias("dammit", "darn"), KeyError, "dammit"),
        (lambda k: k.remove("dammit"), KeyError, "dammit"),
    ],
)
def test_a_refused_edit_changes_nothing(small, edit, error, message):
    before = small.to_dict()
    with pytest.raises(error, match=message):
        edit(small)
    assert small.to_dict() == before
    assert small.substitute("dammit new good darn shits") == "damn good good good shit"


def test_the_last_keyword_stays():
    single = KeywordList([KeywordEntry("damn", ("Profanity",))])
    with pytest.raises(ValueError, match="empty"):
        single.remove("damn")
    assert single.keywords == ["damn"]


# --- files


def test_save_and_load_round_trip(small, tmp_path):
    small.add("coño", ["Profanity"])
    small.save(tmp_path / "list.json")
    loaded = KeywordList.from_file(tmp_path / "list.json")
    assert loaded.to_dict() == small.to_dict() == KeywordList.from_dict(small.to_dict()).to_dict()
    assert list(loaded) == list(small) and loaded.substitute("dammit") == "damn"
    text = (tmp_path / "list.json").read_text(encoding="utf-8")
    assert "coño" in text
    assert len(text.splitlines()) == len(small) + 6  # one entry per line, so that a diff shows one keyword at a time


def test_other_filler_and_language_survive(tmp_path):
    KeywordList([KeywordEntry("good", ("Other",))], filler="uh", language="x-test").save(tmp_path / "list.json")
    loaded = KeywordList.from_file(tmp_path / "list.json")
    assert (loaded.filler, loaded.language) == ("uh", "x-test")
    assert loaded.substitute("a good one") == "uh good uh"


def test_variants_may_be_left_out_and_byte_order_marks_are_read(tmp_path):
    data = {"filler": "good", "language": "en", "keywords": [{"keyword": "damn", "labels": ["My own label"]}]}
    (tmp_path / "list.json").write_text(json.dumps(data), encoding="utf-8-sig")
    assert list(KeywordList.from_file(tmp_path / "list.json")) == [KeywordEntry("damn", ("My own label",))]


def _entry(keyword="shit", labels=("Profanity",), **fields):
    return {"keyword": keyword, "labels": labels, **fields}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keywords": []}, "`keywords` is empty"),
        ({"keywords": {"damn": "Profanity"}}, "`keywords` must be a list"),
        ({"keywords": ["damn"]}, "entry 1 must be an object .* not 'damn'"),
        ({"words": []}, "the list: unknown field 'words'; it may have"),
        ({"filler": ""}, "`filler` is ''"),
        ({"filler": "so good"}, "`filler` is 'so good'"),
        ({"filler": 3}, "`filler` is 3"),
        ({"language": " "}, "`language` is ' '"),
        ({"extra": [{"keyword": "shit"}]}, "entry 2: missing field 'labels'"),
        ({"extra": [_entry(variant="x")]}, "entry 2: unknown field 'variant'; it may have .*variants"),
        ({"extra": [_entry("damn")]}, r"entry 2 \('damn'\): 'damn' already is a spelling of 'damn'"),
        ({"extra": [_entry(variants=["dammit"])]}, r"entry 2 \('shit'\): 'dammit' already is a spelling of 'damn'"),
        ({"extra": [_entry("")]}, r"entry 2 \(''\): '' is not a word or phrase"),
        ({"extra": [_entry("  ")]}, "'  ' is not a word or phrase"),
        ({"extra": [_entry(None)]}, "None is not a word or phrase"),
        ({"extra": [_entry("Shit")]}, "'Shit' can never match a normalised word; write 'shit'"),
        ({"extra": [_entry("bull-shit")]}, "write 'bull shit'"),
        ({"extra": [_entry("bull  shit")]}, "write 'bull shit'"),
        ({"extra": [_entry("420")]}, "write 'four hundred twenty'"),
        ({"extra": [_entry("good")]}, "'good' contains the filler 'good'"),
        ({"extra": [_entry(variants=["good shit"])]}, "'good shit' contains the filler 'good'; remove it or change"),
        ({"extra": [_entry(labels=[])]}, "`labels` is empty"),
        ({"extra": [_entry(labels="Profanity")]}, "`labels` must be a list of non-empty strings, not 'Profanity'"),
        ({"extra": [_entry(labels=["Profanity", 1])]}, "`labels` must be a list of non-empty strings"),
        ({"extra": [_entry(labels=[" "])]}, "`labels` must be a list of non-empty strings"),
        ({"extra": [_entry(variants="shits")]}, "`variants` must be a list of non-empty strings"),
        ({"extra": [_entry(variants=["$$$"])]}, r"'\$\$\$' is not a word or phrase"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    data = {"filler": "good", "language": "en", "keywords": [_entry("damn", variants=["dammit"])]}
    if "extra" in changes:
        data["keywords"] += changes["extra"]
    else:
        data |= changes
    path = tmp_path / "list.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=f"list.json: .*{message}"):
        KeywordList.from_file(path)


@pytest.mark.parametrize("field", ["filler", "language", "keywords"])
def test_missing_fields_are_refused(tmp_path, field):
    data = {"filler": "good", "language": "en", "keywords": [_entry()]}
    del data[field]
    (tmp_path / "list.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=f"list.json: the list: missing field '{field}'"):
        KeywordList.from_file(tmp_path / "list.json")


@pytest.mark.parametrize("content", [b"", b'{"filler": "good",}', b"[]", b'{"filler": "\xff"}'])
def test_files_that_are_no_json_object_are_refused(tmp_path, content):
    (tmp_path / "list.json").write_bytes(content)
    with pytest.raises(ValueError, match="list.json: "):
        KeywordList.from_file(tmp_path / "list.json")


def test_a_missing_file_names_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.json"):
        KeywordList.from_file(tmp_path / "absent.json")


def test_pickles_equally_in_every_process(small):
    """Set order depends on the process's hash seed; it must not reach what `datasets` fingerprints."""
    script = (
        "import hashlib, pickle; from modeling_toxmtl.keywords import KeywordList; k = KeywordList.default();"
        "k.substitute('f*ck'); print(hashlib.sha256(pickle.dumps(k)).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.check_output([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root)
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert pickle.loads(pickle.dumps(small)).substitute("dammit shut up") == "damn shut up"


# --- the default list


def test_default_list_has_the_81_keywords_of_the_protocol(default):
    assert (len(default), default.filler, default.language) == (81, FILLER_WORD, "en")
    counts = {label: sum(label in entry.labels for entry in default) for label in LABELS}
    assert counts[NO_VIOLATION] == 0
    assert all(counts[label] >= 8 for label in LABELS if label != NO_VIOLATION), counts
    assert {label for entry in default for label in entry.labels} <= set(LABELS)
    assert any(len(entry.labels) == 2 for entry in default)
    assert any(" " in entry.keyword for entry in default)


def test_default_list_uses_the_ctc_alphabet_only(default):
    spellings = [spelling for entry in default for spelling in (entry.keyword, *entry.variants)]
    assert set("".join(spellings)) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert set("".join(default.words)) <= set("abcdefghijklmnopqrstuvwxyz")


def test_default_file_is_as_save_writes_it(default, tmp_path):
    default.save(tmp_path / "en.json")
    packaged = Path(keywords.__file__).parent / "keyword_lists" / "en.json"
    assert packaged.read_bytes() == (tmp_path / "en.json").read_bytes()


def test_thresholds():
    keywords = KeywordList(
        [KeywordEntry("damn", ("Profanity",), threshold=0.25), KeywordEntry("crap", ("Profanity",))]
    )
    assert (keywords.threshold_of("damn"), keywords.threshold_of("crap")) == (0.25, 0.0)
    keywords.set_threshold("crap", 1)
    assert [entry.get("threshold") for entry in keywords.to_dict()["keywords"]] == [0.25, 1.0]
    assert KeywordList.from_dict(keywords.to_dict()).threshold_of("crap") == 1.0
    keywords.set_threshold("damn", 0.0)
    assert "threshold" not in keywords.to_dict()["keywords"][0]
    for wrong, message in ((1.5, "0 to 1"), (-0.1, "0 to 1"), ("high", "number"), (True, "number"), (None, "number")):
        with pytest.raises(ValueError, match=f"entry 1.*`threshold`.*{message}"):
            keywords.set_threshold("damn", wrong)
    with pytest.raises(KeyError, match="dammit"):
        keywords.set_threshold("dammit", 0.5)
    assert keywords.threshold_of("damn") == 0.0  # a refused edit changes nothing


def test_spellings(small):
    assert small.spellings == {
        "damn": "damn",
        "dammit": "damn",
        "damned": "damn",
        "shit": "shit",
        "shits": "shit",
        "shut up": "shut up",
        "shutting up": "shut up",
        "shut": "shut",
        "goddamn": "goddamn",
        "god damn": "goddamn",
    }


def test_decodable_words():
    keywords = KeywordList(
        [
            KeywordEntry("goddamn", ("Profanity",), ("goddammit", "god damn")),
            KeywordEntry("shut up", ("Bullying",), ("shutup", "shutting up")),
            KeywordEntry("hush", ("Bullying",), ("shut",)),
        ]
    )
    assert keywords.decodable == {
        "good": "good",
        "goddamn": "goddamn",
        "goddammit": "goddamn",
        "shut": "shut",  # a word of a phrase stays itself; `find` reads it
        "up": "up",
        "shutup": "shutup",
        "hush": "hush",
    }
