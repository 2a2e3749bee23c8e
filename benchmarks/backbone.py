"""Our backbone against transformers' `WavLMModel`: time, peak memory, difference of outputs, distance to the floor.

    python benchmarks/backbone.py
    python benchmarks/backbone.py --cases inference:1x15 train:4x5 --dtypes float32 --threads 1

Writes `backbone-<device>.json` (every measurement, versions, machine) and the same as a Markdown table.

Design choices:
- Both models have the same random weights at WavLM Base+ size. LayerDrop and SpecAugment are off, so that both do the
  same work; dropout is as the configuration has it in training.
- A case measures its variants in turn, round by round, so that a change in the machine's speed meets all of them; the
  median counts. With one thread on a CPU it is the process's time on the processor, which other programs of the
  machine do not lengthen. A long case stops early once its time is spent, never before each variant ran once.
- Peak memory is that of a process that runs one variant alone, weights included: on a GPU the allocator's; on a CPU
  the highest resident size of the step, less what the libraries took (Linux alone tells). There every large tensor
  has pages of its own, which go back when it is freed: gaps in the allocator's heap are no model's.
- The floor is the time in which the machine would do the model's floating-point operations (counted in transformers'
  forward and backward pass, without padding) at the rate of a large matrix product, the fastest way known, measured in
  the same run.
- The difference is the largest one between the last hidden states and those that transformers in float32 gives the
  clip alone.
"""

import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import HfArgumentParser, WavLMConfig, WavLMModel

from modeling_toxmtl import kernels
from modeling_toxmtl.configuration_toxmtl import WavLMToxicityMTLConfig
from modeling_toxmtl.kernels import OneDNNLinear
from modeling_toxmtl.outputs import length_mask
from modeling_toxmtl.wavlm import WavLMBackbone


RATE = 16_000
REFERENCE = "transformers"
CASES = {
    "cpu": [
        *("inference:1x15", "train:4x5", "inference:15+6.3+2.1+0.5"),
        *("inference:1x2", "inference:1x5", "inference:8x2", "inference:8x5", "inference:8x15"),
        *("train:1x2", "train:1x5", "train:1x15", "train:8x2", "train:8x5"),
    ],
    "cuda": [f"{mode}:{size}" for mode in ("inference", "train") for size in ("1x15", "8x2", "8x5", "8x15", "32x15")],
}
DTYPES = {"cpu": ["float32", "bfloat16"], "cuda": ["bfloat16"]}
UNITS = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 with VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}  # best first
CHECKPOINTING = "checkpointing"
VARIANTS = ("sdpa", CHECKPOINTING)


@dataclass
class Arguments:
    """Lists that are not given are those of the device."""

    device: str = field(
        default="cuda" if torch.cuda.is_available() else "cpu", metadata={"help": "cpu or cuda; cuda if there is one."}
    )
    cases: list[str] = field(
        default=None,
        metadata={
            "help": "Such as inference:1x15 or train:4x5: mode, clips, seconds; or inference:15+6.3+2.1, the seconds "
            "of each clip. On a CPU, bfloat16 is not trained."
        },
    )
    dtypes: list[str] = field(default=None, metadata={"help": "float32, bfloat16."})
    variants: list[str] = field(
        default=None,
        metadata={
            "help": "Ours: sdpa or eager, the attention's implementation; checkpointing, which is sdpa with gradient "
            "checkpointing, for training."
        },
    )
    compile: bool = field(default=False, metadata={"help": "Run ours through torch.compile."})
    threads: int = field(default=None, metadata={"help": "CPU threads; PyTorch's choice if not given."})
    repeats: int = field(default=5, metadata={"help": "Rounds of each case."})
    seconds_per_case: float = field(
        default=15.0, metadata={"help": "After this long, a case starts no further round."}
    )
    output_dir: str = field(default=str(Path(__file__).parent / "results"), metadata={"help": "Where results go."})
    only_memory: str = field(
        default=None, metadata={"help": "Internal: run this variant of the one case once and print peak memory."}
    )

    def __post_init__(self):
        self.cases = self.cases or CASES[self.device]
        self.dtypes = self.dtypes or DTYPES[self.device]
        self.variants = self.variants or list(VARIANTS)


@dataclass(frozen=True)
class Case:
    """What one row of the table measures: its clips are of so many seconds each."""

    mode: str
    seconds: tuple[float, ...]
    dtype: str

    @classmethod
    def parse(cls, text: str, dtype: str) -> "Case":
        """A case of how it is written on the command line.

        Raises:
            SystemExit: if it is written otherwise.
        """
        try:
            mode, size = text.split(":")
            if "x" in size:
                batch, seconds = size.split("x")
                case = cls(mode, (float(seconds),) * int(batch), dtype)
            else:
                case = cls(mode, tuple(map(float, size.split("+"))), dtype)
        except ValueError:
            case = None
        if case is None or case.mode not in ("inference", "train") or not case.seconds:
            raise SystemExit(f"--cases: {text!r} is no case such as inference:1x15, train:4x5 or inference:15+6.3+2.1")
        return case

    @property
    def is_mixed(self) -> bool:
        """Whether clips are padded."""
        return len(set(self.seconds)) > 1

    def __str__(self):
        if self.is_mixed:
            return f"{self.mode}:{'+'.join(f'{seconds:g}' for seconds in self.seconds)}"
        return f"{self.mode}:{len(self.seconds)}x{self.seconds[0]:g}"


def build(
    variant: str, device: str, dtype: str = "float32", compiled: bool = False, same_weights: bool = True
) -> torch.nn.Module:
    """Base+ size; every call gives the same weights, unless they do not matter."""
    config = WavLMConfig(layerdrop=0.0, apply_spec_augment=False)
    if variant == REFERENCE:
        torch.manual_seed(0)
        return WavLMModel(config).to(device, getattr(torch, dtype))
    attention = "sdpa" if variant == CHECKPOINTING else variant
    ours = WavLMBackbone._from_config(WavLMToxicityMTLConfig.from_encoder(config), attn_implementation=attention)
    if same_weights:
        ours.load_state_dict(build(REFERENCE, "cpu").state_dict())
    ours.to(device, getattr(torch, dtype))
    if variant == CHECKPOINTING:
        ours.gradient_checkpointing_enable()
    return torch.compile(ours, dynamic=True) if compiled else ours


def waveforms(case: Case, device: str) -> list[torch.Tensor]:
    """A clip of noise for each of the case's."""
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(int(seconds * RATE), generator=generator) for seconds in case.seconds]
    return [clip.to(device, getattr(torch, case.dtype)) for clip in clips]


def batch_of(clips: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The models' inputs; without a mask if nothing is padded."""
    input_values = pad_sequence(clips, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips], device=input_values.device)
    attention_mask = length_mask(lengths, input_values.shape[1]).long()
    return {"input_values": input_values} | ({} if attention_mask.all() else {"attention_mask": attention_mask})


def run(model: torch.nn.Module, batch: dict[str, torch.Tensor], mode: str) -> torch.Tensor:
    """The last hidden states of one inference or training step."""
    if mode == "inference":
        with torch.no_grad():
            return model(**batch).last_hidden_state
    model.zero_grad()
    states = model(**batch).last_hidden_state
    states.float().square().mean().backward()
    return states.detach()


def synchronize(device: str) -> None:
    """Waits until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function: Callable[[], object], device: str) -> float:
    """Seconds: with one thread on a CPU, those that the processor gave to this process; else those on the clock."""
    is_alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if is_alone else time.perf_counter
    synchronize(device)
    start = clock()
    function()
    synchronize(device)
    return clock() - start


def matrix_rate(dtype: str, device: str, size: int = 2048) -> float:
    """Floating-point operations per second of a square matrix product, the best of some."""
    size = size * 4 if device == "cuda" else size
    matrix = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    is_slow = kernels.MKL_MAY_BE_SLOW and device == "cpu" and dtype == "float32"
    products = [torch.matmul] + [OneDNNLinear.apply] * is_slow
    return 2 * size**3 / min(timed(partial(product, matrix, matrix), device) for product in products * 8)


def counted(function: Callable[[], object]) -> int:
    """Floating-point operations of what PyTorch multiplies meanwhile."""
    # of the plain kernel of attention and of MKL, for not all others are counted
    plain = (sdpa_kernel(SDPBackend.MATH), patch.object(kernels, "MKL_MAY_BE_SLOW", False))
    with plain[0], plain[1], FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def count_operations(case: Case) -> int:
    """Floating-point operations of transformers' model on each clip alone, without running it."""
    model = build(REFERENCE, "meta").train(case.mode == "train")
    inputs = [{"input_values": torch.empty(1, int(seconds * RATE), device="meta")} for seconds in case.seconds]
    return counted(lambda: [run(model, clip, case.mode) for clip in inputs])


def peak_memory(case: Case, variant: str, arguments: Arguments) -> int:
    """Peak memory of the variant in bytes, measured in a process of its own."""
    command = [sys.executable, __file__, "--device", arguments.device, "--cases", str(case), "--dtypes", case.dtype]
    command += ["--only_memory", variant]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    command += ["--compile"] if arguments.compile else []
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise SystemExit(f"{variant}, {case}, {case.dtype}: the process that measures memory failed\n{result.stderr}")
    return int(result.stdout.split()[-1])


def print_peak_memory(arguments: Arguments) -> None:
    """What `peak_memory` starts: weights of one model only, and one step."""
    libraries = resident_memory("VmRSS")
    case = Case.parse(arguments.cases[0], arguments.dtypes[0])
    model = build(arguments.only_memory, arguments.device, case.dtype, arguments.compile, same_weights=False)
    model.train(case.mode == "train")
    batch = batch_of(waveforms(case, arguments.device))
    gc.collect()
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run(model, batch, case.mode)
        print(torch.cuda.max_memory_allocated())
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what building left goes back to the system
        Path("/proc/self/clear_refs").write_text("5")  # and its peak is forgotten
        run(model, batch, case.mode)
        print(resident_memory("VmHWM") - libraries)


def resident_memory(field: str) -> int:
    """Bytes of this process in memory: now (`VmRSS`), or at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def differences(models: dict[str, torch.nn.Module], case: Case, device: str) -> dict[str, float]:
    """Largest difference of each model's last hidden states from those that transformers in float32 gives the clip
    alone."""
    clips = waveforms(case, device)
    reference = build(REFERENCE, device).eval()
    expected = [run(reference, batch_of([clip.float()]), "inference")[0] for clip in clips]

    def difference(model):
        states = run(model.eval(), batch_of(clips), "inference").float()
        return max(
            (ours[: len(alone)] - alone).abs().max().item() for ours, alone in zip(states, expected, strict=True)
        )

    return {name: difference(model) for name, model in models.items()}


def measure(case: Case, models: dict[str, torch.nn.Module], arguments: Arguments, rate: float) -> list[dict]:
    """One record per variant."""
    batch = batch_of(waveforms(case, arguments.device))
    difference = differences(models, case, arguments.device)
    for model in models.values():
        model.train(case.mode == "train")
        run(model, batch, case.mode)  # warm-up
    times = {name: [] for name in models}
    start = time.perf_counter()
    for _ in range(arguments.repeats):
        for name, model in models.items():
            times[name].append(timed(partial(run, model, batch, case.mode), arguments.device))
        if time.perf_counter() - start > arguments.seconds_per_case:
            break
    for model in models.values():
        model.zero_grad()  # the gradients' memory is the next case's
    operations = count_operations(case)
    return [
        {
            "case": str(case),
            "dtype": case.dtype,
            "variant": name,
            "seconds": statistics.median(times[name]),
            "rounds": len(times[name]),
            "peak_memory": peak_memory(case, name, arguments),
            "difference": difference[name],
            "operations": operations,
            "floor_seconds": operations / rate,
        }
        for name in models
    ]


def cpu_entry(field: str) -> str | None:
    """An entry of the first core in /proc/cpuinfo, where there is one."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith(field)), None)


def processor_name() -> str:
    """Of this machine, and what it multiplies by: clouds give the same name to many."""
    name = cpu_entry("model name") or platform.processor() or platform.machine()
    flags = (cpu_entry("flags") or "").split()
    best = next((units for flag, units in UNITS.items() if flag in flags), None)
    return f"{name} ({best})" if best else name


def machine(arguments: Arguments, rates: dict[str, float]) -> dict:
    """What the figures were measured on."""
    return {
        "machine": torch.cuda.get_device_name() if arguments.device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "operations_per_second": rates,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "command": " ".join(["python", "benchmarks/backbone.py", *sys.argv[1:]]),
    }


def markdown(results: dict) -> str:
    """A table with a line per case and variant; times and memory also relative to transformers in the same number
    format and, for bfloat16, to its float32."""
    about = results["about"]
    rates = ", ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in about["operations_per_second"].items()
    )
    lines = [
        f"{about['machine']}, threads: {about['threads']}, matrix product {rates}; torch {about['torch']}, "
        f"transformers {about['transformers']}. Speed and memory are relative to transformers in the same number "
        "format; in brackets to transformers in float32.",
        "",
        "| case | dtype | variant | seconds | speed | times the floor | peak memory | ratio | difference |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    records = {(r["case"], r["dtype"], r["variant"]): r for r in results["records"]}
    for (case, dtype, variant), record in records.items():
        same = records[case, dtype, REFERENCE]
        full = records.get((case, "float32", REFERENCE))
        speed = f"{same['seconds'] / record['seconds']:.2f}"
        if full and full is not same:
            speed += f" ({full['seconds'] / record['seconds']:.2f})"
        lines.append(
            f"| {case} | {dtype} | {variant} | {record['seconds']:.3f} | {speed} "
            f"| {record['seconds'] / record['floor_seconds']:.2f} | {record['peak_memory'] / 2**30:.2f} GiB "
            f"| {record['peak_memory'] / same['peak_memory']:.2f} | {record['difference']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def write(results: dict, arguments: Arguments) -> None:
    """The results as JSON, and as a table."""
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"backbone-{arguments.device}"
    path.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(results), encoding="utf-8")


def main(arguments: Arguments) -> None:
    """Measures every case and variant, and writes the results."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.only_memory:
        return print_peak_memory(arguments)
    results = {"about": None, "records": []}
    rates = {}
    for dtype in arguments.dtypes:
        rates[dtype] = matrix_rate(dtype, arguments.device)
        results["about"] = machine(arguments, rates)
        cases = [Case.parse(text, dtype) for text in arguments.cases]
        if arguments.device == "cpu" and dtype == "bfloat16":
            cases = [case for case in cases if case.mode == "inference"]
        models = {
            name: build(name, arguments.device, dtype, arguments.compile) for name in (REFERENCE, *arguments.variants)
        }
        for case in tqdm(cases, desc=dtype):
            able = {name: model for name, model in models.items() if case.mode == "train" or name != CHECKPOINTING}
            results["records"] += measure(case, able, arguments, rates[dtype])
            write(results, arguments)
    print(markdown(results))


if __name__ == "__main__":
    main(HfArgumentParser(Arguments).parse_args_into_dataclasses()[0])
