"""What of a recording is heard, and what becomes of words that are heard twice.

Design choices:
- Silence is found by level, in the band that speech is understood in (a telephone's): no model and no package, and no
  speech is lost. Hum, dither and clicks of a switch stay below it.
- A window whose sound keeps its level is not heard either: a fan, static or a tone, for speech swells and fades with
  each syllable. Other noise is for the model to tell.
- What is silent is not heard at all: the encoder normalises a clip, so that silence beside speech would change what it
  says of the speech. A muted microphone leaves no trace, and accuses nobody.
- A recording comes in blocks, and no more of it is held than what an open window needs. A window is given as soon as
  nothing that follows can change it, so that the blocks decide nothing.
- Windows overlap, for a word that a window's edge cuts is heard by neither side, or as another word. Each word is
  heard whole by one window at least, and reported once.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .audio import SAMPLING_RATE, groups_of_channels, hann, join_blocks, mix_channels


FRAME = 0.064  # seconds over which a level is measured; a sound in no two of them is a click
SPEECH_BAND = (300.0, 3400.0)  # Hz
QUIETEST_SOUND = -70.0  # dB of full scale; a quiet microphone's own noise is about as loud
STEADY_RANGE, STEADY_SECONDS = 4.0, 2.0  # dB within which a sound of so long or longer is no speech
MARGIN = 0.5  # seconds around a sound: speech begins and ends softly, and the model wants some silence around a word
FRAMES_AT_ONCE = 4096  # whose levels are measured, to save memory
UNSURE = 1 / 5  # of an overlap: a word whose middle is nearer to a cut edge is left to the other window


class Window(NamedTuple):
    """A part of a recording that is heard at once, in samples of it; all are integers.

    Args:
        start: first sample.
        end: one past the last.
        first: words whose middle comes before it are left to the window before.
        last: words whose middle comes after it are left to the next.
        track: number of the track that is heard.
        channel: number of the channel in it; of several that sound alike, the first.
        is_silent: nothing can be heard, or nothing but steady noise.
    """

    start: int
    end: int
    first: int
    last: int
    track: int
    channel: int
    is_silent: bool


def plan_windows(
    blocks: Iterable[Sequence[np.ndarray]], window: int, stride: int, shortest: int, longest: int | None = None
) -> Iterator[tuple[Window, np.ndarray]]:
    """The windows of a recording, each with what is heard in it.

    Args:
        blocks: of the recording, in order, at `SAMPLING_RATE`; each has the samples `(channels, samples)` of all
            tracks, and tracks that are shorter than the others are silent behind their end.
        window, stride, shortest, longest: see [`split_windows`]. Where nothing can be heard for more than twice the
            `MARGIN`, they start anew behind it.

    Yields:
        a [`Window`] with float32 mono samples for each part and each of its channels that differ, in order of time.
        Silent parts come with so few samples that hearing them costs nothing.

    Raises:
        ValueError: if the recording has fewer than `shortest` samples; see also [`split_windows`].
    """
    planner = WindowPlanner(window, stride, shortest, longest)
    for block in blocks:
        planner.append(block)
        yield from planner.windows(is_complete=False)
    yield from planner.windows(is_complete=True)


class WindowPlanner:
    """The windows of a recording that comes block by block, and of which a part is held: [`plan_windows`] for those
    who are handed the blocks. All times are samples of the recording.

    Args:
        window, stride, shortest, longest: see [`split_windows`].
    """

    def __init__(self, window: int, stride: int, shortest: int, longest: int | None = None):
        split_windows(0, window, shortest, longest, stride)  # raises before anything is heard
        self.window, self.stride, self.shortest, self.longest = window, stride, shortest, longest
        self.part: tuple[int, int] | None = None  # start and end, as far as it is known, of a part that may go on
        self.num_closed = 0  # parts before it
        self.held_from = 0  # where begins what is held, on a frame's edge
        self._tracks: list[np.ndarray] = []  # (channels, samples) of each
        self._loud: list[np.ndarray] = []  # (channels, frames) of each: what is loud, as far as frames are full
        self._sounds: list[np.ndarray] = []  # (channels, frames) of each: what can be heard, as far as that is decided
        self._position = 0  # up to where the recording is planned
        self._num_given = 0  # windows of the part

    @property
    def end(self) -> int:
        """Up to where the recording has come."""
        return self.held_from + (self._tracks[0].shape[1] if self._tracks else 0)

    def append(self, block: Sequence[np.ndarray]) -> None:
        """Holds a block, too."""
        length = max(track.shape[1] for track in block)
        held = self._tracks or [np.zeros((1, 0), dtype=np.float32)] * len(block)
        padded = [_lengthened(track, length) for track in block]
        self._tracks = [join_blocks(*pair) for pair in zip(held, padded, strict=True)]

    def silence(self, num_samples: int) -> Iterator[tuple[Window, np.ndarray]]:
        """The windows behind zeros of any length, of which no more are held than of other sound."""
        size = frame_size()
        settling = min(num_samples, 4 * round(MARGIN * SAMPLING_RATE))  # behind it, nothing is open or undecided
        skipped = (num_samples - settling) // size * size
        for length in (settling, num_samples - settling - skipped):
            self.append([np.zeros((1, length), dtype=np.float32)] * max(len(self._tracks), 1))
            yield from self.windows(is_complete=False)
            self.held_from += skipped
            skipped = 0

    def held(self, start: int, end: int) -> np.ndarray:
        """`(samples,)` of the first track, which must be held: those of a window are, while it is given."""
        return mix_channels(self._tracks[0][:, start - self.held_from : end - self.held_from])

    def latest(self, length: int, unsure: int) -> list[tuple[Window, np.ndarray]]:
        """The last samples of the part that is open, for whoever cannot wait for its window.

        Args:
            length: of what to hear, at most: what the next window has not is not held, either.
            unsure: words whose middle is nearer to an edge that may cut them are left to an earlier or later look.
        """
        held = _Held.of_tracks(self._tracks, self.held_from)
        if self.part is None or (end := min(self.part[1], held.end)) - self.part[0] < self.shortest:
            return []
        start = max(self.part[0], self.held_from, end - length)
        words = (start + unsure * (start > self.part[0]), end - unsure)
        sounds = np.concatenate(self._sounds)
        return [
            (Window(start, end, *words, *source, False), samples)
            for source, samples in _channels_heard(held, sounds, start, end)
        ]

    def windows(self, is_complete: bool) -> Iterator[tuple[Window, np.ndarray]]:
        """Those that nothing can change which may follow; then lets go of what no other window needs. Those of a part
        come before `num_closed` counts it.

        Raises:
            ValueError: if all is too short to be heard.
        """
        held = _Held.of_tracks(self._tracks, self.held_from)
        if is_complete and held.end < self.shortest:
            raise ValueError(
                f"The clip has {held.end} samples at {SAMPLING_RATE} Hz, but the model needs at least {self.shortest}."
            )
        size, margin = frame_size(), round(MARGIN * SAMPLING_RATE)
        # a frame that is followed by another is known to sound or not
        decided = held.end if is_complete else max(held.end // size - 1, 0) * size
        if decided <= self.held_from and not is_complete:
            return
        sounds = self._decide(held, -(-(decided - self.held_from) // size), is_complete)
        needed = decided - 2 * margin  # from where on a part may start
        parts = _parts(held, sounds, self.part)
        for part in parts:
            is_closed = is_complete or part[1] < needed or part is not parts[-1]
            yield from self._windows_of(
                part, min(part[1], decided - size * (not is_complete)), is_closed, held, sounds
            )
            self.part = None if is_closed else part
            self.num_closed += is_closed
        if self.part:
            needed = min(needed, self.part[0] + self._num_given * self.stride)
        if is_complete:
            yield from self._silent(self._position, held.end)
        first = max(needed // size - 1, 0) * size  # with the frame before, which a sound may begin in
        dropped = max(first - self.held_from, 0)
        self._tracks = [track[:, dropped:] for track in self._tracks]
        self._loud, self._sounds = (
            [known[:, dropped // size :] for known in flags] for flags in (self._loud, self._sounds)
        )
        self.held_from += dropped

    def _decide(self, held, num_frames, is_complete):
        """`(channels, frames)` of what is held, as far as it is decided: each frame is measured once."""
        size = frame_size()
        num_measured, num_known = (flags[0].shape[1] if flags else 0 for flags in (self._loud, self._sounds))
        num_full = num_frames + (not is_complete)  # a frame is decided by the next
        new = loud_frames(held.samples[:, num_measured * size : None if is_complete else num_full * size])
        self._loud = self._longer(self._loud, new)
        first = max(num_known - 1, 0)  # a frame's neighbour counts, too
        sounds = _sounding(np.concatenate(self._loud)[:, first:])
        self._sounds = self._longer(self._sounds, sounds[:, num_known - first : num_frames - first])
        return np.concatenate(self._sounds)

    def _longer(self, known, new):
        """Flags `(channels, frames)` of each track, with those of all tracks' channels behind."""
        tracks = np.split(new, np.cumsum([len(track) for track in self._tracks])[:-1])
        known = known or [np.zeros((1, 0), dtype=bool)] * len(tracks)
        return [join_blocks(*pair) for pair in zip(known, tracks, strict=True)]

    def _windows_of(self, part, known_end, is_closed, held, sounds):
        """The windows of a part that were not given and will not change."""
        start, _ = part
        yield from self._silent(self._position, start)
        spans = split_windows(known_end - start, self.window, self.shortest, self.longest, self.stride)
        spans = spans if is_closed else spans[:-1]
        for first, last in spans[self._num_given :]:
            yield from self._hear(start + first, start + last, (start, known_end), held, sounds)
        self._position, self._num_given = (known_end, 0) if is_closed else (start, len(spans))

    def _hear(self, start, end, part, held, sounds):
        unsure = int((self.window - self.stride) * UNSURE)
        words = (start + unsure * (start > part[0]), end - unsure * (end < part[1]))
        heard = [
            (Window(start, end, *words, *source, False), samples)
            for source, samples in _channels_heard(held, sounds, start, end)
        ]
        yield from heard or self._silent(start, end)

    def _silent(self, start, end):
        silence = np.zeros(self.shortest, dtype=np.float32)
        return [(Window(start, end, start, end, 0, 0, True), silence)] if end > start else []


class _Held(NamedTuple):
    """All channels of all tracks, as far as they are held.

    Args:
        samples: float32 of shape `(channels, samples)`.
        sources: of each channel, the number of its track, and its own number in the track.
        origin: the first sample's place in the recording.
    """

    samples: np.ndarray
    sources: list[tuple[int, int]]
    origin: int

    @classmethod
    def of_tracks(cls, tracks: Sequence[np.ndarray], origin: int) -> "_Held":
        """Puts tracks `(channels, samples)` side by side."""
        sources = [(number, channel) for number, track in enumerate(tracks) for channel in range(len(track))]
        if len(tracks) == 1:  # nearly always, and not worth a copy of all that is held
            return cls(tracks[0], sources, origin)
        return cls(np.concatenate(tracks) if tracks else np.zeros((1, 0), dtype=np.float32), sources, origin)

    @property
    def end(self) -> int:
        return self.origin + self.samples.shape[1]


def _channels_heard(held, sounds, start, end):
    """Source and samples of the channels that differ and in which something can be heard that may be speech."""
    size, samples = frame_size(), held.samples[:, start - held.origin : end - held.origin]
    frames = [round(place / size) - held.origin // size for place in (start, end)]  # half a frame is rounded alike
    sounds = sounds[:, slice(*frames)].any(1)
    for group in groups_of_channels(samples):
        if sounds[group].any() and not is_steady(mixed := mix_channels(samples[group])):
            yield held.sources[group[0]], mixed


def frame_size() -> int:
    """Samples over which a level is measured."""
    return round(FRAME * SAMPLING_RATE)


def _parts(held, sounds, open_part):
    """Start and end of the parts that sound, with a margin on either side: to the sample, so that what is heard does
    not depend on how long the silence beside it is. The first goes on with the `open_part`, if there is one."""
    size, margin, samples = frame_size(), round(MARGIN * SAMPLING_RATE), held.samples
    parts = [open_part] if open_part else []
    edges = np.flatnonzero(np.diff(sounds.any(0).astype(np.int8), prepend=0, append=0)) * size
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        before, after = max(start - margin, 0), end - size
        start = before + _loud_samples(samples[:, before : start + size])[0]
        end = after + _loud_samples(samples[:, after : end + margin])[-1] + 1
        start, end = max(held.origin + int(start) - margin, 0), held.origin + int(end) + margin
        if parts and start <= parts[-1][1]:
            start, end = parts[-1][0], max(end, parts.pop()[1])
        parts.append((start, end))
    return parts


def _loud_samples(samples):
    """Which samples are loud: at half the level, so that every sounding frame has some."""
    return np.flatnonzero((np.abs(samples) > 0.5 * 10 ** (QUIETEST_SOUND / 20)).any(0))


def sounding_frames(samples: np.ndarray) -> np.ndarray:
    """In which frames of `(channels, samples)` something can be heard that is no click: `(channels, frames)` bool."""
    return _sounding(loud_frames(samples))


def loud_frames(samples: np.ndarray) -> np.ndarray:
    """Which frames of `(channels, samples)` are louder than the `QUIETEST_SOUND`: `(channels, frames)` bool."""
    size = frame_size()
    frames = _lengthened(samples, -(-samples.shape[1] // size) * size).reshape(len(samples), -1, size)
    starts = range(0, max(frames.shape[1], 1), FRAMES_AT_ONCE)
    levels = [_levels(frames[:, start : start + FRAMES_AT_ONCE]) for start in starts]
    return np.concatenate(levels, axis=1) > QUIETEST_SOUND


def _sounding(is_loud):
    """Those beside which another is loud, too: a single one is a click."""
    beside = np.zeros_like(is_loud)
    beside[:, 1:] |= is_loud[:, :-1]
    beside[:, :-1] |= is_loud[:, 1:]
    return is_loud & beside


def is_steady(samples: np.ndarray) -> bool:
    """Whether `(samples,)` sound at the same level as long as they sound, as speech never does."""
    size = frame_size()
    levels = _levels(samples[: len(samples) // size * size].reshape(1, -1, size))
    levels = levels[levels > QUIETEST_SOUND]
    if len(levels) < int(STEADY_SECONDS / FRAME):
        return False
    return bool(levels.max() - np.percentile(levels, 10) < STEADY_RANGE)  # a noise's ends fill no whole frame


def _lengthened(samples, length):
    """`(channels, samples)` with silence behind them up to a length."""
    missing = length - samples.shape[1]
    return np.pad(samples, ((0, 0), (0, missing))) if missing else samples


def _levels(frames):
    """In dB of full scale, within the band of speech."""
    size = frames.shape[-1]
    taper = hann(size)
    low, high = (round(edge * size / SAMPLING_RATE) for edge in SPEECH_BAND)
    heard = np.ascontiguousarray(np.fft.rfft(frames * taper)[..., low : high + 1])
    power = np.square(heard.view(heard.real.dtype)).sum(-1)
    return 10 * np.log10(2 * power / (size * np.square(taper).sum()) + 1e-12)


def split_windows(
    num_samples: int, window: int, shortest: int, longest: int | None = None, stride: int | None = None
) -> list[tuple[int, int]]:
    """Start and end of the windows that a clip is heard in, of `window` samples each.

    A rest of fewer than `shortest` samples joins the window before it, so that no sample is lost.

    Args:
        stride: samples from one start to the next; the window's length by default, which sets them side by side as in
            the paper (section 4.1).

    Raises:
        ValueError: if a window is shorter than the `shortest` that the model hears or, with such a rest, longer than
            the `longest` that it hears at once, or the stride leaves samples out.
    """
    if window < shortest:
        raise ValueError(
            f"`window_seconds` is {window / SAMPLING_RATE:g}, but the model hears no less than "
            f"{shortest / SAMPLING_RATE:g} s."
        )
    if longest is not None and window + shortest > longest:
        raise ValueError(
            f"`window_seconds` is {window / SAMPLING_RATE:g}, but the model hears at most "
            f"{(longest - shortest) // (SAMPLING_RATE // 10) / 10:g} s at once."
        )
    stride = window if stride is None else stride
    if not 0 < stride <= window:
        raise ValueError(
            f"`stride_seconds` is {stride / SAMPLING_RATE:g}: give more than 0, and no more than `window_seconds`, "
            f"{window / SAMPLING_RATE:g}."
        )
    overlap = window - stride
    starts = list(range(0, max(num_samples - overlap, 1), stride))
    if len(starts) > 1 and num_samples - starts[-1] < shortest:
        starts.pop()
    return list(zip(starts, [*(start + window for start in starts[:-1]), num_samples], strict=True))


def one_report_per_word(words: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keywords in order of time, each of them once.

    Reports that overlap in time are of one word if they name the same keyword, or come from the same channel of the
    same track (two windows may read a sound differently); the one with the highest score stays.

    Args:
        words: of all windows, with `keyword`, `start`, `end`, `score`, `track` and `channel`.
    """
    kept, cluster, cluster_end = [], [], float("-inf")
    for word in sorted(words, key=lambda word: word["start"]):
        if word["start"] >= cluster_end:
            kept += _best(cluster)
            cluster = []
        cluster.append(word)
        cluster_end = max(cluster_end, word["end"])
    return sorted([*kept, *_best(cluster)], key=lambda word: word["start"])


def _best(cluster):
    best = []
    for word in sorted(cluster, key=lambda word: -word["score"]):
        if not any(_is_same(word, other) for other in best):
            best.append(word)
    return best


def _is_same(word, other):
    if word["start"] >= other["end"] or other["start"] >= word["end"]:
        return False
    return word["keyword"] == other["keyword"] or all(word[name] == other[name] for name in ("track", "channel"))
