"""Averages the weights of two models of the same architecture, such as a model and what further training made of it.

    python -m experiments.average_models --models runs/voices-2 runs/voices-3 --output_dir runs/voices-4

Fine-tuning on few sentences learns some of them by heart; halfway between before and after, a model keeps most of what
it learnt and forgets less (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The processor is the
last model's. Scores change: tune and calibrate the result before it is used.
"""

from dataclasses import dataclass, field

import torch
from transformers import AutoModelForAudioClassification, HfArgumentParser

from modeling_toxmtl import ToxicityMTLProcessor


@dataclass
class AverageArguments:
    """Which models, and where their average goes."""

    models: list[str] = field(metadata={"help": "Folders or Hub ids, of the same architecture."})
    output_dir: str = field(metadata={"help": "Folder to write."})


@torch.no_grad()
def main(args: AverageArguments) -> None:
    """Writes the model whose parameters are the means of those given.

    Raises:
        ValueError: if the models have not the same parameters.
    """
    models = [AutoModelForAudioClassification.from_pretrained(name, dtype=torch.float32) for name in args.models]
    states = [model.state_dict() for model in models]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise ValueError(f"--models: {', '.join(args.models)} have not the same parameters.")
    *_, last = models
    last.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    last.config.keyword_evidence = last.config.label_thresholds = None  # fitted to the scores of one of them
    last.save_pretrained(args.output_dir)
    ToxicityMTLProcessor.from_pretrained(args.models[-1]).save_pretrained(args.output_dir)


if __name__ == "__main__":
    main(*HfArgumentParser(AverageArguments, description=__doc__).parse_args_into_dataclasses())
