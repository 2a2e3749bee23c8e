"""The study of the paper's five systems and their variants: plans, runs, resumes and tabulates.

    python -m experiments.study plan
    python -m experiments.study run --hours 4 --jobs 2 --bf16 --use_cpu
    python -m experiments.study table

`experiments/study.json` is the plan. Each run is a process of its own, two commands of `run_mtl.py` (training with the
balanced test, and the real-world test), and is finished when its file is in `experiments/results/study/`. `run` goes
through the plan in its order, `--jobs` of them at a time, goes on where it was stopped, and passes flags that it does
not know on to `run_mtl.py`; `plan` says what is left; `table` renders `docs/study.md` from the results.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.study_page import write_page
from experiments.study_results import clip_table, write_clips
from modeling_toxmtl.io.files import file_hash, read_json, write_json
from modeling_toxmtl.runtime import num_cores


PLAN = Path("experiments/study.json")
WORK = Path("runs/study")


@dataclass(frozen=True)
class Run:
    """One variant with one seed, and the arguments of `run_mtl.py` that make it."""

    variant: str
    seed: int
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its results file and of its folder in `WORK`."""
        return f"{self.variant}-seed{self.seed}"


class Plan:
    """What is to be run, in which order, and what is there.

    Args:
        path: a JSON file with
            - `settings`: the JSON file of arguments that all runs share, and `real_dataset`, the second test set;
            - `results`: the folder of the results files, and `minutes`, the length of a run before any is measured;
            - `variants`: name to `title` and `arguments`, which override the shared ones;
            - `tuning`: the `variants` of which the one with the best `metric` on the validation split, with `seed`,
              gives its arguments to all others that do not set them;
            - `order`: steps, each with `variants` and `seeds`;
            - what `study_page` says of the page.

    Raises:
        ValueError: if a step names a variant that there is not, or a variant sets an argument to null.
    """

    def __init__(self, path: Path = PLAN):
        self.path, self.content = path, read_json(path)
        self.shared = read_json(self.content["settings"])
        self.folder = Path(self.content["results"])
        named = [name for step in self.content["order"] for name in step["variants"]] + self.tuning["variants"]
        if unknown := sorted(set(named) - set(self.variants)):
            raise ValueError(f"{path}: `order` or `tuning` names {unknown[0]!r}, which is none of `variants`.")
        for name, variant in self.variants.items():
            if null := [argument for argument, value in variant["arguments"].items() if value is None]:
                raise ValueError(f"{path}: {name} sets {null[0]!r} to null, which no flag can say: give it a value.")

    @property
    def variants(self) -> Mapping[str, dict]:
        """Name to `title` and `arguments`."""
        return self.content["variants"]

    @property
    def tuning(self) -> Mapping[str, Any]:
        """`variants`, `seed` and `metric`."""
        return self.content["tuning"]

    @cached_property
    def tuned(self) -> dict[str, Any] | None:
        """What the best of the tuned variants sets; None as long as one of them has not run."""
        results = {name: self.read(self._run(name, self.tuning["seed"], {})) for name in self.tuning["variants"]}
        if not all(results.values()):
            return None
        best = max(results, key=lambda name: results[name]["validation"][self.tuning["metric"]])
        return self.variants[best]["arguments"]

    def runs(self) -> list[Run]:
        """All runs, in order. Those after tuning have the shared arguments until that is done."""
        runs = [self._run(name, self.tuning["seed"], {}) for name in self.tuning["variants"]]
        for step in self.content["order"]:
            runs += [self._run(name, seed, self.tuned or {}) for seed in step["seeds"] for name in step["variants"]]
        return list({run.name: run for run in runs}.values())

    def _run(self, variant, seed, tuned):
        own = self.variants[variant]["arguments"]
        overrides = {**self.shared.get("config_overrides", {}), **own.get("config_overrides", {})}
        return Run(variant, seed, {**self.shared, **tuned, **own, "config_overrides": overrides, "seed": seed})

    def read(self, run: Run) -> dict | None:
        """The results of a run, None if it has not finished.

        Raises:
            ValueError: if they are of a run with other arguments than those of the plan.
        """
        path = self.folder / f"{run.name}.json"
        if not path.exists():
            return None
        results = read_json(path)
        check_arguments(path, results["arguments"], run.arguments)
        return results

    def results(self) -> dict[str, dict[int, dict]]:
        """Variant to seed to results, of the runs that have finished."""
        finished: dict[str, dict[int, dict]] = {}
        for run in self.runs():
            if results := self.read(run):
                finished.setdefault(run.variant, {})[run.seed] = results
        return finished


def check_arguments(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the differences and the cure, if a file says that it was made with other arguments."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        changes = ", ".join(f"{name} is {now.get(name)!r}, and was {before.get(name)!r}" for name in names)
        raise ValueError(f"{path} is of another run ({changes}): take the change back, or remove it to run again.")


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Flags of `run_mtl.py`; None is left to the default."""
    words = []
    for name, value in arguments.items():
        if value is None:
            continue
        words.append(f"--{name}")
        if isinstance(value, dict):
            words.append(json.dumps(value))
        else:
            words += [str(item) for item in (value if isinstance(value, list) else [value])]
    return words


def commands(plan: Plan, run: Run, extra: Sequence[str]) -> dict[Path, list[str]]:
    """Folder of the output to the arguments of the Python interpreter, in order."""
    folder = WORK / run.name
    own = {name: value for name, value in run.arguments.items() if plan.shared.get(name) != value}
    test = {
        **{"model_name_or_path": folder, "dataset": plan.content["real_dataset"], "output_dir": folder / "real"},
        **{name: run.arguments[name] for name in ("per_device_eval_batch_size", "disable_tqdm", "report_to")},
    }
    train = ["run_mtl.py", plan.content["settings"], *flags({**own, "output_dir": folder}), *extra]
    return {
        folder: train,
        folder / "real": ["run_mtl.py", *flags(test), "--do_eval", "--do_predict", *extra],
    }


class Processes:
    """Of all runs, which end together.

    Args:
        threads: of each.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._open: set[subprocess.Popen] = set()
        self._is_over = False
        self._lock = threading.Lock()

    def call(self, command: Sequence[str]) -> None:
        """Until it ends. Raises subprocess.CalledProcessError if it fails, or is ended."""
        with self._lock:
            if self._is_over:
                raise subprocess.CalledProcessError(-signal.SIGTERM, command)
            process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(self.threads)})
            self._open.add(process)
        code = process.wait()
        with self._lock:
            self._open.discard(process)
        if code:
            raise subprocess.CalledProcessError(code, command)

    def end(self) -> None:
        """Ends those that run, and begins no other."""
        with self._lock:
            self._is_over = True
            for process in self._open:
                process.terminate()


def execute(plan: Plan, run: Run, extra: Sequence[str], processes: Processes) -> None:
    """Trains and tests, or goes on, and writes the results.

    Raises:
        ValueError: if the run's folder holds a run with other arguments.
        subprocess.CalledProcessError: if a command fails.
    """
    folder, started = WORK / run.name, time.perf_counter()
    described, arguments = folder / "arguments.json", {**run.arguments, "flags": list(extra)}
    is_resumed = described.exists()
    if is_resumed:
        check_arguments(described, read_json(described), arguments)
    write_json(described, arguments)
    todo = commands(plan, run, extra)
    for output, command in todo.items():
        if not (output / "results.json").exists():
            print(f"{run.name}: {shlex.join(['python', *command])}", flush=True)
            processes.call([sys.executable, *command])
    seconds = None if is_resumed else round(time.perf_counter() - started)
    write_results(plan, run, [shlex.join(["python", *command]) for command in todo.values()], seconds)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def write_results(plan: Plan, run: Run, lines: list[str], seconds: int | None) -> None:
    """Writes what the study keeps of a run: `NAME.json`, and `NAME.parquet` with the clips of both test sets."""
    folder = WORK / run.name
    trained, real = read_json(folder / "results.json"), read_json(folder / "real" / "results.json")
    clips = {
        "balanced": clip_table(folder, folder / "predictions.jsonl", run.arguments["dataset"]),
        "real": clip_table(folder, folder / "real" / "predictions.jsonl", plan.content["real_dataset"]),
    }
    write_clips(plan.folder / f"{run.name}.parquet", clips)
    hashes = trained["data"]["sha256"]
    content = {
        "run": run.variant,
        "seed": run.seed,
        "commands": lines,
        **{name: trained[name] for name in ("commit", "versions", "parameters")},
        "start_sha256": file_hash(Path(run.arguments["model_name_or_path"]) / "model.safetensors"),
        "processor": processor_name(),
        "seconds": {
            "training": read_json(folder / "train_results.json").get("train_runtime"),  # without, it was resumed
            "all": seconds,
        },
        "data_sha256": {**hashes, "balanced": hashes["test"], "real": real["data"]["sha256"]["test"]},
        "arguments": run.arguments,
        "validation": trained["validation"],
        "balanced": trained["test"],
        "real": real["test"],
    }
    del content["data_sha256"]["test"]
    write_json(plan.folder / f"{run.name}.json", content)


def processor_name() -> str:
    """Of this machine, with the number of cores."""
    try:
        name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (FileNotFoundError, TypeError):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def estimate(plan: Plan, run: Run, finished: Mapping[str, dict[int, dict]]) -> float:
    """Minutes of a run: those of the variant with other seeds, or else the median of all that were not resumed, by
    their epochs."""
    own = list(finished.get(run.variant, {}).values())
    known = [results for seeds in finished.values() for results in seeds.values()]
    for some in (own, known):
        if seconds := [results["seconds"]["all"] / results["arguments"]["num_train_epochs"]
                       for results in some if results["seconds"]["all"] is not None]:  # fmt: skip
            return statistics.median(seconds) * run.arguments["num_train_epochs"] / 60
    return plan.content["minutes"]


def left(plan: Plan) -> list[tuple[Run, float]]:
    """The runs that have not finished, in order, with their minutes."""
    finished = plan.results()
    return [(run, estimate(plan, run, finished)) for run in plan.runs() if plan.read(run) is None]


def show(plan: Plan) -> None:
    """Prints what is left."""
    todo = left(plan)
    for run, minutes in todo:
        state = "begun" if (WORK / run.name / "arguments.json").exists() else "not begun"
        print(f"{run.name:32} {minutes:5.1f} minutes, {state}")
    hours = sum(minutes for _, minutes in todo) / 60
    print(f"{len(todo)} of {len(plan.runs())} runs are left: {hours:.1f} hours.")


def run_all(path: Path, hours: float, only: str, extra: Sequence[str], jobs: int = 1) -> None:
    """Runs what is left, so many at a time, as long as the next run is expected to end in time."""
    end = time.monotonic() + 3600 * hours
    processes = Processes(max(1, num_cores() // jobs))
    running: dict[Future, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                plan = Plan(path)  # tuning may just have ended
                if begun := _next(plan, only, running.values(), end):
                    running[pool.submit(execute, plan, begun, extra, processes)] = begun.name
                if len(running) == jobs or not begun:
                    if not running:
                        return show(plan)
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        del running[future]
                        future.result()
        finally:
            processes.end()


def _next(plan, only, running, end):
    """The first run that is neither finished nor running, or None if it would end too late, or waits for tuning."""
    todo = [(run, minutes) for run, minutes in left(plan) if re.search(only, run.name) and run.name not in running]
    if not todo or time.monotonic() + 60 * todo[0][1] > end:
        return None
    run, _ = todo[0]
    if plan.tuned is None and run.variant not in plan.tuning["variants"]:
        if running:
            return None
        raise ValueError(f"--only {only}: the variants {', '.join(plan.tuning['variants'])} come first.")
    return run


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["plan", "run", "table"])
    parser.add_argument("--plan", type=Path, default=PLAN, help="the plan, a JSON file")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no run that would end later")
    parser.add_argument("--only", default="", help="only runs whose name, as `plan` shows it, matches this pattern")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores")
    args, extra = parser.parse_known_args(argv)
    if extra and args.command != "run":
        parser.error(f"unknown arguments of {args.command}: {' '.join(extra)}")
    if args.command == "run":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # takes the processes of runs with it
        run_all(args.plan, args.hours, args.only, extra, args.jobs)
    elif args.command == "plan":
        show(Plan(args.plan))
    else:
        plan = Plan(args.plan)
        write_page(plan.content, plan.results(), plan.folder, plan.tuned, sum(minutes for _, minutes in left(plan)))


if __name__ == "__main__":
    main()
