"""What a reader needs to get the numbers of a run again, and what a run must share with the one that it goes on."""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..io.files import write_json, write_text
from ..multitask_config import SYSTEM_FIELDS
from .arguments import DataArguments, ModelArguments, ToxicityTrainingArguments
from .dataset import ToxicityDataset, fingerprint
from .evaluation import markdown_table


PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")
# What a model of this package knows of itself, and any other checkpoint takes from the configuration's defaults
MODEL_FIELDS = (*SYSTEM_FIELDS, "classification_loss_weight")
TRAINING_FIELDS = (
    "seed",
    "learning_rate",
    "head_learning_rate",
    "initial_classification_loss_weight",
    "use_keyword_evidence",
    "weight_decay",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "bf16",
    "fp16",
    "world_size",
)
# What a run may be resumed with though it began with another: how long it goes on, where, and how it is evaluated
RESUMABLE_WITH = ("num_train_epochs", "max_steps", "world_size", "decoder", "language_model", "common_words")
NOT_REPRODUCIBLE = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "epoch")


def describe_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ToxicityTrainingArguments,
    model: PreTrainedModel,
    datasets: dict[str, ToxicityDataset],
) -> dict[str, Any]:
    """Versions, arguments and data of a run: `results.json` without commit and metrics.

    Args:
        model_args, data_args, training_args: the argument dataclasses of `run_mtl.py`.
        model: as it is built, whose configuration says what the arguments leave open.
        datasets: the splits that the run uses, by name.
    """
    scheduler = getattr(training_args.lr_scheduler_type, "value", training_args.lr_scheduler_type)
    return {
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "model": {name: value for name, value in vars(model_args).items() if name != "model_revision"}
        | {name: getattr(model.config, name) for name in MODEL_FIELDS}
        | {"keyword_target": next(iter(datasets.values())).processor.keyword_target},
        "parameters": model.num_parameters(),
        "data": {
            "dataset": data_args.dataset,
            "sha256": {split: fingerprint(dataset.rows) for split, dataset in datasets.items()},
            "rejected": {split: len(dataset.rejected) for split, dataset in datasets.items()},
        },
        "training": {name: getattr(training_args, name) for name in TRAINING_FIELDS}
        | {"lr_scheduler_type": scheduler},
    }


def current_commit(checkout: Path) -> str | None:
    """Of a folder that is a checkout, if it is one and git is there to say so."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return git.stdout.strip() or None


def check_resumed(file: Path, results: dict) -> None:
    """Raises ValueError if the run that `file` describes began with other settings or data than those of `results`,
    which would then be said of it."""
    before = _settings(json.loads(file.read_text(encoding="utf-8")))
    now = _settings(json.loads(json.dumps(results)))
    names = [name for name in now if name in before and name not in RESUMABLE_WITH and now[name] != before[name]]
    if names:
        changes = ", ".join(f"{name} is {now[name]!r}, and was {before[name]!r}" for name in names)
        raise ValueError(
            f"{file.parent} holds the checkpoints of another run: {changes}. Choose another --output_dir, or go on "
            "with the same settings."
        )


def _settings(described: dict[str, Any]) -> dict[str, Any]:
    hashes = {f"SHA-256 of {split}": value for split, value in described["data"]["sha256"].items()}
    return described["model"] | described["training"] | hashes


def reproducible_metrics(results: dict[str, float], prefix: str) -> dict[str, float]:
    """The part of `Trainer.evaluate`'s results that the same seed gives again, by name and without the prefix."""
    named = {name.removeprefix(f"{prefix}_"): value for name, value in results.items()}
    return {name: value for name, value in sorted(named.items()) if not name.endswith(NOT_REPRODUCIBLE)}


def write_results(output_dir: Path, results: dict, system: str) -> None:
    """Writes `results.json`, and the table of the test set (or else of the validation set) to `results.md` and the
    screen."""
    write_json(output_dir / "results.json", results)
    table = markdown_table({system: (results["parameters"], results.get("test", results.get("validation")))})
    write_text(output_dir / "results.md", table + "\n")
    print(table)
