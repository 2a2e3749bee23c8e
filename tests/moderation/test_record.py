"""Records: what they say, and that they say it in their schema."""

import json
from dataclasses import replace

import jsonschema
import pyarrow as pa
import pytest
import torch
from helpers import keyword_list, save_tiny_model, tiny_processor, tiny_speech_model
from pyarrow import parquet
from transformers import pipeline

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline
from modeling_toxmtl.moderation.record import (
    NO_KEYWORD,
    SAID,
    describe_judge,
    differences,
    keywords_hash,
    make_record,
)
from modeling_toxmtl.moderation.records import SCHEMA_FILE, read_records
from modeling_toxmtl.pipeline_toxmtl import weights_hash


SHA = "0" * 64
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
FIRST = {"track": 0, "channel": 0}
CALM = dict.fromkeys(LABELS, 0.1)


@pytest.fixture(scope="module")
def judge():
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    return describe_judge(pipe, window_seconds=10.0)


def items(scores: dict[str, float]) -> list[dict]:
    return [{"label": label, "score": score} for label, score in sorted(scores.items(), key=lambda pair: -pair[1])]


def verdict(*windows: dict[str, float], words: tuple = ()) -> dict:
    """As the pipeline gives it, of windows of 10 s with these scores."""
    scores = {label: max((CALM | window)[label] for window in windows) for label in LABELS}
    timeline = [
        {"start": 10.0 * i, "end": 10.0 * (i + 1), **FIRST, "labels": items(CALM | w)} for i, w in enumerate(windows)
    ]
    keywords = [
        {"keyword": word, "labels": labels, "start": start, "end": start + 0.5, "score": 0.9, **FIRST}
        for word, labels, start in words
    ]
    return {"violations": None, "labels": items(scores), "keywords": keywords, "windows": timeline}


def evidence(record: dict) -> dict[str, tuple]:
    return {
        item["label"]: (item["evidence"]["reason"], [word["keyword"] for word in item["evidence"]["keywords"]])
        for item in record["labels"]
        if item["evidence"]
    }


def test_evidence_of_each_label_that_fires(judge):
    damn, rude = ("damn", ("Profanity",), 3.0), ("shut up", ("Bullying", "Other"), 4.0)
    record = make_record("a.ogg", SHA, verdict({"Profanity": 0.8, "Racist": 0.7}, words=(damn, rude)), judge)
    VALIDATOR.validate(record)
    assert record["violations"] == ["Profanity", "Racist"]
    assert evidence(record) == {"Profanity": (SAID, ["damn"]), "Racist": (NO_KEYWORD, [])}
    assert [(word["keyword"], word["benign"]) for word in record["keywords"]] == [("damn", False), ("shut up", True)]


def test_a_keyword_is_evidence_only_where_its_window_fires(judge):
    """Said in a harmless window, it does not explain what another window found."""
    calm, heated = ("damn", ("Profanity",), 3.0), ("damn", ("Profanity",), 13.0)
    heard = make_record("a", SHA, verdict({}, {"Profanity": 0.8}, words=(calm, heated)), judge)
    assert [word["benign"] for word in heard["keywords"]] == [True, False]
    (profanity,) = [item for item in heard["labels"] if item["label"] == "Profanity"]
    assert [word["start"] for word in profanity["evidence"]["keywords"]] == [13.0]
    heard = make_record("a", SHA, verdict({}, {"Profanity": 0.8}, words=(calm,)), judge)
    assert evidence(heard) == {"Profanity": (NO_KEYWORD, [])}


def test_a_keyword_is_evidence_only_of_its_own_channel(judge):
    """Where two speakers are on two channels, what one says does not explain the other."""
    heard = verdict({"Profanity": 0.8}, words=(("damn", ("Profanity",), 3.0),))
    heard["keywords"][0]["channel"] = 1
    heard["windows"].append({**heard["windows"][0], "channel": 1, "labels": items(CALM)})
    record = make_record("a", SHA, heard, judge)
    VALIDATOR.validate(record)
    assert record["keywords"][0]["benign"] and evidence(record) == {"Profanity": (NO_KEYWORD, [])}


def test_decisions_are_those_of_the_figures_in_the_record(judge):
    """A score is rounded before it is compared."""
    judge = judge | {"thresholds": dict.fromkeys(LABELS, 0.8)}
    record = make_record("a", SHA, verdict({"Racist": 0.7999999}, {"Other": 0.799999}), judge)
    assert record["violations"] == ["Racist"]
    for item in record["labels"]:
        assert item["fires"] == (item["score"] >= item["threshold"])


def test_no_violation_fires_without_evidence(judge):
    record = make_record("a", SHA, verdict({"NoViolation": 0.9}), judge)
    VALIDATOR.validate(record)
    assert record["violations"] == [] and evidence(record) == {}
    assert [item["label"] for item in record["labels"] if item["fires"]] == ["NoViolation"]


def test_models_with_one_head():
    for tasks in (["classification"], ["keyword"]):
        pipe = ToxicityDetectionPipeline(tiny_speech_model(tasks=tasks), tiny_processor())
        heard = pipe(torch.randn(16_000), return_keywords=True, return_windows=True)
        record = make_record("a", SHA, heard, describe_judge(pipe, window_seconds=15.0))
        VALIDATOR.validate(record)
        assert (record["labels"] is None) == (record["violations"] is None) == ("classification" not in tasks)
        assert (record["keywords"] is None) == ("keyword" not in tasks)


def test_keywords_of_labels_that_the_classifier_has_not(judge):
    record = make_record("a", SHA, verdict({"Other": 0.9}, words=(("gambling", ("Gambling",), 1.0),)), judge)
    VALIDATOR.validate(record)
    assert record["keywords"][0]["benign"] is None


def test_weights_are_known_by_content(tmp_path):
    """However they are stored; one weight more or less, or another name, is another model."""
    model = tiny_speech_model()
    first = weights_hash(model)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert weights_hash(type(model).from_pretrained(tmp_path)) == first
    assert weights_hash(model.to(torch.bfloat16)) != first
    changed = tiny_speech_model()
    with torch.no_grad():
        changed.classifier.bias[0] += 1e-3
    assert weights_hash(changed) != first


def test_what_a_record_depends_on(tmp_path):
    """By content: another list, setting or file shows."""
    folder = save_tiny_model(tmp_path / "model")
    (folder / "results.json").write_text('{"calibration": {"Other": {"scale": 2.0}}}')
    pipe = pipeline("audio-classification", model=str(folder))
    judge = describe_judge(pipe, window_seconds=15.0)
    assert judge["model"]["name"] == str(folder) and judge["model"]["device"] == "cpu"
    assert judge["calibration"] == {"Other": {"scale": 2.0}}
    assert judge["keyword_list"]["sha256"] == keywords_hash(keyword_list().to_dict())
    pipe.processor.keywords.alias("crap", "crappy")
    pipe.processor.decoding = replace(pipe.processor.decoding, beam_width=7)
    common = tmp_path / "words.txt"
    common.write_text("hello\n")
    pipe.processor.common_words = str(common)
    found = differences(judge, describe_judge(pipe, window_seconds=15.0))
    assert [line.split(":")[0] for line in found] == [
        "keyword_list.sha256",
        "decoding.beam_width",
        "decoding.common_words_sha256",
    ]
    (folder / "calibration.json").write_text('{"of": "mine"}')
    assert describe_judge(pipe, window_seconds=15.0)["calibration"] == {"of": "mine"}  # the later one


def test_differences_name_what_differs(judge):
    word = ("damn", ("Profanity",), 3.0)
    record = make_record("a", SHA, verdict({"Profanity": 0.8}, words=(word,)), judge)
    near = make_record("a", SHA, verdict({"Profanity": 0.80009}, words=(word,)), judge)
    assert differences(record, near) == []
    other = make_record("a", SHA, verdict({"Profanity": 0.3}, words=(word, ("crap", ("Profanity",), 1.0))), judge)
    found = differences(record, other)
    assert "labels.Profanity.score: 0.8 in the record, 0.3 now" in found
    assert "labels.Profanity.fires: true in the record, false now" in found
    assert any(line.startswith("keywords.crap at 1.0: null in the record, {") for line in found)
    assert not any(line.startswith("keywords.damn at 3.0.score") for line in found)
    assert not any("Racist" in line for line in found)


def test_only_records_of_this_schema_are_read(judge, tmp_path):
    record = make_record("a", SHA, verdict({}), judge)
    (tmp_path / "one.json").write_text(json.dumps(record, indent=1))
    (tmp_path / "two.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record | {"schema": "other/2"}) + "\n")
    assert list(read_records(tmp_path / "one.json")) == [record]
    with pytest.raises(ValueError, match="two.jsonl, record 2: the schema is 'other/2', and only 'toxmtl.verdict/1'"):
        list(read_records(tmp_path / "two.jsonl"))
    (tmp_path / "part.jsonl").write_text(json.dumps({"schema": "toxmtl.verdict/1", **{"clip": "a", "model": {}}}))
    with pytest.raises(ValueError, match="part.jsonl, record 1: it lacks 'audio', 'violations', "):
        list(read_records(tmp_path / "part.jsonl"))
    parquet.write_table(pa.table({"labels": ["a"]}), tmp_path / "clips.parquet")
    with pytest.raises(ValueError, match="clips.parquet has no column 'record'"):
        list(read_records(tmp_path / "clips.parquet"))
    (tmp_path / "broken.parquet").write_bytes((tmp_path / "clips.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match="broken.parquet is no Parquet file: "):
        list(read_records(tmp_path / "broken.parquet"))
