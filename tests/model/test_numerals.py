import pytest

from modeling_toxmtl import numerals
from modeling_toxmtl.numerals import read_digits, read_numbers
from modeling_toxmtl.text import normalize_text


def test_numbers_are_read_out_without_gaps():
    """Reading is injective, and a number's words are a known, finite vocabulary."""
    readings = [" ".join(normalize_text(str(n))) for n in (*range(2000), *range(999_000, 1_001_000, 37))]
    assert len(set(readings)) == len(readings)
    assert len({word for reading in readings for word in reading.split()}) == 20 + 8 + 3


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "twenty-one"),
        ("en-US", "twenty-one"),
        ("es", "veintiuno"),
        ("es-419", "veintiuno"),
        ("de", "einundzwanzig"),
        ("PT_br", "vinte e um"),
        ("ru", "двадцать один"),
        ("tlh", "21"),  # num2words knows no Klingon
        ("x-test", "21"),
    ],
)
def test_language_codes(language, words):
    assert read_digits("21", language) == words


def test_a_region_with_numbers_of_its_own():
    assert (read_digits("90", "fr"), read_digits("90", "fr-BE")) == ("quatre-vingt-dix", "nonante")
    assert read_digits("1000000", "en-IN") == "ten lakh"


def test_nine_digits_are_a_number_and_ten_are_digits():
    assert read_digits("100000000", "en") == "one hundred million"
    assert read_digits("1000000001", "en") == "one" + " zero" * 8 + " one"
    assert read_digits("1000000001", "es") == "uno" + " cero" * 8 + " uno"
    assert read_digits("1000000001", "en", is_ordinal=True) == "one" + " zero" * 8 + " first"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("101st 1,000th 1ST", "one hundred first one thousandth first"),
        ("$3.50 £1 €1.00", "three point five zero dollars one pound one point zero zero euros"),
        ("1.234 1,234 12,34", "one point two three four one thousand two hundred thirty four twelve thirty four"),
        ("1.2.3", "one point two three"),
    ],
)
def test_signs_of_english(text, words):
    assert normalize_text(text) == words.split()


def test_signs_of_other_languages_separate_words_or_thousands():
    assert normalize_text("$20 5% 3,5 R&B 1er", "es") == ["veinte", "cinco", "tres", "cinco", "r", "b", "uno", "er"]
    assert read_numbers("1.234.567, 1,234 12.34 1.2345 a1.000", "es") == "1234567, 1234 12.34 1.2345 a1.000"


def test_a_number_where_num2words_is_missing(monkeypatch):
    monkeypatch.setattr(numerals, "num2words", None)
    assert normalize_text("no number at all", "es") == ["no", "number", "at", "all"]
    for language in ("en", "es", "tlh"):
        with pytest.raises(ImportError, match="42.*pip install num2words"):
            normalize_text("42", language)
