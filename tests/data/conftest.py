"""Recordings and a data set made of them, once for all tests."""

import pytest
from pipeline_helpers import SPANS, dtx_file, write_recordings
from pipeline_runs import run_all


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """Of nine seconds, with speech in `SPANS`."""
    path = tmp_path_factory.mktemp("recordings") / "call.ogg"
    path.write_bytes(dtx_file(SPANS, 9.0))
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a whole run over six recordings with given transcripts."""
    folder = tmp_path_factory.mktemp("pipeline")
    run_all(folder, write_recordings(folder / "raw", 6))
    return folder
