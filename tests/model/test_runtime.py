"""Exported models, run without PyTorch and transformers: the pipeline's verdicts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import RATE, assert_same, save_tiny_model, tone, wav

from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.moderation.record import differences
from modeling_toxmtl.runtime import ExportedProcessor, ToxicityRuntime
from modeling_toxmtl.training.export import export


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the exporter
    pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput"),
]
ROOT = Path(__file__).parents[2]
OPTIONS = {"return_keywords": True, "return_windows": True, "window_seconds": 1.0}
BLOCKED = """
import json, sys
for name in {blocked}:
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, {path!r})
"""


@pytest.fixture(scope="module")
def folders(family, tmp_path_factory):
    """A model, and its export."""
    folder = tmp_path_factory.mktemp(family)
    save_tiny_model(folder / "model", family=family)
    return folder / "model", export(folder / "model", folder / "exported", to="onnx")


@pytest.fixture(scope="module")
def pipe(folders):
    from transformers import pipeline

    return pipeline("audio-classification", model=str(folders[0]))


@pytest.fixture(scope="module")
def runtime(folders):
    return ToxicityRuntime.from_pretrained(folders[1])


def silent_in_the_middle(seconds: float) -> np.ndarray:
    sound = tone(round(seconds * RATE))
    return np.concatenate([sound, np.zeros(2 * RATE, dtype=np.float32), sound])


CLIPS = {
    "file": wav(tone(RATE)),
    "array": tone(RATE // 2),
    "dict": {"array": tone(8000, rate=8000), "sampling_rate": 8000},
    "long": silent_in_the_middle(1.7),
    "silence": np.zeros(RATE, dtype=np.float32),
}


def assert_same_verdict(ours, expected):
    assert differences(json.loads(json.dumps(expected)), json.loads(json.dumps(ours)), tolerance=1e-4) == []


@pytest.mark.parametrize("clip", CLIPS)
def test_verdicts_are_those_of_the_pipeline(clip, pipe, runtime):
    assert_same(runtime(CLIPS[clip]), pipe(CLIPS[clip]), 1e-5)
    assert_same_verdict(runtime(CLIPS[clip], **OPTIONS), pipe(CLIPS[clip], **OPTIONS))


def test_lists_and_streams(pipe, runtime):
    expected = pipe(list(CLIPS.values()), **OPTIONS)
    for clips in (list(CLIPS.values()), iter(CLIPS.values())):
        verdicts = runtime(clips, **OPTIONS)
        assert isinstance(verdicts, list) == isinstance(clips, list)
        for ours, other in zip(verdicts, expected, strict=True):
            assert_same_verdict(ours, other)
    assert runtime([]) == []


def test_a_stream_is_heard_as_it_comes(runtime):
    def clips():
        yield CLIPS["array"]
        raise RuntimeError("the second clip was asked for")

    assert next(runtime(clips()))


def test_guards_are_the_pipelines(runtime):
    with pytest.raises(ValueError, match="fewer|at least"):
        runtime(np.zeros(10, dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        runtime(np.full(RATE, np.nan, dtype=np.float32))
    with pytest.raises(TypeError, match="Unknown argument top_n"):
        runtime(CLIPS["array"], top_n=1)
    for seconds in (float("nan"), float("inf"), "15"):
        with pytest.raises(ValueError, match="`window_seconds` is .*: give seconds"):
            runtime(CLIPS["array"], window_seconds=seconds)
    assert runtime(CLIPS["array"], batch_size=8, num_workers=2) == runtime(CLIPS["array"])


def test_the_processor_is_the_folders(folders):
    ours, expected = ExportedProcessor(folders[1]), ToxicityMTLProcessor.from_pretrained(folders[0])
    assert (ours.alphabet, ours.decoding) == (expected.alphabet, expected.decoding)
    assert ours.keywords.to_dict() == expected.keywords.to_dict()
    batch = expected(tone(RATE), sampling_rate=RATE, return_tensors="np")
    np.testing.assert_allclose(ours.features(tone(RATE)), batch[ours.input_name][0], atol=1e-5)


def python(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("source", ["package", "folder"])
def test_neither_pytorch_nor_transformers_is_needed(source, folders, pipe, tmp_path):
    """In a process that cannot import them: from the package, and from the folder's own code."""
    blocked = ["torch", "transformers", "huggingface_hub", "tokenizers", "scipy"]
    if source == "package":
        code, module = BLOCKED.format(blocked=blocked, path=str(ROOT)), "modeling_toxmtl"
    else:
        blocked.append("modeling_toxmtl")
        code, module = BLOCKED.format(blocked=blocked, path=str(folders[1].parent)), "exported.runtime"
    code += f"""
from {module} import ToxicityRuntime
moderate = ToxicityRuntime.from_pretrained(sys.argv[1])
print(json.dumps(moderate(sys.argv[2], **{OPTIONS})))
"""
    (tmp_path / "clip.wav").write_bytes(CLIPS["file"])
    verdict = json.loads(python(code, str(folders[1]), str(tmp_path / "clip.wav")))
    assert_same_verdict(verdict, pipe(CLIPS["file"], **OPTIONS))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone pins processes to cores")
def test_no_thread_leaves_the_cores_of_its_process(folders):
    """Of which ONNX Runtime by itself takes no notice."""
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
mine = {{min(os.sched_getaffinity(0))}}
os.sched_setaffinity(0, mine)
from modeling_toxmtl.runtime import ToxicityRuntime
moderate = ToxicityRuntime.from_pretrained(sys.argv[1])
assert {{core for task in os.listdir("/proc/self/task") for core in os.sched_getaffinity(int(task))}} == mine
"""
    python(code, str(folders[1]))


def test_arrays_are_heard_without_pyav(folders, pipe, tmp_path):
    """Files need it, and say so."""
    np.save(tmp_path / "clip.npy", CLIPS["array"])
    code = BLOCKED.format(blocked=["torch", "transformers", "av"], path=str(ROOT))
    code += f"""
import numpy
from modeling_toxmtl import ToxicityRuntime
moderate = ToxicityRuntime.from_pretrained(sys.argv[1])
try:
    moderate("clip.ogg")
except ImportError as error:
    assert "pip install av" in str(error)
print(json.dumps(moderate(numpy.load(sys.argv[2]), **{OPTIONS})))
"""
    verdict = json.loads(python(code, str(folders[1]), str(tmp_path / "clip.npy")))
    assert_same_verdict(verdict, pipe(CLIPS["array"], **OPTIONS))


def test_moderate_takes_an_exported_folder(folders, tmp_path):
    """Without PyTorch too; the records say what computed them, and nothing else differs."""
    (tmp_path / "clip.wav").write_bytes(CLIPS["file"])
    run, records = "from modeling_toxmtl import cli\ncli.main(sys.argv[1:])", []
    for folder, blocked in zip(folders, ([], ["torch", "transformers"]), strict=True):
        arguments = ("moderate", str(folder), str(tmp_path / "clip.wav"), "--format", "jsonl")
        records.append(json.loads(python(BLOCKED.format(blocked=blocked, path=str(ROOT)) + run, *arguments)))
    pytorch, exported = records
    assert exported["model"].pop("runtime") == "onnxruntime" and pytorch["model"].pop("runtime") == "torch"
    assert "onnxruntime" in exported.pop("versions") and "torch" in pytorch.pop("versions")
    for record in records:
        del record["model"]["name"], record["model"]["weights_sha256"]
    assert differences(pytorch, exported) == []


def test_openvino_hears_windows_in_few_lengths(folders, pipe, tmp_path):
    """Padded to half seconds, of which the verdict knows nothing."""
    pytest.importorskip("openvino")
    runtime = ToxicityRuntime.from_pretrained(export(folders[0], tmp_path, to="openvino"))
    run, lengths = runtime.engine.run, []

    def counted(inputs):
        lengths.append(inputs["attention_mask"].shape[1] * runtime.processor.samples_per_input)
        return run(inputs)

    runtime.engine.run = counted
    clips = [tone(samples) for samples in (7_777, 8_000, 11_111, 15_999)]
    for clip in clips:
        assert_same_verdict(runtime(clip, return_keywords=True), pipe(clip, return_keywords=True))
    assert lengths == [8_000, 8_000, 16_000, 16_000]


def test_errors_name_the_cure(folders, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lacks export.json: export the model again, with `toxmtl export`"):
        ToxicityRuntime.from_pretrained(folders[0])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        ToxicityRuntime.from_pretrained(folders[1])


def test_released_model(tmp_path):
    """The verdict of the README, by the exported model."""
    model = ROOT / "model_cards" / "whisper-tiny-en-toxmtl"
    exported = ToxicityRuntime.from_pretrained(export(model, tmp_path, to="onnx"))
    verdict = exported(ROOT / "docs" / "examples" / "insult.ogg", return_keywords=True)
    assert verdict["violations"] == ["Bullying"]
    assert [word["keyword"] for word in verdict["keywords"]] == ["shut up", "idiot"]
