"""What `inference.py` compares: each system is a line of Python, as a user would write it, in a process of its own.

The line makes `judge(clip, return_keywords=True)`; of models of this package, `judge` takes lists too.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.backbone import Case, count_operations, counted, cpu_entry
from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL, WavLMToxicityMTLConfig, WhisperForToxicityMTL
from modeling_toxmtl.alphabet import character_tokenizer
from modeling_toxmtl.inputs import speech_feature_extractor
from modeling_toxmtl.training.export import export


PUBLISHED = "published recipe: WavLM Base+ classifier, transformers, float32"
CASCADE = "cascade: faster-whisper tiny.en in int8, keyword list"
WHISPER = "Whisper {} by shape, transformers, float32, random weights, 40 tokens for each 15 s"
SINGLE = "two single-task models, PyTorch float32"
BASE_PLUS = "WavLM Base+ size"
OPENVINO = "openvino"
LOADED = {  # how a user loads each kind of system
    "torch": "import modeling_toxmtl, torch, transformers; torch.set_num_threads({threads}); "
    "judge = transformers.pipeline('audio-classification', model={path!r}, dtype={dtype!r}, device={device!r})",
    "exported": "from modeling_toxmtl import runtime; runtime.OnnxEngine.spins = {spins}; "
    "judge = runtime.ToxicityRuntime.from_pretrained({path!r}, threads={threads})",
    "two models": "import modeling_toxmtl, torch, transformers; torch.set_num_threads({threads}); "
    "pipes = [transformers.pipeline('audio-classification', model=path, device={device!r}) for path in {path!r}]; "
    "judge = lambda clip, **options: [pipe(clip, **options) for pipe in pipes]",
    "published": "import torch; torch.set_num_threads({threads}); "
    "from benchmarks.baselines import load_base_plus; judge = load_base_plus({device!r})",
    "whisper": "import torch; torch.set_num_threads({threads}); "
    "from benchmarks.judges import RandomWhisper; judge = RandomWhisper({path!r}, {device!r})",
    "cascade": "from datasets_scripts.convert_whisper import packaged_model; "
    "from benchmarks.baselines import load_cascade; "
    "from modeling_toxmtl.data.label import KeywordArguments, LabelArguments; "
    "judge = load_cascade(str(packaged_model().parent), 'int8', {threads}, LabelArguments(), KeywordArguments())",
}
PROGRAM = """
import os, sys, time
sys.path.insert(0, os.getcwd())
{load}
import numpy
clips = dict(numpy.load(sys.argv[1]))
judge(clips["short"], return_keywords=True)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("DONE", time.process_time(), peak, flush=True)
for line in sys.stdin:
    start = time.process_time(), time.perf_counter()
    eval(line)
    print("DONE", time.process_time() - start[0], time.perf_counter() - start[1], flush=True)
"""


@dataclass(frozen=True)
class System:
    """How a system is loaded, one of `LOADED`, and from where.

    Args:
        source: the model in PyTorch whose operations it does, where it is not `path`.
        spins: whether threads that wait keep their cores busy; None for each library's default.
    """

    kind: str
    threads: int = 1
    path: str | tuple[str, ...] = ""
    dtype: str = "float32"
    device: str = "cpu"
    source: str = ""
    spins: bool | None = None

    @property
    def code(self) -> str:
        """Python that makes `judge`."""
        return LOADED[self.kind].format(**vars(self) | {"spins": bool(self.spins)})

    @property
    def environment(self) -> dict[str, str]:
        """Of its process."""
        return (
            os.environ
            | ({"TOXMTL_WITHOUT_MODELS": "1"} if self.kind == "exported" else {})
            | ({"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {})
            | ({} if self.spins is None else {"OMP_WAIT_POLICY": "ACTIVE" if self.spins else "PASSIVE"})
        )


class Worker:
    """A system in a process of its own, which judged the clip "short" once.

    Args:
        clips: file of arrays by name, which `work` may name.

    Attributes:
        start_up: seconds from the start of Python to that verdict.
        peak_memory: largest resident size in bytes.

    Raises:
        SystemExit: if the system fails, here and in all methods; what it says is on stderr.
    """

    def __init__(self, system: System, clips: Path) -> None:
        self.is_alone = system.threads == 1 and system.device == "cpu"
        command, start = [sys.executable, "-c", PROGRAM.format(load=system.code), str(clips)], time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=system.environment, text=True, **pipes)
        processor_seconds, kilobytes = self.end()
        self.start_up = processor_seconds if self.is_alone else time.perf_counter() - start
        self.peak_memory = 1024 * int(kilobytes)

    def begin(self, work: str) -> None:
        """Starts an expression of `judge`, `clips` and `numpy`."""
        print(work, file=self._process.stdin, flush=True)

    def end(self) -> tuple[float, float]:
        """Seconds of the processor and of the clock that it took."""
        for line in self._process.stdout:
            if line.startswith("DONE"):
                return tuple(map(float, line.split()[1:]))
        raise SystemExit(f"failed: {self._process.args[2]}")

    def time(self, work: str) -> float:
        """Seconds: with one thread on a CPU those of the processor, which other programs do not lengthen, else those
        of the clock."""
        self.begin(work)
        processor, clock = self.end()
        return processor if self.is_alone else clock

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


@cache
def operations(system: System, clips: Path) -> int | None:
    """Floating-point operations of the verdict on the clip "15 s"; None for what PyTorch does not compute."""
    if system.kind == "cascade":
        return None
    if system.kind == "exported" or system.dtype != "float32":
        return operations(System("torch", path=system.source or system.path), clips)
    if system.kind == "published":
        return count_operations(Case("inference", (15.0,), "float32"))
    names: dict = {}
    exec(replace(system, device="cpu", threads=torch.get_num_threads()).code, names)
    return counted(lambda: names["judge"](np.load(clips)["15 s"], return_keywords=True))


def weights_size(system: System) -> int:
    """Bytes of the files of weights; 0 for what has none of its own here."""
    folders = [system.path] if isinstance(system.path, str) else system.path
    names = ("model.safetensors", "model.onnx", "model.bin")
    files = [Path(folder, name) for folder in folders if folder for name in names]
    return sum(file.stat().st_size for file in files if file.exists())


def base_plus_model(folder: Path) -> str:
    """WavLM Base+ size with random weights and a silent keyword head, unless the folder has it already."""
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(0)
        model = WavLMForToxicityMTL(WavLMToxicityMTLConfig())
        torch.nn.init.constant_(model.lm_head.bias[model.config.pad_token_id : model.config.pad_token_id + 1], 1e3)
        model.save_pretrained(folder)
        ToxicityMTLProcessor(speech_feature_extractor(), character_tokenizer()).save_pretrained(folder)
    return str(folder)


def single_task_models(model: str, folder: Path) -> tuple[str, ...]:
    """A classifier and a transcriber of a model's encoder, each in a folder of its own."""
    for task in ("classification", "keyword"):
        if not (folder / task / "model.safetensors").exists():
            parts = WhisperForToxicityMTL.from_pretrained(model, tasks=[task], keyword_evidence=None)
            parts.save_pretrained(folder / task)
            ToxicityMTLProcessor.from_pretrained(model).save_pretrained(folder / task)
    return tuple(str(folder / task) for task in ("classification", "keyword"))


def exported(model: str, work: str | Path, to: str, dtype: str, **settings: int | bool | None) -> System:
    """An export, made unless it is there."""
    folder = Path(work, f"{Path(model).name}-{to}-{dtype}")
    if not (folder / "export.json").exists():
        export(model, folder, to=to, dtype=dtype)
    return System("exported", path=str(folder), dtype=dtype, source=model, **settings)


def multiplies_bfloat16() -> bool:
    """Whether this processor does; others take several times as long as in float32."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(
        (cpu_entry("flags") or cpu_entry("Features") or "").split()
    )


def systems(model: str, work: Path, threads: int, device: str, base_plus: bool) -> dict[str, System]:
    """Every row of the table, by name; what must be made for it first is made. On a GPU, PyTorch alone runs."""
    settings = {"threads": threads, "device": device}
    models = {Path(model).name: model} | ({BASE_PLUS: base_plus_model(work / "base_plus")} if base_plus else {})
    dtypes = ["float32"] + ["bfloat16"] * (device != "cpu" or multiplies_bfloat16())
    graphs = [("onnx", "float32"), ("onnx", "int8")]
    graphs += [(OPENVINO, dtype) for dtype in dtypes] if find_spec(OPENVINO) else []
    rows = {}
    for name, path in models.items():
        rows |= {f"{name}, PyTorch {dtype}": System("torch", path=path, dtype=dtype, **settings) for dtype in dtypes}
        if device == "cpu":
            rows |= {f"{name}, {' '.join(graph)}": exported(path, work, *graph, threads=threads) for graph in graphs}
    rows[SINGLE] = System("two models", path=single_task_models(model, work / "single"), **settings)
    rows[PUBLISHED] = System("published", **settings)
    if find_spec("faster_whisper"):
        rows[CASCADE] = System("cascade", **settings)
    if base_plus:
        rows |= {WHISPER.format(size): System("whisper", path=size, **settings) for size in ("base", "small")}
    return rows
