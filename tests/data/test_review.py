import json
import re

import pytest
from helpers import write_corpus

from modeling_toxmtl.data import review
from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage
from modeling_toxmtl.data.label import KeywordArguments
from modeling_toxmtl.data.review import ReviewArguments, agreement, doubt, read_corrections
from modeling_toxmtl.labels import LABELS


def scores(**given):
    return {label: given.get(label, 0.1) for label in LABELS}


def test_doubt_is_the_largest_difference():
    assert doubt(["Profanity"], scores(Profanity=0.8, Other=0.6)) == pytest.approx(0.6)
    assert doubt(["Profanity"], scores(Profanity=0.2)) == pytest.approx(0.8)


def test_agreement_is_counted_and_corrected_for_chance():
    clips = [(["Other"], scores(Other=0.9))] * 4 + [(["Other"], scores())] + [([], scores(Other=0.7))] * 2
    clips += [([], scores())] * 3
    report = agreement(clips, 0.5)
    assert report["Other"] == {
        **{"both": 4, "filter": 1, "model": 2, "neither": 3},
        "kappa": pytest.approx((0.7 - 0.5) / 0.5),  # by chance: 0.5 * 0.6 + 0.5 * 0.4
    }
    assert report["Racist"]["kappa"] is None  # nobody ever gives it


def test_the_page_has_the_most_doubtful_clips_and_their_corrections_come_back(tmp_path, capsys):
    corpus = write_corpus(tmp_path / "corpus")
    predictions = [{"id": "test-00", "scores": scores(Profanity=0.2)}]  # the filter says Profanity
    predictions += [{"id": "test-01", "scores": scores(NoViolation=0.9)}]  # as the filter says
    predictions += [{"id": "test-02", "scores": scores(Bullying=0.6, Profanity=0.6)}]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(clip) + "\n" for clip in predictions))
    review.main(ReviewArguments(str(corpus), str(path), str(tmp_path / "review"), num_clips=2))
    page = (tmp_path / "review" / "index.html").read_text()
    assert re.findall(r'data-id="([^"]+)"', page) == ["test-00", "test-02"]
    assert page.count("data:audio/ogg;base64,T2dn") == 2 and "oh damn it" in page  # "Ogg"
    assert 'value="Profanity" checked' in page
    assert "| Profanity | 1 | 1 | 0 | 1 |" in capsys.readouterr().out

    corrections = tmp_path / "corrections.jsonl"
    corrections.write_text('{"id": "test-00", "labels": ["NoViolation"]}\n', encoding="utf-8-sig")
    stage = AnnotateStage(AnnotateArguments(corrections=str(corrections)), KeywordArguments())
    words = [{"word": word, "start": 0.0, "end": 1.0, "score": 1.0} for word in ("oh", "damn", "it")]
    rows = [{"id": id, "labels": ["Profanity"], "transcript": "oh damn it", "words": words} for id in ("test-00", "x")]
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


def test_predictions_of_other_clips_are_refused(tmp_path):
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"id": "else", "scores": scores()}) + "\n")
    with pytest.raises(ValueError, match="no scores for a clip"):
        review.main(ReviewArguments(str(write_corpus(tmp_path / "c")), str(tmp_path / "predictions.jsonl")))
