"""The member of the text filter that is a list of regular expressions.

They are matched against whole normalised words (`modeling_toxmtl/text.py`), whatever their own case and whatever an
apostrophe joins to the words ("idiot's", "l'idiot"), as the keywords of a list; in scripts without spaces, against any
part of the text. A rule that could match none of them, or would match every text, is an error: its author would
believe in it.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from ..labels import VIOLATIONS
from ..text import UNSPACED, clitics, fold, normalize_text


# What of a regular expression is not itself part of a text: escapes, repetitions, the heads of groups, sets, operators
_SYNTAX = re.compile(
    r"\\.|\{\d*,?\d*\}|\(\?(?:P?<\w+>|P=\w+|[a-zA-Z-]*[:)]|<?[=!]|>)|\[\^?\]?(?:\\.|[^\]\\])*\]|[.^$*+?()|]"
)
_UNSAID_ESCAPE = re.compile(r"\\[dnrtfv0]")  # digits, and what separates lines or columns


class RuleFilter:
    """Labels of the regular expressions that match.

    Args:
        rules: lists of expressions by label.
        language: of the texts, in which numbers are read out.

    Raises:
        ValueError: for an unknown label, what is no list of expressions, and expressions that match nothing or
            everything; the message names them and the cure.
    """

    name = "rules"

    def __init__(self, rules: dict[str, list[str]], language: str = "en") -> None:
        if not isinstance(rules, dict):
            raise ValueError(f'--rules: {rules!r} has no labels: write {{"Bullying": ["..."]}}.')
        self.language = language
        self.rules: dict[str, list[re.Pattern]] = {}
        for label, expressions in rules.items():
            if label not in VIOLATIONS:
                raise ValueError(f"--rules: unknown label {label!r}: choose from {VIOLATIONS}.")
            if not isinstance(expressions, list) or not all(isinstance(each, str) for each in expressions):
                raise ValueError(f'--rules: {label}: {expressions!r} is no list of texts: write ["..."].')
            self.rules[label] = [_compiled(label, expression, language) for expression in expressions]
        self.knows = tuple(label for label in VIOLATIONS if label in self.rules)

    def score(self, rows: Sequence[dict]) -> np.ndarray:
        """As of [`TextFilter`]."""
        return np.stack([self._score(" ".join(normalize_text(row["transcript"], self.language))) for row in rows])

    def _score(self, text):
        return np.array([float(any(rule.search(text) for rule in self.rules.get(label, ()))) for label in VIOLATIONS])


def _compiled(label, expression, language):
    where = f"--rules: {label}: {expression!r}"
    expression = expression.removeprefix("(?i)")  # which holds for all
    # Spaces, for `\b` is also before the vowel signs of Hindi, and before the apostrophe of "won't"
    start, end = "", ""
    if not UNSPACED.search(expression):
        before, behind = clitics(language)
        start, end = f"(?<![^ ]){before}", f"{behind}(?![^ ])"
    try:
        rule = re.compile(f"{start}(?:{expression}){end}", re.IGNORECASE)
        matches_nothing_said = re.fullmatch(expression, "")
    except re.error as error:
        raise ValueError(f"{where} is no regular expression: {error}.") from error
    if matches_nothing_said:
        raise ValueError(f"{where} matches every text: write the words that it must find.")
    never, words = _unsaid(expression), None
    if not _SYNTAX.search(expression):
        words = " ".join(normalize_text(expression, language))
        never = never or (words != fold(expression, language) and expression)
    if never:
        cure = f"write {words!r}" if words else "write numbers as words and a space for other signs"
        raise ValueError(f"{where} can never match: normalised words are without {never!r}; {cure}.")
    return rule


def _unsaid(expression):
    """The first piece of an expression that no normalised text contains; None if each may be said."""
    for piece in _SYNTAX.findall(expression):
        if piece.startswith("["):
            members = piece[1:-1]
            signs = re.sub(_UNSAID_ESCAPE, "", members)
            if not members.startswith("^") and "\\" not in signs and not any(map(_is_said, signs)):
                return piece
        elif _UNSAID_ESCAPE.match(piece) or piece[0] == "\\" and not piece[1].isalnum() and not _is_said(piece[1]):
            return piece
    literals = _SYNTAX.split(expression)
    signs = (character for literal in literals for character in literal if not _is_said(character))
    # in a row, characters may be another: a letter with its accents, two spaces
    rows = (literal for literal in literals if "  " in literal or not _is_folded(literal))
    return next(signs, next(rows, None))


def _is_said(character):
    """Letters, as `normalize_text` leaves them but for their case, and what stands between and in words."""
    if unicodedata.category(character)[0] not in "LM":
        return character in " '"
    return _is_folded(character) and len(character.lower()) == 1


def _is_folded(literal):
    """Whether a text has but its case to lose in folding. Both forms of the small sigma are one where case is none."""
    return fold(literal).replace("ς", "σ") == literal.lower().replace("ς", "σ")
