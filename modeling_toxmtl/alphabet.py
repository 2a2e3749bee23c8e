"""The characters that a keyword head writes, and their tokenizer.

transformers is imported where a tokenizer is made: all else that is here does without it.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .text import fold


SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
WORD_DELIMITER = "|"
CHARACTERS = (*SPECIAL_TOKENS, WORD_DELIMITER, *"etaonihsrdlumwcfgypbvk'xjqz")


class Alphabet(NamedTuple):
    """Of a keyword head.

    Args:
        characters: of each of its outputs, in lower case.
        blank: id of the CTC blank.
        delimiter: id of the character between words.
        is_upper_case: whether the tokenizer knows capital letters only, as that of some checkpoints.
    """

    characters: tuple[str, ...]
    blank: int
    delimiter: int
    is_upper_case: bool

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], blank: int, delimiter: int) -> "Alphabet":
        """The alphabet of a tokenizer's tokens, by id."""
        is_upper_case = "A" in tokens and "a" not in tokens
        characters = tuple(map(str.lower, tokens) if is_upper_case else tokens)
        return cls(characters, blank, delimiter, is_upper_case)


def character_tokenizer(characters: tuple[str, ...] = CHARACTERS) -> "Wav2Vec2CTCTokenizer":  # noqa: F821
    """CTC tokenizer over `characters` (ids in order; by default the 32 of English Wav2Vec2 and WavLM checkpoints, in
    lower case)."""
    from transformers import Wav2Vec2CTCTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocab_file = Path(folder, "vocab.json")
        vocab_file.write_text(
            json.dumps({character: index for index, character in enumerate(characters)}), encoding="utf-8"
        )
        return Wav2Vec2CTCTokenizer(str(vocab_file), word_delimiter_token=WORD_DELIMITER)


def alphabet_tokenizer(letters: str) -> "Wav2Vec2CTCTokenizer":  # noqa: F821
    """CTC tokenizer for another alphabet.

    Args:
        letters: each once, in lower case, as `normalize_text` writes them; an apostrophe too, if the words have one.

    Raises:
        ValueError: for others; the message names them.
    """
    if repeated := sorted({letter for letter in letters if letters.count(letter) > 1}):
        raise ValueError(f"The alphabet has {', '.join(map(repr, repeated))} more than once: {letters!r}.")
    # a final sigma folds to another where it stands alone
    if wrong := sorted({letter for letter in letters if letter.isspace() or letter not in (fold(letter), "ς")}):
        raise ValueError(
            f"The alphabet must be letters in lower case, without spaces, but has {', '.join(map(repr, wrong))}, "
            f"which no normalised word holds: {letters!r}."
        )
    return character_tokenizer((*SPECIAL_TOKENS, WORD_DELIMITER, *letters))


def check_words(words: Iterable[str], characters: Iterable[str]) -> None:
    """Raises ValueError if a word of the keyword list holds another character than those."""
    for word in sorted(words):
        missing = set(word).difference(characters)
        if missing:
            raise ValueError(
                f"The word {word!r} of the keyword list holds {sorted(missing)}, which the tokenizer's vocabulary "
                "lacks: change the list, or train a keyword head on a vocabulary that has them."
            )
