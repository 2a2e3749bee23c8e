import json

import pytest

from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage, find_keywords, read_corrections
from modeling_toxmtl.data.label import KeywordArguments
from modeling_toxmtl.keywords import KeywordList


def said(text):
    return [{"word": word, "start": float(i), "end": i + 1.0, "score": 0.5} for i, word in enumerate(text.split())]


def test_keywords_are_found_with_their_times():
    found, positions = find_keywords(said("oh Shut up, you IDIOT!"), KeywordList.default())
    assert found == [
        {"keyword": "shut up", "start": 1.0, "end": 3.0, "score": 0.5},
        {"keyword": "idiot", "start": 4.0, "end": 5.0, "score": 0.5},
    ]
    assert positions == [1, 2, 4]


def test_disguised_keywords_are_found_and_become_the_filler():
    found, positions = find_keywords(said("oh $HUT uuuup, you sh1t!"), KeywordList.default())
    assert [(item["keyword"], item["start"]) for item in found] == [("shut up", 1.0), ("shit", 4.0)]
    assert positions == [1, 2, 4]
    rows = [{"id": "a", "transcript": "that sh1t game", "words": said("that sh1t game"), "labels": ["NoViolation"]}]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert row["transcript"] == "that good game"


def test_keywords_of_chunks_without_violation_become_the_filler_unless_asked():
    rows = [{"id": "a", "transcript": "that crap game", "words": said("that crap game"), "labels": ["NoViolation"]}]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert (row["transcript"], row["keywords"], row["asr_transcript"]) == ("that good game", [], "that crap game")
    (row,) = AnnotateStage(AnnotateArguments(keywords_everywhere=True), KeywordArguments())(rows)
    assert row["transcript"] == "that crap game" and [item["keyword"] for item in row["keywords"]] == ["crap"]


def test_what_people_said_replaces_labels(tmp_path):
    corrections = tmp_path / "corrections.jsonl"
    corrections.write_text('{"id": "a", "labels": ["NoViolation"], "keywords": []}\n', encoding="utf-8-sig")
    stage = AnnotateStage(AnnotateArguments(corrections=str(corrections)), KeywordArguments())
    rows = [
        {"id": id, "labels": ["Profanity"], "transcript": "oh damn it", "words": said("oh damn it")} for id in "ab"
    ]
    corrected, other = stage(rows)
    assert (corrected["labels"], corrected["transcript"]) == (["NoViolation"], "oh good it")
    givers = {score["label"]: score["given_by"] for score in corrected["label_scores"]}
    assert givers["NoViolation"] == ["human"] and givers["Profanity"] == []
    assert other["labels"] == ["Profanity"]


@pytest.mark.parametrize("labels", [[], ["Rude"], ["NoViolation", "Other"]])
def test_corrections_with_faults_are_named(tmp_path, labels):
    path = tmp_path / "corrections.jsonl"
    path.write_text(json.dumps({"id": "a", "labels": labels}) + "\n")
    with pytest.raises(ValueError, match="corrections.jsonl, line 1: (`labels`|the labels NoViolation, Other)"):
        read_corrections(str(path))
