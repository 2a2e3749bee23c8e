"""Sounds to write and to measure, shared by tests of audio."""

import io

import av
import numpy as np

from modeling_toxmtl.audio import SAMPLING_RATE, join_blocks, track_blocks


def sine(frequency: float, seconds: float = 0.5, rate: int = SAMPLING_RATE, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def encoded(samples: np.ndarray, rate: int, codec: str, container: str) -> bytes:
    """A mono file of a compressed format."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.round(samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate)
        for chunk in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(chunk))
        output.mux(stream.encode(None))
    return file.getvalue()


def main_frequency(samples: np.ndarray, rate: int = SAMPLING_RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


def read_tracks(source: str | bytes) -> list[np.ndarray]:
    """For each track its samples `(channels, samples)`."""
    return [join_blocks(*blocks) for blocks in zip(*track_blocks(source), strict=True)]


def loud_spans(samples: np.ndarray) -> list[tuple[float, float]]:
    """Where sound is, in seconds."""
    blocks = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(1) > 0.1
    edges = np.flatnonzero(np.diff(blocks.astype(int), prepend=0, append=0))
    return [(start / 100, end / 100) for start, end in zip(edges[::2], edges[1::2], strict=True)]
