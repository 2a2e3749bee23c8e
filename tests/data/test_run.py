import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_checkpoint
from hub_server import HubServer
from pipeline_helpers import write_recordings
from pipeline_runs import load, run_all

from modeling_toxmtl.data.label import LabelArguments
from modeling_toxmtl.data.schema import TRACED_FEATURES
from modeling_toxmtl.data.shards import read_rows
from modeling_toxmtl.data.stages import read_manifest
from modeling_toxmtl.data.statistics import render_hours
from modeling_toxmtl.data.transcribe import TranscribeStage
from modeling_toxmtl.io.files import file_hash
from modeling_toxmtl.labels import LABELS
from run_mtl import main as run_mtl
from run_mtl import parse_arguments


def test_recordings_become_a_data_set(made, tmp_path):
    splits = load(made / "data", tmp_path)
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == 12 and len({row["id"] for row in rows}) == 12
    assert all(split.features == TRACED_FEATURES for split in splits.values())
    texts = sorted((row["asr_transcript"], tuple(row["labels"])) for row in rows)
    assert texts == [
        *[("a nice crap game", ("Profanity",))] * 3,
        *[("hello my friend", ("NoViolation",))] * 6,
        *[("shut up you idiot", ("Bullying",))] * 3,
    ]


def test_every_row_says_how_it_came_about(made, tmp_path):
    settings = json.loads((made / "data" / "pipeline.json").read_text())
    for split in load(made / "data", tmp_path).values():
        for row in split:
            recording = made / "raw" / row["source"]
            assert file_hash(recording) == row["source_sha256"]
            assert row["asr"].startswith("transcripts@") and row["asr"] == settings["transcribe"]["asr"]
            assert row["text_filter"].startswith("any >= 0.5 of keywords ")
            assert 0.9 < row["start"] < 4.1 and row["end"] - row["start"] == pytest.approx(row["duration"], abs=1e-3)
            scores = {score["label"]: score for score in row["label_scores"]}
            assert set(scores) == set(LABELS)
            for name in set(row["labels"]) - {"NoViolation"}:
                assert scores[name]["score"] == 1.0 and scores[name]["given_by"] == ["keywords"]


def test_no_speaker_or_source_is_in_two_splits(made, tmp_path):
    splits = load(made / "data", tmp_path)
    assert set(splits) == {"train", "validation", "test"}
    for column in ("speaker", "source"):
        values = [set(rows[column]) for rows in splits.values()]
        assert sum(map(len, values)) == len(set.union(*values)) == 6


def test_keywords_have_times_in_the_clip(made, tmp_path):
    rows = [row for split in load(made / "data", tmp_path).values() for row in split]
    for row in rows:
        if row["labels"] == ["Bullying"]:
            assert [item["keyword"] for item in row["keywords"]] == ["shut up", "idiot"]
            assert row["keywords"][0]["start"] == pytest.approx(4.0 - row["start"], abs=0.01)
            assert row["keywords"][1]["end"] == pytest.approx(5.5 - row["start"], abs=0.01)


def test_card_figure_and_table_are_there(made):
    card = (made / "data" / "README.md").read_text()
    assert render_hours({})[:20] in card and "{{" not in card
    assert (made / "data" / "durations.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_repeats_nothing_and_gives_the_same_files(made, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in (made / "data" / "data").iterdir()}
    monkeypatch.setattr("modeling_toxmtl.data.stages._make_shard", None)
    run_all(made, made / "raw")
    assert {path.name: path.read_bytes() for path in (made / "data" / "data").iterdir()} == before


# dies like by kill -9 at the third file that a stage puts in its place: shards, or splits and card
DEADLY = """
import os, runpy, signal, sys
from pathlib import Path
folder, replace, files = sys.argv.pop(1), Path.replace, []
def deadly(self, target):
    done = replace(self, target)
    files.extend([target] if Path(target).is_relative_to(folder) else [])
    if len(files) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Path.replace = deadly
sys.argv[1:1] = ["data", "run"]
runpy.run_module("modeling_toxmtl.cli", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["chunk", "label", "data"])
def test_a_run_that_is_killed_in_any_stage_ends_as_an_undisturbed_one(made, tmp_path, stage):
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copy(made / "transcripts.jsonl", tmp_path)
    fields = {"files_per_shard": 2, "transcripts": "transcripts.jsonl", "work_dir": "work"}
    fields |= {"output_dir": "data", "validation_share": 0.2, "test_share": 0.3, "num_proc": 1}
    flags = ["raw", *(str(text) for name, value in fields.items() for text in (f"--{name}", value))]
    folder = str(Path("work", stage)) if stage != "data" else "data"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True)
    killed = run([sys.executable, "-c", DEADLY, folder, *flags])
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "data" / "README.md").exists()
    again = run([sys.executable, "-m", "modeling_toxmtl.cli", "data", "run", *flags])
    assert again.returncode == 0, again.stderr.decode()
    expected = load(made / "data", tmp_path)
    for split, rows in load(tmp_path / "data", tmp_path).items():
        assert rows.to_list() == expected[split].to_list()
    assert not list(tmp_path.rglob("*.unfinished"))  # what the killed run left


def test_the_data_set_is_pushed_whole(made, tmp_path):
    """To a server that speaks the Hub's protocol, from a process of its own: the address is read on import."""
    with HubServer({"hf_alice": "alice"}) as hub:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(tmp_path)}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_alice", "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "modeling_toxmtl.cli", "data", "build", "--push-to-hub", "alice/clips"]
        command += ["--work-dir", str(made / "work"), "--output-dir", str(tmp_path / "data")]
        pushed = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert pushed.returncode == 0, pushed.stderr
        assert list(hub.repositories) == [("datasets", "alice/clips")]
        assert hub.repositories["datasets", "alice/clips"].private
        arrived = hub.files("alice/clips", "datasets")
    made_here = tmp_path / "data"
    files = {path.relative_to(made_here).as_posix(): path for path in made_here.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()}.items() <= arrived.items()


@pytest.mark.slow
def test_ray_makes_the_same_data_set(cluster, made, tmp_path, monkeypatch):
    """Of paths that are relative to the folder where the command runs."""
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copy(made / "transcripts.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    run_all(Path(), Path("raw"), engine="ray")
    expected = load(made / "data", tmp_path)
    for split, rows in load(tmp_path / "data", tmp_path).items():
        assert rows.to_list() == expected[split].to_list()


def test_a_recording_that_occurs_twice_is_used_once(tmp_path):
    raw = write_recordings(tmp_path / "raw", 2)
    shutil.copy(raw / "call-1.ogg", raw / "copy.ogg")
    with open(tmp_path / "transcripts.jsonl", "a") as file:
        file.write('{"path": "raw/copy.ogg", "start": 4.0, "end": 5.5, "text": "shut up you idiot"}\n')
    statistics = run_all(tmp_path, raw)
    assert sum(figures["clips"] for figures in statistics.values()) == 4
    assert "the same recording as another file" in (tmp_path / "data" / "quarantine.jsonl").read_text()


@pytest.mark.slow
def test_the_data_set_trains_a_model(made, tmp_path):
    arguments = ["--model_name_or_path", str(tiny_checkpoint(tmp_path / "tiny")), "--dataset", str(made / "data")]
    arguments += ["--output_dir", str(tmp_path / "run"), "--do_train", "--do_eval", "--max_steps", "2", "--use_cpu"]
    results = run_mtl(*parse_arguments([*arguments, "--per_device_train_batch_size", "2", "--report_to", "none"]))
    assert results["data"]["rejected"] == {"test": 0, "train": 0, "validation": 0}
    assert results["test"]["keyword_support"] > 0


def test_data_of_others_are_refused_before_the_stages_run(tmp_path):
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "train-00000-of-00001.parquet").touch()
    raw = write_recordings(tmp_path / "raw", 1)
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        run_all(tmp_path, raw)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"asr_model": "faster-whisper:tiny"}, r"pip install 'modeling-toxmtl\[faster-whisper\]'"),
        ({"asr_model": "nobody/nothing"}, "--asr-model nobody/nothing: no such folder"),
        ({"asr_model": "raw"}, "--asr-model raw: "),
        ({"asr_model": "tiny"}, "--asr-model tiny: none of model.safetensors, .* is there"),
        ({"transcripts": "none.jsonl"}, "none.jsonl"),
        ({"labelling": LabelArguments(text_classifier="nobody/nothing")}, "--text-classifier nobody/nothing: no such"),
        ({"labelling": LabelArguments(text_classifier="tiny")}, "--text-classifier tiny: none of"),
        ({"labelling": LabelArguments(rules="none.json")}, "none.json"),
    ],
)
def test_what_a_stage_lacks_is_said_in_one_line_before_the_first_one(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # whether it is installed or not
    monkeypatch.chdir(tmp_path)
    write_recordings(Path("raw"), 1)
    (tiny_checkpoint(Path("tiny")) / "model.safetensors").unlink()
    with pytest.raises((ValueError, OSError, ImportError), match=message) as error:
        run_all(Path(), Path("raw"), **arguments)
    assert "\n" not in str(error.value)
    assert not Path("work").exists()


def test_quarantine_of_the_stages_reaches_the_data_set(tmp_path):
    raw = write_recordings(tmp_path / "raw", 2)
    (raw / "bad.ogg").write_bytes(b"")
    with open(tmp_path / "transcripts.jsonl") as file:
        lines = file.read().splitlines(keepends=True)
    (tmp_path / "transcripts.jsonl").write_text("".join(lines[1:]))
    run_all(tmp_path, raw)
    reasons = [
        json.loads(line)["reason"] for line in (tmp_path / "data" / "quarantine.jsonl").read_text().splitlines()
    ]
    assert sorted(reasons) == ["empty file", "no word recognised"]
    assert read_manifest(tmp_path / "work", "transcribe").num_rows == 3


def test_a_stage_alone_gives_the_rows_of_the_pipeline(made):
    chunks = [row for shard in read_manifest(made / "work", "chunk").shards for row in read_rows(shard.path)]
    transcribed = list(TranscribeStage(transcripts=str(made / "transcripts.jsonl"))(iter(chunks)))
    kept = [row for shard in read_manifest(made / "work", "transcribe").shards for row in read_rows(shard.path)]
    assert [row["words"] for row in transcribed] == [
        [{**word, **{key: pytest.approx(word[key], abs=1e-5) for key in ("start", "end")}} for word in row["words"]]
        for row in kept
    ]
