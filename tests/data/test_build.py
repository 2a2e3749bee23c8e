import shutil

import pytest
from pipeline_runs import load

from modeling_toxmtl.data import build, chunk
from modeling_toxmtl.data.build import BuildArguments
from modeling_toxmtl.data.recordings import RecordingsArguments
from modeling_toxmtl.data.stages import WorkArguments


def test_large_splits_become_several_files(made, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BYTES_PER_FILE", 20_000)
    build.run(BuildArguments(str(tmp_path / "data")), WorkArguments(str(made / "work")))
    files = sorted(path.name for path in (tmp_path / "data" / "data").glob("train-*"))
    assert len(files) > 1 and files[0] == f"train-00000-of-{len(files):05d}.parquet"
    before = sum(len(rows) for rows in load(made / "data", tmp_path).values())
    assert sum(len(rows) for rows in load(tmp_path / "data", tmp_path / "2").values()) == before


def test_a_build_that_fails_leaves_the_earlier_data_set(made, tmp_path, monkeypatch):
    args, work = BuildArguments(str(tmp_path / "data")), WorkArguments(str(made / "work"))
    build.run(args, work)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(build, "render_dataset_card", None)  # fails when the splits are written
    with pytest.raises(TypeError):
        build.run(args, work)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_chunks_made_anew_are_not_joined_with_rows_of_others(made, tmp_path):
    shutil.copytree(made / "work", tmp_path / "work")
    work = WorkArguments(str(tmp_path / "work"), num_proc=1)
    chunk.run(RecordingsArguments(str(made / "raw"), files_per_shard=2), chunk.ChunkStage(max_pause=3.0), work)
    with pytest.raises(ValueError, match="run the stage transcribe and those after it again"):
        build.run(BuildArguments(str(tmp_path / "data")), work)
    assert not (tmp_path / "data").exists()


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="--test_share 0.7"):
        BuildArguments(validation_share=0.3, test_share=0.7)
