from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage, find_keywords
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
