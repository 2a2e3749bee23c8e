"""What runs of `run_mtl.py` start from, and one whole run for all tests."""

import datasets
import pytest
from helpers import clip_row, tiny_checkpoint, write_corpus
from run_mtl_helpers import run

from modeling_toxmtl.data.schema import Row, write_split


@pytest.fixture(scope="session")
def workbench(tmp_path_factory):
    """A tiny checkpoint and a tiny corpus with a broken clip in two of its splits."""
    folder = tmp_path_factory.mktemp("workbench")
    tiny_checkpoint(folder / "checkpoint")
    write_corpus(folder / "clips")
    for split, where in (("train", 3), ("test", 0)):
        rows = [clip_row(f"{split}-{index:02d}", split, index, 1.0) for index in range(8 if split == "train" else 4)]
        if split == "test":
            rows[-1] = clip_row("test-03", "test", 3, 2.5)
        broken = Row(f"{split}-broken", b"not audio", 1.0, ("Other",), "hi", "nobody", "none", split)
        write_split([*rows[:where], broken, *rows[where:]], folder / "clips", split)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Data sets are not cached beside the user's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets_cache")


@pytest.fixture(scope="session")
def trained(workbench, tmp_path_factory):
    """Output folder of a whole run, and what `main` returned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets_cache")
        folder = tmp_path_factory.mktemp("trained")
        return folder, run(workbench, folder)
