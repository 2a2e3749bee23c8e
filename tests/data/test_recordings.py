import os
from pathlib import Path

import pytest
from pipeline_helpers import SPANS

from modeling_toxmtl.data.chunk import ChunkStage, run
from modeling_toxmtl.data.recordings import RecordingsArguments, list_recordings, write_recordings
from modeling_toxmtl.data.shards import read_rows
from modeling_toxmtl.data.stages import WorkArguments


def test_recordings_come_from_a_table(tmp_path, recording):
    (tmp_path / "calls.csv").write_text("path,speaker,source,split\nraw/a.ogg,ann,game 1,test\nraw/b.ogg,,,\n")
    first, second = list_recordings(str(tmp_path / "calls.csv"))
    assert (first["path"], first["speaker"]) == (str(tmp_path / "raw" / "a.ogg"), "ann")
    assert (first["source"], first["split"]) == ("game 1", "test")
    assert (second["speaker"], second["name"]) == ("", "raw/b.ogg") and second["source"] == "raw/b.ogg"
    for missing in ("nowhere", "calls.txt"):
        with pytest.raises(FileNotFoundError, match="--recordings"):
            list_recordings(str(tmp_path / missing))
    (tmp_path / "empty.csv").write_text("speaker\nann\n")
    with pytest.raises(ValueError, match="empty.csv, line 2: no 'path'"):
        list_recordings(str(tmp_path / "empty.csv"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no recordings"):
        list_recordings(str(tmp_path / "none"))


def test_numbers_of_a_table_are_names(tmp_path):
    (tmp_path / "calls.jsonl").write_text('{"path": 7, "speaker": 0, "source": 1}\n')
    (row,) = list_recordings(str(tmp_path / "calls.jsonl"))
    assert (row["path"], row["speaker"], row["source"]) == (str(tmp_path / "7"), "0", "1")


def test_links_of_a_folder_are_followed_once(tmp_path, recording):
    for folder in ("raw/a", "raw/b", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "call.ogg").write_bytes(recording.read_bytes())
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "raw" / "a" / "b").symlink_to(tmp_path / "raw" / "b")  # a circle
    (tmp_path / "raw" / "b" / "a").symlink_to(tmp_path / "raw" / "a")
    paths = [row["path"] for row in list_recordings(str(tmp_path / "raw"))]
    assert paths == [str(tmp_path / "raw" / folder / "call.ogg") for folder in ("a", "b", "linked")]


def test_files_that_cannot_be_named_or_followed_are_quarantined(tmp_path, recording):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "call.ogg").write_bytes(recording.read_bytes())
    (folder / "dangling.ogg").symlink_to(tmp_path / "nothing.ogg")
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xe9t\xe9.ogg")).write_bytes(recording.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    manifest = run(RecordingsArguments(str(folder)), ChunkStage(), WorkArguments(str(tmp_path / "work"), num_proc=1))
    assert manifest.num_rows == len(SPANS)
    assert [Path(rejected.id).name for rejected in manifest.rejected] == ["dangling.ogg", r"\udce9t\udce9.ogg"]
    assert all("dangling link, or a name that is not in UTF-8" in rejected.reason for rejected in manifest.rejected)


def test_an_added_recording_changes_only_the_shard_it_comes_into(tmp_path):
    raw, args = tmp_path / "raw", RecordingsArguments(str(tmp_path / "raw"), files_per_shard=3)
    raw.mkdir()
    for number in range(60):
        (raw / f"call-{number:02d}.ogg").touch()
    before = write_recordings(args, str(tmp_path / "work"))
    assert 10 < len(before) < 30
    paths = [row["path"] for shard in before for row in read_rows(shard.path)]
    assert paths == sorted(map(str, raw.iterdir()))
    for name in ("aaa.ogg", "call-30a.ogg"):
        (raw / name).touch()
        after = write_recordings(args, str(tmp_path / "work"))
        assert len(set(before) - set(after)) == 1 and len(set(after) - set(before)) in (1, 2)
        before = after


def test_shards_do_not_depend_on_the_place_of_the_recordings(tmp_path):
    names = []
    for folder in ("here", "there"):
        (tmp_path / folder / "raw").mkdir(parents=True)
        for number in range(8):
            (tmp_path / folder / "raw" / f"{number}.ogg").touch()
        args = RecordingsArguments(str(tmp_path / folder / "raw"), files_per_shard=2)
        names.append([shard.name for shard in write_recordings(args, str(tmp_path / "work"))])
    assert names[0] == names[1]


def test_a_recording_that_a_table_names_twice_is_in_one_shard(tmp_path):
    (tmp_path / "calls.csv").write_text("path\na.ogg\nb.ogg\na.ogg\n")
    shards = write_recordings(
        RecordingsArguments(str(tmp_path / "calls.csv"), files_per_shard=1), str(tmp_path / "work")
    )
    assert [shard.num_rows for shard in shards] == [2, 1]


def test_a_shard_has_at_least_one_file():
    with pytest.raises(ValueError, match="--files_per_shard is 0"):
        RecordingsArguments("raw", files_per_shard=0)


def test_splits_of_other_names_are_refused_before_the_work(tmp_path):
    (tmp_path / "calls.csv").write_text("path,split\na.ogg,train\nb.ogg,dev\n")
    with pytest.raises(ValueError, match="b.ogg has the split 'dev': give one of train, validation, test"):
        write_recordings(RecordingsArguments(str(tmp_path / "calls.csv")), str(tmp_path / "work"))
