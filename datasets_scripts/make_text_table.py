"""Writes what the clips of a data set say, with their labels: the table that trains the text filter's classifier.

    python -m datasets_scripts.make_text_table --dataset voice_data --output runs/texts.jsonl
    toxmtl data train-text-filter runs/texts.jsonl --output-dir runs/text_filter

Transcripts are normalised, as a cascade's are before its filter reads them. Clips without words or labels teach the
filter nothing and are left out.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from modeling_toxmtl.io.files import write_json_lines
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.text import normalize_text
from modeling_toxmtl.training.folders import load_clips


@dataclass
class TextTableArguments:
    """Whose texts, and where to."""

    output: str = field(metadata={"help": "Table to write (.jsonl)."})
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    split: str = field(default="train", metadata={"help": "Split to take; not the one that you report results on."})


def main(args: TextTableArguments) -> None:
    """Writes the table and says how many texts it has."""
    clips = load_clips(args.dataset, args.dataset_name, [args.split])[args.split]
    rows = []
    for clip in clips.select_columns(["transcript", "labels"]):
        words, labels = normalize_text(clip["transcript"] or ""), read_labels(clip["labels"])
        if words and labels:
            rows.append({"text": " ".join(words), "labels": labels})
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(Path(args.output), rows)
    print(f"Wrote {len(rows)} texts of {len(clips)} clips to {args.output}.")


if __name__ == "__main__":
    main(*HfArgumentParser(TextTableArguments, description=__doc__).parse_args_into_dataclasses())
