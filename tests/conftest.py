"""Fixtures of all tests."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import ENCODERS, NORMS, SYSTEMS
from transformers import set_seed


torch.set_num_threads(1)


def pytest_configure(config):
    """Registers the marks of transformers' own tests, where test_peer_suite.py runs them."""
    if source := os.environ.get("TRANSFORMERS_SOURCE"):
        files = (
            Path(source, "tests", "test_modeling_common.py"),
            Path(transformers.__file__).with_name("testing_utils.py"),
        )
        for name in sorted({name for file in files for name in re.findall(r"\bmark\.(\w+)", file.read_text())}):
            config.addinivalue_line("markers", f"{name}: of transformers' tests")


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same random numbers in every run."""
    set_seed(0)


@pytest.fixture(params=NORMS)
def norm(request) -> dict:
    """Fields of `tiny_config` for each kind of WavLM."""
    return NORMS[request.param]


@pytest.fixture(scope="module", params=["wavlm", "whisper"])
def family(request) -> str:
    """Of encoders."""
    return request.param


@pytest.fixture(params=ENCODERS)
def encoder(request) -> dict:
    """Fields of `tiny_model` for each kind of encoder."""
    return ENCODERS[request.param]


@pytest.fixture(params=SYSTEMS)
def system(request) -> dict:
    """Fields of `tiny_config` for each system of the paper."""
    return SYSTEMS[request.param]


@pytest.fixture(scope="session")
def cluster():
    """Ray on two cores, whose workers find the tests' modules; it takes long to start, and serves all tests."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent / "data"), *sys.path]))
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()
