"""How far a run has come: clips, hours of sound, and the time that is left, within a long recording too."""

import time

import av
from tqdm import tqdm

from ..audio import open_audio
from .inputs import Clip


FORMAT = "{percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} clips [{elapsed}, {remaining} left{postfix}]"


class Progress:
    """A bar on the standard error, where that is a terminal.

    Args:
        num_clips: of the run.
        num_kept: of them, those that were judged before; the rate is that of the others.
        bar: settings of tqdm.
    """

    def __init__(self, num_clips: int, num_kept: int = 0, **bar):
        self.num_done, self.seconds, self._began = num_kept, 0.0, time.monotonic()
        self._long: tuple[Clip | None, float | None] = (None, None)  # the recording that is being heard, its seconds
        options = {"disable": None, "bar_format": FORMAT} | bar
        self.bar = tqdm(total=num_clips, initial=num_kept, **options)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def part(self, clip: Clip, seconds: float) -> None:
        """So many seconds of a long recording are heard."""
        if self.bar.disable:
            return
        if self._long[0] is not clip:
            self._long = clip, stated_seconds(clip.audio)
        share = min(seconds / self._long[1], 1.0) if self._long[1] else 0.0
        self._show(self.num_done + share, self.seconds + seconds)

    def add(self, num_clips: int, seconds: float) -> None:
        """So many clips more are judged, with so many seconds of sound."""
        self.num_done, self.seconds = self.num_done + num_clips, self.seconds + seconds
        self._show(self.num_done, self.seconds)

    def _show(self, num_clips, seconds):
        speed = seconds / max(time.monotonic() - self._began, 1e-9)
        self.bar.set_postfix_str(f"{seconds / 3600:.2f} h of sound, {speed:.0f} times as fast", refresh=False)
        self.bar.update(num_clips - self.bar.n)


def stated_seconds(audio: str | bytes) -> float | None:
    """The length of a recording as its container states it; None if it does not."""
    with open_audio(audio) as container:
        return container.duration / av.time_base if container.duration else None
