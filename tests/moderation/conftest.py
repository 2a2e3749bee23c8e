"""A model and clips to judge."""

import pytest
from helpers import RATE, save_tiny_model, tone, wav
from moderation_helpers import SECONDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of clips of several lengths."""
    path = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate(SECONDS):
        (path / f"{number}.wav").write_bytes(wav(tone(round(seconds * RATE), 200.0 + 50 * number, number)))
    return path
