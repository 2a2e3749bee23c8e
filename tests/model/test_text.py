import pytest

from modeling_toxmtl.text import disguise_pattern, normalize_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" \n\t ... -- !? ", ""),
        ("Hello, WORLD!", "hello world"),
        ("don’t 'quote' ‘em the dogs' rock'n'roll", "don't quote em the dogs rock'n'roll"),
        ("mother-in-law yes/no snake_case wait…what", "mother in law yes no snake case wait what"),
        ("a.b,c", "a b c"),
        ("0", "zero"),
        ("42", "forty two"),
        ("13 20 100 110", "thirteen twenty one hundred one hundred ten"),
        ("1,001 and 12345", "one thousand one and twelve thousand three hundred forty five"),
        ("1000000", "one million"),
        (
            "999,999,999",
            "nine hundred ninety nine million nine hundred ninety nine thousand nine hundred ninety nine",
        ),
        ("1000000000", "one" + " zero" * 9),
        ("007", "seven"),
        (
            "1st 2nd 3rd 4th 12th 20th 21st 100th",
            "first second third fourth twelfth twentieth twenty first one hundredth",
        ),
        ("3.5 or .5", "three point five or five"),
        ("$1, $20 £3 €5", "one dollar twenty dollars three pounds five euros"),
        ("5% R&B", "five percent r and b"),
        ("10:30pm mp3 b4", "ten thirty pm mp three b four"),
        ("no. 7! 5*", "no seven five"),
        ("user@mail.com a$b f*ck b***h", "user mail com a b fck bh"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ ４２ ﬁne", "full width forty two fine"),
        ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
        ("party \U0001f389 \u2764\ufe0fheart 5\ufe0f\u20e3", "party heart five"),
    ],
)
def test_normalize_text(text, words):
    assert normalize_text(text) == words.split()


def test_normalize_text_keeps_accents_and_alphabets():
    assert normalize_text("¡El AÑO, ano y CAFÉ!") == ["el", "año", "ano", "y", "café"]
    assert normalize_text("Чёрт ПОБЕРИ, Straße") == ["чёрт", "побери", "strasse"]
    assert normalize_text("cafe\u0301") == normalize_text("caf\u00e9") == ["café"]
    assert normalize_text("हिन्दी में") == ["हिन्दी", "में"]  # vowel signs are marks, not letters


@pytest.mark.parametrize(
    "sign",
    [
        *["\u00ad", "\u034f", "\u061c", "\u115f", "\u17b4", "\u180b", "\u180e", "\u180f", "\u200b", "\u202a"],
        *["\u202e", "\u2060", "\u2061", "\u2064", "\u2066", "\u2069", "\u206f", "\u3164", "\ufe0f", "\ufeff"],
        *["\uffa0", "\U000e0001", "\U000e0020", "\U000e0100", "\U000e01ef"],
    ],
)
def test_what_is_unseen_neither_divides_nor_changes_words(sign):
    assert normalize_text(f"{sign}fu{sign}ck 4{sign}2") == ["fuck", "forty", "two"]
    assert normalize_text(f"葛{sign}だ", "ja") == ["葛だ"]


def test_normalize_text_repeats_and_leet_are_left_to_the_list():
    assert normalize_text("yooou sh1t") == ["yooou", "sh", "one", "t"]


@pytest.mark.parametrize("text", ["It's 1,234.50 €, İstanbul", "ÀÉ ﬂ ẞ ½ ²", "can’t--won't 3rd $5 f*ck", "9" * 5000])
def test_normalize_text_is_idempotent(text):
    words = normalize_text(text)
    assert words and normalize_text(" ".join(words)) == words


def test_other_languages():
    text = "¡El 2 de MAYO, 1.000 euros y mp3!"
    assert normalize_text(text, "es") == ["el", "dos", "de", "mayo", "mil", "euros", "y", "mp", "tres"]
    assert normalize_text("Eine Million: 1.000.000, Straße 21", "de") == [
        *["eine", "million", "eine", "million", "strasse", "einundzwanzig"]
    ]
    assert normalize_text("99", "fr") == ["quatre", "vingt", "dix", "neuf"]
    for language in ("es", "de", "fr", "tlh"):
        words = normalize_text(text, language)
        assert normalize_text(" ".join(words), language) == words


@pytest.mark.parametrize(
    ("token", "spelled", "not_spelled"),
    [
        ("sh1t", ["shit", "shlt"], ["sh1t", "sht"]),
        ("f*ck", ["fuck"], ["fck", "f'ck"]),
        ("daaamn", ["damn", "daamn"], ["daaamn", "dmn"]),
        ("$hut", ["shut"], ["hut"]),
    ],
)
def test_disguises(token, spelled, not_spelled):
    pattern = disguise_pattern(token)
    assert all(map(pattern.fullmatch, spelled)) and not any(map(pattern.fullmatch, not_spelled))


@pytest.mark.parametrize("token", ["shit", "good", "42", "$$$", "**", ""])
def test_what_disguises_nothing(token):
    assert disguise_pattern(token) is None
