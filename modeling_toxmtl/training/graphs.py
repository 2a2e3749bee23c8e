"""Models as graphs that run without PyTorch: ONNX, OpenVINO, and int8.

Design choices:
- The graph is the model's `forward` with its own names: `input_values` or `input_features` and `attention_mask` in,
  `logits` and `keyword_logits` out, for any number and length of clips. The mask's arithmetic is inside, so that a
  clip's scores do not depend on the batch here either.
- float16 is the precision of the file: half the download, and arithmetic in float32, for a CPU is slow in half.
- bfloat16 is that of the arithmetic, where a processor has it, as OpenVINO alone has it; the file is in float16.
- int8 is dynamic: weights are rounded once, and the inputs of each product as they come, so that no clips are needed
  to make it. Only the blocks' matrix products are rounded: they are nearly all of the work, and the heads decide. The
  first block's values and their projection stay as they are: a twentieth of the work, a third of all rounding error.
- What a graph is worth is measured when it is made: the largest difference to PyTorch's logits in a batch of clips of
  several lengths.
"""

import re
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from ..processing_toxmtl import ToxicityMTLProcessor
from ..runtime import ENGINES, MODEL_FILES, PRECISION, Engine


OPSET = 20  # the first with `Gelu`
HEADS = ("logits", "keyword_logits")
NOT_ROUNDED = re.compile(r"classifier|projector|lm_head|\blayers\.0\..*\b(v_proj|out_proj)\b")  # weights, in int8
LENGTHS = (0.0, 0.7, 1.5, 5.0)  # seconds of the clips that graphs are compared on; 0 for the shortest that is heard
PACKAGES = {
    "onnx": ("modeling-toxmtl", "torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("modeling-toxmtl", "torch", "transformers", "onnx", "onnxscript", "openvino"),
}
GRAPH_DTYPES = {"onnx": ("float32", "float16", "int8"), "openvino": ("float32", "float16", "bfloat16")}


class _Heads(nn.Module):
    """A model whose output is a tuple of the heads that it has."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(inputs, attention_mask)
        return tuple(outputs[name] for name in HEADS if outputs.get(name) is not None)


def export_graph(
    model: PreTrainedModel, processor: ToxicityMTLProcessor, folder: Path, to: str, dtype: str = "float32"
) -> dict[str, Any]:
    """Writes a model's graph into a folder.

    Args:
        model: in float32.
        processor: its processor.
        folder: must be there.
        to: "onnx" or "openvino".
        dtype: "float32", "float16", for ONNX "int8", or for OpenVINO "bfloat16".

    Returns:
        what `export.json` says: format, dtype, opset, the differences to PyTorch, and versions.

    Raises:
        ValueError: if there is no such dtype.
        ImportError: if PyTorch is older than 2.8.
    """
    if dtype not in GRAPH_DTYPES[to]:
        raise ValueError(f"--dtype is {dtype!r}: choose one of {', '.join(GRAPH_DTYPES[to])} with --to {to}.")
    path = folder / MODEL_FILES[to]
    with TemporaryDirectory() as temporary:
        graph = Path(temporary, "model.onnx")
        write_onnx(model, processor, graph)
        if to == "openvino":
            _write_openvino(graph, path, dtype)
        elif dtype == "int8":
            _quantize(graph, path)
        else:
            _write_rounded(graph, path, dtype)
    return {
        "to": to,
        "dtype": dtype,
        "opset": OPSET,
        "differences": differences(model, processor, ENGINES[to](path)),
        "versions": {name: version(name) for name in PACKAGES[to]},
    }


def write_onnx(model: PreTrainedModel, processor: ToxicityMTLProcessor, path: Path) -> None:
    """Writes the graph of a model in float32, for any number of clips of any length."""
    if torch.__version__ < (2, 8):
        raise ImportError(f"Exporting a graph needs PyTorch 2.8, but {torch.__version__} is installed.")
    inputs, mask = batch_of(processor, noise(model.config)[1:3])
    any_size = torch.export.Dim.DYNAMIC
    tasks = zip(HEADS, ("classification", "keyword"), strict=True)
    with sdpa_kernel(SDPBackend.MATH):  # views are traced with a kernel's layout, and that of fused ones is their own
        torch.onnx.export(
            _Heads(model).eval(),
            (inputs, mask),
            path,
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=OPSET,
            input_names=processor.model_input_names,
            output_names=[name for name, task in tasks if task in model.config.tasks],
            dynamic_shapes=({0: any_size, inputs.ndim - 1: any_size}, {0: any_size, 1: any_size}),
        )


def noise(config: Any) -> list[np.ndarray]:
    """A clip `(samples,)` of noise for each of the `LENGTHS` that a model hears at once."""
    generator = np.random.default_rng(0)
    longest = config.max_samples or np.inf
    sizes = [int(min(max(seconds * 16_000, config.receptive_field), longest)) for seconds in LENGTHS]
    return [generator.normal(0, 0.1, size).astype(np.float32) for size in sizes]


def batch_of(processor: ToxicityMTLProcessor, clips: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's main input, and its mask."""
    batch = processor(clips, sampling_rate=processor.sampling_rate, return_tensors="pt")
    return batch[processor.input_name], batch["attention_mask"].long()


@torch.no_grad()
def differences(model: PreTrainedModel, processor: ToxicityMTLProcessor, engine: Engine) -> dict[str, float]:
    """The largest difference of each head's logits in a batch of clips of several lengths, on their own frames."""
    clips = noise(model.config)
    inputs, mask = batch_of(processor, clips)
    expected = model(inputs, mask)
    found = engine.run({processor.input_name: inputs.numpy(), "attention_mask": mask.numpy()})
    largest = {}
    for name, logits in found.items():
        distance = np.abs(logits - expected[name].numpy())
        if name == "keyword_logits":
            frames = [model.config.num_frames(len(clip)) for clip in clips]
            distance = np.concatenate([row[:count] for row, count in zip(distance, frames, strict=True)])
        largest[name] = float(distance.max())
    return largest


def _write_rounded(graph: Path, path: Path, dtype: str) -> None:
    """The graph, its large weights in float16 if so asked, which ONNX Runtime widens once, when it loads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    content = onnx.load(graph)
    weights = [tensor for tensor in content.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    for tensor in weights if dtype == "float16" else ():
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half"))
        content.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    onnx.save(content, path)


def _quantize(graph: Path, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(graph, load_external_data=False).graph.node
    quantize_dynamic(
        graph,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_products_not_rounded(nodes),
    )


def _products_not_rounded(nodes):
    """Names of the products of `NOT_ROUNDED`. The exporter transposes weights, and names them anew: a product is known
    by the bias that is added to it. The quantiser makes a `MatMul` of each `Gemm`, of a name of its own."""
    adding = [node for node in nodes if any(NOT_ROUNDED.search(name) for name in node.input)]
    products = {name for node in adding for name in node.input}
    names = [node.name for node in nodes if node in adding or products.intersection(node.output)]
    return [*names, *(f"{name}_MatMul" for name in names)]


def _write_openvino(graph: Path, path: Path, dtype: str) -> None:
    import openvino

    model = openvino.convert_model(graph)
    if dtype == "bfloat16":
        model.set_rt_info("bf16", PRECISION)
    openvino.save_model(model, path, compress_to_fp16=dtype != "float32")
