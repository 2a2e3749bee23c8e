"""`toxmtl to-label-studio`: which clips, and tasks as Label Studio reads them."""

import copy
import json
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from moderation_helpers import LABELS, record, run
from pyarrow import parquet

from modeling_toxmtl.moderation.records import audio_hash
from modeling_toxmtl.moderation.to_label_studio import doubt


def verdict(scores=(0.0, 0.0, 1.0), thresholds=(0.5, 0.5, 0.5), words=()):
    columns = zip(LABELS, scores, thresholds, strict=True)
    labels = [{"label": label, "score": score, "threshold": threshold} for label, score, threshold in columns]
    return {"labels": labels, "keywords": [{"score": score} for score in words]}


def test_doubt_by_hand():
    assert doubt(verdict()) == 0
    assert doubt(verdict((0.5, 0.0, 1.0))) == 1
    assert doubt(verdict((0.25, 0.0, 1.0))) == 0.5  # half-way to the threshold
    assert doubt(verdict((0.9, 0.0, 1.0), (0.8, 0.5, 0.5))) == pytest.approx(0.5)
    assert doubt(verdict((1.0, 0.0, 1.0), (1.0, 0.5, 0.5))) == 1
    assert doubt(verdict((0.0, 0.0, 0.5))) == 0  # NoViolation accuses nobody
    assert doubt(verdict(words=(1.0, 0.6))) == pytest.approx(0.8)
    assert doubt({"labels": None, "keywords": None}) == 0
    assert doubt(verdict((0.9, 0.1, 0.0)), given=["Profanity"]) == pytest.approx(0.1)
    assert doubt(verdict((0.9, 0.1, 0.0)), given=["Bullying"]) == pytest.approx(0.9)


@pytest.fixture
def records(tmp_path):
    """Of four clips, one with a name that is no URL; the second is the most doubtful, and then the fourth."""
    clips = [
        record(tmp_path, "sure.wav", (1.0, 0.0, 0.0), (("damn", 0.5),)),
        record(tmp_path, "a b&c.wav", (0.5, 0.0, 0.2)),
        record(tmp_path, "harmless.wav", (0.0, 0.05, 1.0)),
        record(tmp_path, "middling.wav", (0.0, 0.6, 0.3)),
    ]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return tmp_path


def written(records, *options):
    assert run("to-label-studio", str(records / "v.jsonl"), "--output-dir", str(records / "out"), *options) == 0
    return json.loads((records / "out" / "tasks.json").read_text())


def names(tasks):
    return [task["data"]["clip"].rpartition("/")[2] for task in tasks]


def test_tasks_and_interface_fit_each_other(records):
    tasks = written(records)
    assert names(tasks) == ["a b&c.wav", "middling.wav", "sure.wav", "harmless.wav"]  # a keyword's score is 0.9
    interface = ElementTree.parse(records / "out" / "config.xml").getroot()
    controls = {tag.get("name"): tag for tag in interface if tag.get("toName")}
    kinds = {name: tag.tag.lower() for name, tag in controls.items()}
    (audio,) = interface.iter("Audio")
    for task in tasks:
        prefix, _, file = task["data"][audio.get("value")[1:]].partition("?d=")
        assert prefix == "/data/local-files/"
        (source,) = (clip for clip in records.glob("*.wav") if str(clip) == task["data"]["clip"])
        assert audio_hash(str(records / "out" / unquote(file))) == audio_hash(str(source))
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "me/my-model 0123456789ab"
        for item in prediction["result"]:
            assert item["type"] == kinds[item["from_name"]] and item["to_name"] == audio.get("name")
            allowed = [tag.get("value") for tag in controls[item["from_name"]]]
            value = item["value"]["text" if item["type"] == "textarea" else item["type"]]
            assert set(value) <= set(allowed) or item["type"] == "textarea"
    choices, region, text = tasks[2]["predictions"][0]["result"]
    assert choices["value"] == {"choices": ["Profanity"]}
    assert region["value"] == {"start": 0.5, "end": 0.7, "channel": 0, "labels": ["keyword"]}
    assert text["value"]["text"] == ["damn"] and text["id"] == region["id"] and region["original_length"] == 2.0
    assert tasks[3]["predictions"][0]["result"][0]["value"] == {"choices": ["NoViolation"]}


def test_label_studio_takes_what_is_written(records):
    """By the validators of its own SDK, which refuse what does not fit; and what people said comes back."""
    label_interface = pytest.importorskip("label_studio_sdk.label_interface")
    tasks = written(records)
    interface = label_interface.LabelInterface((records / "out" / "config.xml").read_text())
    interface.validate()
    annotated = []
    for number, task in enumerate(tasks):
        (prediction,) = task["predictions"]
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(prediction, return_errors=True) == []
        annotation = {"was_cancelled": False, "result": prediction["result"]}
        assert interface.validate_annotation(annotation)
        annotated.append(task | {"id": number, "annotations": [annotation]})
    wrong = copy.deepcopy(tasks[2]["predictions"][0])
    wrong["result"][0]["value"]["choices"] = ["Rude"]
    assert "Rude" in interface.validate_prediction(wrong, return_errors=True)[0]
    people = interface.create_regions({"labels": ["Bullying"]})[0]._dict()  # with the SDK, instead of the prediction
    annotated[1]["annotations"][0]["result"] = [people]
    (records / "export.json").write_text(json.dumps(annotated))
    output = str(records / "corrections.jsonl")
    assert run("from-label-studio", str(records / "export.json"), "--output", output) == 0
    rows = [json.loads(line) for line in (records / "corrections.jsonl").read_text().splitlines()]
    assert [row["labels"] for row in rows] == [["Profanity"], ["Bullying"], ["Profanity"], ["NoViolation"]]
    assert rows[2]["keywords"] == [{"keyword": "damn", "start": 0.5, "end": 0.7}]


def test_so_many_clips_and_those_that_are_gone(records, capsys):
    (records / "a b&c.wav").write_bytes(b"")
    assert names(written(records, "--num-clips", "2")) == ["middling.wav"]
    assert "a b&c.wav: left out: this is not the audio of its record" in capsys.readouterr().err
    for clip in records.glob("*.wav"):
        clip.unlink()
    assert run("to-label-studio", str(records / "v.jsonl")) == 1
    assert "none of the clips of" in capsys.readouterr().err


def test_labels_that_the_model_contradicts(records):
    """Of a data set in Parquet, whose rows have the audio: the text filter says that the first is harmless."""
    rows = [
        {"id": str(records / name), "audio": {"bytes": (records / name).read_bytes(), "path": None}, "labels": labels}
        for name, labels in (("sure.wav", ["NoViolation"]), ("middling.wav", ["Bullying"]))
    ]
    parquet.write_table(pa.Table.from_pylist(rows), records / "data.parquet")
    for clip in records.glob("*.wav"):
        clip.unlink()
    table = str(records / "data.parquet")
    tasks = written(records, "--labels", table, "--clips", table)
    assert names(tasks) == ["sure.wav", "middling.wav"]
    assert [task["predictions"][0]["score"] for task in tasks] == pytest.approx([0, 0.6])
    assert sorted(path.suffix for path in (records / "out" / "audio").iterdir()) == [".wav", ".wav"]


def test_tables_that_do_not_fit(records, capsys):
    (records / "other.csv").write_text("path,labels\nx.wav,Profanity\n")
    assert run("to-label-studio", str(records / "v.jsonl"), "--labels", str(records / "other.csv")) == 1
    assert "has no records of the clips of" in capsys.readouterr().err
    assert run("to-label-studio", str(records / "v.jsonl"), "--num-clips", "0") == 1
    parquet.write_table(pa.table({"id": ["a"]}), records / "t.parquet")
    assert run("to-label-studio", str(records / "v.jsonl"), "--labels", str(records / "t.parquet")) == 1
    assert "t.parquet has no column 'labels'" in capsys.readouterr().err
