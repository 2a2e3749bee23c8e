"""Models on the Hub: pushed over real HTTP to a server on loopback, and loaded in a process without this package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    RATE,
    as_read,
    save_tiny_model,
    tiny_checkpoint,
    tiny_processor,
    tiny_speech_model,
    tone,
    wav,
    write_corpus,
)
from hub_server import HubServer

from modeling_toxmtl import ToxicityDetectionPipeline
from modeling_toxmtl.hub import code_files


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
# what the base install of transformers and torch does not bring
EXTRAS = "av kenlm num2words pyctcdecode datasets accelerate scipy sklearn pandas"
VERDICT = """
moderate = pipeline("audio-classification", model=name, **trusted)
verdict = moderate(samples, return_keywords=True, return_windows=True)
print(json.dumps({"class": type(moderate).__module__ + "." + type(moderate).__name__, "verdict": verdict}))
"""


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """A model and processor as `save_pretrained` writes them."""
    return save_tiny_model(tmp_path_factory.mktemp("model"), family=family)


@pytest.fixture(scope="module")
def expected(family):
    samples = as_read(tone(RATE))
    pipe = ToxicityDetectionPipeline(tiny_speech_model(family=family), tiny_processor(family=family))
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
    for heard, word in zip(verdict["keywords"], json.loads(json.dumps(expected["keywords"])), strict=True):
        assert heard.pop("score") == pytest.approx(word.pop("score"), abs=1e-6) and heard == word


def test_the_code_that_travels():
    names = {file.name for file in code_files()}
    assert {"kernels.py", "pipeline_toxmtl.py", "keywords.py", "hub.py"} <= names
    assert not names & {"__init__.py", "__main__.py", "trainer.py", "evaluation.py", "data.py", "metrics.py"}


def test_saved_folder_loads_with_the_base_install_alone(folder, bare, expected):
    """No package, and nothing but what transformers itself needs: arrays are judged, and the rest says what it
    lacks."""
    code = """
refusals = []
for options in ({"trust_remote_code": False}, trusted):
    try:
        moderate = pipeline("audio-classification", model=name, **options)
        moderate(clip)
    except (ValueError, ImportError) as error:
        refusals.append(str(error))
"""
    output = bare(code + VERDICT + "print(json.dumps(refusals))", str(folder), HF_HUB_OFFLINE="1", BLOCKED=EXTRAS)
    verdict, refusals = output.stdout.splitlines()
    assert_verdict(verdict, expected)
    trust, audio = json.loads(refusals)
    assert "trust_remote_code=True" in trust
    assert audio == "Reading or resampling audio needs PyAV: pip install av"
    assert "not supported" not in output.stderr and "arning" not in output.stderr


# --- over HTTP


PUSH = """
import json, os, sys
from huggingface_hub.errors import HfHubHTTPError
from helpers import tiny_processor, tiny_speech_model
from modeling_toxmtl.training.export import ExportArguments, main as export
import run_mtl

os.environ.pop("HF_TOKEN")
for token in (None, "hf_mallory"):
    try:
        tiny_speech_model().push_to_hub("alice/refused", token=token)
        raise SystemExit("pushed without a valid token")
    except (HfHubHTTPError, OSError) as error:
        print(type(error).__name__)
tiny_speech_model().push_to_hub("alice/two-calls", token="hf_alice")
tiny_processor().push_to_hub("alice/two-calls", token="hf_alice")
os.environ["HF_TOKEN"] = "hf_alice"
run_mtl.main(*run_mtl.parse_arguments(sys.argv[1:]))
export(ExportArguments("alice/trained", "exported", dtype="bfloat16", repo_id="alice/exported", private=True))
"""
PULL = (
    """
from huggingface_hub.errors import RepositoryNotFoundError
token = os.environ.pop("HF_TOKEN")
for refused in (None, "hf_bob"):
    try:
        AutoConfig.from_pretrained("alice/exported", token=refused, **trusted)
        raise SystemExit("a private model was loaded")
    except OSError as error:
        assert "alice/exported is not a local folder" in str(error), error
for loader in (AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, AutoProcessor, AutoTokenizer):
    print(type(loader.from_pretrained("alice/exported", token=token, **trusted)).__name__)
private = pipeline("audio-classification", model="alice/exported", token=token, **trusted)
assert str(private.model.dtype) == "torch.float32"
assert [len(private(source)) for source in (samples, clip)] == [6, 6]
"""
    + VERDICT
    + """
moderate.save_pretrained("resaved")
moderate = pipeline("audio-classification", model="resaved", **trusted)
print(json.dumps({"class": type(moderate).__module__ + "." + type(moderate).__name__,
                  "verdict": moderate(samples, return_keywords=True, return_windows=True)}))
"""
)


@pytest.fixture
def hub():
    with HubServer({"hf_alice": "alice", "hf_bob": "bob"}) as server:
        yield server
        assert sorted(set(server.unknown)) == []


def train_flags(folder: Path) -> list[str]:
    fields = {
        "model_name_or_path": tiny_checkpoint(folder / "checkpoint"),
        "dataset": write_corpus(folder / "clips"),
        "output_dir": folder / "run",
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "report_to": "none",
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "disable_tqdm": True,
        "hub_model_id": "alice/trained",
    }
    flags = [text for name, value in fields.items() for text in (f"--{name}", str(value))]
    return [*flags, "--use_cpu", "--do_train", "--do_predict", "--push_to_hub"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wavlm"], indirect=True)
def test_push_and_pull(hub, bare, expected, tmp_path):
    """Models, processors, a training run and an export go up, and come down where the package is not installed; the
    Hub, unlike a local folder, has every file's imports checked."""
    root = Path(__file__).parents[1]
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_alice"}
    environment |= {"HF_HOME": str(tmp_path / "push_home"), "PYTHONPATH": f"{root}{os.pathsep}{root.parent}"}
    (tmp_path / "push.py").write_text(PUSH)
    pushed = subprocess.run(
        [sys.executable, "push.py", *train_flags(tmp_path)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | environment,
        capture_output=True,
        text=True,
    )
    assert pushed.returncode == 0, pushed.stderr

    public = {repo_id: repository.private for (_, repo_id), repository in hub.repositories.items()}
    assert public == {"alice/two-calls": False, "alice/trained": False, "alice/exported": True}
    model = {"model.safetensors", "config.json", "processor_config.json", "tokenizer_config.json", "vocab.json"}
    for repo_id in public:
        files = set(hub.files(repo_id))
        assert model | {"README.md"} | {file.name for file in code_files()} <= files
        results = set() if repo_id == "alice/two-calls" else {"results.json", "train_results.json"}
        assert results <= files
        # neither pickles nor what was heard in whose clip
        assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".jsonl")) or "/" in name]
    for repo_id in ("alice/trained", "alice/exported"):
        card = hub.files(repo_id)["README.md"].decode()
        assert card.startswith("---\n") and f"# {repo_id}\n" in card and "model-index:" in card

    output = bare(PULL, "alice/two-calls", HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_alice")
    *names, verdict, again = output.stdout.splitlines()
    assert names == [
        "WavLMToxicityMTLConfig",
        "Wav2Vec2FeatureExtractor",
        "WavLMForToxicityMTL",
        "ToxicityMTLProcessor",
        "Wav2Vec2CTCTokenizer",
    ]
    assert_verdict(verdict, expected)
    assert_verdict(again, expected)  # what came from the Hub can be saved, and loaded again
    of_graphs = {"runtime.py", "features.py"}  # which no model of PyTorch imports
    resaved = {path.name for path in (tmp_path / "resaved").glob("*.py")}
    assert resaved == {file.name for file in code_files()} - of_graphs
