"""Graphs give PyTorch's logits, whatever stands beside a clip."""

import json

import numpy as np
import onnx
import pytest
import torch
from helpers import MEL_FRAMES, SPEECH_FRAMES, save_tiny_model, tiny_processor, tiny_speech_model
from onnx import numpy_helper
from tiny_models import NORMS, SYSTEMS, fresh_model

from modeling_toxmtl.runtime import OnnxEngine
from modeling_toxmtl.training.export import ExportArguments, main
from modeling_toxmtl.training.graphs import batch_of, export_graph, noise


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the exporter
    pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput"),
]
KINDS = {
    **{f"whisper-{name}": {"family": "whisper", **fields} for name, fields in SYSTEMS.items()},
    **{f"wavlm-{name}": {**NORMS["group"], **fields} for name, fields in SYSTEMS.items()},
    "large": NORMS["layer"],
    "plain": {"use_position_bias": False},
}


def written(folder, to="onnx", dtype="float32", model=None, **fields):
    model, processor = model or tiny_speech_model(**fields), tiny_processor(family=fields.get("family", "wavlm"))
    return model, processor, export_graph(model, processor, folder, to, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_every_system_of_every_family_in_batches_of_mixed_lengths(kind, tmp_path):
    """The differences that an export states are small, and true: a clip alone gets the batch's logits, in PyTorch and
    in the graph."""
    model, processor, export = written(tmp_path, **KINDS[kind])
    heads = {"classification": "logits", "keyword": "keyword_logits"}
    assert set(export["differences"]) == {heads[task] for task in model.config.tasks}
    assert all(difference < 1e-4 for difference in export["differences"].values())
    engine = OnnxEngine(tmp_path / "model.onnx")
    for clip in noise(model.config)[1:]:
        inputs, mask = batch_of(processor, [clip])
        with torch.no_grad():
            expected = model(inputs, mask)
        found = engine.run({processor.input_name: inputs.numpy(), "attention_mask": mask.numpy()})
        for name, logits in found.items():
            np.testing.assert_allclose(logits, expected[name].numpy(), atol=1e-4)


def test_opset_and_versions_are_what_was_written(tmp_path):
    *_, export = written(tmp_path)
    content = onnx.load(tmp_path / "model.onnx")
    assert {item.domain: item.version for item in content.opset_import}[""] == export["opset"]
    assert export["versions"]["onnx"] == onnx.__version__


@pytest.mark.parametrize(
    ("to", "dtype", "smaller", "tolerance"),
    [("onnx", "float16", 0.7, 0.05), ("onnx", "int8", 0.95, 1.0), ("openvino", "bfloat16", 0.7, 2.0)],
)
def test_smaller_files_are_near(family, to, dtype, smaller, tolerance, tmp_path):
    sizes = {}
    for kind in ("float32", dtype):
        (tmp_path / kind).mkdir()
        torch.manual_seed(0)
        frames = MEL_FRAMES if family == "whisper" else SPEECH_FRAMES
        model = fresh_model(family=family, **{**frames, **WIDE[family]}).eval()  # random weights would amplify errors
        *_, export = written(tmp_path / kind, to, kind, model=model, family=family)
        sizes[kind] = (tmp_path / kind / WEIGHT_FILES[to]).stat().st_size
    assert sizes[dtype] < smaller * sizes["float32"]
    assert 1e-6 < max(export["differences"].values()) < tolerance  # it is another, and near


def test_int8_rounds_the_blocks_but_for_what_costs_most_precision(family, tmp_path):
    """The products of the blocks, but for the first one's values and their projection; no head."""
    frames = MEL_FRAMES if family == "whisper" else SPEECH_FRAMES
    model = fresh_model(family=family, **frames).eval()
    for parameter in model.parameters():  # the exporter shares what is equal, such as biases that are zero
        torch.nn.init.normal_(parameter, std=0.1)
    written(tmp_path, dtype="int8", model=model, family=family)
    kept = [numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]

    def is_kept(linear):
        weight = linear.weight.detach().numpy()
        return any(np.array_equal(values, either) for values in kept for either in (weight, weight.T))

    layers = model.base_model.encoder.layers
    attentions = [layer.self_attn if family == "whisper" else layer.attention for layer in layers]
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    assert [[is_kept(getattr(attention, name)) for name in names] for attention in attentions] == [
        [False, False, True, True],
        [False] * 4,
    ]
    assert all(is_kept(head) for head in (model.projector, model.classifier, model.lm_head))


WEIGHT_FILES = {"onnx": "model.onnx", "openvino": "model.bin"}
WIDE = {  # where the weights are more than the graph around them
    "wavlm": {"hidden_size": 128, "intermediate_size": 512},
    "whisper": {"d_model": 128, "encoder_ffn_dim": 512},
}


def test_openvino(family, tmp_path):
    *_, export = written(tmp_path, to="openvino", family=family)
    assert all(difference < 1e-4 for difference in export["differences"].values())


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="--dtype is 'bfloat16': choose one of float32, float16, int8 with --to onnx"):
        written(tmp_path, dtype="bfloat16")
    folder = save_tiny_model(tmp_path / "model")
    with pytest.raises(ValueError, match="holds model.safetensors, of another kind of export"):
        main(ExportArguments(str(folder), str(folder), to="onnx"))


def test_folder_and_card(family, tmp_path, capsys):
    folder = save_tiny_model(tmp_path / "model", family=family)
    main(ExportArguments(str(folder), str(tmp_path / "out"), to="onnx"))
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files >= {"model.onnx", "export.json", "config.json", "processor_config.json", "vocab.json", "runtime.py"}
    assert "model.safetensors" not in files
    export = json.loads((tmp_path / "out" / "export.json").read_text())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"ONNX opset {export['opset']}, float32" in card and "pip install av num2words numpy onnxruntime" in card
    assert f"{export['differences']['logits']:.1e} in `logits`" in card
    assert "trust_remote_code" not in card
