"""What rounding costs, on the smallest corpus."""

import pytest
import torch
from helpers import save_tiny_model, write_corpus

from benchmarks.exported import PYTORCH, ExportedArguments, main, markdown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput")
def test_an_export_in_float32_is_as_good_as_pytorch(tmp_path):
    model = save_tiny_model(tmp_path / "tiny", family="whisper")
    write_corpus(tmp_path / "clips", train=1, validation=1, test=4)
    args = ExportedArguments(
        str(model), ["onnx-float32"], str(tmp_path / "clips"), results_file=str(tmp_path / "results.json")
    )
    results = main(args)
    assert list(results) == [PYTORCH, "onnx-float32"]
    ours, expected = results["onnx-float32"], results[PYTORCH]
    assert {name: ours[name] for name in ("mAP", "f1")} == {name: expected[name] for name in ("mAP", "f1")}
    assert (tmp_path / "results.md").read_text() == markdown(results) + "\n"
