"""Models on the Hub: pushed over real HTTP to a server on loopback, and loaded in a process without this package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import RATE, as_read, tiny_processor, tiny_speech_model, tone, wav
from hub_server import HubServer

from modeling_toxmtl import ToxicityDetectionPipeline
from modeling_toxmtl.hub_toxmtl import code_files


# A process that cannot import the package (an installed, registered class would win over the code of the model) nor
# any of the modules named in BLOCKED, and says in JSON what it found.
PRELUDE = """
import json, os, sys
sys.modules.update(dict.fromkeys(["modeling_toxmtl", *os.environ.get("BLOCKED", "").split()]))
import numpy as np
from transformers import (
    AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, AutoProcessor, AutoTokenizer, pipeline
)
name, trusted = sys.argv[1], {"trust_remote_code": True}
samples = np.load(os.path.join(os.path.dirname(__file__), "clip.npy"))
clip = os.path.join(os.path.dirname(__file__), "clip.wav")
"""
VERDICT = """
moderate = pipeline("audio-classification", model=name, **trusted)
verdict = moderate(samples, return_keywords=True, return_windows=True)
print(json.dumps({"class": type(moderate).__module__ + "." + type(moderate).__name__, "verdict": verdict}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and processor as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("model")
    tiny_speech_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected():
    samples = as_read(tone(RATE))
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    return pipe(samples, return_keywords=True, return_windows=True)


@pytest.fixture
def bare(tmp_path):
    """Runs code in a bare process."""
    np.save(tmp_path / "clip.npy", as_read(tone(RATE)))
    (tmp_path / "clip.wav").write_bytes(wav(tone(RATE)))

    def run(code: str, name: str, check: bool = True, **environment) -> subprocess.CompletedProcess:
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + code)
        environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", **environment}
        unwanted = ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT")
        environment = {key: value for key, value in os.environ.items() if key not in unwanted} | environment
        result = subprocess.run(
            [sys.executable, str(script), name], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        if check:
            assert result.returncode == 0, result.stderr
        return result

    return run


def assert_verdict(output: str, expected: dict) -> None:
    result = json.loads(output)
    assert result["class"].startswith("transformers_modules.") and "ToxicityDetectionPipeline" in result["class"]
    verdict = result["verdict"]
    for found, wanted in ((verdict, expected), *zip(verdict["windows"], expected["windows"], strict=True)):
        for item, other in zip(found["labels"], wanted["labels"], strict=True):
            assert item["label"] == other["label"] and item["score"] == pytest.approx(other["score"], abs=1e-6)
    assert verdict["keywords"] == json.loads(json.dumps(expected["keywords"]))


def test_the_code_that_travels():
    names = {file.name for file in code_files()}
    assert {"configuration_toxmtl.py", "pipeline_toxmtl.py", "keywords.py", "hub_toxmtl.py"} <= names
    assert not names & {"__init__.py", "__main__.py", "trainer.py", "evaluation.py", "data.py", "metrics.py"}


def test_saved_folder_loads_without_the_package(folder, bare, expected):
    output = bare(VERDICT, str(folder), HF_HUB_OFFLINE="1")
    assert_verdict(output.stdout, expected)
    assert "not supported" not in output.stderr and "arning" not in output.stderr


def test_saved_folder_needs_trust_without_the_package(folder, bare):
    code = "pipeline('audio-classification', model=name, trust_remote_code=False)"
    result = bare(code, str(folder), check=False, HF_HUB_OFFLINE="1")
    assert result.returncode and "trust_remote_code=True" in result.stderr


def test_hub_cache_loads_without_the_package(folder, bare, expected, tmp_path):
    """The Hub, unlike a local folder, has every file's imports checked."""
    repository = tmp_path / "home" / "hub" / "models--someone--toxmtl"
    commit = "a" * 40
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = VERDICT + """
for loader in (AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, AutoProcessor, AutoTokenizer):
    print(type(loader.from_pretrained(name, **trusted)).__name__)
moderate.save_pretrained(os.environ["RESAVED"])
print(json.dumps({"class": type(moderate).__module__ + "." + type(moderate).__name__,
                  "verdict": pipeline("audio-classification", model=os.environ["RESAVED"], **trusted)(
                      samples, return_keywords=True, return_windows=True)}))
"""
    environment = {"HF_HUB_OFFLINE": "1", "RESAVED": str(tmp_path / "resaved")}
    verdict, *names, again = bare(code, "someone/toxmtl", **environment).stdout.splitlines()
    assert_verdict(verdict, expected)
    assert names == [
        "WavLMToxicityMTLConfig",
        "Wav2Vec2FeatureExtractor",
        "WavLMForToxicityMTL",
        "ToxicityMTLProcessor",
        "Wav2Vec2CTCTokenizer",
    ]
    assert_verdict(again, expected)  # what was loaded from the Hub can be saved and loaded again
    assert {path.name for path in (tmp_path / "resaved").glob("*.py")} == {file.name for file in code_files()}


# --- over HTTP


@pytest.fixture
def hub(monkeypatch):
    with HubServer({"hf_alice": "alice", "hf_bob": "bob"}) as server:
        yield server
        assert sorted(set(server.unknown)) == []


def test_push_and_pull(hub, bare, expected):
    code = """
from transformers import AutoModel
sys.modules.pop("modeling_toxmtl")
sys.path[:0] = os.environ["PACKAGE"].split(os.pathsep)
from helpers import tiny_processor, tiny_speech_model
tiny_speech_model().push_to_hub(name)
tiny_processor().push_to_hub(name)
"""
    root = Path(__file__).parent
    package = os.pathsep.join([str(root), str(root.parent)])
    bare(code, "alice/toxmtl", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_alice", PACKAGE=package)
    files = hub.files("alice/toxmtl")
    assert {file.name for file in code_files()} <= set(files)
    assert {"model.safetensors", "config.json", "processor_config.json", "README.md"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pkl", ".pt"))]
    assert_verdict(bare(VERDICT, "alice/toxmtl", HF_ENDPOINT=hub.endpoint).stdout, expected)
