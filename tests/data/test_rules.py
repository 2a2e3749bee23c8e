import pytest
from pipeline_runs import row_of

from modeling_toxmtl.data.rules import RuleFilter
from modeling_toxmtl.labels import VIOLATIONS


def test_rules_match_whole_words_of_the_normalised_text():
    rules = RuleFilter({"Bullying": ["uninstall the game", "(nobody|no one) likes you"]})
    texts = ["Uninstall the game!", "No one, likes you.", "reuninstall the games"]
    scores = rules.score([row_of(text) for text in texts])
    assert scores[:, VIOLATIONS.index("Bullying")].tolist() == [1.0, 1.0, 0.0]
    assert rules.knows == ("Bullying",)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"Rude": ["x"]}, "'Rude'"),
        ({"Other": ["(x"]}, r"Other: '\(x'"),
        ({"Bullying": "uninstall the game"}, "Bullying: 'uninstall the game' is no list"),
        ({"Bullying": [1]}, r"Bullying: \[1\] is no list"),
        (["uninstall the game"], "has no labels"),
        ({"Bullying": ["1v1 me"]}, "'1v1 me' can never match: .* without '1'; write 'one v one me'"),
        ({"Bullying": ["kill-yourself"]}, "write 'kill yourself'"),
        ({"Bullying": ["scheiße"]}, "without 'ß'; write 'scheisse'"),
        ({"Bullying": ["you’re bad"]}, 'write "you\'re bad"'),
        ({"Bullying": ["go  away"]}, "without 'go  away'; write 'go away'"),
        ({"Bullying": [r"level \d+"]}, r"without '\\\\d'; write numbers as words"),
        ({"Bullying": ["(a|b)[0-9]"]}, r"without '\[0-9\]'"),
        ({"Bullying": [r"lvl[\d]"]}, r"without '\[\\\\d\]'"),
        ({"Bullying": [r"go\taway"]}, r"without '\\\\t'"),
        ({"Bullying": [" go away"]}, "' go away' can never match: .*; write 'go away'"),
        ({"Bullying": ["'tis you"]}, "write 'tis you'"),
        ({"Bullying": [r"w\.t\.f"]}, "write numbers as words and a space for other signs"),
        ({"Bullying": ["f@ck|fool"]}, "without '@'"),
        ({"Bullying": ["İyi"]}, "without 'İ'; write 'iyi'"),
        ({"Bullying": ["i\u0307yi"]}, "write 'iyi'"),
        ({"Bullying": ["غَبِيّ"]}, "write 'غبي'"),
        ({"Bullying": [""]}, "'' matches every text"),
        ({"Bullying": ["(go away)?"]}, "matches every text"),
    ],
)
def test_rules_with_faults_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        RuleFilter(rules)


def test_rules_match_whatever_their_case():
    expressions = ["(?i)KYS", r"[A-Z]at head", r"(?:No one|nobody)\s+likes (?!me)\w{2,5}", "cul(?=o|ero)."]
    rules = RuleFilter({"Bullying": expressions})
    texts = ["kys", "Rat-head!", "No one  likes YOU.", "nobody likes me", "culo", "cult"]
    scores = rules.score([row_of(text) for text in texts])
    assert scores[:, VIOLATIONS.index("Bullying")].tolist() == [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("バカ", "このバカが"),
        ("笨蛋", "你是个笨蛋吗"),
        ("โง่", "เขาโง่มาก"),
        ("iyi", "İYİ"),
        ("น้ำ", "กินน้ำนะ"),
    ],
)
def test_rules_match_in_scripts_without_spaces(rule, text):
    assert RuleFilter({"Bullying": [rule]}).score([row_of(text)]).sum() == 1


@pytest.mark.parametrize(
    ("language", "rule", "text", "is_found"),
    [
        ("en", "idiot", "the idiot’s game", True),
        ("en", "an idiot", "an idiot'll do, and an idiot'd've", True),
        ("en", "idiot's", "the idiot's game", True),
        ("en", "won", "it won't start", False),
        ("en", "clock", "five o'clock", False),
        ("fr", "idiot", "l'idiot du village", True),
        ("fr", "l'idiot", "qu'l'idiot", True),
        ("fr", "hui", "aujourd'hui", False),
        ("it", "amico", "dell'amico", True),
        ("hi", "साली", "तू साली है", True),
        ("hi", "मर", "वह मरा नहीं", False),
        ("hi", "मर", "तू मर", True),
        ("ta", "நாயே", "போடா நாயே", True),
        ("el", "μαλάκας", "είσαι μαλάκας", True),
        ("el", "ηλίθι(ος|α)", "είσαι ηλίθιος", True),
        ("el", "ΜΑΛΆΚΑΣ|πρ[οό]στυχο[ςσ]", "ο πρόστυχος", True),
        ("el", "κοροΐδεψε", "τον κοροΐδεψε", True),
    ],
)
def test_rules_end_where_words_do(language, rule, text, is_found):
    """What an apostrophe joins is no part of a word; marks and final letters are."""
    assert RuleFilter({"Bullying": [rule]}, language).score([row_of(text)]).sum() == is_found


def test_rules_read_numbers_in_the_language_of_the_list():
    rules = RuleFilter({"Bullying": ["te doy dos"]}, "es")
    assert rules.score([row_of("Te doy 2."), row_of("te doy two")])[:, VIOLATIONS.index("Bullying")].tolist() == [1, 0]
