"""From text to words: one spelling for what is said the same, in targets, keyword lists and rules.

Design choices:
- Every alphabet is kept, and so are accents: they tell words apart ("año", "ano"), and folding them would turn
  harmless words into keywords. Only what looks alike is unified (Unicode NFKC and case).
- Disguised spellings (repeated letters, leet, masked letters) stand in tokens, and not in words: only a list can tell
  "sh1t", one word, from "mp3", two.
"""

import itertools
import re
import unicodedata

from .numerals import read_digits, read_numbers


_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
# Soft hyphens, zero-width characters and variation selectors: unseen in a word, so no part of it.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")
_LEET = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"}
_DISGUISED = re.compile(r"[\d$@*!]|(.)\1\1")


def normalize_text(text: str, language: str = "en") -> list[str]:
    """The words of `text`, lower-cased: letters of any alphabet with their accents, and apostrophes inside words.

    Anything else separates words (hyphens too), except that numbers are read out in `language`, see `numerals.py`.
    In English: "42" -> forty two, "1st" -> first, "3.5" -> three point five, "$20" -> twenty dollars, "5%" -> five
    percent.

    Raises:
        ImportError: there is a number, and num2words is not installed.
    """
    return [word for token in split_tokens(text, language) for word in plain_words(token, language)]


def split_tokens(text: str, language: str) -> list[str]:
    """Lower-cased tokens in which leet and mask characters still stand; most numbers are already words."""
    text = read_numbers(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text.translate(_QUOTES))), language)
    text = unicodedata.normalize("NFKC", text.casefold())
    # Categories L and M, not `\w`: the vowel signs of Hindi or Thai are marks, and would split the words.
    text = "".join(c if c in "'$@*!" or unicodedata.category(c)[:1] in "LM" or c.isdecimal() else " " for c in text)
    tokens = (token.strip("!'") for token in text.split())
    # A leading asterisk is emphasis ("*hit*"): masks keep the first letter.
    return [token.strip("*!'") if token.startswith("*") else token for token in tokens]


def plain_words(token: str, language: str) -> list[str]:
    """The words of a token taken literally: "mp3" -> mp three. A masked word stays one word: "f*ck" -> fck."""
    words = []
    for part in re.findall(r"\d+|[^\d$@*!]+(?:\*+[^\d$@*!]+)*", token):
        if part[0].isdecimal():
            reading = read_digits(part, language)
            words += [part] if reading == part else normalize_text(reading, language)
        elif any(map(str.isalpha, part)):
            words.append(part.replace("*", "").strip("'"))
    return words


def disguise_pattern(token: str) -> re.Pattern | None:
    """What a token may spell in disguise: a run of three or more stands for one or two letters, `*` for exactly one.
    None if nothing in it looks like a disguise."""
    if not _DISGUISED.search(token) or not any(map(str.isalpha, token)):
        return None
    parts = []
    for char, run in itertools.groupby(token):
        letter = "[^']" if char == "*" else f"[{_LEET[char]}]" if char in _LEET else re.escape(char)
        length = len(list(run))
        parts.append(letter + ("{1,2}" if length >= 3 and char != "*" else f"{{{length}}}"))
    return re.compile("".join(parts))
