"""What training takes at the paper's scale: counted operations and activations, measured speed on this processor, and
what follows for GPUs.

    python -m benchmarks.paper_scale --dataset voice_data

Counted without computing anything: the operations of a training step of WavLM Base+ on clips of 15 s, and the bytes
that it keeps for the backward pass. Measured, in seconds of one core: a training step in bfloat16, a product of large
matrices, which says how fast the core is at best, and the decoding of a data set's clips. The GPU hours are an
estimate, not a measurement: operations / (published peak * utilisation).
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import HfArgumentParser

from benchmarks import write_results
from experiments.study import processor_name
from modeling_toxmtl import WavLMForToxicityMTL, WavLMToxicityMTLConfig
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.training.dataset import read_encoded
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.provenance import PACKAGES


SYSTEMS = {
    "Toxicity Classifier": {"tasks": ["classification"]},
    "Audio to Keyword": {"tasks": ["keyword"]},
    "MTL": {},
    "MTL + Info. Sharing": {"use_info_sharing": True},
    "MTL + Task Adapter": {"use_task_adapter": True},
}
CLIP_SECONDS = 15.0
# Dense bfloat16 peaks of the data sheets, in TFLOP/s
GPUS = {"8 x A100": 8 * 312, "1 x A100": 312, "1 x H100 SXM": 989, "1 x L4": 121}
BYTES_PER_PARAMETER = 16  # weights, gradients and two moments of AdamW in float32


@dataclass
class PaperScaleArguments:
    """Scale, assumptions, and what is measured."""

    dataset: str = field(default="voice_data", metadata={"help": "Data set whose clips are decoded."})
    hours: float = field(default=4080.3, metadata={"help": "Hours of training clips (paper, Table 1)."})
    epochs: float = field(default=25, metadata={"help": "Epochs (paper: up to 25)."})
    batch_size: int = field(default=32, metadata={"help": "Clips per GPU (paper: 32)."})
    utilisation: float = field(default=0.35, metadata={"help": "Share of a GPU's peak that training reaches."})
    repeats: int = field(default=3, metadata={"help": "Repeats of what is measured; the fastest counts."})
    results_file: str = field(
        default="benchmarks/results/paper_scale.json", metadata={"help": "Where results go; a table beside it."}
    )


def build(fields: dict, device: str) -> WavLMForToxicityMTL:
    """A model of Base+ size as it is trained."""
    with torch.device(device):
        return WavLMForToxicityMTL(WavLMToxicityMTLConfig(apply_spec_augment=False, layerdrop=0.0, **fields)).train()


def step(model: WavLMForToxicityMTL, clips: torch.Tensor) -> None:
    """Forward and backward pass in bfloat16; the losses themselves cost next to nothing."""
    with torch.autocast(clips.device.type, torch.bfloat16) if clips.device.type != "meta" else nullcontext():
        outputs = model(clips)
    heads = [head for head in (outputs.logits, outputs.keyword_logits) if head is not None]
    sum(head.float().sum() for head in heads).backward()


def count(fields: dict) -> dict[str, float]:
    """Parameters, and of one clip of 15 s: operations of a training step, and bytes kept for its backward pass, half
    of them in bfloat16."""
    model = build(fields, "meta")
    clips = torch.zeros(1, round(CLIP_SECONDS * SAMPLING_RATE), device="meta")
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        step(model, clips)
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    activations = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    return {
        "parameters": model.num_parameters(),
        "tflop": counter.get_total_flops() / 1e12,
        "activation_gb": activations / 1e9,
    }


def core_seconds(function: Callable[[], object], repeats: int) -> float:
    """Seconds of one core that a call takes, the least of several, after one to warm up."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure(args: PaperScaleArguments) -> dict[str, float]:
    """Speed of one core: at best, in training, and in decoding."""
    torch.set_num_threads(1)
    matrices = torch.randn(2, 2048, 2048).bfloat16()
    best = 2 * 2048**3 / core_seconds(lambda: matrices[0] @ matrices[1], args.repeats)
    model, clips = build({}, "cpu"), torch.randn(4, 5 * SAMPLING_RATE)
    with FlopCounterMode(display=False) as counter:
        step(model, clips)
    seconds = core_seconds(lambda: step(model, clips), args.repeats)
    rows = load_clips(args.dataset, max_samples=100)["train"]
    encoded = [read_encoded(row["audio"], args.dataset) for row in rows]
    decoded = sum(len(load_audio(audio, SAMPLING_RATE)) for audio in encoded) / SAMPLING_RATE
    return {
        "best_gflops": best / 1e9,
        "training_gflops": counter.get_total_flops() / seconds / 1e9,
        "training_seconds_per_second": seconds / 20,
        "decoded_seconds_per_second": decoded
        / core_seconds(lambda: [load_audio(audio, SAMPLING_RATE) for audio in encoded], args.repeats),
    }


def gpu_hours(tflop_per_clip: float, args: PaperScaleArguments, peak: float) -> float:
    """Hours of all epochs at a peak in TFLOP/s."""
    clips = args.epochs * args.hours * 3600 / CLIP_SECONDS
    return clips * tflop_per_clip / (peak * args.utilisation) / 3600


def markdown(results: dict) -> str:
    """A row per system."""
    header = ["System", "Parameters (M)", "TFLOP per clip", "Memory per GPU (GB)", *(f"{name} (h)" for name in GPUS)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, row in results["systems"].items():
        hours = [f"{row['hours'][gpu]:.1f}" for gpu in GPUS]
        lines.append(
            [name, f"{row['parameters'] / 1e6:.1f}", f"{row['tflop']:.2f}", f"{row['memory_gb']:.0f}", *hours]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(args: PaperScaleArguments) -> dict:
    """Counts, measures, writes and returns the results."""
    systems = {}
    for name, fields in SYSTEMS.items():
        counted = count(fields)
        # autocast keeps most activations in bfloat16; they are counted in float32
        activations = args.batch_size * counted["activation_gb"] / 2
        systems[name] = {
            **counted,
            "memory_gb": activations + BYTES_PER_PARAMETER * counted["parameters"] / 1e9,
            "hours": {gpu: gpu_hours(counted["tflop"], args, peak) for gpu, peak in GPUS.items()},
        }
    results = {"systems": systems, "core": measure(args)}
    versions = {name: version(name) for name in PACKAGES}
    write_results(args, results, markdown(results), versions=versions, processor=processor_name())
    return results


if __name__ == "__main__":
    torch.manual_seed(0)
    main(*HfArgumentParser(PaperScaleArguments, description=__doc__).parse_args_into_dataclasses())
