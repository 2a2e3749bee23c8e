"""The checkpoint that a run goes on from: the last one that was written to its end."""

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging


logger = logging.get_logger(__name__)

PICKLES = (".bin", ".pt", ".pth")  # zip files, whose table of contents comes last


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The last checkpoint of a run that is whole, if there is one; later ones, which a full disk or a stopped machine
    left unfinished, are named in warnings."""
    checkpoints = [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.is_dir()]
    numbered = {int(path.name.rpartition("-")[2]): path for path in checkpoints if path.name[-1].isdecimal()}
    for step in sorted(numbered, reverse=True):
        if (damage := find_damage(numbered[step])) is None:
            return numbered[step]
        logger.warning(f"{numbered[step]} is damaged ({damage}): the run goes on from the one before, or anew.")
    return None


def find_damage(checkpoint: Path) -> str | None:
    """Which file of a checkpoint is missing or cut short; None if it is whole."""
    if not (checkpoint / TRAINER_STATE_NAME).is_file():  # written last
        return f"{TRAINER_STATE_NAME} is missing"
    for file in sorted(path for path in checkpoint.iterdir() if path.is_file()):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    continue
            if file.suffix in PICKLES and not zipfile.is_zipfile(file):
                return f"{file.name} is cut short"
            if file.suffix == ".json":
                content = json.loads(file.read_text(encoding="utf-8"))
                shards = content.get("weight_map", {}) if file.name.endswith(".index.json") else {}
                if missing := sorted(name for name in set(shards.values()) if not (checkpoint / name).is_file()):
                    return f"{missing[0]} is missing"
        except (SafetensorError, ValueError) as error:
            return f"{file.name} cannot be read: {error}"
    return None
