"""Words that a transcript does not write: `****`, `s***`, `f…k`, `[ __ ]`, `[expletive]`.

Recognisers, subtitles and corpora hide just the words that matter here. Nobody knows which one it was, so such a
transcript says neither what violates nor that nothing does.
"""

import html
import re
import unicodedata

from ..keywords import KeywordList
from ..text import UNSPACED


# The beginnings of words for a hidden one, as English, Spanish, German, French, Italian, Portuguese, Russian,
# Japanese, Korean and Chinese have them, and what recognisers write for a word that they do not know
_HIDDEN = (
    r"(?:bleep|be+p|expletive|explicit|censor|redact|profan|swear|curs(?:e|ing)|bad\s+word|slurs?\b|inaud[ií]|indistinct"
    r"|unclear|unk\b|pitido|p+i+p\b|b+i+p+\b|piep|censur|zensiert|inintel+ig|incompr[eé]hensible|incomprensi"
    r"|unintelligible|unverst[aä]ndlich|нрзб|неразборчиво|цензура|ピー|삐|哔|嗶|消音)"
)
_IN_BRACKETS = re.compile(
    rf"[\[(<{{*【（＜]\s*(?:_+|(?:[\w-]+\s+)?{_HIDDEN}\w*(?:\s+\w+)?)\s*[\])>}}*】）＞]", re.IGNORECASE
)
_SHOUTED = re.compile(r"\bBLEEP(?:ED|ING|S)?\b")
# "bleep" may be said, too. It stands for another word in a row of them, and where one curses
_BLEEPS = (
    re.compile(r"\b(bleep\W+bleep)", re.IGNORECASE),
    re.compile(
        r"\b(?:(?:wh(?:at|ere|en|o|y)|how|get|shut)\s+(?:in\s+)?the|holy|bull|mother|(?:piece|pile|load|full)\s+of"
        r"|son\s+of\s+a|give\s+a|you(?:\s+\w+)?|your)[\s-]?(bleep(?:er)?s?)\b(?!\s+(?:it|out|the|that|them|every|all)\b)",
        re.IGNORECASE,
    ),
    re.compile(r"\b(bleep)\s+(?:you|off|yourself)\b(?!\s+out)", re.IGNORECASE),
    re.compile(
        r"(?<!\bis )(?<!\bwas )(?<!\bkeep )(?<!\bkeeps )(?<!\bkept )(?<!\bof )(?<!\bstop )(?<!\bstart )(?<!\bstarted )"
        r"\b(bleeping)\s+(?!sound|noise|tone|out|machine|alarm|and\b|in\b|at\b|on\b|when\b)\w",
        re.IGNORECASE,
    ),
)
_SIGNS = re.compile(r"\*|__|##|[█■▇●•○×★☆]{2}|[@#$%&]{3}|🤬")
_EMPHASIS = re.compile(r"\W*?(\*{1,3}|__?)([^*_]+)\1\W*")
_ASTERISKS = str.maketrans("＊∗⁎✱﹡٭", "******")
# "f---", but no "I--", nor Russian words of a letter, nor a stutter
_DASHES = re.compile(r"(?<![\w-])([^\W\d_aiouаеёиоуыэюявкс])[-‐-―]{2,}(?!\1)[\w-]*", re.IGNORECASE)
# In Japanese and Chinese one sign does, but not the zero of a number
_SIGN_AMONG_UNSPACED = re.compile(
    rf"(?<=(?![一二三四五六七八九十零〇]){UNSPACED.pattern})(?:[○◯●]|〇(?![一二三四五六七八九十零〇年月日])|×(?!\w))"
    r"|(?<!\w)[○◯●〇](?=[\u3041-\u3096]{1,2}(?!\w))"  # "○ね", but no speaker ("○議長") and no item of a list
)
_HOLE = re.compile(
    r"(?<![\w'.@-])([^\W\d_]{1,3})(…|\.{2,}|[-‐-―]+|[@$&!#%^~]{2,}|[#%^~_•■▇●○×✕✖★☆💩🤬]+)([^\W\d_]+)(?![\w'@-]|\.\w)"
)
_VOWELS = frozenset("aeiouyæœøаеёиоуыэюяіїєαεηιουω")
# Sounds, short forms and endings of numbers, which have no vowel either
_WITHOUT_VOWELS = re.compile(r"h+m+|m{2,}h*m*|p+s+t*|t+s+k+|b+r+|g+r+|p+f+t*|zz+|mrs?|dr|tv|vs|n?th|nd|rd")


def find_mask(text: str, keywords: KeywordList) -> str | None:
    """The first piece of a text that stands for a word and does not say which; None if every word is written.

    A disguise of a keyword (`sh*t`) is none, and neither is an asterisk for emphasis (`*really*`) or between numbers.
    The word "bleep", which may have been said, is one in brackets, in capitals among small letters, in a row, and
    where one curses.
    """
    text = html.unescape(text).replace("\\*", "*").translate(_ASTERISKS)
    for pattern in (_IN_BRACKETS, _DASHES, _SIGN_AMONG_UNSPACED):
        if match := pattern.search(text):
            return match[0]
    if "bleep" in text.lower():
        for pattern in (*_BLEEPS, *[_SHOUTED] * (not text.isupper())):
            if match := pattern.search(text):
                return match[match.lastindex or 0]
    for match in _HOLE.finditer(text):
        if _is_word_with_a_hole(*match.groups()):
            return match[0]
    for piece in text.split():
        emphasis = _EMPHASIS.fullmatch(piece)
        word = emphasis[2] if emphasis else piece
        is_sign = not piece.strip("*.,!?") and piece.count("*") == 1  # "2 * 3"
        if not is_sign and _SIGNS.search(word) and not keywords.find(keywords.tokens(word)):
            return piece
    return None


def _is_word_with_a_hole(before, sign, after):
    """What has no vowel is no word of its own ("f…k", "sh-t"), but perhaps a stutter ("w...well") or a sound
    ("mm-hm"); a single sign asks for more."""
    first, last = _without_accents(before), _without_accents(after)
    if first[0] == last[0] or any(map(_WITHOUT_VOWELS.fullmatch, (first, last))):
        return False
    bare = [_is_bare(part) for part in (first, last)]
    if len(sign) == 1 and sign in "-‐‑_#~%^":
        return all(bare) and len(first + last) > 2 and (before + after).islower()
    if bare[0] and not bare[1]:  # "f...ing" and "с…ка", but no "k...fine"
        is_ending = re.fullmatch(r"\w{0,3}(?:ing?|e[rd])s?", last) or first > "z" and len(last) < 4
        return len(first) == 1 and bool(is_ending)
    return bare[1] and (bare[0] or len(first) > 1 and len(last) < 3)  # "fu...k"


def _without_accents(word):
    decomposed = unicodedata.normalize("NFD", word.casefold().replace("й", "ь"))  # no vowel
    return "".join(sign for sign in decomposed if unicodedata.category(sign) != "Mn")


def _is_bare(part):
    """Whether letters of an alphabet that writes vowels have none."""
    is_alphabetic = all(unicodedata.name(letter, "").startswith(("LATIN", "CYRILLIC", "GREEK")) for letter in part)
    return is_alphabetic and not _VOWELS & set(part)
