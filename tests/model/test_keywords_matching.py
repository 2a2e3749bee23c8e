import itertools

import pytest

from modeling_toxmtl.keywords import FILLER_WORD, KeywordEntry, KeywordList, KeywordMatch
from modeling_toxmtl.text import normalize_text


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
        ("de", "idiot", "Idiot's Mikro", "idiot _"),
        ("nl", "idioot", "die idioot’s", "_ idioot"),
        ("el", "βλάκας", "ΒΛΆΚΑΣ, ο βλάκας", "βλάκας _ βλάκας"),
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
