"""What judging costs: a model of this package in PyTorch and as exported, at both sizes, and what people use instead.

    python -m benchmarks.inference
    python -m benchmarks.inference --device cuda

Rows: the released model and one of WavLM Base+ size with random weights, in PyTorch (float32, and bfloat16 where the
processor multiplies it), ONNX Runtime (float32, int8) and OpenVINO (where it is installed); two single-task models in
place of the one with two heads; the published recipe, `WavLMForSequenceClassification` at Base+ size in float32, by
transformers; the cascade of faster-whisper (tiny.en, int8) and the keyword list, without a text classifier, which
would cost more; and Whisper base and small by shape, as a better cascade would begin. On a GPU the rows are those that
PyTorch runs, and the cascade as faster-whisper chooses.

Then how the released model scales, and what it does beside a process that keeps a core busy (`scaling.py`).

Design choices:
- A system is a line of Python, as a user would write it, in a process of its own (`systems.py`).
- Time is from samples to verdict, keywords with times included. Systems take turns, round by round, so that a change
  in the machine's speed meets all of them; the median counts. The clips are 15 s of the example recordings one after
  the other without their silence, and the shortest example as it is. What is measured first does not count.
- A model of random weights spells noise, which no decoder reads in a time that says anything: its keyword head is
  held at the blank, and its decoding costs next to nothing.
- With one thread on a CPU, time is the processor's, which other programs do not lengthen; else that of the clock.
- Start-up is from the start of Python to the first verdict, and memory the largest resident size of that process
  (Linux alone tells). An exported model does not import PyTorch there.
- The floor is the time in which the machine would do the model's floating-point operations at the rate of a large
  matrix product in float32, measured in the same run: less than one floor is what int8 or bfloat16 gain.
- A core hour has a price, and a system uses as many cores as it has threads.
"""

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import HfArgumentParser

from benchmarks import write_results
from benchmarks.backbone import matrix_rate, processor_name
from benchmarks.baselines import clip_of_15s
from benchmarks.scaling import LENGTHS, draw, neighbours, neighbours_table, rounds_of, scaling, scaling_table, workers
from benchmarks.systems import OPENVINO, PUBLISHED, System, exported, operations, systems, weights_size
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio


RELEASED = "model_cards/whisper-tiny-en-toxmtl"
EXAMPLES = sorted(Path("docs/examples").glob("*.ogg"))
IMPORTED = """
import importlib, sys, time
start = time.perf_counter()
importlib.import_module(sys.argv[1] + ".runtime")
print(time.perf_counter() - start)
"""
COLUMNS = {  # of a result: the table's title, and the format
    "real_time_factor": ("Real-time factor", "{:.4f}"),
    "speed": ("Speed", "{:.1f}×"),
    "floors": ("Times the floor", "{:.1f}"),
    "dollars": ("USD for 1,000 h", "{:.2f}"),
    "latency": ("Short clip (s)", "{:.3f}"),
    "start_up": ("Start-up (s)", "{:.1f}"),
    "peak_memory": ("Memory (MB)", "{:.0f}"),
    "megabytes": ("Weights (MB)", "{:.0f}"),
}


@dataclass
class InferenceArguments:
    """What to time, and for how long."""

    model: str = field(default=RELEASED, metadata={"help": "Of this package: a folder."})
    device: str = field(default="cpu", metadata={"help": "Of PyTorch: cpu or cuda."})
    threads: int = field(default=1, metadata={"help": "CPU threads of every system, but for what scales."})
    rounds: int = field(default=7, metadata={"help": "Times that each system is timed, at most."})
    seconds: float = field(
        default=420.0,
        metadata={"help": "No further round after this long: half for the systems, a quarter for each further part."},
    )
    base_plus: bool = field(default=True, metadata={"help": "Time larger models of random weights too."})
    price: float = field(default=0.04, metadata={"help": "Of an hour of a core, or of the GPU, in USD."})
    work_dir: str = field(
        default="runs/inference", metadata={"help": "Folder for exported models, which are kept for the next run."}
    )
    results_file: str = field(
        default="benchmarks/results/inference.json",
        metadata={"help": "JSON; the tables go beside it as .md, and the plot as .png."},
    )


def write_clips(path: Path) -> Path:
    """The clips that are timed, by name: "15 s", "short", and one of each of the `LENGTHS`."""
    sounds = [load_audio(file) for file in EXAMPLES]
    long = clip_of_15s(sounds)
    lengths = {str(seconds): np.resize(long, seconds * SAMPLING_RATE) for seconds in LENGTHS}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"15 s": long, "short": min(sounds, key=len), **lengths})
    return path


def time_rows(rows: dict[str, System], clips: Path, args: InferenceArguments, rate: float) -> dict[str, dict]:
    """The figures of each system, by name."""
    with workers(rows, clips) as started:

        def measure():
            return {
                (name, clip): worker.time(f"judge(clips[{clip!r}], return_keywords=True)")
                for name, worker in started.items()
                for clip in ("15 s", "short")
            }

        times, rounds = rounds_of(measure, args.rounds, args.seconds / 2)
    cores = args.threads if args.device == "cpu" else 1
    return {
        name: {
            "real_time_factor": times[name, "15 s"] / 15,
            "operations": operations(row, clips),
            "floor_seconds": (operations(row, clips) or 0) / rate or None,
            "dollars": times[name, "15 s"] / 15 * 1000 * cores * args.price,
            "latency": times[name, "short"],
            "rounds": rounds,
            "weights": weights_size(row),
            "start_up": started[name].start_up,
            "peak_memory": started[name].peak_memory,
        }
        for name, row in rows.items()
    }


def import_seconds(folder: str, repeats: int = 5) -> float:
    """Of the code in an exported folder, in a new process, the median of some."""
    path = Path(folder).resolve()
    command = [sys.executable, "-c", IMPORTED, path.name]
    outputs = [subprocess.run(command, cwd=path.parent, check=True, capture_output=True) for _ in range(repeats + 1)]
    return statistics.median(float(output.stdout) for output in outputs[1:])


def scaled(args: InferenceArguments) -> dict[str, System]:
    """What is scaled, by name."""
    name, ours = Path(args.model).name, System("torch", path=args.model, device=args.device)
    if args.device != "cpu":
        bfloat16 = System("torch", path=args.model, device=args.device, dtype="bfloat16")
        return {f"{name}, PyTorch float32": ours, f"{name}, PyTorch bfloat16": bfloat16}
    return {
        f"{name}, PyTorch float32": ours,
        f"{name}, onnx int8": exported(args.model, args.work_dir, "onnx", "int8"),
    }


def beside_others(args: InferenceArguments) -> dict[str, System]:
    """What runs beside a busy core, by name: each as it is, and the other way to wait for a thread."""
    name, ours = Path(args.model).name, System("torch", path=args.model)
    rows = {"PyTorch float32": ours, "PyTorch float32, not spinning": System("torch", path=args.model, spins=False)}
    for dtype in ("float32", "int8"):
        rows[f"onnx {dtype}"] = exported(args.model, args.work_dir, "onnx", dtype)
        rows[f"onnx {dtype}, spinning"] = exported(args.model, args.work_dir, "onnx", dtype, spins=True)
    if find_spec(OPENVINO):
        rows[f"{OPENVINO} float32"] = exported(args.model, args.work_dir, OPENVINO, "float32")
    return {f"{name}, {row}": system for row, system in rows.items()}


def rows_table(rows: dict[str, dict]) -> str:
    """A row per system; speed is relative to the published recipe's."""
    lines = ["| System | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    reference = rows[PUBLISHED]["real_time_factor"]
    for name, row in rows.items():
        floor = row["floor_seconds"]
        row = row | {
            "speed": reference / row["real_time_factor"],
            "floors": floor and 15 * row["real_time_factor"] / floor,
            "peak_memory": row["peak_memory"] / 1e6,
            "megabytes": row["weights"] / 1e6,
        }
        cells = [
            "-" if row[column] is None else pattern.format(row[column]) for column, (_, pattern) in COLUMNS.items()
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def markdown(results: dict) -> str:
    """All tables."""
    tables = [rows_table(results["systems"]), scaling_table(results["scaling"])]
    if results["neighbours"]:
        tables += [neighbours_table(results["neighbours"])]
        tables += [f"Importing the code of an exported model takes {results['import_seconds']:.2f} s."]
    return "\n\n".join(tables)


def main(args: InferenceArguments) -> dict:
    """Measures, prints the tables and writes the results."""
    torch.set_num_threads(args.threads)
    clips = write_clips(Path(args.work_dir, "clips.npz"))
    rows = systems(args.model, Path(args.work_dir), args.threads, args.device, args.base_plus)
    rate, on_cpu = matrix_rate("float32", args.device), args.device == "cpu"
    results = {
        "systems": time_rows(rows, clips, args, rate),
        "scaling": scaling(scaled(args), clips, args.rounds, args.seconds / 4),
        "neighbours": neighbours(beside_others(args), clips, args.rounds, args.seconds / 4) if on_cpu else {},
        "import_seconds": import_seconds(exported(args.model, args.work_dir, "onnx", "int8").path) if on_cpu else None,
    }
    packages = ("torch", "transformers", "onnxruntime", OPENVINO, "faster-whisper", "ctranslate2")
    write_results(
        args,
        results,
        markdown(results),
        command=" ".join(["python -m benchmarks.inference", *sys.argv[1:]]),
        machine=processor_name() if on_cpu else torch.cuda.get_device_name(),
        cores=os.cpu_count(),
        operations_per_second=rate,
        short_clip_seconds=len(np.load(clips)["short"]) / SAMPLING_RATE,
        versions={name: version(name) for name in packages if find_spec(name.replace("-", "_"))},
        lines={name: row.code for name, row in rows.items()},
    )
    draw(results["scaling"], Path(args.results_file).with_suffix(".png"))
    return results


if __name__ == "__main__":
    main(HfArgumentParser(InferenceArguments, description=__doc__).parse_args_into_dataclasses()[0])
