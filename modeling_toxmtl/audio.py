"""Audio in, 16 kHz mono float32 out.

One reader for training data, pipelines and scripts: PyAV, whose wheels bundle FFmpeg, opens every container and codec
that voice chat uses (Opus, WebM, MP3, M4A, FLAC, WAV) and resamples. No ffmpeg program, torchaudio or torchcodec is
needed.
"""

import io
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np


try:
    import av
except ImportError:  # arrays can be classified without it; `load_audio` says what to install
    av = None


SAMPLING_RATE = 16_000
BLOCK_SIZE = 1 << 20  # samples of a file that are resampled at once


def _require_av():
    if av is None:
        raise ImportError("Reading or resampling audio needs PyAV: pip install av")


def load_audio(source: str | os.PathLike | bytes, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Reads the first audio stream of a file.

    Args:
        source: path of a file, or its content as bytes.
        sampling_rate: of the result, in Hz.

    Returns:
        float32 mono samples of shape `(samples,)`; the channels of the file are averaged.

    Raises:
        ValueError: if the source holds no readable audio, or samples that are no finite numbers; the message names
            the file.
        FileNotFoundError: if there is no such file.
    """
    _require_av()
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else name) as container:
            if not container.streams.audio:
                raise ValueError(f"{name} holds no audio stream.")
            samples = _resample_frames(container.decode(audio=0), sampling_rate)
    except FileNotFoundError:
        raise
    except av.error.FFmpegError as error:
        raise ValueError(f"{name} cannot be read as audio: {error.strerror}.") from error
    check_finite(samples, name)
    return samples


def check_finite(samples: np.ndarray, name: str):
    """Raises ValueError if a sample is NaN or infinite: a model would answer with NaN, and learn nothing else."""
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} holds samples that are NaN or infinite.")


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resamples float32 mono `samples` of shape `(samples,)` from `from_rate` to `to_rate` Hz."""
    if from_rate == to_rate:
        return samples
    _require_av()
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32, copy=False)[None], format="flt", layout="mono")
    frame.sample_rate = from_rate
    return _resample_frames([frame], to_rate)


def split_windows(num_samples: int, window: int, shortest: int) -> list[tuple[int, int]]:
    """Start and end of the windows that a clip is heard in: side by side, `window` samples each (paper, section 4.1).

    A rest of fewer than `shortest` samples joins the window before it, so that no sample is lost.
    """
    starts = list(range(0, max(num_samples, 1), window))
    if len(starts) > 1 and num_samples - starts[-1] < shortest:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_samples], strict=True))


def resampled_blocks(frames: Iterable, sampling_rate: int) -> Iterator[np.ndarray]:
    """Turns PyAV's audio frames into float32 mono samples, block by block; the channels are averaged."""
    # FFmpeg's own down-mix adds the channels at -3 dB: equal channels would come out 1.41 times as loud, and clip
    resampler = av.AudioResampler(format="fltp", rate=sampling_rate)
    for block in itertools.chain(_joined(frames), [None]):  # None: what the filter still holds
        for chunk in resampler.resample(block):
            yield chunk.to_ndarray().mean(0)


def _resample_frames(frames, sampling_rate: int) -> np.ndarray:
    chunks = list(resampled_blocks(frames, sampling_rate))
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32)


def _joined(frames):
    """Blocks of `BLOCK_SIZE` samples: a codec's frames are short, and Python takes longer over one than FFmpeg."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # gaps in time are closed
        fifo.write(frame)
        while fifo.samples >= BLOCK_SIZE:
            yield fifo.read(BLOCK_SIZE)
    if fifo.samples:
        yield fifo.read()
