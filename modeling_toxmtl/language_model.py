"""What is known of words before they are heard: word n-gram models, read by kenlm where it is installed, and lists of
common words."""

import logging
import math
import os
from functools import lru_cache
from os import PathLike
from pathlib import Path

from .text import fold


try:
    import kenlm
except ImportError:
    kenlm = None

logger = logging.getLogger(__name__)


class WordLanguageModel:
    """Natural-log probabilities of an n-gram model (ARPA or kenlm binary) by interned context.

    A word that the model has never seen, such as a keyword added since, is scored as the rarest word of the list that
    it has: as the unknown word, it could not be found at all in a model that gives that word no probability.

    Args:
        model: of kenlm.
        words: that will be asked for.
    """

    def __init__(self, model: "kenlm.Model", words: list[str]):
        self._model = model
        self._states: dict[kenlm.State, int] = {}
        self._contexts: list[kenlm.State] = []
        empty, state = kenlm.State(), kenlm.State()
        self._model.NullContextWrite(empty)
        known = {word: self._model.BaseScore(empty, word, state) for word in words if word in self._model}
        rarest = min(known, key=known.get, default="<unk>")
        self._tokens = {word: word if word in known else rarest for word in words}
        begin = kenlm.State()
        self._model.BeginSentenceWrite(begin)
        self.start = self._intern(begin)

    def score(self, context: int, word: str) -> tuple[float, int]:
        """Log probability of a word after a context, and the context that follows."""
        state = kenlm.State()
        log10 = self._model.BaseScore(self._contexts[context], self._tokens[word], state)
        return log10 * math.log(10), self._intern(state)

    def end_score(self, context: int) -> float:
        """Log probability that the transcript ends after a context."""
        return self._model.BaseScore(self._contexts[context], "</s>", kenlm.State()) * math.log(10)

    def _intern(self, state):
        if state not in self._states:
            self._states[state] = len(self._contexts)
            self._contexts.append(state)
        return self._states[state]


def usable_language_model(path: str | PathLike | None) -> tuple[str, int] | None:
    """A model file and its version, or None: there is none, or, with a warning, no kenlm to read it with.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if path is None:
        return None
    version = _version(
        path,
        f"There is no language model at {path}: make one with datasets_scripts/build_language_model.py, or decode "
        "without one (`processor.language_model = None`).",
    )
    if kenlm is None:
        _warn_without_kenlm(path)
        return None
    return str(path), version


@lru_cache
def _warn_without_kenlm(path):
    """Once, and not for every clip."""
    logger.warning(f"Decoding without the language model {path}, which needs kenlm: pip install kenlm")


def usable_common_words(path: str | PathLike | None) -> tuple[str, int] | None:
    """A file of [`load_common_words`] and its version, or None where there is none. Raises FileNotFoundError if the
    file is gone."""
    if path is None:
        return None
    return str(path), _version(
        path, f"There are no common words at {path}: restore the file, or set `processor.common_words`."
    )


def _version(path, missing):
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError as error:
        raise FileNotFoundError(missing) from error


@lru_cache(maxsize=4)
def load_common_words(path: str, version: int) -> tuple[str, ...]:
    """The words of a text file, one a line, the commonest first. Raises ValueError if a line is no word."""
    words = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    for number, word in enumerate(words, start=1):
        if not word or word != fold(word) or any(map(str.isspace, word)):
            raise ValueError(f"{path}, line {number}: {word!r} is no word in lower case, as words are normalised.")
    return tuple(words)


@lru_cache(maxsize=4)
def load_language_model(path: str, version: int) -> "kenlm.Model":
    """A model file of [`usable_language_model`], read once. Raises ValueError if kenlm cannot read it."""
    config = kenlm.Config()  # without progress and advice on the standard error of whoever judges a clip
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(path, config)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is no n-gram model that kenlm can read (ARPA or kenlm binary): {error}") from error
