"""Audio in, 16 kHz float32 out: mono, or the channels that differ.

One reader for training data, pipelines and scripts: PyAV, whose wheels bundle FFmpeg, opens every container and codec
that voice chat uses (Opus, WebM, MP3, M4A, FLAC, WAV) and resamples. No ffmpeg program, torchaudio or torchcodec is
needed.

Design choices:
- Everything that a listener would hear is heard. A clip of a data set has one transcript and one list of labels for
  all that it holds, so training mixes it (`load_audio`); a verdict must not miss what another channel or track drowns,
  so the pipeline hears those that differ one by one (`track_blocks`).
- Time is the file's own: what was not sent (a muted microphone) is silence, so that a keyword is where a player finds
  it.
- What can be decoded is heard, and what cannot is reported: a few damaged bytes do not hide the rest of a recording.
"""

import functools
import io
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import ArrayLike

from .headers import CorrectedFile, true_size


try:
    import av
except ImportError:  # arrays can be classified without it; `load_audio` says what to install
    av = None


logger = logging.getLogger(__name__)

SAMPLING_RATE = 16_000
BLOCK_SIZE = 1 << 20  # samples of a file that are resampled at once
SHORTEST_GAP = 0.1  # seconds; time stamps are rounded, and codecs begin with a delay of their own
LONGEST_GAP = 6 * 3600.0  # seconds; beyond, the clock has jumped
ABSOLUTE_TIME = ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2")  # formats whose time starts at 0, whatever comes first
URLS = ("http://", "https://")
ALIKE = 0.5  # correlation of channels from which on their average is heard: what they share is no softer than the rest
LOUDEST = 16.0  # times full scale: decoders and mixers go beyond it, but not so far
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz
FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}
EMPTY = 1e-10  # mean square of a channel that holds nothing, but perhaps what a codec makes of nothing


def _require_av():
    if av is None:
        raise ImportError("Reading or resampling audio needs PyAV: pip install av")


def load_audio(source: str | os.PathLike | bytes, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Reads all audio tracks of a file, which sound together as in a player.

    Args:
        source: path of a file, or its content as bytes.
        sampling_rate: of the result, in Hz.

    Returns:
        float32 mono samples of shape `(samples,)` from the file's time 0 on; see [`mix_channels`].

    Raises:
        ValueError: if the source holds no readable audio, or samples that are no finite numbers; the message names
            the file.
        FileNotFoundError: if there is no such file.
    """
    with _opened_tracks(source, sampling_rate) as tracks:
        tracks = [_concatenated(map(mix_channels, blocks)) for blocks in tracks]
    if len(tracks) == 1:
        return tracks[0]
    samples = np.zeros(max(map(len, tracks)), dtype=np.float32)
    for track in tracks:
        samples[: len(track)] += track
    return samples


def track_blocks(source: str | os.PathLike | bytes, sampling_rate: int = SAMPLING_RATE) -> Iterator[list[np.ndarray]]:
    """Reads all audio tracks of a file side by side, so that memory does not grow with a recording's length.

    Args:
        source: path of a file, or its content as bytes.
        sampling_rate: of the result, in Hz.

    Yields:
        the next of each track: float32 samples of shape `(channels, samples)`, from the file's time 0 on. The tracks'
        blocks are of the same length, `BLOCK_SIZE`, but for the last of each track and empty ones behind it.

    Raises:
        ValueError, FileNotFoundError: as [`load_audio`], once the block comes that cannot be read.
    """
    with _opened_tracks(source, sampling_rate) as tracks:
        ended = np.zeros((1, 0), dtype=np.float32)
        even = [even_blocks(blocks, BLOCK_SIZE) for blocks in tracks]
        for blocks in itertools.zip_longest(*even, fillvalue=ended):
            yield list(blocks)


@contextmanager
def _opened_tracks(source, sampling_rate) -> Iterator[list[Iterator[np.ndarray]]]:
    """For each track the iterator of its blocks `(channels, samples)`."""
    _require_av()
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with ExitStack() as files:
            containers = [files.enter_context(open_audio(source))]
            num_tracks = len(containers[0].streams.audio)
            if not num_tracks:
                raise ValueError(f"{name} holds no audio stream.")
            containers += [files.enter_context(open_audio(source)) for _ in range(1, num_tracks)]
            yield [
                _blocks_of_track(container, number, name, sampling_rate) for number, container in enumerate(containers)
            ]
    except FileNotFoundError:
        raise
    except av.error.FFmpegError as error:
        raise ValueError(f"{name} cannot be read as audio: {error.strerror}.") from error


def _blocks_of_track(container, number, name, sampling_rate):
    frames = decoded_frames(container, container.streams.audio[number], name)
    for block in channel_blocks(frames, sampling_rate, time_origin(container), name):
        check_finite(block, name)
        yield block


def even_blocks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The samples of blocks `(channels, samples)` in blocks of `size` samples, but for the last."""
    held: list[np.ndarray] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += block.shape[1]
        while length >= size:
            joined = join_blocks(*held)
            yield joined[:, :size]
            held, length = [joined[:, size:]], length - size
    if length:
        yield join_blocks(*held)


def join_blocks(*blocks: np.ndarray) -> np.ndarray:
    """Blocks `(channels, samples)` of a track one after the other, with the channels of the one that has most: a
    single channel stands for all, and what is missing of several is silent."""
    num_channels = max(map(len, blocks))
    return np.concatenate([_widened(block, num_channels) for block in blocks], axis=1)


def _widened(block, num_channels):
    if len(block) == num_channels:
        return block
    if len(block) == 1:
        return np.broadcast_to(block, (num_channels, block.shape[1]))
    return np.pad(block, ((0, num_channels - len(block)), (0, 0)))


@contextmanager
def open_audio(source: str | os.PathLike | bytes) -> Iterator["av.container.InputContainer"]:
    """Opens a file, or its content, for PyAV: a path with a colon is no protocol, and what follows the sound that a
    header declares is read, too."""
    if isinstance(source, bytes):
        if fault := true_size(io.BytesIO(source)):
            place, content = fault
            source = source[:place] + content + source[place + len(content) :]
        source = io.BytesIO(source)
    elif not (source := os.fspath(source)).startswith(URLS):
        source = os.path.abspath(source)  # FFmpeg takes what comes before a colon for a protocol
    with ExitStack() as files:
        if isinstance(source, str) and os.path.isfile(source):  # FFmpeg says what is wrong with others
            with open(source, "rb") as file:
                fault = true_size(file)
            source = files.enter_context(CorrectedFile(source, *fault)) if fault else source
        yield files.enter_context(av.open(source))


def _concatenated(blocks):
    blocks = list(blocks)
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def decoded_frames(
    container: "av.container.InputContainer", stream: "av.AudioStream", name: str
) -> Iterator["av.AudioFrame"]:
    """PyAV's frames of a stream. Packets that cannot be decoded are left out, with a warning that has the file's name.

    Raises:
        av.error.FFmpegError: if no packet can be decoded.
    """
    num_frames, faults, first_page = 0, [], None
    is_undated = container.format.name == "ogg" and stream.codec_context.name == "flac"
    for packet in container.demux(stream):
        first_page = packet.pos if first_page is None else first_page
        if is_undated and packet.pos == first_page:  # FFmpeg counts them from 0, whenever the stream begins
            packet.pts = packet.dts = None
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            faults.append(error)
            continue
        num_frames += len(frames)
        yield from frames
    if faults and not num_frames:
        raise faults[0]
    if faults:
        logger.warning(f"{name}: packets that cannot be decoded, and are not heard: {len(faults)}.")


def time_origin(container: "av.container.InputContainer") -> float | None:
    """The time in seconds that a file's own clock starts at; None for formats whose clock starts with the sound."""
    return 0.0 if container.format.name in ABSOLUTE_TIME else None


def first_stamp(container: "av.container.InputContainer", stream: "av.AudioStream") -> int:
    """The time stamp, in the stream's units, at which a player's clock shows 0."""
    return 0 if container.format.name in ABSOLUTE_TIME else stream.start_time or 0


def check_finite(samples: np.ndarray, name: str) -> None:
    """Raises ValueError if a sample is NaN or infinite: a model would answer with NaN, and learn nothing else."""
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} holds samples that are NaN or infinite.")


def as_waveform(samples: ArrayLike) -> np.ndarray:
    """Mono samples of shape `(samples,)` as float32: floats from -1 to 1 as they are, int16 and int32 by full scale.

    Raises:
        ValueError: for other shapes and types, and samples that are NaN, infinite or of another scale.
    """
    if hasattr(samples, "detach"):  # PyTorch's, of which NumPy takes neither bfloat16 nor a GPU's
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"A waveform must have shape (samples,), but has {samples.shape}: average its channels.")
    if samples.dtype in FULL_SCALE:
        return (samples / FULL_SCALE[samples.dtype]).astype(np.float32)
    if samples.dtype.kind != "f":
        raise ValueError(f"A waveform must be of floats from -1 to 1, int16 or int32, but is of {samples.dtype}.")
    samples = samples.astype(np.float32)
    peak = np.abs(samples).max(initial=0.0)
    if not peak <= LOUDEST:  # NaN is not, either
        check_finite(samples, "The waveform")
        raise ValueError(
            f"A waveform's floats must be from -1 to 1, but reach {peak:g}: divide samples of 16 bits by 32768."
        )
    return samples


def check_rate(rate: int, name: str = "the audio") -> None:
    """Raises ValueError if this is no sampling rate of sound: at 1 Hz, each sample would become thousands."""
    if not isinstance(rate, int | np.integer) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"The sampling rate of {name} is {rate!r}: give a whole number of Hz, from {LOWEST_RATE} to "
            f"{HIGHEST_RATE}."
        )


@functools.cache
def hann(size: int) -> np.ndarray:
    """Hann's window, periodic, `(size,)` float32, which is shared and cannot be written to."""
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    window.flags.writeable = False
    return window


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resamples float32 mono `samples` of shape `(samples,)` from `from_rate` to `to_rate` Hz. Raises ValueError if
    `from_rate` is no sampling rate of speech."""
    if from_rate == to_rate:
        return samples
    check_rate(from_rate)
    _require_av()
    return _concatenated(resampled_blocks(_frames_of(samples, from_rate), to_rate))


def _frames_of(samples, rate):
    for start in range(0, len(samples), BLOCK_SIZE):  # a frame's bytes must be fewer than 2^31
        block = np.ascontiguousarray(samples[None, start : start + BLOCK_SIZE], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate = rate
        yield frame


def mix_channels(channels: np.ndarray) -> np.ndarray:
    """Mono `(samples,)` from `(channels, samples)`: the average, or the loudest channel where the average loses more
    than half of what uncorrelated channels would keep, for then they cancel each other (a reversed wire does that)."""
    average = channels.mean(0)
    power = np.square(channels).mean(1)  # (channels,)
    if len(channels) > 1 and np.square(average).mean() < power.mean() / (2 * len(channels)):
        return channels[power.argmax()]
    return average


def groups_of_channels(channels: np.ndarray) -> list[list[int]]:
    """Which of the `(channels, samples)` hold the same sound, be it upside down: each group can be heard as one.

    Channels that hold nothing are in no group, unless all do: they are then one group.
    """
    if len(channels) == 1:
        return [[0]]
    centred = channels - channels.mean(1, keepdims=True)
    power = np.square(centred).mean(1)
    if (power <= EMPTY).all():
        return [list(range(len(channels)))]
    unit = centred / np.sqrt(np.maximum(power, EMPTY))[:, None]
    likeness = np.abs(unit @ unit.T) / channels.shape[1]
    groups: list[list[int]] = []
    for channel in np.flatnonzero(power > EMPTY).tolist():
        alike = [group for group in groups if likeness[channel, group[0]] >= ALIKE]
        alike[0].append(channel) if alike else groups.append([channel])
    return groups


def resampled_blocks(
    frames: Iterable, sampling_rate: int, origin: float | None = None, name: str = "The audio"
) -> Iterator[np.ndarray]:
    """Turns PyAV's audio frames into float32 mono samples, block by block; see [`channel_blocks`]."""
    return map(mix_channels, channel_blocks(frames, sampling_rate, origin, name))


def channel_blocks(
    frames: Iterable, sampling_rate: int, origin: float | None = None, name: str = "The audio"
) -> Iterator[np.ndarray]:
    """Turns PyAV's audio frames into float32 samples `(channels, samples)`, block by block.

    Args:
        frames: in order; their format and rate may change on the way.
        sampling_rate: of the result, in Hz.
        origin: time in seconds at which the result starts; None starts it with the first frame. What lies between
            frames, by their time stamps, is silence.
        name: of the file, for warnings.
    """
    for (_, silence), run in itertools.groupby(_runs(frames, origin, name), key=lambda item: item[:2]):
        for start in range(0, missing := round(silence * sampling_rate), BLOCK_SIZE):
            yield np.zeros((1, min(BLOCK_SIZE, missing - start)), dtype=np.float32)
        yield from _resample_run((frame for *_, frame in run), sampling_rate)


def _runs(frames, origin, name):
    """(number of its run, seconds of silence before the run, frame): a run has no gap and a single format."""
    number, silence, kind, end = 0, 0.0, None, origin
    for frame in frames:
        end = frame.time if end is None else end
        gap = 0.0 if frame.time is None or end is None else frame.time - end
        if gap > LONGEST_GAP:
            logger.warning(
                f"{name}: its clock jumps from {end:.1f} to {frame.time:.1f} s, which is not heard as a gap."
            )
        is_gap = SHORTEST_GAP < gap <= LONGEST_GAP
        kind, before = (frame.rate, frame.format.name, frame.layout.name), kind
        if kind != before:
            check_rate(frame.rate, name)
        if is_gap or kind != before:
            number, silence = number + 1, gap if is_gap else 0.0
        if abs(gap) > SHORTEST_GAP:
            end = frame.time
        end = None if end is None else end + frame.samples / frame.rate
        yield number, silence, frame


def heard_times(
    frames: Iterable, origin: float | None = None, name: str = "The audio"
) -> Iterator[tuple[float, "av.AudioFrame"]]:
    """PyAV's audio frames, each with the second at which [`resampled_blocks`] has it; arguments are as there."""
    position, last = 0.0, 0
    for number, silence, frame in _runs(frames, origin, name):
        position += silence if number != last else 0.0
        yield position, frame
        position, last = position + frame.samples / frame.rate, number


def _resample_run(frames, sampling_rate):
    # FFmpeg's own down-mix adds the channels at -3 dB: equal channels would come out 1.41 times as loud, and clip
    resampler = av.AudioResampler(format="fltp", rate=sampling_rate)
    for block in itertools.chain(_joined(frames, sampling_rate), [None]):  # None: what the filter still holds
        for chunk in resampler.resample(block):
            yield chunk.to_ndarray()


def _joined(frames, sampling_rate):
    """Blocks of at most `BLOCK_SIZE` samples, before and after: a codec's frames are short, and Python takes longer
    over one than FFmpeg."""
    fifo = av.AudioFifo()
    for frame in frames:
        size = BLOCK_SIZE * frame.rate // max(frame.rate, sampling_rate)
        frame.pts = None  # small gaps in time are closed
        fifo.write(frame)
        while fifo.samples >= size:
            yield fifo.read(size)
    if fifo.samples:
        yield fifo.read()
