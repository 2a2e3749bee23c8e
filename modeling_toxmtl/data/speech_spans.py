"""Where speech is in a recording, and how it is divided into chunks (paper, section 2: "chunk splitting determined by
the Opus codec's DTX extension").

A recording is seen as frames of some 20 ms, each active or not. For Opus the sender has judged already: packets with
no content (DTX) and gaps between time stamps are silence, so that none need be decoded. For other codecs the energy of
the decoded samples decides.

Design choices:
- libopus keeps sending for 0.2 s after speech has ended, and then says that it stops: the last 0.2 s before that are
  therefore no speech. Who releases a push-to-talk key stops at once: before a gap, all that was sent is kept.
- Everything is an iterator: memory does not grow with the recording.
- The energy rule is numpy and no voice-activity package: those bring a model or need a compiler, and the error
  that counts here is lost speech. It errs on the other side: loud noise is found out by the recogniser.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..audio import even_blocks
from ..io.opus import GAP


FRAME = 0.02  # seconds, of the energy rule
SHORTEST_BURST = 0.04  # seconds; shorter ones are clicks
NOISE_BLOCK = 30.0  # seconds, over which the background is measured
QUIETEST_SPEECH = -60.0  # dB of full scale
SPEECH_ABOVE_NOISE = 10.0  # dB
SPEECH_RANGE = 20.0  # dB between loud and soft speech: no more is taken for background
OPEN_CHUNKS = 4  # chunks' length of joined speech before it is divided without waiting for its end


class Span(NamedTuple):
    """From `start` to `end`, in seconds."""

    start: float
    end: float


class Frame(NamedTuple):
    """From `start` to `end`, in seconds; `level` (bytes or dB) says how loud, compared with the same recording;
    `hangover` marks where the sender stops, after as many seconds that are active though speech has ended."""

    start: float
    end: float
    is_active: bool
    level: float
    hangover: float | None = None


def find_speech(
    frames: Iterable[Frame], shortest: float, max_seconds: float, opening: float | None = None
) -> Iterator[Span]:
    """Runs of active frames, less the sender's hangover; none is longer than `max_seconds`.

    Args:
        frames: of a recording, in order; gaps of more than `GAP` are silence.
        shortest: seconds; runs that are no longer have no speech, and neither have those that are all hangover.
        max_seconds: a longer run is cut where it is quietest, in its second half.
        opening: seconds, instead of `shortest`, of the first run: a sender waits at the start, too.
    """
    run: list[Frame] = []
    needed = shortest if opening is None else opening
    for frame in frames:
        # a single frame before a gap is an update of the background
        gap = GAP if len(run) > 1 else 0.5 * FRAME
        is_gap = bool(run) and frame.start - run[-1].end > gap
        if run and (is_gap or not frame.is_active):
            yield from _speech_of(run, 0.0 if is_gap else frame.hangover or 0.0, needed)
            run, needed = [], shortest
        if frame.is_active:
            run.append(frame)
            if frame.end - run[0].start > max_seconds:
                cut = _quietest(run)
                yield Span(run[0].start, run[cut].start)
                run, needed = run[cut:], shortest
    yield from _speech_of(run, 0.0, shortest)  # the recording ends while something is sent


def _speech_of(run, hangover, shortest):
    half_a_frame = 0.5 * FRAME  # times are rounded to milliseconds in WebM
    if run and run[-1].end - run[0].start > max(shortest, hangover) + half_a_frame:
        yield Span(run[0].start, run[-1].end - hangover)


def _quietest(run):
    """The frame to cut before: the quietest of the second half, the last of those."""
    half = len(run) // 2
    return max(range(half, len(run)), key=lambda index: (-run[index].level, index))


def plan_chunks(speech: Iterable[Span], max_seconds: float, max_pause: float, padding: float) -> Iterator[Span]:
    """Joins speech over short pauses, and divides what gets too long at its longest pause.

    Args:
        speech: spans in order, none longer than `max_seconds - 2 * padding`.
        max_seconds: no chunk is longer.
        max_pause: seconds; a longer pause always ends a chunk.
        padding: seconds to add before and after a chunk, no more than half the pause.
    """
    return _pad(_divide_regions(speech, max_seconds - 2 * padding, max_pause), padding)


def _divide_regions(speech, max_seconds, max_pause):
    region: list[Span] = []
    for span in speech:
        if region and span.start - region[-1].end > max_pause:
            yield from map(_whole, _divide(region, max_seconds))
            region = []
        region.append(span)
        if span.end - region[0].start > OPEN_CHUNKS * max_seconds:
            *done, region = _divide(region, max_seconds)
            yield from map(_whole, done)
    if region:
        yield from map(_whole, _divide(region, max_seconds))


def _whole(spans: list[Span]) -> Span:
    return Span(spans[0].start, spans[-1].end)


def _divide(spans: list[Span], max_seconds: float) -> list[list[Span]]:
    if len(spans) == 1 or spans[-1].end - spans[0].start <= max_seconds:
        return [spans]
    pauses = [after.start - before.end for before, after in pairwise(spans)]
    cut = 1 + pauses.index(max(pauses))
    return [*_divide(spans[:cut], max_seconds), *_divide(spans[cut:], max_seconds)]


def _pad(chunks: Iterable[Span], padding: float) -> Iterator[Span]:
    previous_end, held = -padding, None
    for chunk in chunks:
        before = min(padding, (chunk.start - previous_end) / 2)
        if held:
            yield Span(held.start, held.end + before)
        held, previous_end = Span(max(0.0, chunk.start - before), chunk.end), chunk.end
    if held:
        yield Span(held.start, held.end + padding)


def energy_frames(blocks: Iterable[np.ndarray], sampling_rate: int) -> Iterator[Frame]:
    """Frames of decoded samples, active if they are loud in comparison with the background around.

    Args:
        blocks: float32 mono samples of shape `(samples,)`, in order.
        sampling_rate: in Hz.
    """
    size, start = round(FRAME * sampling_rate), 0
    for (samples,) in even_blocks((block[None] for block in blocks), round(NOISE_BLOCK * sampling_rate)):
        levels = _levels(samples, size)
        background, loud = np.percentile(levels, (10, 95))
        threshold = max(QUIETEST_SPEECH, min(background + SPEECH_ABOVE_NOISE, loud - SPEECH_RANGE))
        for index, level in enumerate(levels.tolist()):
            begin = (start + index * size) / sampling_rate
            yield Frame(begin, min(begin + FRAME, (start + len(samples)) / sampling_rate), level > threshold, level)
        start += len(samples)


def is_silence(samples: np.ndarray, sampling_rate: int) -> bool:
    """Whether nothing in float32 samples of shape `(samples,)` is as loud as the quietest speech."""
    return not len(samples) or _levels(samples, round(FRAME * sampling_rate)).max() <= QUIETEST_SPEECH


def _levels(samples, size):
    """In dB of full scale, a frame of `size` samples each."""
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    return 10 * np.log10(np.mean(np.square(padded, dtype=np.float64), axis=1) + 1e-12)
