"""Makes one complete model folder, and pushes it to the Hub.

    toxmtl export runs/mine exported --repo_id me/my-model
    toxmtl export runs/mine exported --to onnx --dtype int8

The folder holds the weights as safetensors, the configuration with `auto_map` and `custom_pipelines`, the processor
with its keyword list, the code, the results, the notes and the card rendered from them: all that another machine
needs. With --to it holds a graph for ONNX Runtime or OpenVINO in place of the weights, and export.json, which says how
far its scores are from PyTorch's: modeling_toxmtl.runtime runs it without PyTorch, and so does toxmtl moderate.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, HfApi
from transformers import AutoModelForAudioClassification
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from ..io.files import write_json, write_text
from ..processing_toxmtl import ToxicityMTLProcessor
from ..runtime import EXPORT_FILE
from .card import NOTES, write_model_card
from .graphs import GRAPH_DTYPES, export_graph
from .promise import PROMISE_FILE


WEIGHTS = "safetensors"
DTYPES = {WEIGHTS: ("float32", "float16", "bfloat16"), **GRAPH_DTYPES}
COPIED_FILES = ("results.json", "train_results.json", PROMISE_FILE, NOTES)
# What a training run leaves in its folder that no user of the model needs: pickles, logs, and the clips' own names
NOT_PUSHED = ["checkpoint-*", "runs/*", "training_args.bin", "*.pt", "*.jsonl", "trainer_state.json", "run.json"]


@dataclass
class ExportArguments:
    """What to export, and where to."""

    model: str = field(metadata={"help": "Folder or Hub id of a model of this package."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a Hub model."})
    to: str = field(
        default=WEIGHTS,
        metadata={
            "help": "safetensors, for transformers; or a graph that runs without PyTorch.",
            "choices": (WEIGHTS, "onnx", "openvino"),
        },
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "Precision of the weights: float32, float16 (half the file; a CPU computes in float32 as before), "
            "bfloat16 of safetensors, or of OpenVINO (computed in it where the processor can), int8 of ONNX; auto: as "
            "they are, and float32 in a graph."
        },
    )
    license: str = field(default="apache-2.0", metadata={"help": "Licence that the card names."})
    base_model: str | None = field(
        default=None,
        metadata={"help": "Hub id that the card names as the model's origin, if training was from a folder."},
    )
    repo_id: str | None = field(default=None, metadata={"help": "Hub repository to push the folder to."})
    private: bool = field(default=False, metadata={"help": "Make that repository private if it is new."})


def export(
    model_name_or_path: str,
    output_dir: str | Path,
    revision: str = "main",
    dtype: str = "auto",
    to: str = WEIGHTS,
    **metadata: Any,
) -> Path:
    """Writes a complete model folder.

    Args:
        model_name_or_path: folder or Hub id of a model of this package.
        output_dir: folder to write.
        revision: branch, tag or commit of a Hub model.
        dtype: precision of the weight file, `"auto"` to keep it. It halves the download and no more: the model still
            loads in the precision that its configuration names, for a CPU is slow in half precision. Of a graph, see
            [`export_graph`].
        to: "safetensors", "onnx" or "openvino".
        metadata: fields of the card, see [`write_model_card`].

    Raises:
        ValueError: if there is no such dtype, or the folder holds the other kind of model.
    """
    if dtype not in ("auto", *DTYPES[to]):
        raise ValueError(f"--dtype is {dtype!r}: choose one of auto, {', '.join(DTYPES[to])} with --to {to}.")
    output_dir = Path(output_dir)
    other = EXPORT_FILE if to == WEIGHTS else SAFE_WEIGHTS_NAME
    if (output_dir / other).exists():
        raise ValueError(f"{output_dir} holds {other}, of another kind of export: choose another folder.")
    model = AutoModelForAudioClassification.from_pretrained(model_name_or_path, revision=revision, dtype="auto")
    processor = ToxicityMTLProcessor.from_pretrained(model_name_or_path, revision=revision)
    loads_as = model.dtype
    if to == WEIGHTS:
        (model if dtype == "auto" else model.to(getattr(torch, dtype))).save_pretrained(output_dir)
    else:
        output_dir.mkdir(parents=True, exist_ok=True)
        dtype = "float32" if dtype == "auto" else dtype
        write_json(output_dir / EXPORT_FILE, export_graph(model.float().eval(), processor, output_dir, to, dtype))
    model.config.dtype = loads_as
    model.config.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    for name in COPIED_FILES:
        file = cached_file(model_name_or_path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            write_text(output_dir / name, Path(file).read_text(encoding="utf-8"))
    write_model_card(output_dir, **metadata)
    return output_dir


def push_folder(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> CommitInfo:
    """Pushes a model folder to the Hub, without what training left in it; returns the commit."""
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=str(folder),
        ignore_patterns=NOT_PUSHED,
        commit_message=commit_message,
        revision=revision,
    )


def main(args: ExportArguments) -> None:
    """Exports and, with `--repo_id`, pushes."""
    metadata = {"license": args.license, "name": args.repo_id, "base_model": args.base_model}
    metadata = {name: value for name, value in metadata.items() if value is not None}
    export(args.model, args.output_dir, args.revision, args.dtype, args.to, **metadata)
    print(f"{args.output_dir}: complete")
    if args.repo_id is not None:
        print(push_folder(args.output_dir, args.repo_id, args.private).commit_url)
