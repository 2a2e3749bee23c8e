"""`toxmtl from-label-studio`: what people said becomes a table, and what does not fit is named."""

import copy
import json

import pytest
from moderation_helpers import record, run

from modeling_toxmtl.data.annotate import read_corrections
from modeling_toxmtl.moderation.from_label_studio import row_of
from modeling_toxmtl.moderation.report import read_truth
from modeling_toxmtl.moderation.to_label_studio import task_of


@pytest.fixture
def task(tmp_path):
    """As Label Studio exports one whose prediction was accepted, with more fields than are read."""
    task = task_of(record(tmp_path, "a.wav", (0.9, 0.6, 0.1), (("damn", 0.5), ("shut up", 1.2))), "a.wav", 0.5)
    result = [item | {"origin": "prediction"} for item in copy.deepcopy(task["predictions"][0]["result"])]
    annotation = {"id": 7, "completed_by": 1, "was_cancelled": False, "lead_time": 4.3, "result": result}
    return task | {"id": 12, "annotations": [annotation], "drafts": [], "project": 3}


def result(task) -> list[dict]:
    return task["annotations"][0]["result"]


def test_round_trip(task):
    """What the model heard comes back where people agree."""
    row = row_of(task)
    assert row["id"] == task["data"]["clip"] and row["labels"] == ["Profanity", "Bullying"]
    assert row["keywords"] == [
        {"keyword": "damn", "start": 0.5, "end": 0.7},
        {"keyword": "shut up", "start": 1.2, "end": pytest.approx(1.4)},
    ]


def test_corrections(task):
    result(task)[0]["value"]["choices"] = ["NoViolation"]
    del result(task)[1:3]  # the first keyword
    result(task)[1]["value"]["start"] = 1.0
    result(task)[2]["value"]["text"] = [" shut it "]
    result(task)[1]["value"]["end"] = 2.05  # the clip has two seconds, but players round
    row = row_of(task)
    assert row["labels"] == ["NoViolation"] and row["keywords"] == [{"keyword": "shut it", "start": 1.0, "end": 2.0}]
    assert row_of(task | {"annotations": []}) is None
    task["annotations"][0]["was_cancelled"] = True  # skipped
    assert row_of(task) is None


def change(place, value):
    def apply(task):
        result(task)[place[0]]["value"][place[1]] = value

    return apply


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (change((0, "choices"), ["Rude"]), "the label Rude is none of Profanity, Bullying, NoViolation"),
        (change((0, "choices"), []), "no label is chosen"),
        (change((0, "choices"), ["NoViolation", "Bullying"]), "contradict each other"),
        (change((1, "end"), 0.4), "a keyword is from 0.5 to 0.4 s"),
        (change((1, "end"), 2.2), "from 0.5 to 2.2 s, and the clip has 2.0 s"),
        (change((2, "text"), [""]), "the keyword from 0.5 to 0.7 s has no text"),
        (lambda task: task["data"].pop("clip"), "its data lack clip"),
        (lambda task: result(task)[1]["value"].pop("start"), "no task of Label Studio"),
        (
            lambda task: task["annotations"].append(
                {"result": [result(task)[0] | {"value": {"choices": ["Bullying"]}}]}
            ),
            "people disagree: Profanity, Bullying or Bullying",
        ),
        (lambda task: task.update(clone=True), "another task is of the same clip"),
    ],
)
def test_what_does_not_fit_is_named_and_the_others_are_read(task, tmp_path, capsys, fault, message):
    good = copy.deepcopy(task) | {"id": 13}
    if not message.startswith("another"):
        good["data"]["clip"] = "good.wav"
    fault(task)
    (tmp_path / "export.json").write_text(json.dumps([good, task, good | {"annotations": []}]))
    output = tmp_path / "corrections.jsonl"
    assert run("from-label-studio", str(tmp_path / "export.json"), "--output", str(output)) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("task 12: ") and message in captured.err and captured.err.count("\n") == 1
    assert "1 clips" in captured.out and "1 not finished, 1 that do not fit" in captured.out
    (row,) = map(json.loads, output.read_text().splitlines())
    assert row["id"] == good["data"]["clip"]


def test_the_table_is_what_other_commands_read(task, tmp_path):
    (tmp_path / "export.json").write_text(json.dumps([task]))
    output = str(tmp_path / "corrections.jsonl")
    assert run("from-label-studio", str(tmp_path / "export.json"), "--output", output) == 0
    expected = {task["data"]["clip"]: ["Profanity", "Bullying"]}
    assert read_truth(output) == read_corrections(output) == expected


@pytest.mark.parametrize("content", [{"id": 1}, [{"id": 1, "labels": "Profanity"}], [3], []])
def test_other_exports_are_refused(tmp_path, capsys, content):
    (tmp_path / "export.json").write_text(json.dumps(content))
    assert run("from-label-studio", str(tmp_path / "export.json")) == 1
    assert "export.json" in capsys.readouterr().err
