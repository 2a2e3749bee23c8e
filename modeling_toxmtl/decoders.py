"""From decoding settings to a decoder."""

from functools import lru_cache

import numpy as np

from .alphabet import check_words
from .decoding import Decoder, DecodingSettings, GreedyDecoder
from .language_model import load_common_words, load_language_model
from .lexicon import LexiconDecoder
from .pyctcdecode_decoder import PyctcdecodeDecoder


@lru_cache(maxsize=8)
def build_decoder(
    settings: DecodingSettings,
    characters: tuple[str, ...],
    blank: int,
    delimiter: int,
    words: frozenset[str],
    spellings: tuple[tuple[str, str], ...],
    filler: str,
    language_model: tuple[str, int] | None,
    common_words: tuple[str, int] | None,
) -> Decoder:
    """The decoder of these settings. Arguments are as the decoders', but hashable.

    Args:
        words: of the keyword list, which may have been edited since they were checked.
        spellings: pairs of a spelling and its word; those outside the alphabet count in transcripts alone.
        language_model, common_words: files and their versions.

    Raises:
        ValueError: a word holds a character that is none of the alphabet, or a file cannot be read.
        ImportError: pyctcdecode is asked for and not installed.
    """
    check_words(words, characters)
    vocabulary = list(characters)
    spelled = {spelling: word for spelling, word in spellings if set(spelling) <= {*characters, " "}}
    if settings.decoder == "greedy":
        return GreedyDecoder(vocabulary, blank, delimiter)
    model = None if language_model is None else load_language_model(*language_model)
    common = {"alpha": settings.alpha, "beta": settings.beta, "beam_width": settings.beam_width}
    if settings.decoder == "pyctcdecode":
        return PyctcdecodeDecoder(
            vocabulary,
            blank,
            delimiter,
            words=spelled,
            keywords=set(spelled) - {filler},
            language_model=model,
            hotword_weight=settings.hotword_weight,
            **common,
        )
    return LexiconDecoder(
        vocabulary,
        blank,
        delimiter,
        spelled,
        filler,
        model,
        blank_threshold=settings.blank_threshold,
        other_word_penalty=settings.other_word_penalty,
        common_words=() if common_words is None else load_common_words(*common_words),
        common_word_penalty=settings.common_word_penalty,
        **common,
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log posteriors from the logits of each frame, as decoders read them."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
