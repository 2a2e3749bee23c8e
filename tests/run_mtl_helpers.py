"""Runs of `run_mtl.py` short enough for a test."""

import json
from pathlib import Path

import run_mtl


def flags_of(workbench: Path, output_dir: Path, **fields) -> list[str]:
    """Two epochs on the corpus of the workbench, but for what `fields` change."""
    fields = {
        "model_name_or_path": workbench / "checkpoint",
        "dataset": workbench / "clips",
        "output_dir": output_dir,
        "window_seconds": 1.0,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 2,
        "learning_rate": 1e-3,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **fields,
    }
    flags = []
    for name, value in fields.items():
        flags.append(f"--{name}")
        flags += [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return flags


def run(workbench: Path, output_dir: Path, *switches: str, **fields) -> dict:
    """Trains, validates and predicts, or does what the switches say; what `main` returns."""
    switches = switches or ("--do_train", "--do_eval", "--do_predict")
    return run_mtl.main(*run_mtl.parse_arguments([*flags_of(workbench, output_dir, **fields), *switches]))


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
