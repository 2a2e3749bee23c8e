"""Recordings with known speech, and few enough of them for a test to run the pipeline."""

from pathlib import Path

import numpy as np

from modeling_toxmtl.audio import SAMPLING_RATE
from modeling_toxmtl.io.opus import encode_dtx, ogg_file


SPANS = [(1.0, 2.2), (4.0, 5.5), (6.6, 7.0)]  # seconds of speech in `recording`


def burst(seconds: float, seed: int = 0) -> np.ndarray:
    """What libopus takes for speech: harmonics of a gliding pitch, in syllables of 0.25 s."""
    time = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    pitch = 120 + 15 * np.sin(2 * np.pi * 1.3 * time) + 5 * seed
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    return (0.15 * voice * (1.2 + np.cos(2 * np.pi * 4 * time)) / 2).astype(np.float32)


def speech_with_pauses(spans: list[tuple[float, float]], seconds: float) -> np.ndarray:
    """Samples of 16 kHz that are silent but for the spans."""
    samples = np.zeros(round(seconds * SAMPLING_RATE), dtype=np.float32)
    for number, (start, end) in enumerate(spans):
        first = round(start * SAMPLING_RATE)
        piece = burst(end - start, number)
        samples[first : first + len(piece)] = piece
    return samples


def dtx_file(spans: list[tuple[float, float]], seconds: float) -> bytes:
    """An Ogg-Opus file with DTX, of one speaker."""
    return ogg_file(encode_dtx(speech_with_pauses(spans, seconds), SAMPLING_RATE, 24_000))


def write_recordings(folder: Path, count: int = 3) -> Path:
    """Recordings of two sentences each, and their transcripts; every second one is toxic."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        first, second = (1.0, 2.0 + number / 10), (4.0, 5.5)
        (folder / f"call-{number}.ogg").write_bytes(dtx_file([first, second], 7.0))
        texts = ("hello my friend", "shut up you idiot" if number % 2 else "a nice crap game")
        for (start, end), text in zip((first, second), texts, strict=True):
            lines.append(f'{{"path": "call-{number}.ogg", "start": {start}, "end": {end}, "text": "{text}"}}\n')
    (folder.parent / "transcripts.jsonl").write_text("".join(lines).replace('"call-', f'"{folder.name}/call-'))
    return folder
