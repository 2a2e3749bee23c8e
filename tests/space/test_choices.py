"""A visitor's keyword list and thresholds: `space/choices.py`."""

import json

import pytest
from choices import Choices, own_judge


def words(choices: Choices) -> list[str]:
    return [row[0] for row in choices.table()]


def test_sliders_that_were_not_moved_leave_thresholds_as_they_are(own):
    exact = {**own.thresholds, "Bullying": 0.123456, "Other": 0.5}
    choices = Choices(own.keywords, exact)
    places = choices.places
    assert places["Bullying"] == 0.123 and "NoViolation" not in places
    assert choices.moved(list(places.values())) == choices
    moved = choices.moved(list((places | {"Other": 0.7}).values()))
    assert moved.thresholds == exact | {"Other": 0.7}


def test_a_word_is_added_changed_and_removed(own):
    added = own.with_word(" Ladder ", ["Other"], "ladders, step ladder", 0.25)
    assert added.table()[-1] == ["ladder", "Other", "ladders, step ladder", 0.25]
    assert added.table()[:-1] == own.table()
    changed = added.with_word("ladder", ["Bullying", "Other"], "", 0.0)
    assert changed.table()[-1] == ["ladder", "Bullying, Other", "", 0.0] and len(changed.table()) == len(added.table())
    assert changed.without_word("LADDER") == own


@pytest.mark.parametrize(
    ("word", "labels", "variants", "threshold", "why"),
    [
        ("", ["Other"], "", 0.0, "is not a word or phrase"),
        ("ladder", [], "", 0.0, "label"),
        ("ladder", ["Other"], "idiot", 0.0, "already is a spelling of 'idiot'"),
        ("ladder", ["Other"], "", 1.5, "threshold"),
    ],
)
def test_what_is_no_entry_is_refused_with_the_reason(own, word, labels, variants, threshold, why):
    with pytest.raises(ValueError, match=why):
        own.with_word(word, labels, variants, threshold)


def test_words_that_are_not_there_or_cannot_be_written(own, judge):
    with pytest.raises(ValueError, match="'ladder' is no keyword"):
        own.without_word("ladder")
    with pytest.raises(ValueError, match="слово"):
        own_judge(judge, own.with_word("слово", ["Other"], "", 0.0))


def test_a_list_of_a_file(own, tmp_path):
    entries = [{"keyword": "ladder", "labels": ["Other"]}]
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"language": "en", "filler": "good", "keywords": entries}))
    assert words(own.with_list(str(path))) == ["ladder"]
    path.write_text("[]")
    with pytest.raises(ValueError, match="list.json"):
        own.with_list(str(path))


def test_one_visitors_choices_are_not_anothers(own, judge):
    before = judge.description
    mine = own_judge(judge, own.with_word("ladder", ["Other"], "", 0.0).moved([0.9] * 5))
    assert "ladder" in mine.pipe.processor.keywords and mine.thresholds["Bullying"] == 0.9
    assert mine.description["keyword_list"]["sha256"] != before["keyword_list"]["sha256"]
    assert "ladder" not in judge.pipe.processor.keywords and judge.description == before
    again = own_judge(mine, own)
    assert again.description == before and again.pipe.model is judge.pipe.model
    assert "ladder" in mine.pipe.processor.keywords
