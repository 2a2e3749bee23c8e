import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Features, Value
from pipeline_helpers import dtx_file

from modeling_toxmtl.data import stages
from modeling_toxmtl.data.shards import Rejected, finished_shard, read_rows, write_rows
from modeling_toxmtl.data.stages import WorkArguments, read_manifest, read_manifests, run_stage
from modeling_toxmtl.io.files import atomic_write, content_hash


FEATURES = Features({"id": Value("string"), "number": Value("int64")})


@dataclasses.dataclass
class Square:
    """Squares numbers; refuses negative ones; notes which it has seen; dies once at `fatal`."""

    log: str
    fatal: int | None = None
    power: int = 2

    name = "square"
    features = FEATURES
    uses_model = False

    def settings(self):
        return {"power": self.power}

    def __call__(self, rows):
        for row in rows:
            if row["number"] == self.fatal and not os.path.exists(self.log + ".died"):
                Path(self.log + ".died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            with open(self.log, "a") as log:
                log.write(f"{row['number']}\n")
            if row["number"] < 0:
                yield Rejected(row["id"], "negative")
            else:
                yield row | {"number": row["number"] ** self.power}


def inputs(folder: Path, count=4):
    return [
        write_rows(
            folder / f"input-{shard}.parquet",
            f"{shard:05d}",
            [{"id": f"{shard}-{number}", "number": number - 1 + 10 * shard} for number in range(3)],
            FEATURES,
        )
        for shard in range(count)
    ]


def rows_of(manifest):
    return [row for shard in manifest.shards for row in read_rows(shard.path)]


def undisturbed(tmp_path):
    return run_stage(
        Square(str(tmp_path / "log0")), inputs(tmp_path), WorkArguments(str(tmp_path / "work0"), num_proc=1)
    )


def test_rows_come_in_order_and_what_is_rejected_is_listed(tmp_path):
    manifest = undisturbed(tmp_path)
    assert [row["number"] for row in rows_of(manifest)] == [0, 1, 81, 100, 121, 361, 400, 441, 841, 900, 961]
    assert manifest.rejected == [Rejected("0-0", "negative")]
    quarantine = (tmp_path / "work0" / "square" / "quarantine.jsonl").read_text()
    assert json.loads(quarantine) == {"id": "0-0", "reason": "negative"}
    assert read_manifest(tmp_path / "work0", "square") == manifest


def test_nothing_is_done_twice_and_changed_settings_are_seen(tmp_path):
    shards, work, log = inputs(tmp_path), WorkArguments(str(tmp_path / "work"), num_proc=1), tmp_path / "log"
    run_stage(Square(str(log)), shards, work)
    assert len(log.read_text().split()) == 12
    again = run_stage(Square(str(log)), shards, work)
    assert len(log.read_text().split()) == 12
    cubes = run_stage(Square(str(log), power=3), shards, work)
    assert len(log.read_text().split()) == 24
    assert rows_of(again)[-1]["number"] == 31**2 and rows_of(cubes)[-1]["number"] == 31**3


def test_changed_input_is_seen(tmp_path):
    shards, work, log = inputs(tmp_path), WorkArguments(str(tmp_path / "work"), num_proc=1), tmp_path / "log"
    run_stage(Square(str(log)), shards, work)
    shards[1] = write_rows(tmp_path / "other.parquet", "00001", [{"id": "x", "number": 5}], FEATURES)
    changed = run_stage(Square(str(log)), shards, work)
    assert log.read_text().split()[12:] == ["5"]
    assert [row["id"] for row in rows_of(changed)] == ["0-1", "0-2", "x", "2-0", "2-1", "2-2", "3-0", "3-1", "3-2"]


def test_a_killed_process_loses_and_repeats_no_finished_shard(tmp_path):
    """The whole process dies in the third shard, as by kill -9."""
    script = (
        "import sys; from pathlib import Path; from test_stages import *\n"
        "folder = Path(sys.argv[1])\n"
        "work = WorkArguments(str(folder / 'work'), num_proc=1)\n"
        "run_stage(Square(str(folder / 'log'), fatal=20), inputs(folder), work)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "log").read_text().split() == ["-1", "0", "1", "9", "10", "11", "19"]
    assert not (tmp_path / "work" / "square" / "manifest.json").exists()
    finished = run_stage(
        Square(str(tmp_path / "log"), fatal=20), inputs(tmp_path), WorkArguments(str(tmp_path / "work"), num_proc=1)
    )
    assert (tmp_path / "log").read_text().split()[7:] == ["19", "20", "21", "29", "30", "31"]
    assert [shard.sha256 for shard in finished.shards] == [shard.sha256 for shard in undisturbed(tmp_path).shards]
    assert not list((tmp_path / "work" / "square").glob(".*"))  # what the killed process left


def test_what_another_run_is_writing_is_left_alone(tmp_path):
    shards, work = inputs(tmp_path), WorkArguments(str(tmp_path / "work"), num_proc=1)
    with atomic_write(tmp_path / "work" / "square" / "a.parquet") as unfinished:
        unfinished.write_text("half")
        run_stage(Square(str(tmp_path / "log")), shards, work)
    assert (tmp_path / "work" / "square" / "a.parquet").read_text() == "half"


def test_a_killed_worker_is_an_error_and_the_next_run_goes_on(tmp_path):
    stage, work = Square(str(tmp_path / "log"), fatal=20), WorkArguments(str(tmp_path / "work"), num_proc=2)
    with pytest.raises(RuntimeError, match="worker of the stage square was killed"):
        run_stage(stage, inputs(tmp_path), work)
    finished = run_stage(stage, inputs(tmp_path), work)
    assert [shard.sha256 for shard in finished.shards] == [shard.sha256 for shard in undisturbed(tmp_path).shards]


@pytest.mark.slow
def test_ray_makes_the_same_rows_though_a_worker_is_killed(cluster, tmp_path):
    work = WorkArguments(str(tmp_path / "work"), engine="ray", num_proc=2)
    finished = run_stage(Square(str(tmp_path / "log"), fatal=20), inputs(tmp_path), work)
    assert (tmp_path / "log.died").exists()
    assert [shard.sha256 for shard in finished.shards] == [shard.sha256 for shard in undisturbed(tmp_path).shards]


def test_a_shard_without_manifest_or_cut_short_is_not_taken_for_whole(tmp_path):
    (shard, *_) = inputs(tmp_path)
    path = Path(shard.path)
    assert finished_shard(path, shard.name) == shard
    path.write_bytes(path.read_bytes()[:-1])
    assert finished_shard(path, shard.name) is None
    path.with_name(path.name + ".json").unlink()
    assert finished_shard(path, shard.name) is None


def test_a_file_is_there_in_full_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(KeyError), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["full", "read-only"])
def test_what_cannot_be_written_is_a_clear_error_and_nothing_is_left(tmp_path, case):
    """A limit on the size of files stands for a full disk, and a file in the place of the folder for one that may not
    be written, since root may write anywhere."""
    shards, limits = inputs(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    if case == "read-only":
        (tmp_path / "work").write_text("no folder")
    try:
        if case == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(OSError, match="cannot be written.*run again"):
            run_stage(Square("/dev/null"), shards, WorkArguments(str(tmp_path / "work"), num_proc=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("work/square/*")) and not list(tmp_path.glob("work/square/.*"))


def test_a_stage_that_is_not_finished_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="toxmtl data label --work-dir"):
        read_manifest(tmp_path, "label")
    undisturbed(tmp_path)
    (shard,) = (tmp_path / "work0" / "square").glob("00002-*.parquet")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="run the stage square again"):
        read_manifest(tmp_path / "work0", "square")


def test_stages_that_were_not_made_from_each_other_are_refused(tmp_path):
    work, log = WorkArguments(str(tmp_path / "work"), num_proc=1), str(tmp_path / "log")
    first, second = Square(log), Square(log)
    second.name = "again"
    manifests = {"square": run_stage(first, inputs(tmp_path), work)}
    manifests["again"] = run_stage(second, manifests["square"].shards, work)
    assert read_manifests(work.work_dir, ["square", "again"]) == manifests
    run_stage(dataclasses.replace(first, power=3), inputs(tmp_path), work)
    with pytest.raises(ValueError, match="run the stage again and those after it"):
        read_manifests(work.work_dir, ["square", "again"])


def test_the_hash_of_settings_does_not_depend_on_their_order():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1}) != content_hash({"a": 1, "b": [3]})


def test_workers_are_at_least_one():
    with pytest.raises(ValueError, match="--num_proc is 0"):
        WorkArguments(num_proc=0)
    assert stages.num_cores() >= 1


LIGHT_STAGES = """
import sys
from modeling_toxmtl.data.chunk import ChunkStage
from modeling_toxmtl.data.transcribe import TranscribeStage
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments, LabelStage
from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage
transcripts, audio = sys.argv[1:]
keywords = KeywordArguments()
stages = ChunkStage(), TranscribeStage(transcripts=transcripts), LabelStage(LabelArguments(), keywords)
row = {'path': audio, 'speaker': 'ann', 'source': '1', 'split': ''}
row |= {'id': 'a', 'source_path': audio, 'track': 0, 'start': 0.0, 'end': 1.0}
words = [{'word': 'idiot', 'start': 0.0, 'end': 1.0, 'score': 1.0}]
row |= {'words': words, 'transcript': 'idiot', 'phrases': [], 'labels': ['Bullying'], 'label_scores': []}
for stage in (*stages, AnnotateStage(AnnotateArguments(), keywords)):
    assert list(stage(iter([row])))
    assert 'torch' not in sys.modules, stage.name
import modeling_toxmtl; assert modeling_toxmtl.WavLMForToxicityMTL  # at hand for who asks for it
"""


def test_workers_without_a_model_do_without_pytorch(tmp_path):
    """PyTorch takes seconds to import. `_environment_of_workers` is what the engine starts workers in."""
    (tmp_path / "words.jsonl").write_text('{"path": "a.ogg", "start": 0, "end": 1, "text": "hello"}\n')
    (tmp_path / "a.ogg").write_bytes(dtx_file([(0.5, 1.5)], 2.5))
    with stages._environment_of_workers(Square(str(tmp_path / "log"))):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LIGHT_STAGES, str(tmp_path / "words.jsonl"), str(tmp_path / "a.ogg")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_workers_inherit_that_they_do_without_models(tmp_path):
    """The engine's own workers, whatever else the process that starts them has imported."""
    stage = Imports()
    work = WorkArguments(str(tmp_path / "work"), num_proc=2)
    assert {row["id"] for row in rows_of(run_stage(stage, inputs(tmp_path), work))} == {"without PyTorch"}
    assert "TOXMTL_WITHOUT_MODELS" not in os.environ


class Imports:
    """Says whether its process has imported PyTorch."""

    name = "imports"
    features = FEATURES
    uses_model = False

    def settings(self):
        return {}

    def __call__(self, rows):
        for row in rows:
            yield row | {"id": "with PyTorch" if "torch" in sys.modules else "without PyTorch"}
