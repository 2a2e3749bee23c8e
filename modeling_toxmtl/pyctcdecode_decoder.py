"""The paper's kind of decoder: pyctcdecode's beam search over characters with a word n-gram model (section 4.1).

Characters are free: it can read words outside the list. It needs the optional package pyctcdecode.
"""

from collections.abc import Collection

import numpy as np

from .decoding import DecodedWord, DecodingSettings, Reading, check_alphabet, score_words
from .language_model import kenlm


try:
    from pyctcdecode import Alphabet, BeamSearchDecoderCTC, LanguageModel
except ImportError:
    BeamSearchDecoderCTC = None

PRIVATE_USE = 0xE000  # stands for special tokens: pyctcdecode takes labels of several characters for word pieces


class PyctcdecodeDecoder:
    """`BeamSearchDecoderCTC`; the score of a word is the share of the final beams' mass that has it at its place.

    Args:
        vocabulary: the character of each output of the keyword head.
        blank: id of the CTC blank.
        delimiter: id of the character between words.
        words: those that the language model may take for known.
        keywords: words that get `hotword_weight` extra.
        language_model: n-gram model of words, read by kenlm; None for none.
        alpha, beta, beam_width, hotword_weight: see [`DecodingSettings`].

    Raises:
        ImportError: pyctcdecode is not installed.
    """

    def __init__(
        self,
        vocabulary: list[str],
        blank: int,
        delimiter: int,
        words: Collection[str],
        keywords: Collection[str] = (),
        language_model: "kenlm.Model | None" = None,
        alpha: float = DecodingSettings.alpha,
        beta: float = DecodingSettings.beta,
        beam_width: int = DecodingSettings.beam_width,
        hotword_weight: float = DecodingSettings.hotword_weight,
    ) -> None:
        if BeamSearchDecoderCTC is None:
            raise ImportError(
                "The decoder 'pyctcdecode' needs a package that is not installed: pip install "
                "'modeling-toxmtl[pyctcdecode]', which takes numpy 1, or pip install --no-deps pyctcdecode pygtrie "
                "hypothesis, which runs on numpy 2"
            )
        labels = [token if len(token) == 1 else chr(PRIVATE_USE + i) for i, token in enumerate(vocabulary)]
        labels[blank], labels[delimiter] = "", " "
        if language_model is not None:
            known = [word for word in words if word in language_model]
            language_model = LanguageModel(language_model, known, alpha=float(alpha), beta=float(beta))
        self._decoder = BeamSearchDecoderCTC(Alphabet(labels, is_bpe=False), language_model)
        self._vocabulary_size, self._beam_width = len(vocabulary), beam_width
        self._hotwords = {"hotwords": sorted(keywords), "hotword_weight": hotword_weight} if hotword_weight else {}

    def decode(self, log_probs: np.ndarray) -> list[DecodedWord]:
        """The words of the best beam; see [`Decoder`]."""
        check_alphabet(log_probs, self._vocabulary_size)
        if not len(log_probs):
            return []
        beams = self._decoder.decode_beams(log_probs, beam_width=self._beam_width, **self._hotwords)
        readings = []
        for _, _, timed_words, _, log_probability in beams:
            words = tuple(word for word, _ in timed_words)
            readings.append(Reading(words, tuple(span for _, span in timed_words), log_probability))
        return score_words(readings)

    def __del__(self) -> None:
        if hasattr(self, "_decoder"):
            self._decoder.cleanup()  # pyctcdecode keeps its language models in a class attribute
