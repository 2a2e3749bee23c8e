"""A smaller model of some of another's blocks, for a student to start from.

    python -m experiments.keep_blocks --model runs/mine --blocks 0 2 --output_dir runs/student

The weights are the model's own, and so are heads and processor; what the blocks that are left make of a clip is
another thing until the student is trained (`run_mtl.py --teacher`).
"""

from dataclasses import dataclass, field

from torch import nn
from transformers import AutoModelForAudioClassification, HfArgumentParser

from modeling_toxmtl import ToxicityMTLProcessor


@dataclass
class KeepArguments:
    """Of which model, and what."""

    model: str = field(metadata={"help": "Folder or Hub id of a model of this package."})
    blocks: list[int] = field(metadata={"help": "Numbers of the blocks to keep, from 0, in order."})
    output_dir: str = field(metadata={"help": "Folder to write."})


def main(args: KeepArguments) -> None:
    """Writes the smaller model.

    Raises:
        ValueError: if there are no such blocks, or the model has parts that stand between them.
    """
    model = AutoModelForAudioClassification.from_pretrained(args.model, dtype="float32")
    config, encoder = model.config, model.base_model.encoder
    if args.blocks != sorted(set(args.blocks)) or not set(args.blocks) <= set(range(len(encoder.layers))):
        raise ValueError(f"--blocks: name some of 0 to {len(encoder.layers) - 1}, in order, each once.")
    if 0 not in args.blocks:  # WavLM's has the table of distances, and Whisper's hears the convolutions
        raise ValueError("--blocks: keep block 0, which the others build upon.")
    if config.use_task_adapter or config.classifier_layer is not None:
        raise ValueError(f"{args.model} has task adapters or a classifier between its blocks: choose another model.")
    encoder.layers = nn.ModuleList(encoder.layers[number] for number in args.blocks)
    config.num_hidden_layers = len(args.blocks)
    config.keyword_evidence = config.label_thresholds = None  # fitted to the scores of the whole
    model.save_pretrained(args.output_dir)
    ToxicityMTLProcessor.from_pretrained(args.model).save_pretrained(args.output_dir)


if __name__ == "__main__":
    main(*HfArgumentParser(KeepArguments, description=__doc__).parse_args_into_dataclasses())
