"""The characters that a keyword head writes, and their tokenizer."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from transformers import Wav2Vec2CTCTokenizer


SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
WORD_DELIMITER = "|"
CHARACTERS = (*SPECIAL_TOKENS, WORD_DELIMITER, *"etaonihsrdlumwcfgypbvk'xjqz")


def character_tokenizer(characters: tuple[str, ...] = CHARACTERS) -> Wav2Vec2CTCTokenizer:
    """CTC tokenizer over `characters` (ids in order; by default the 32 of English Wav2Vec2 and WavLM checkpoints, in
    lower case)."""
    with tempfile.TemporaryDirectory() as folder:
        vocab_file = Path(folder, "vocab.json")
        vocab_file.write_text(
            json.dumps({character: index for index, character in enumerate(characters)}), encoding="utf-8"
        )
        return Wav2Vec2CTCTokenizer(str(vocab_file), word_delimiter_token=WORD_DELIMITER)


def alphabet_tokenizer(letters: str) -> Wav2Vec2CTCTokenizer:
    """CTC tokenizer for another alphabet.

    Args:
        letters: each once, in lower case, composed (NFC); an apostrophe too, if the words have one.
    """
    if repeated := sorted({letter for letter in letters if letters.count(letter) > 1}):
        raise ValueError(f"The alphabet has {', '.join(map(repr, repeated))} more than once: {letters!r}.")
    if any(letter != letter.casefold() or letter.isspace() for letter in letters):
        raise ValueError(f"The alphabet must be letters in lower case, without spaces, but is {letters!r}.")
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
