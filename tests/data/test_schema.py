"""How a data set takes the place of an earlier one. Its columns and files are tested with the demo corpus."""

import os
import signal
import subprocess
import sys

import pytest

from modeling_toxmtl.data.schema import check_replaceable, data_set_replaced


def write_set(folder, text):
    (folder / "data").mkdir()
    for name in ("data/train-00000-of-00001.parquet", "README.md"):
        (folder / name).write_text(text)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_replaces_an_earlier_one_and_leaves_other_files(tmp_path):
    with data_set_replaced(tmp_path) as folder:
        write_set(folder, "old")
        (folder / "data" / "test-00000-of-00001.parquet").write_text("old")
    (tmp_path / "4gram.arpa").write_text("mine")
    with data_set_replaced(tmp_path) as folder:
        write_set(folder, "new")
    files = {"data/train-00000-of-00001.parquet": "new", "README.md": "new", "4gram.arpa": "mine"}
    assert contents(tmp_path) == files and not (tmp_path / ".unfinished").exists()


def test_a_data_set_that_fails_leaves_the_earlier_one(tmp_path):
    write_set(tmp_path, "old")
    before = contents(tmp_path)
    with pytest.raises(KeyError), data_set_replaced(tmp_path) as folder:
        write_set(folder, "new")
        raise KeyError
    assert contents(tmp_path) == before and not (tmp_path / ".unfinished").exists()


@pytest.mark.parametrize("moves", range(1, 5))
def test_a_killed_process_leaves_data_only_where_all_is_there(tmp_path, moves):
    """Killed after each of the four moves that replace a data set of two files, as by kill -9."""
    write_set(tmp_path, "old")
    script = (
        "import os, signal, sys; from pathlib import Path; from test_schema import *\n"
        "replace, done = Path.replace, []\n"
        "def deadly(self, target):\n"
        "    replace(self, target); done.append(target)\n"
        "    if len(done) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.replace = deadly\n"
        "with data_set_replaced(sys.argv[1]) as folder: write_set(folder, 'new')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)])}
    command = [sys.executable, "-c", script, str(tmp_path), str(moves)]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    if (tmp_path / "data").exists():
        assert (tmp_path / "data" / "train-00000-of-00001.parquet").read_text() == "new"
        assert (tmp_path / "README.md").read_text() == "new"
    with data_set_replaced(tmp_path) as folder:
        write_set(folder, "newer")
    assert set(contents(tmp_path).values()) == {"newer"}


@pytest.mark.parametrize(("name", "is_ours"), [("train-00000-of-00001.parquet", False), ("mine.parquet", True)])
def test_data_of_others_are_not_replaced(tmp_path, name, is_ours):
    check_replaceable(tmp_path / "nowhere", is_ours=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test-00000-of-00001.parquet").touch()
    check_replaceable(tmp_path, is_ours=True)
    (tmp_path / "data" / name).touch()
    with pytest.raises(FileExistsError, match=f"{name}.*choose another --output_dir"):
        check_replaceable(tmp_path, is_ours)
