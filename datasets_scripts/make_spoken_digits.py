"""Builds a keyword-detection set of real speech from the Free Spoken Digit Dataset: digit sequences, three digits of
which are the keywords.

The source is one Parquet file with a row per recording (columns `speaker`, `digit`, `index`, `sampling_rate`, `flac`;
Jakobovski et al., CC BY-SA 4.0). A clip is a sequence of recordings of one speaker with short pauses. Splits are
disjoint by recording, as the data set's own (index below 5: test): the speakers are the same, no recording is.

    python -m datasets_scripts.make_spoken_digits --recordings spoken_digits.parquet --output_dir digits_data
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import HfArgumentParser

from datasets_scripts.effects import encode_opus
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.data.schema import Row, write_split
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.labels import NO_VIOLATION


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KEYWORDS = ("two", "seven", "nine")
KEYWORD_LABEL = "Other"
RECORDINGS = {"test": range(0, 5), "validation": range(5, 10), "train": range(10, 50)}  # by index
BIT_RATE = 24_000


@dataclass
class SpokenDigitsArguments:
    """Where the recordings are, and how many clips to make of them."""

    recordings: str = field(metadata={"help": "Parquet file of the recordings."})
    output_dir: str = field(
        default="digits_data", metadata={"help": "Folder to write the data set and its keyword list to."}
    )
    train_clips: int = field(default=1500, metadata={"help": "Number of training clips."})
    validation_clips: int = field(default=150, metadata={"help": "Number of validation clips."})
    test_clips: int = field(default=300, metadata={"help": "Number of test clips."})
    seed: int = field(default=0, metadata={"help": "The same seed and sizes give the same clips."})


def load_recordings(path: str) -> dict[tuple[str, int, int], np.ndarray]:
    """Waveforms at 16 kHz by speaker, digit and index."""
    rows = pq.read_table(path, columns=["speaker", "digit", "index", "flac"]).to_pylist()
    return {(row["speaker"], row["digit"], row["index"]): load_audio(row["flac"]) for row in rows}


def make_clip(recordings: dict, split: str, index: int, seed: int) -> Row:
    """Three to eight digits said by one speaker, with pauses of 50 to 300 ms."""
    rng = np.random.default_rng([seed, list(RECORDINGS).index(split), index])
    speaker = str(rng.choice(sorted({key[0] for key in recordings})))
    digits = rng.integers(0, 10, size=rng.integers(3, 9))
    takes = rng.choice(RECORDINGS[split], size=len(digits))
    pieces = [_pause(rng)]
    for digit, take in zip(digits.tolist(), takes.tolist(), strict=True):
        recording = recordings[speaker, digit, take]
        pieces += [recording / max(np.abs(recording).max(), 1e-3) * rng.uniform(0.2, 0.8), _pause(rng)]
    samples = np.concatenate(pieces).astype(np.float32)
    words = [DIGITS[digit] for digit in digits]
    return Row(
        id=f"{split}-{index:05d}",
        audio=encode_opus(samples, SAMPLING_RATE, BIT_RATE),
        duration=len(samples) / SAMPLING_RATE,
        labels=(KEYWORD_LABEL,) if set(words) & set(KEYWORDS) else (NO_VIOLATION,),
        transcript=" ".join(words),
        speaker=speaker,
        source="+".join(f"{digit}_{speaker}_{take}" for digit, take in zip(digits, takes, strict=True)),
        split=split,
    )


def _pause(rng):
    return np.zeros(round(rng.uniform(0.05, 0.3) * SAMPLING_RATE), dtype=np.float32)


def main(args: SpokenDigitsArguments) -> None:
    """Writes the splits and `keywords.json`."""
    recordings = load_recordings(args.recordings)
    sizes = {"train": args.train_clips, "validation": args.validation_clips, "test": args.test_clips}
    for split, size in sizes.items():
        clips: Iterator[Row] = (make_clip(recordings, split, index, args.seed) for index in range(size))
        write_split(tqdm(clips, total=size, desc=split, unit="clip"), args.output_dir, split)
    keywords = KeywordList([KeywordEntry(word, (KEYWORD_LABEL,)) for word in KEYWORDS])
    keywords.save(f"{args.output_dir}/keywords.json")
    print(f"Wrote {sum(sizes.values())} clips and keywords.json to {args.output_dir}.", file=sys.stderr)


if __name__ == "__main__":
    main(*HfArgumentParser(SpokenDigitsArguments, description=__doc__).parse_args_into_dataclasses())
