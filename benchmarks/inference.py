"""What judging costs: a model of this package in PyTorch and as exported, at both sizes, and what people use instead.

    python -m benchmarks.inference
    python -m benchmarks.inference --threads 2 --seconds 600

Rows: the released model and one of WavLM Base+ size with random weights, in PyTorch (float32, bfloat16), ONNX Runtime
(float32, int8) and OpenVINO (float32, bfloat16), where it is installed; two single-task models in place of the one
with two heads; the published recipe, `WavLMForSequenceClassification` at Base+ size in float32, by transformers; and
the cascade of faster-whisper (tiny.en, int8) and the keyword list. It has no text classifier, which would cost more.

Design choices:
- A system is a line of Python, as a user would write it. The same line is timed in a process of its own for start-up
  and memory, and in this process for the rest.
- Time is from samples to verdict, keywords with times included. Systems take turns, round by round, so that a change
  in the machine's speed meets all of them; the median counts. The clips are 15 s of the example recordings one after
  the other, and the shortest example as it is. What is measured first fills caches and does not count.
- A model of random weights spells noise, which no decoder reads in a time that says anything: its keyword head is
  held at the blank, and its decoding costs next to nothing.
- With one thread, time is the processor's, which other programs do not lengthen; with more, that of the clock.
- Start-up is from the start of Python to the first verdict, and memory the largest resident size of that process
  (Linux alone tells). An exported model does not import PyTorch there.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import HfArgumentParser

from benchmarks import write_results
from benchmarks.backbone import processor_name, timed
from benchmarks.baselines import clip_of_15s
from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL, WavLMToxicityMTLConfig, WhisperForToxicityMTL
from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.inputs import speech_feature_extractor
from modeling_toxmtl.training.export import export


RELEASED = "model_cards/whisper-tiny-en-toxmtl"
EXAMPLES = sorted(Path("docs/examples").glob("*.ogg"))
PUBLISHED = "published recipe: WavLM Base+ classifier, transformers, float32"
CASCADE = "cascade: faster-whisper tiny.en in int8, keyword list"
OPENVINO = "openvino"
LOADED = {  # how a user loads each kind of system
    "torch": "import modeling_toxmtl, torch, transformers; torch.set_num_threads({threads}); "
    "judge = transformers.pipeline('audio-classification', model={path!r}, dtype={dtype!r}, device='cpu')",
    "exported": "from modeling_toxmtl.runtime import ToxicityRuntime; "
    "judge = ToxicityRuntime.from_pretrained({path!r}, threads={threads})",
    "two models": "import modeling_toxmtl, torch, transformers; torch.set_num_threads({threads}); "
    "pipes = [transformers.pipeline('audio-classification', model=path, device='cpu') for path in {path!r}]; "
    "judge = lambda clip, **options: [pipe(clip, **options) for pipe in pipes]",
    "published": "import torch; torch.set_num_threads({threads}); "
    "from benchmarks.baselines import load_base_plus; judge = load_base_plus()",
    "cascade": "from datasets_scripts.convert_whisper import packaged_model; "
    "from benchmarks.baselines import load_cascade; "
    "from modeling_toxmtl.data.label import KeywordArguments, LabelArguments; "
    "judge = load_cascade(str(packaged_model().parent), 'int8', {threads}, LabelArguments(), KeywordArguments())",
}
STARTED = """
import os, sys
sys.path.insert(0, os.getcwd())
{load}
import numpy
judge(numpy.load(sys.argv[1]), return_keywords=True)
import time
print(time.process_time(), next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
COLUMNS = {  # of a result: the table's title, and the format
    "real_time_factor": ("Real-time factor", "{:.4f}"),
    "speed": ("Speed", "{:.1f}×"),
    "latency": ("Short clip (s)", "{:.3f}"),
    "start_up": ("Start-up (s)", "{:.1f}"),
    "peak_memory": ("Memory (MB)", "{:.0f}"),
    "megabytes": ("Weights (MB)", "{:.0f}"),
}


@dataclass
class InferenceArguments:
    """What to time, and for how long."""

    model: str = field(default=RELEASED, metadata={"help": "Of this package: a folder."})
    threads: int = field(default=1, metadata={"help": "CPU threads of every system."})
    rounds: int = field(default=7, metadata={"help": "Times that each system is timed, at most."})
    seconds: float = field(default=420.0, metadata={"help": "After this long, no further round is started."})
    base_plus: bool = field(default=True, metadata={"help": "Time WavLM Base+ size too."})
    work_dir: str = field(
        default="runs/inference", metadata={"help": "Folder for exported models, which are kept for the next run."}
    )
    results_file: str = field(
        default="benchmarks/results/inference.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


@dataclass(frozen=True)
class System:
    """A row of the table: how it is loaded, one of `LOADED`, and from where."""

    kind: str
    threads: int
    path: str | list[str] = ""
    dtype: str = "float32"

    @property
    def code(self) -> str:
        """Python that makes `judge`."""
        return LOADED[self.kind].format(path=self.path, dtype=self.dtype, threads=self.threads)

    @property
    def environment(self) -> dict[str, str]:
        """Of its process."""
        return os.environ | ({"TOXMTL_WITHOUT_MODELS": "1"} if self.kind == "exported" else {})

    def load(self) -> Callable:
        """`judge(samples, return_keywords=True)`."""
        names: dict = {}
        exec(self.code, names)
        return names["judge"]


def base_plus_model(folder: Path) -> Path:
    """WavLM Base+ size with random weights and a silent keyword head, unless the folder has it already."""
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        model = WavLMForToxicityMTL(WavLMToxicityMTLConfig())
        torch.nn.init.constant_(model.lm_head.bias[model.config.pad_token_id : model.config.pad_token_id + 1], 1e3)
        model.save_pretrained(folder)
        ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer()).save_pretrained(folder)
    return folder


def single_task_models(model: str, folder: Path) -> list[str]:
    """A classifier and a transcriber of a model's encoder, each in a folder of its own."""
    for task in ("classification", "keyword"):
        if not (folder / task / "model.safetensors").exists():
            parts = WhisperForToxicityMTL.from_pretrained(model, tasks=[task], keyword_evidence=None)
            parts.save_pretrained(folder / task)
            ToxicityMTLProcessor.from_pretrained(model).save_pretrained(folder / task)
    return [str(folder / task) for task in ("classification", "keyword")]


def exported(model: str | Path, folder: Path, to: str, dtype: str) -> str:
    """The folder of an export, made unless it is there."""
    if not (folder / "export.json").exists():
        export(model, folder, to=to, dtype=dtype)
    return str(folder)


def systems(args: InferenceArguments) -> dict[str, System]:
    """Every row, by name; what must be made for it first is made."""
    work, threads = Path(args.work_dir), args.threads
    models = {Path(args.model).name: args.model}
    if args.base_plus:
        models["WavLM Base+ size"] = str(base_plus_model(work / "base_plus"))
    rows = {}
    for name, model in models.items():
        for dtype in ("float32", "bfloat16"):
            rows[f"{name}, PyTorch {dtype}"] = System("torch", threads, model, dtype)
        graphs = [("onnx", "float32"), ("onnx", "int8")]
        if find_spec(OPENVINO):
            graphs += [(OPENVINO, "float32"), (OPENVINO, "bfloat16")]
        for to, dtype in graphs:
            path = exported(model, work / f"{Path(model).name}-{to}-{dtype}", to, dtype)
            rows[f"{name}, {to} {dtype}"] = System("exported", threads, path, dtype)
    rows["two single-task models, PyTorch float32"] = System(
        "two models", threads, single_task_models(args.model, work / "single")
    )
    rows[PUBLISHED] = System("published", threads)
    if find_spec("faster_whisper"):
        rows[CASCADE] = System("cascade", threads)
    return rows


def time_in_turns(judges: dict[str, Callable], clips: dict[str, np.ndarray], args: InferenceArguments) -> dict:
    """Median seconds of each system on each clip, by name."""
    times = {name: {clip: [] for clip in clips} for name in judges}
    start = time.perf_counter()
    for number in range(args.rounds + 1):
        for name, judge in judges.items():
            for clip, samples in clips.items():
                seconds = timed(partial(judge, samples, return_keywords=True), "cpu")
                if number:  # the first fills caches
                    times[name][clip].append(seconds)
        if number and time.perf_counter() - start > args.seconds:
            break
    return {
        name: {"rounds": number} | {clip: statistics.median(values) for clip, values in of_clips.items()}
        for name, of_clips in times.items()
    }


def start(system: System, clip: Path) -> dict[str, float]:
    """Seconds to the first verdict in a new process, and its largest resident size in bytes."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", STARTED.format(load=system.code), str(clip)]
    result = subprocess.run(command, env=system.environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{system.code}\n{result.stderr}")
    seconds = time.perf_counter() - begin
    *_, processor_seconds, kilobytes = result.stdout.split()
    return {
        "start_up": float(processor_seconds) if system.threads == 1 else seconds,
        "peak_memory": 1024 * int(kilobytes),
    }


def weights_size(system: System) -> int:
    """Bytes of the files of weights; 0 for what has none of its own here."""
    folders = [system.path] if isinstance(system.path, str) else system.path
    names = ("model.safetensors", "model.onnx", "model.bin")
    files = [Path(folder, name) for folder in folders if folder for name in names]
    return sum(file.stat().st_size for file in files if file.exists())


def markdown(results: dict[str, dict]) -> str:
    """A row per system; speed is relative to the published recipe's."""
    lines = ["| System | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    reference = results[PUBLISHED]["real_time_factor"]
    for name, row in results.items():
        row = row | {
            "speed": reference / row["real_time_factor"],
            "peak_memory": row["peak_memory"] / 1e6,
            "megabytes": row["weights"] / 1e6,
        }
        cells = [pattern.format(row[column]) for column, (_, pattern) in COLUMNS.items()]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def main(args: InferenceArguments) -> dict[str, dict]:
    """Measures, prints the table and writes the results."""
    rows = systems(args)
    sounds = [load_audio(path) for path in EXAMPLES]
    clips = {"15 s": clip_of_15s(sounds), "short": min(sounds, key=len)}
    short = Path(args.work_dir, "short.npy")
    np.save(short, clips["short"])
    started = {name: start(system, short) for name, system in rows.items()}
    judges = {name: system.load() for name, system in rows.items()}
    torch.set_num_threads(args.threads)
    times = time_in_turns(judges, clips, args)
    results = {
        name: {
            "real_time_factor": times[name]["15 s"] / 15,
            "latency": times[name]["short"],
            "rounds": times[name]["rounds"],
            "weights": weights_size(system),
            **started[name],
        }
        for name, system in rows.items()
    }
    packages = ("torch", "transformers", "onnxruntime", OPENVINO, "faster-whisper", "ctranslate2")
    write_results(
        args,
        results,
        markdown(results),
        machine=processor_name(),
        cores=os.cpu_count(),
        short_clip_seconds=len(clips["short"]) / SAMPLING_RATE,
        versions={name: version(name) for name in packages if find_spec(name.replace("-", "_"))},
        systems={name: json.loads(json.dumps(vars(system))) for name, system in rows.items()},
    )
    return results


if __name__ == "__main__":
    main(HfArgumentParser(InferenceArguments, description=__doc__).parse_args_into_dataclasses()[0])
