"""From text to words: one spelling for what is said the same, in targets, keyword lists and rules.

Design choices:
- Every alphabet is kept, and so are accents: they tell words apart ("año", "ano"), and folding them would turn
  harmless words into keywords. Only what looks alike is unified (Unicode NFKC, and case by the rules of the
  language), and the vowel points of Arabic and Hebrew go, which few texts write.
- Disguised spellings (repeated letters, leet, masked letters) stand in tokens, and not in words: only a list can tell
  "sh1t", one word, from "mp3", two. Digits are letters only where they stand among letters: "a55" and "45s" are a
  model's name and a time, and people say such things much more often than they hide a word so.
"""

import itertools
import re
import unicodedata

from .numerals import primary_language, read_digits, read_numbers


_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
# What Unicode calls default ignorable (zero-width characters, controls of the direction, variation selectors, fillers,
# tags …): unseen in a word, so no part of it
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Vowel points and the stretching stroke of Arabic and Hebrew
_POINTS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670\u06d6-\u06ed]")
# Thai, Lao, Myanmar, Khmer, kana, and Chinese characters: scripts without spaces between words
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_FINAL_SIGMA = re.compile(r"(?<=[^\W\d_])σ(?![^\W\d_])")
_DOTLESS_I = ("tr", "az", "crh")  # languages in which I is the capital of ı, and İ that of i
# What an apostrophe joins to a word, before it and behind it
_CLITICS = {
    "en": ("", "(?:'(?:s|d|ll|re|ve))*"),
    "de": ("", "(?:'s)?"),
    "nl": ("", "(?:'s)?"),
    "fr": ("(?:(?:[cdjlmnst]|(?:jus|lors|puis|quoi|quel|pres)?qu)')*", ""),
    "it": (r"(?:\w+')*", ""),
    "ca": ("(?:[dlmnst]')*", ""),
}
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
    text = fold(text, language)
    # Categories L and M, not `\w`: the vowel signs of Hindi or Thai are marks, and would split the words.
    text = "".join(c if c in "'$@*!" or unicodedata.category(c)[:1] in "LM" or c.isdecimal() else " " for c in text)
    tokens = (token.strip("!'") for token in text.split())
    # A leading asterisk is emphasis ("*hit*"): masks keep the first letter.
    return [token.strip("*!'") if token.startswith("*") else token for token in tokens]


def fold(text: str, language: str = "en") -> str:
    """The text in lower case, and in one spelling of what looks alike."""
    text = unicodedata.normalize("NFKC", text)
    if primary_language(language) in _DOTLESS_I:
        text = text.replace("İ", "i").replace("I", "ı")
    text = unicodedata.normalize("NFKC", text.casefold()).replace("i\u0307", "i")  # İ elsewhere
    text = _FINAL_SIGMA.sub("ς", text)  # which folding takes for another
    # NFKC takes one vowel of Thai and Lao apart, and no keyboard writes it so
    return _POINTS.sub("", text).replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def split_unspaced(word: str) -> list[str]:
    """A word of a script without spaces as characters with their marks, for nothing tells where its words end; other
    scripts stay whole: "你是noob" -> 你, 是, noob."""
    parts: list[str] = []
    for character in word:
        is_mark = unicodedata.category(character)[0] == "M"
        if parts and (is_mark or not UNSPACED.match(parts[-1]) and not UNSPACED.match(character)):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def clitics(language: str) -> tuple[str, str]:
    """Regular expressions of what an apostrophe joins to a word, or nothing: before it, and behind it."""
    return _CLITICS.get(primary_language(language), ("", ""))


def without_clitics(word: str, language: str) -> str:
    """A word without what an apostrophe joins to it: "idiot's" in English, "l'idiot" in French, Italian, Catalan."""
    before, behind = clitics(language)
    return re.sub(f"^{before}(?=.)|(?<=.){behind}$", "", word) if "'" in word else word


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
    None if nothing in it looks like a disguise, or its digits like a number."""
    if not _DISGUISED.search(token) or not any(map(str.isalpha, token)) or _is_numbered(token):
        return None
    parts = []
    for char, run in itertools.groupby(token):
        letter = "[^']" if char == "*" else f"[{_LEET[char]}]" if char in _LEET else re.escape(char)
        length = len(list(run))
        parts.append(letter + ("{1,2}" if length >= 3 and char != "*" else f"{{{length}}}"))
    return re.compile("".join(parts))


def _is_numbered(token):
    """Whether a token's digits are a number: an amount ("45s", "$5k"), a model ("a55", "p155", "a5s", "mp3")."""
    if re.fullmatch(r"[^\W\d]\d+s", token):  # the plural of a model
        return True
    at_edges = re.fullmatch(r"\$?(\d*)(\D*)(\d*)", token)
    if at_edges is None:  # among letters
        return False
    before, after = len(at_edges[1]), len(at_edges[3])
    letters = len(re.findall(r"[^\W\d_]|[@!]", at_edges[2]))
    return before >= letters or after > 0 and after + 2 > letters
