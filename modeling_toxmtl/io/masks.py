"""Words that a transcript does not write: `****`, `s***`, `[ __ ]`, `[expletive]`.

Recognisers, subtitles and corpora hide just the words that matter here. Nobody knows which one it was, so such a
transcript says neither what violates nor that nothing does.
"""

import re

from ..keywords import KeywordList


_HIDDEN = r"(?:bleep|beep|expletive|censor|redact|profan|swear|cursing|slurs?\b|inaudible|unintelligible|indistinct)"
_IN_BRACKETS = re.compile(rf"[\[(<{{*]\s*(?:_+|(?:[\w-]+\s+)?{_HIDDEN}\w*(?:\s+\w+)?)\s*[\])>}}*]", re.IGNORECASE)
_BLEEP = re.compile(r"\bbleep(?:ed|ing|s)?\b", re.IGNORECASE)
_SIGNS = re.compile(r"\S*(?:\*|__|##|[█■▇●•]{2}|[@#$%&]{3})\S*")
_DASHES = re.compile(r"(?<![\w-])[^\W\d_aiou][-–—]{2,}[\w-]*", re.IGNORECASE)  # "f---", but no "I--"


def find_mask(text: str, keywords: KeywordList) -> str | None:
    """The first piece of a text that stands for a word and does not say which; None if every word is written.

    A disguise of a keyword (`sh*t`) is none, and neither is an asterisk for emphasis (`*really*`) or between numbers.
    """
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
