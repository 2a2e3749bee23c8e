"""What rounding costs: a model of this package in PyTorch, and its exports, on the same clips.

    python -m benchmarks.exported --dataset voice_data

Rows: PyTorch in float32, ONNX in float32 and int8, OpenVINO in bfloat16 (which a processor without it computes in
float32). The quality is that of `baselines.py`: average precision of the
labels, and the keywords that are reported, in their order.
"""

from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm
from transformers import HfArgumentParser, pipeline

from benchmarks import write_results
from benchmarks.backbone import processor_name
from benchmarks.baselines import quality
from benchmarks.inference import RELEASED
from modeling_toxmtl.runtime import MODEL_FILES, ToxicityRuntime
from modeling_toxmtl.training.export import export
from modeling_toxmtl.training.folders import load_clips


PYTORCH = "PyTorch, float32"
WEIGHT_FILES = {"onnx": ".onnx", "openvino": ".bin"}
COLUMNS = {  # of a result: the table's title
    "mAP": "mAP",
    "f1": "Keyword F1",
    "false_accept_rate": "FAR",
    "false_reject_rate": "FRR",
    "megabytes": "Weights (MB)",
}


@dataclass
class ExportedArguments:
    """What to compare, and on what."""

    model: str = field(default=RELEASED, metadata={"help": "Of this package: a folder."})
    exports: list[str] = field(
        default_factory=lambda: ["onnx-float32", "onnx-int8", "openvino-bfloat16"],
        metadata={"help": "What to compare: --to and --dtype of toxmtl export."},
    )
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="test", metadata={"help": "Split to judge."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    results_file: str = field(
        default="benchmarks/results/exported.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


def markdown(results: dict[str, dict]) -> str:
    """A row per system."""
    lines = ["| System | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, row in results.items():
        lines.append("| " + " | ".join([name, *(f"{row[column]:.2f}" for column in COLUMNS)]) + " |")
    return "\n".join(lines)


def main(args: ExportedArguments) -> dict[str, dict]:
    """Judges, prints the table and writes the results."""
    rows = load_clips(args.dataset, splits=[args.split], max_samples=args.max_samples)[args.split]
    pipe = pipeline("audio-classification", model=args.model, device="cpu")
    judges, sizes = {PYTORCH: pipe}, {PYTORCH: 4 * sum(weight.numel() for weight in pipe.model.parameters())}
    with TemporaryDirectory() as folder:
        for name in args.exports:
            to, dtype = name.split("-")
            path = export(args.model, Path(folder, name), to=to, dtype=dtype)
            judges[name] = ToxicityRuntime.from_pretrained(path)
            sizes[name] = (path / MODEL_FILES[to]).with_suffix(WEIGHT_FILES[to]).stat().st_size
        results = {}
        for name, judge in judges.items():
            verdicts = [judge(row["audio"]["bytes"], return_keywords=True) for row in tqdm(rows, desc=name)]
            results[name] = quality(rows, verdicts, pipe.processor.keywords) | {"megabytes": sizes[name] / 1e6}
    packages = ("torch", "transformers", "onnxruntime", "openvino")
    about = {"machine": processor_name(), "versions": {name: version(name) for name in packages if find_spec(name)}}
    write_results(args, results, markdown(results), clips=len(rows), **about)
    return results


if __name__ == "__main__":
    main(HfArgumentParser(ExportedArguments, description=__doc__).parse_args_into_dataclasses()[0])
