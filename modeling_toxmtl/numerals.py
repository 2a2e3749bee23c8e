"""Numbers read out in the language of a text, by num2words: "42" is forty two, and in Spanish cuarenta y dos.

- A number of more than nine digits is read digit by digit.
- English, and only English, also has decimals (3.5), ordinals (1st), amounts ($20), `&` and `%`. In any other language
  these signs separate words, and a point or comma before three digits separates thousands.
- In a language that num2words does not know, digits stay as they are written: an alphabet of letters refuses them.
"""

import re


try:
    from num2words import CONVERTER_CLASSES, num2words
except ImportError:
    num2words = None

MAX_DIGITS = 9
_SIGNS = str.maketrans({"&": " and ", "%": " percent "})
_CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}
_NUMBER = re.compile(
    r"(?<![\w$@*!])([$£€]?)(\d+(?:,\d{3})*)(?:\.(\d+))?(st|nd|rd|th)?(?![\w$@*])", flags=re.IGNORECASE
)
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:[.,]\d{3})+(?!\w)")


def read_numbers(text: str, language: str) -> str:
    """A text whose numbers are words, with hyphens and commas between them; in other languages than English, those
    with separated thousands are joined, and left to [`read_digits`]."""
    if not _is_english(language):
        return _THOUSANDS.sub(lambda match: re.sub("[.,]", "", match[0]), text)
    return _NUMBER.sub(lambda match: f" {_read_number(*match.groups(), language)} ", text.translate(_SIGNS))


def read_digits(digits: str, language: str, is_ordinal: bool = False) -> str:
    """The words of a whole number, or the digits themselves in a language that num2words does not know.

    Args:
        digits: decimal digits, and nothing else.
        language: code such as "en", "es" or "pt-BR".
        is_ordinal: "first" instead of "one".

    Raises:
        ImportError: num2words is not installed.
    """
    if num2words is None:
        raise ImportError(f"The number {digits} can be read out by num2words alone: pip install num2words")
    if (known := _known_language(language)) is None:
        return digits
    *parts, last = [digits] if len(digits) <= MAX_DIGITS else digits
    words = [num2words(int(part), lang=known) for part in parts]
    words.append(num2words(int(last), lang=known, to="ordinal" if is_ordinal else "cardinal"))
    reading = " ".join(words)
    return reading.replace(" and ", " ") if _is_english(language) else reading  # "one hundred one"


def _read_number(sign, whole, decimals, ordinal, language):
    words = read_digits(whole.replace(",", ""), language, is_ordinal=bool(ordinal))
    if decimals:
        words = " ".join([words, "point", *(read_digits(digit, language) for digit in decimals)])
    if sign:
        words += f" {_CURRENCIES[sign]}" + ("" if words == "one" else "s")
    return words


def primary_language(language: str) -> str:
    """Of a code with or without a region: "pt" of "pt-BR"."""
    return re.split("[-_]", language.lower())[0]


def _is_english(language):
    return primary_language(language) == "en"


def _known_language(language):
    """As num2words spells it: with the region, where it tells that apart."""
    primary, _, region = language.replace("-", "_").partition("_")
    names = (f"{primary.lower()}_{region.upper()}", primary.lower())
    return next((name for name in names if name in CONVERTER_CLASSES), None)
