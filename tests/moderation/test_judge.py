import pytest
from live_helpers import HearingJudge

from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.moderation.record import describe_keywords


BANANA = KeywordList([KeywordEntry("banana", ("Other",))])


class Undescribed(KeywordList):
    """One that no record can tell of."""

    def to_dict(self):
        raise ValueError("cannot be described")


def test_the_description_is_of_the_keywords_that_are_listened_for():
    judge = HearingJudge()
    judge.change_keywords(BANANA)
    assert judge.pipe.processor.keywords is BANANA
    assert judge.description["keyword_list"] == describe_keywords(BANANA)


@pytest.mark.parametrize(
    ("refused", "message"),
    [(KeywordList([KeywordEntry("日本", ("Other",))]), "日"), (Undescribed(BANANA), "cannot be described")],
    ids=["cannot be written", "cannot be described"],
)
def test_keywords_that_are_refused_are_not_listened_for(refused, message):
    judge = HearingJudge()
    keywords, description = judge.pipe.processor.keywords, judge.description
    with pytest.raises(ValueError, match=message):
        judge.change_keywords(refused)
    assert judge.pipe.processor.keywords is keywords and judge.description == description
