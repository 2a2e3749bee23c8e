"""Fixtures of all tests."""

import pytest
import torch
from tiny_models import ENCODERS, NORMS, SYSTEMS
from transformers import set_seed


torch.set_num_threads(1)


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
