"""The judge of live sessions: the part that costs, apart from them, so that windows of many sessions share a batch."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..audio import track_blocks
from ..judging import STRIDE, Judging
from ..keywords import KeywordList
from ..listening import Window, WindowPlanner, plan_windows
from .record import describe_judge, describe_keywords


class TooLong(ValueError):
    """A recording goes on for longer than it may."""


class Judge:
    """Hears windows with a pipeline.

    Args:
        pipe: the pipeline, or the runtime of an exported model.
        window: seconds that are heard at once.
        stride: from one window to the next; two thirds of the window by default.
        batch_size: windows of a forward pass.

    Attributes:
        description: of [`describe_judge`], which all records share.
    """

    def __init__(self, pipe: Judging, window: float = 15.0, stride: float | None = None, batch_size: int = 8):
        self.pipe, self.batch_size = pipe, batch_size
        self.window, self.stride = window, window * STRIDE if stride is None else stride
        self.description = describe_judge(pipe, window_seconds=self.window, stride_seconds=self.stride)

    def planner(self) -> WindowPlanner:
        """Of a recording's windows. Raises ValueError for windows that the model cannot hear."""
        return WindowPlanner(*self._plan)

    @property
    def sampling_rate(self) -> int:
        """Of what is heard, in Hz."""
        return self.pipe.sampling_rate

    def windows(self, audio: bytes | str, max_seconds: float = math.inf) -> Iterator[tuple[Window, np.ndarray]]:
        """The windows of a file, by its content or path.

        Raises:
            TooLong: as soon as more than `max_seconds` are read; a window may come much later, behind silence.
            ValueError, FileNotFoundError: as [`track_blocks`] and [`plan_windows`].
        """
        blocks = track_blocks(audio, self.sampling_rate)
        return plan_windows(_no_longer(blocks, max_seconds, self.sampling_rate), *self._plan)

    @property
    def _plan(self):
        window, stride = (round(seconds * self.sampling_rate) for seconds in (self.window, self.stride))
        return window, stride, self.pipe.config.receptive_field, self.pipe.config.max_samples

    def hear(self, windows: Sequence[tuple[Window, np.ndarray]]) -> list[dict[str, Any]]:
        """What the model makes of each window, in their order: rows for [`verdict`]."""
        prepared = [{**self.pipe.prepare(*window), "is_last": True} for window in windows]
        return self.pipe.hear(prepared, self.batch_size)

    def verdict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The pipeline's verdict on windows together, with keywords and windows. The model is not asked again."""
        return self.pipe.postprocess(rows, return_keywords=True, return_windows=True)

    def change_keywords(self, keywords: KeywordList) -> None:
        """Listens for other keywords from now on; for use between recordings, see [`with_keywords`] for others.
        Raises ValueError, and keeps the old ones, if the model cannot write the new ones."""
        description = self.description | {"keyword_list": describe_keywords(keywords)}  # may fail: nothing is set yet
        processor, before = self.pipe.processor, self.pipe.processor.keywords
        processor.keywords = keywords
        try:
            processor.decoder()
        except BaseException:
            processor.keywords = before
            raise
        self.description = description

    def with_keywords(self, keywords: KeywordList) -> "Judge":
        """Another judge, with this one's model, that listens for other keywords: what this one has begun to hear, it
        can go on with. Raises ValueError if the model cannot write the keywords."""
        judge = copy.copy(self)
        judge.pipe = copy.copy(self.pipe)
        judge.pipe.processor = copy.copy(self.pipe.processor)
        judge.change_keywords(keywords)
        return judge

    @property
    def thresholds(self) -> dict[str, float]:
        """Score from which on each label counts; none without a classifier."""
        return self.description["thresholds"] or {}


def _no_longer(blocks, max_seconds, sampling_rate):
    """The blocks of a recording, as long as they are no longer together."""
    num_samples = 0
    for block in blocks:
        num_samples += max(track.shape[1] for track in block)
        if num_samples > max_seconds * sampling_rate:
            raise TooLong(f"The clip has more than {max_seconds:g} s: cut it.")
        yield block
