"""Words that a transcript does not write: `****`, `s***`, `[ __ ]`, `[expletive]`.

Recognisers, subtitles and corpora hide just the words that matter here. Nobody knows which one it was, so such a
transcript says neither what violates nor that nothing does.
"""

import html
import re

from ..keywords import KeywordList


# The beginnings of words for a hidden one, as English, Spanish, German, French, Italian, Portuguese and Russian have
# them, and what recognisers write for a word that they do not know
_HIDDEN = (
    r"(?:bleep|beep|expletive|explicit|censor|redact|profan|swear|curs(?:e|ing)|slurs?\b|inaud[ií]|indistinct|unclear|unk\b"
    r"|pitido|p+i+p\b|b+i+p+\b|piep|censur|zensiert|inintel+ig|incompr[eé]hensible|incomprensi|unintelligible"
    r"|unverst[aä]ndlich|нрзб|неразборчиво|цензура)"
)
_IN_BRACKETS = re.compile(rf"[\[(<{{*]\s*(?:_+|(?:[\w-]+\s+)?{_HIDDEN}\w*(?:\s+\w+)?)\s*[\])>}}*]", re.IGNORECASE)
_BLEEP = re.compile(r"\bbleep(?:ed|ing|s)?\b", re.IGNORECASE)
_SIGNS = re.compile(r"\S*(?:\*|__|##|[█■▇●•○×]{2}|[@#$%&]{3}|🤬)\S*")
_ASTERISKS = str.maketrans("＊∗⁎✱", "****")
_DASHES = re.compile(r"(?<![\w-])[^\W\d_aiou][-–—]{2,}[\w-]*", re.IGNORECASE)  # "f---", but no "I--"


def find_mask(text: str, keywords: KeywordList) -> str | None:
    """The first piece of a text that stands for a word and does not say which; None if every word is written.

    A disguise of a keyword (`sh*t`) is none, and neither is an asterisk for emphasis (`*really*`) or between numbers.
    """
    text = html.unescape(text).replace("\\*", "*").translate(_ASTERISKS)
    for pattern in (_IN_BRACKETS, _BLEEP, _DASHES):
        if match := pattern.search(text):
            return match[0]
    for match in _SIGNS.finditer(text):
        piece = match[0]
        word = re.sub(r"^\W*?(\*+)([^*]+)\1\W*$", r"\2", piece)  # without emphasis
        is_sign = not piece.strip("*.,!?") and piece.count("*") == 1  # "2 * 3"
        if not is_sign and _SIGNS.fullmatch(word) and not keywords.find(keywords.tokens(word)):
            return piece
    return None
