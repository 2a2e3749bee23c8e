"""Many clips through a model, in batches of windows of like length.

Design choices:
- Clips are heard in groups, whose windows are batched among themselves. What a group holds depends on its clips alone,
  so that a run which begins at a group's first clip computes the very same batches, and hence the same bytes, as one
  that comes from further before.
- A long recording is a group of its own, heard in as many rounds as it needs: no more features are held than one has.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..judging import Judging
from ..runtime import ToxicityRuntime, is_exported
from .inputs import Clip, in_utf8
from .record import make_record
from .records import audio_hash


BATCHES_PER_ROUND = 4  # among which windows are sorted by length
CLIP_ERRORS = (ValueError, OSError)  # which say what is wrong with a clip


class Heard(NamedTuple):
    """What came of a clip: its record, or what is wrong with it."""

    clip: str
    record: dict[str, Any] | None
    error: str | None = None


def load_judge(model: str, revision: str | None = None) -> Judging:
    """The pipeline of a model, or the runtime of one that was exported. Raises ValueError if a path is none of a
    folder."""
    if Path(model).is_absolute() and not Path(model).is_dir():
        raise ValueError(f"there is no model folder {model}")
    if is_exported(model):
        return ToxicityRuntime.from_pretrained(model)
    from transformers import pipeline
    from transformers.utils import logging

    logging.disable_progress_bar()  # of the weights: there are few
    return pipeline("audio-classification", model=model, revision=revision)


@dataclass
class _Hearing:
    """A clip whose windows are being heard."""

    clip: Clip
    sha256: str = ""  # of the clip's content
    outputs: list[dict | None] = field(default_factory=list)  # one for each window
    error: str | None = None


class Listener:
    """Hears clips with a pipeline.

    Args:
        pipe: the pipeline.
        judge: of [`describe_judge`]; its `hearing` are the pipeline's settings of windows.
        batch_size: windows of a forward pass.
        on_part: called while a long recording is heard, with its clip and the seconds that are heard so far.
    """

    def __init__(
        self,
        pipe: Judging,
        judge: dict[str, Any],
        batch_size: int = 8,
        on_part: Callable[[Clip, float], None] = lambda clip, seconds: None,
    ):
        self.pipe, self.judge, self.batch_size, self.on_part = pipe, judge, batch_size, on_part
        self._round: list[tuple[_Hearing, int, dict]] = []  # clip, number of the window, its features

    def hear(self, clips: Iterable[Clip]) -> Iterator[list[Heard]]:
        """The clips of one group after the other, in order."""
        group, num_windows = [], 0
        for clip in clips:
            hearing = _Hearing(clip)
            self._read(hearing)
            group.append(hearing)
            num_windows += len(hearing.outputs)
            if num_windows >= self._round_size:
                yield self._finish(group)
                group, num_windows = [], 0
        if group:
            yield self._finish(group)

    @property
    def _round_size(self):
        return BATCHES_PER_ROUND * self.batch_size

    def _read(self, hearing):
        try:
            hearing.sha256 = _hash_of(hearing.clip.audio)
            for features in self.pipe.preprocess(hearing.clip.audio, **self.judge["hearing"]):
                self._round.append((hearing, len(hearing.outputs), features))
                hearing.outputs.append(None)
                if len(self._round) >= self._round_size:
                    self._run()
                    end = features["window"][0, 1].item()
                    self.on_part(hearing.clip, end / self.pipe.sampling_rate)
        except CLIP_ERRORS as error:
            hearing.error = in_utf8(str(error))

    def _run(self):
        """Hears the windows of a round."""
        rows = self.pipe.hear([features for *_, features in self._round], self.batch_size)
        for (hearing, number, _), row in zip(self._round, rows, strict=True):
            hearing.outputs[number] = row
        self._round.clear()

    def _finish(self, group):
        self._run()
        return [self._judge(hearing) for hearing in group]

    def _judge(self, hearing):
        name = hearing.clip.name
        if hearing.error is not None:
            return Heard(name, None, hearing.error)
        verdict = self.pipe.postprocess(hearing.outputs, return_keywords=True, return_windows=True)
        return Heard(name, make_record(name, hearing.sha256, verdict, self.judge))


def _hash_of(audio: str | bytes) -> str:
    """Raises ValueError for what can be read but once, such as a pipe: its content is hashed, and heard."""
    if isinstance(audio, str) and (path := Path(audio)).exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{audio} is no file: write what it holds to one.")
    return audio_hash(audio)
