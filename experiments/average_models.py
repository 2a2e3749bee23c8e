"""Averages the weights of models of the same architecture, such as a model and what further training made of it, or a
fine-tuned model and the encoder that it started from.

    python -m experiments.average_models --models runs/voices-2 runs/voices-3 --output_dir runs/voices-4
    python -m experiments.average_models --models whisper-tiny-en runs/mtl --weights 0.3 0.7 --output_dir runs/mean

Fine-tuning on few sentences and voices learns some of them by heart; between before and after, a model keeps most of
what it learnt and forgets less (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). A checkpoint
without heads counts in the encoder alone. The processor is the last model's. Scores change: tune and calibrate the
result before it is used.
"""

from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, AutoModelForAudioClassification, HfArgumentParser, PreTrainedConfig

from modeling_toxmtl import ToxicityMTLProcessor


@dataclass
class AverageArguments:
    """Which models, how much of each, and where their average goes."""

    models: list[str] = field(
        metadata={"help": "Folders or Hub ids, of the same architecture; the last has all parts."}
    )
    output_dir: str = field(metadata={"help": "Folder to write."})
    weights: list[float] | None = field(default=None, metadata={"help": "Share of each; default: the same for all."})

    def __post_init__(self):
        if self.weights and (len(self.weights) != len(self.models) or min(self.weights) <= 0):
            raise ValueError(f"--weights: give a share above 0 for each of the {len(self.models)} models.")


def load_parts(name: str, config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    """The parameters that a checkpoint has of a model with this configuration.

    Raises:
        ValueError: if its architecture is another.
    """
    try:
        model, info = AutoModelForAudioClassification.from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError) as error:  # transformers' report of sizes is a RuntimeError
        raise ValueError(f"--models: {name} has not the parameters of the last model.") from error
    encoder = {key for key in model.state_dict() if key.startswith(f"{model.base_model_prefix}.")}
    if info["unexpected_keys"] or encoder & set(info["missing_keys"]):
        raise ValueError(f"--models: {name} has not the parameters of the last model.")
    return {key: tensor for key, tensor in model.state_dict().items() if key not in info["missing_keys"]}


@torch.no_grad()
def main(args: AverageArguments) -> None:
    """Writes the model whose parameters are the weighted means of those given.

    Raises:
        ValueError: if the models have not the same parameters.
    """
    last = AutoModelForAudioClassification.from_pretrained(args.models[-1], dtype=torch.float32)
    config = AutoConfig.from_pretrained(args.models[-1], architectures=None)  # which would have to be whole
    states = [*(load_parts(name, config) for name in args.models[:-1]), last.state_dict()]
    shares = args.weights or [1.0] * len(states)
    average = {}
    for key in last.state_dict():
        having = [(share, state[key]) for share, state in zip(shares, states, strict=True) if key in state]
        average[key] = sum(share * tensor for share, tensor in having) / sum(share for share, _ in having)
    last.load_state_dict(average)
    last.config.keyword_evidence = last.config.label_thresholds = None  # fitted to the scores of one of them
    last.save_pretrained(args.output_dir)
    ToxicityMTLProcessor.from_pretrained(args.models[-1]).save_pretrained(args.output_dir)


if __name__ == "__main__":
    main(*HfArgumentParser(AverageArguments, description=__doc__).parse_args_into_dataclasses())
