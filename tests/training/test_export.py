"""One complete folder out of a trained one: the weight file's precision, and the card's metadata."""

import json

import pytest
import torch
from helpers import RATE, save_tiny_model, tone
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForAudioClassification

from modeling_toxmtl import ToxicityDetectionPipeline, ToxicityMTLProcessor
from modeling_toxmtl.hub import code_files
from modeling_toxmtl.training.export import ExportArguments, export, main


@pytest.fixture
def trained(family, tmp_path):
    folder = save_tiny_model(tmp_path / "trained", family=family)
    data = {"dataset": "my_clips", "sha256": {"test": "ab12"}, "rejected": {"test": 0}}
    (folder / "results.json").write_text(json.dumps({"parameters": 7, "data": data, "test": {"mAP": 12.5}}))
    (folder / "NOTES.md").write_text("Three voices.\n")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def judge(folder):
    model = AutoModelForAudioClassification.from_pretrained(folder)
    pipe = ToxicityDetectionPipeline(model, ToxicityMTLProcessor.from_pretrained(folder))
    return pipe(tone(RATE), return_keywords=True)


def test_folder_is_complete_and_equal(trained, tmp_path, capsys):
    main(ExportArguments(str(trained), str(tmp_path / "out")))
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files >= {"model.safetensors", "config.json", "processor_config.json", "results.json", "README.md"}
    assert files >= {file.name for file in code_files()} and "training_args.bin" not in files
    assert "## What it heard\n\nThree voices.\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for name in ("results.json", "NOTES.md"):
        assert (tmp_path / "out" / name).read_bytes() == (trained / name).read_bytes()
    assert judge(tmp_path / "out") == judge(trained)
    assert "complete" in capsys.readouterr().out


def test_half_the_file_loads_as_before(trained, tmp_path):
    main(ExportArguments(str(trained), str(tmp_path / "out"), dtype="float16"))
    weights = load_file(tmp_path / "out" / "model.safetensors").values()
    assert {weight.dtype for weight in weights} == {torch.float16}
    assert AutoModelForAudioClassification.from_pretrained(tmp_path / "out").dtype == torch.float32
    for item, other in zip(judge(tmp_path / "out")["labels"], judge(trained)["labels"], strict=True):
        assert item["label"] == other["label"] and item["score"] == pytest.approx(other["score"], abs=1e-3)


def test_metadata_of_the_card(trained, tmp_path):
    main(ExportArguments(str(trained), str(tmp_path / "me_model"), license="mit", base_model="someone/wavlm"))
    card = ModelCard((tmp_path / "me_model" / "README.md").read_text(encoding="utf-8"))
    assert (card.data.license, card.data.base_model, card.data.model_name) == ("mit", "someone/wavlm", "me_model")


@pytest.mark.parametrize(
    ("to", "dtype", "choices"),
    [
        ("safetensors", "floaty", "auto, float32, float16, bfloat16 with --to safetensors"),
        ("safetensors", "int8", "auto, float32, float16, bfloat16 with --to safetensors"),
        ("onnx", "bfloat16", "auto, float32, float16, int8 with --to onnx"),
    ],
)
def test_a_dtype_that_there_is_not(tmp_path, to, dtype, choices):
    with pytest.raises(ValueError, match=f"--dtype is '{dtype}': choose one of {choices}"):
        export("nowhere", tmp_path / "out", to=to, dtype=dtype)
    assert not (tmp_path / "out").exists()
