"""Words with times, and transcripts that exist already."""

import itertools
import logging
import math
import operator
import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..io.tables import read_table
from .shards import read_rows
from .stages import Manifest


logger = logging.getLogger(__name__)

SENTENCE_ENDS = (".", "!", "?")


class Word(NamedTuple):
    """A word said from `start` to `end`, in seconds of the chunk; `score` in [0, 1]."""

    word: str
    start: float
    end: float
    score: float


class Transcription(NamedTuple):
    """What is said in a chunk. `confidence` is in [0, 1], `language` empty where the recogniser does not tell."""

    words: list[Word]
    language: str
    confidence: float


class GivenTranscripts:
    """Transcripts that exist already, by recording.

    Args:
        path: table (.csv, .tsv, .jsonl) with a line per utterance or word, in any order: `path` of the recording,
            relative to the table, `track` (default 0), `start` and `end` in seconds, `text`, and `language` if known,
            in one line of a track or in all.

    Raises:
        ValueError: if a row lacks a value, its numbers are none or no span, or no row has a text; the message names
            the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._words: dict[tuple[str, int], list[Word]] = {}
        self._languages: dict[tuple[str, int], str] = {}
        utterances = []
        for number, row in enumerate(read_table(Path(path), required=["path", "start", "end"]), start=1):
            recording = os.path.abspath(Path(path).parent / str(row["path"]))
            try:
                track, start, end = int(row.get("track") or 0), float(row["start"]), float(row["end"])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, row {number}: `track`, `start` or `end` is no number ({error}).") from error
            if not 0 <= start <= end < math.inf:  # which NaN is not, either
                raise ValueError(
                    f"{path}, row {number}: from {start} to {end} s is no span: give seconds of the file."
                )
            words = spread_words(str(row.get("text") or ""), start, end)
            utterances.append((start, (recording, track), words))
            if language := row.get("language"):
                self._languages[recording, track] = language
        for _, key, words in sorted(utterances, key=operator.itemgetter(0)):
            self._words.setdefault(key, []).extend(words)
        if not any(self._words.values()):
            raise ValueError(f"{path} has no words: give them in a column `text`.")

    def check_recordings(self, chunks: Manifest) -> None:
        """Warns of transcripts whose recording or track the chunk stage has not met; ValueError if it met none."""
        rows = (row for shard in chunks.shards for row in read_rows(shard.path, ["source_path", "track"]))
        tracks = {(os.path.abspath(row["source_path"]), row["track"]) for row in rows}
        rejected = {os.path.abspath(rejected.id) for rejected in chunks.rejected}
        met = {recording for recording, _ in tracks} | rejected | {id.rpartition("#")[0] for id in rejected}
        silent = sorted(
            f"{recording}#{track}"
            for recording, track in self._words.keys() - tracks
            if recording in met and not rejected & {recording, f"{recording}#{track}"}
        )
        if silent:
            logger.warning(f"--transcripts {self.path}: recordings without the track {', '.join(silent[:3])}.")
        recordings = {recording for recording, _ in self._words}
        fault = "recordings were not chunked, such as {}; a `path` is relative to the table."
        check_known(recordings, met, f"--transcripts {self.path}", fault)

    def outside(self, path: str, track: int, spans: Sequence[tuple[float, float]]) -> str:
        """Says how many words of a track are in none of its chunks, from and to the seconds of `spans`; empty if all
        are in one."""
        words = self._words.get((os.path.abspath(path), track), [])
        lost = [word for word in words if not any(_is_in(word, *span) for span in spans)]
        if not lost:
            return ""
        example = f"{lost[0].word!r} at {lost[0].start:.2f} s"
        return f"{len(lost)} of its {len(words)} words are in no chunk, such as {example}"

    def look_up(self, row: dict) -> Transcription:
        """The words whose middle is in the chunk `row`, in the time of the chunk."""
        key = os.path.abspath(row["source_path"]), row["track"]
        words = [
            word._replace(start=word.start - row["start"], end=word.end - row["start"])
            for word in self._words.get(key, [])
            if _is_in(word, row["start"], row["end"])
        ]
        return Transcription(words, self._languages.get(key, ""), 1.0)


def check_known(given: Set[str], known: Set[str], source: str, fault: str) -> None:
    """Warns of what a source gives and nobody knows; ValueError if that is all of it.

    Args:
        source: for the message, which counts.
        fault: what it means, with {} for an example.
    """
    if not (unknown := sorted(given - known)):
        return
    message = f"{source}: {len(unknown)} of its {len(given)} {fault.format(unknown[0])}"
    if len(unknown) == len(given):
        raise ValueError(message)
    logger.warning(message)


def _is_in(word, start, end):
    return start <= (word.start + word.end) / 2 < end


def spread_words(text: str, start: float, end: float) -> list[Word]:
    """The words of a text said from `start` to `end`, each as long as it has letters."""
    words = text.split()
    bounds = np.cumsum([0, *(len(word) + 1 for word in words)])
    times = (start + (end - start) * bounds / max(1, bounds[-1])).tolist()
    return [Word(word, begin, stop, 1.0) for word, begin, stop in zip(words, times[:-1], times[1:], strict=True)]


def phrase_ends(phrases: Sequence[dict]) -> list[int]:
    """Where each phrase ends in the transcript of its chunk, in characters and with the space that follows it: between
    the words of a transcript, and so between its phrases, there is one space."""
    return list(itertools.accumulate(len(phrase["text"]) + 1 for phrase in phrases))


def split_phrases(words: Sequence[Word], max_pause: float) -> list[list[Word]]:
    """Phrases end at pauses of more than `max_pause` seconds, and at the punctuation that ends a sentence."""
    phrases: list[list[Word]] = []
    for word in words:
        before = phrases[-1][-1] if phrases else None
        if before is None or word.start - before.end > max_pause or before.word.endswith(SENTENCE_ENDS):
            phrases.append([])
        phrases[-1].append(word)
    return phrases
