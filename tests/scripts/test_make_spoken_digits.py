import itertools
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import RATE, SPEECH_FRAMES, tiny_processor, wav
from tiny_models import tiny_config
from transformers import HfArgumentParser

import datasets_scripts
from datasets_scripts import make_spoken_digits
from datasets_scripts.make_spoken_digits import (
    DIGITS,
    KEYWORDS,
    RECORDINGS,
    SpokenDigitsArguments,
    load_recordings,
    main,
    make_clip,
)
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.training.dataset import RowInspector, inspect_rows
from modeling_toxmtl.training.folders import load_clips


REAL_RECORDINGS = Path(datasets_scripts.__file__).parents[2] / "shared" / "data" / "spoken_digits.parquet"
SPEAKERS = ("ann", "bob")


def seconds_of(digit: int, index: int) -> float:
    return 0.15 + 0.01 * digit + 0.001 * index


def frequency_of(digit: int) -> float:
    return 300.0 + 200 * digit


def tone_of(digit: int, index: int) -> np.ndarray:
    """A recording at 8 kHz: its digit decides the pitch, digit and index the length."""
    times = np.arange(round(seconds_of(digit, index) * 8_000)) / 8_000
    return (0.1 * np.sin(2 * np.pi * frequency_of(digit) * times)).astype(np.float32)


@pytest.fixture(scope="module")
def recordings_file(tmp_path_factory):
    rows = [
        {
            "file": f"{digit}_{speaker}_{index}.wav",
            "speaker": speaker,
            "digit": digit,
            "index": index,
            "seconds": seconds_of(digit, index),
            "sampling_rate": 8_000,
            "flac": wav(tone_of(digit, index), 8_000),
        }
        for speaker, digit, index in itertools.product(SPEAKERS, range(10), range(50))
    ]
    path = tmp_path_factory.mktemp("recordings") / "digits.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def recordings(recordings_file):
    return load_recordings(recordings_file)


def takes_of(row) -> list[tuple[int, str, int]]:
    """Digit, speaker and index of the recordings that a clip is made of."""
    takes = [name.split("_") for name in row["source"].split("+")]
    return [(int(digit), speaker, int(index)) for digit, speaker, index in takes]


# --- one clip


def test_recordings_are_at_16_khz(recordings):
    assert set(recordings) == set(itertools.product(SPEAKERS, range(10), range(50)))
    for digit, index in ((0, 0), (9, 49)):
        assert len(recordings["ann", digit, index]) == pytest.approx(seconds_of(digit, index) * RATE, abs=2)


@pytest.mark.parametrize("split", RECORDINGS)
def test_clips_are_what_they_say(recordings, split):
    lengths, labels = set(), set()
    for index in range(30):
        clip = make_clip(recordings, split, index, seed=0)
        takes = takes_of(vars(clip))
        assert clip.transcript.split() == [DIGITS[digit] for digit, _, _ in takes]
        assert {speaker for _, speaker, _ in takes} == {clip.speaker}
        assert all(take in RECORDINGS[split] for _, _, take in takes)
        assert clip.labels == (("Other",) if set(clip.transcript.split()) & set(KEYWORDS) else ("NoViolation",))
        assert (clip.id, clip.split) == (f"{split}-{index:05d}", split)
        pauses = clip.duration - sum(seconds_of(digit, take) for digit, _, take in takes)
        assert 0.05 * (len(takes) + 1) - 0.01 < pauses < 0.3 * (len(takes) + 1) + 0.01
        assert len(load_audio(clip.audio)) == round(clip.duration * RATE)
        lengths.add(len(takes))
        labels.add(clip.labels)
    assert (min(lengths), max(lengths), len(labels)) == (3, 8, 2)


def loud_parts(samples: np.ndarray) -> list[np.ndarray]:
    """The parts between pauses of 40 ms or more."""
    frames = np.abs(samples[: len(samples) // 160 * 160].reshape(-1, 160)).max(1) > 0.05  # 10 ms each
    parts, start = [], None
    for frame, is_loud in enumerate([*frames, *[False] * 4]):
        if is_loud and start is None:
            start = frame
        elif start is not None and not frames[frame : frame + 4].any():
            parts.append(samples[start * 160 : frame * 160])
            start = None
    return parts


def test_digits_are_heard_in_order(recordings):
    for index in range(8):
        clip = make_clip(recordings, "train", index, seed=3)
        parts = loud_parts(load_audio(clip.audio))
        digits = [DIGITS.index(word) for word in clip.transcript.split()]
        assert len(parts) == len(digits)
        for part, digit in zip(parts, digits, strict=True):
            peak = np.abs(np.fft.rfft(part, RATE)).argmax()  # a bin is 1 Hz
            assert peak == pytest.approx(frequency_of(digit), abs=20)
            assert 0.15 < np.abs(part).max() < 0.95  # drawn from 0.2 to 0.8, and Opus adds a little


def test_chance_comes_from_seed_split_and_index(recordings):
    def clip(split="train", index=0, seed=0):
        return make_clip(recordings, split, index, seed)

    assert clip() == clip()
    assert len({(c.source, c.audio) for c in (clip(), clip("test"), clip(index=1), clip(seed=1))}) == 4


def test_silent_recording_stays_silent(recordings):
    silent = {key: np.zeros_like(recording) for key, recording in recordings.items()}
    assert np.abs(load_audio(make_clip(silent, "test", 0, 0).audio)).max() < 1e-3


# --- the data set


def test_data_set(recordings_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    sizes = {"train": 12, "validation": 3, "test": 5}
    for folder in ("first", "second"):
        main(SpokenDigitsArguments(str(recordings_file), str(tmp_path / folder), *sizes.values()))
    assert "Wrote 20 clips" in capsys.readouterr().err
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert [path.name for path in files] == [
        *(f"{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")),
        "keywords.json",
    ]
    for path in files:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes()

    clips = load_clips(str(tmp_path / "first"))
    assert {split: len(rows) for split, rows in clips.items()} == sizes
    used = {split: {take for row in rows for take in takes_of(row)} for split, rows in clips.items()}
    assert not any(used[one] & used[other] for one, other in itertools.combinations(used, 2))

    keywords = KeywordList.from_file(tmp_path / "first" / "keywords.json")
    assert keywords.keywords == ["two", "seven", "nine"]
    assert keywords.substitute("one two seven zero") == "good two seven good"
    inspector = RowInspector(tiny_processor(keywords), tiny_config(**SPEECH_FRAMES))
    for rows in clips.values():
        usable, rejected = inspect_rows(rows, inspector)
        assert rejected == [] and len(usable) == len(rows)


def test_arguments(tmp_path, capsys):
    parser = HfArgumentParser(SpokenDigitsArguments, description=make_spoken_digits.__doc__)
    (args,) = parser.parse_args_into_dataclasses(["--recordings", "digits.parquet", "--test_clips", "7"])
    assert (args.recordings, args.test_clips, args.output_dir) == ("digits.parquet", 7, "digits_data")
    with pytest.raises(SystemExit):
        parser.parse_args_into_dataclasses([])
    assert "--recordings" in capsys.readouterr().err


def test_splits_share_no_recording():
    takes = [take for split in RECORDINGS.values() for take in split]
    assert sorted(takes) == list(range(50))  # each once, all used
    assert list(RECORDINGS["test"]) == [0, 1, 2, 3, 4]  # as the data set's authors have it


if REAL_RECORDINGS.exists():

    def test_real_recordings(tmp_path, monkeypatch):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        main(SpokenDigitsArguments(str(REAL_RECORDINGS), str(tmp_path / "digits"), 3, 2, 4))
        clips = load_clips(str(tmp_path / "digits"))
        table = pq.read_table(REAL_RECORDINGS, columns=["file", "seconds"]).to_pylist()
        seconds = {row["file"].removesuffix(".wav"): row["seconds"] for row in table}
        for row in clips["test"]:
            speech = sum(seconds[name] for name in row["source"].split("+"))
            assert speech < row["duration"] < speech + 9 * 0.3 + 0.01
            samples = load_audio(row["audio"]["bytes"])
            assert len(samples) == pytest.approx(row["duration"] * RATE, abs=2)
            assert 0.15 < np.abs(samples).max() < 1.2
