"""Estimates the word language model that keyword decoding uses, and writes it as ARPA: in the paper, a 4-gram model of
the training transcripts, in which every word but the keywords is the filler.

    python -m datasets_scripts.build_language_model --dataset demo_data --output demo_data/4gram.arpa
    zcat substituted.txt.gz | python -m datasets_scripts.build_language_model --text - --output 4gram.arpa

Design choices:
- `modeling_toxmtl/training/ngram.py` estimates it, with no C++ toolchain. A large text goes to `lmplz` of KenLM where
  that is on the PATH: it sorts on disk, and gives the same model but for a detail of the discounts that `ngram.py`
  names.
- The `kenlm` module of Python cannot write KenLM's binary format; its program `build_binary` makes it of an ARPA file.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal

from datasets import Dataset
from tqdm import tqdm
from transformers import HfArgumentParser

from modeling_toxmtl.io.files import atomic_write
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.ngram import FALLBACK_DISCOUNTS, count_ngrams, estimate, write_arpa


LARGE_TEXT = 2**28  # bytes, some six million transcripts: from here on, `lmplz` is worth a second process
STANDARD_INPUT = "-"
MESSAGE_LENGTH = 2000  # characters shown of what lmplz says when it fails


@dataclass
class LanguageModelArguments:
    """What to read, and how to estimate."""

    output: str = field(metadata={"help": "ARPA file to write; its name ends in .arpa."})
    dataset: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub id of a dataset: the transcripts of its train split, substituted."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    text: list[str] = field(
        default_factory=list,
        metadata={"help": "Instead of a dataset: UTF-8 files, a transcript a line; - is standard input."},
    )
    keywords: str | None = field(
        default=None,
        metadata={
            "help": "Keyword list (JSON) to substitute with. Without it, a dataset takes the packaged list, and text "
            "is used as it is."
        },
    )
    order: int = field(default=4, metadata={"help": "Words of the longest n-grams; kenlm reads orders from 2 to 6."})
    estimator: Literal["auto", "python", "lmplz"] = field(
        default="auto",
        metadata={
            "help": f"auto: lmplz if it is on the PATH, and the text has {LARGE_TEXT // 2**20} MiB or more or comes "
            "from standard input; otherwise python."
        },
    )
    discount_fallback: bool = field(
        default=True,
        metadata={
            "help": "Use fixed discounts where the text has too few rare words to estimate them, as keyword "
            "transcripts have."
        },
    )


def read_text(paths: list[str]) -> Iterator[str]:
    """The lines of UTF-8 files, `-` being standard input. Raises ValueError for a line that is no UTF-8 text."""
    for path in paths:
        if path == STANDARD_INPUT:
            yield from _decode(sys.stdin.buffer, "standard input")
        else:
            with open(path, "rb") as file:
                yield from _decode(file, path)


def _decode(lines, name):
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, line {number}: not UTF-8: {error}") from error


def load_transcripts(name_or_path: str, name: str | None = None) -> Dataset:
    """The column `transcript` of a train split. Raises ValueError if there is none, and as `load_clips` does."""
    splits = load_clips(name_or_path, name)
    if "train" not in splits:
        raise ValueError(f"{name_or_path} has the splits {', '.join(splits)}, and no train split to learn from.")
    return splits["train"].select_columns("transcript")


def run_lmplz(lines: Iterable[str], order: int, discount_fallback: bool, path: str | PathLike) -> None:
    """Streams the lines to `lmplz`, which writes the ARPA file.

    Raises:
        RuntimeError: if it fails; the message ends with its own.
        ValueError: if there is no word.
    """
    with atomic_write(Path(path)) as temporary, tempfile.TemporaryFile() as log:
        command = ["lmplz", "--order", str(order), "--arpa", str(temporary)]
        command += ["--discount_fallback"] if discount_fallback else []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
            try:
                with process.stdin as pipe:
                    has_words = False
                    for line in tqdm(lines, desc="Sending to lmplz", unit=" lines"):
                        words = line.split()
                        has_words = has_words or bool(words)
                        pipe.write(f"{' '.join(words)}\n".encode())
                    if not has_words:
                        raise ValueError("the corpus has no word: a language model needs at least one")
            except BrokenPipeError:
                pass  # it has stopped, and says why in its log
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            log.seek(0)
            message = log.read().decode(errors="replace")[-MESSAGE_LENGTH:]
            raise RuntimeError(f"lmplz failed with exit status {process.returncode}:\n{message}")


def main(args: LanguageModelArguments) -> None:
    """Writes the model. Errors name the argument or the file."""
    if args.order < 1:
        raise ValueError(f"--order is {args.order}: give 1 or more, such as 4")
    if Path(args.output).suffix != ".arpa":
        raise ValueError(f"--output is {args.output}: give a file whose name ends in .arpa")
    if bool(args.text) == bool(args.dataset):
        raise ValueError("give either --dataset or --text")
    if args.estimator == "lmplz" and not shutil.which("lmplz"):
        raise FileNotFoundError("there is no lmplz on the PATH: build KenLM, or use --estimator python")

    files = [Path(path) for path in args.text if path != STANDARD_INPUT]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise FileNotFoundError(f"there is no file {', '.join(missing)}")
    keywords = KeywordList.from_file(args.keywords) if args.keywords else None
    if args.dataset:
        transcripts = load_transcripts(args.dataset, args.dataset_config)
        size, keywords = transcripts.data.nbytes, keywords or KeywordList.default()
        lines = (row["transcript"] for row in transcripts if row["transcript"] is not None)
    else:
        size = sum(path.stat().st_size for path in files)
        lines = read_text(args.text)
    if keywords:
        lines = map(keywords.substitute, lines)

    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    is_large = size >= LARGE_TEXT or STANDARD_INPUT in args.text
    if args.estimator == "lmplz" or args.estimator == "auto" and is_large and shutil.which("lmplz"):
        run_lmplz(lines, args.order, args.discount_fallback, args.output)
    else:
        counts = count_ngrams(lines, args.order)
        write_arpa(estimate(counts, FALLBACK_DISCOUNTS if args.discount_fallback else None), args.output)
    print(f"Wrote the {args.order}-gram language model {args.output}.", file=sys.stderr)


if __name__ == "__main__":
    main(*HfArgumentParser(LanguageModelArguments, description=__doc__).parse_args_into_dataclasses())
