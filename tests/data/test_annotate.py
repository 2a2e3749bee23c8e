import json
import shutil

import pytest

from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage, find_keywords, read_corrections, run
from modeling_toxmtl.data.label import KeywordArguments
from modeling_toxmtl.data.shards import read_rows
from modeling_toxmtl.data.stages import WorkArguments, read_manifest
from modeling_toxmtl.keywords import KeywordList


def said(text):
    return [{"word": word, "start": float(i), "end": i + 1.0, "score": 0.5} for i, word in enumerate(text.split())]


def labelled(id, text, label, phrases=None):
    """A labelled chunk of the phrases, or of one."""
    phrases = [{"text": phrase} for phrase in phrases or [text]]
    return {"id": id, "transcript": text, "words": said(text), "phrases": phrases, "labels": [label]}


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
    rows = [labelled("a", "that sh1t game", "NoViolation")]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert row["transcript"] == "that good game"


def test_keywords_of_chunks_without_violation_become_the_filler_unless_asked():
    rows = [labelled("a", "that crap game", "NoViolation")]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert (row["transcript"], row["keywords"], row["asr_transcript"]) == ("that good game", [], "that crap game")
    (row,) = AnnotateStage(AnnotateArguments(keywords_everywhere=True), KeywordArguments())(rows)
    assert row["transcript"] == "that crap game" and [item["keyword"] for item in row["keywords"]] == ["crap"]


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("phrases", "label", "target"),
    [
        (["They let him off the hook.", "Up next is the boss."], "NoViolation", []),
        (["Hold the screw.", "You idiot!"], "Bullying", ["idiot"]),
        (["Shut up.", "Damn, hold the screw", "you shut up."], "Bullying", ["shut up", "damn", "shut up"]),
    ],
)
def test_keywords_are_said_in_one_phrase_and_the_target_agrees(phrases, label, target, everywhere):
    stage = AnnotateStage(AnnotateArguments(keywords_everywhere=everywhere), KeywordArguments())
    text = " ".join(phrases)
    (row,) = stage([labelled("a", text, label, phrases)])
    assert [item["keyword"] for item in row["keywords"]] == target and row["asr_transcript"] == text
    keywords = KeywordList.default()
    words = keywords.tokens(row["transcript"])
    assert [match.keyword for match in keywords.find(words)] == target and len(words) == len(text.split())


def test_what_people_said_replaces_labels(tmp_path):
    corrections = tmp_path / "corrections.jsonl"
    corrections.write_text('{"id": "a", "labels": ["NoViolation"], "keywords": []}\n', encoding="utf-8-sig")
    stage = AnnotateStage(AnnotateArguments(corrections=str(corrections)), KeywordArguments())
    rows = [labelled(id, "oh damn it", "Profanity") for id in "ab"]
    corrected, other = stage(rows)
    assert (corrected["labels"], corrected["transcript"]) == (["NoViolation"], "oh good it")
    givers = {score["label"]: score["given_by"] for score in corrected["label_scores"]}
    assert givers["NoViolation"] == ["human"] and givers["Profanity"] == []
    assert other["labels"] == ["Profanity"]


def test_corrections_that_contradict_each_other_are_named(tmp_path):
    path = tmp_path / "corrections.jsonl"
    path.write_text('{"id": "a", "labels": ["Other"]}\n' * 2)
    assert read_corrections(str(path)) == {"a": ["Other"]}
    path.write_text('{"id": "a", "labels": ["Other"]}\n{"id": "a", "labels": ["NoViolation"]}\n')
    with pytest.raises(ValueError, match="corrections.jsonl, line 2: a has other labels in a line before"):
        read_corrections(str(path))


def test_corrections_of_no_chunk_are_said(made, tmp_path, caplog):
    """They are of chunks that other settings made."""
    shutil.copytree(made / "work", tmp_path / "work")
    work = WorkArguments(str(tmp_path / "work"), num_proc=1)
    shards = read_manifest(work.work_dir, "label").shards
    id = next(row["id"] for shard in shards for row in read_rows(shard.path, ["id"]))
    path = tmp_path / "corrections.jsonl"
    stale = '{"id": "0123456789ab-0-00000000", "labels": ["NoViolation"]}\n'
    path.write_text(stale + json.dumps({"id": id, "labels": ["Other"]}))
    with caplog.at_level("WARNING", logger="modeling_toxmtl.data.annotate"):
        run(AnnotateArguments(corrections=str(path)), KeywordArguments(), work)
    assert "corrections.jsonl: 1 of its 2 ids are of no chunk here, such as 0123456789ab-0-00000000;" in caplog.text
    path.write_text(stale)
    with pytest.raises(ValueError, match="corrections.jsonl: 1 of its 1 ids are of no chunk here"):
        run(AnnotateArguments(corrections=str(path)), KeywordArguments(), work)


@pytest.mark.parametrize("labels", [[], ["Rude"], ["NoViolation", "Other"]])
def test_corrections_with_faults_are_named(tmp_path, labels):
    path = tmp_path / "corrections.jsonl"
    path.write_text(json.dumps({"id": "a", "labels": labels}) + "\n")
    with pytest.raises(ValueError, match="corrections.jsonl, line 1: (`labels`|the labels NoViolation, Other)"):
        read_corrections(str(path))
