import pytest
from helpers import RATE, wav
from live_helpers import HearingJudge, chatter, silence

from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.moderation import judge as judge_module
from modeling_toxmtl.moderation.judge import TooLong
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


def test_another_judge_with_other_keywords_changes_nothing_of_the_first():
    judge = HearingJudge()
    keywords, description = judge.pipe.processor.keywords, judge.description
    other = judge.with_keywords(BANANA)
    assert other.pipe.processor.keywords is BANANA and other.pipe.model is judge.pipe.model
    assert other.description == description | {"keyword_list": describe_keywords(BANANA)}
    assert judge.pipe.processor.keywords is keywords and judge.description == description


# --- recordings that are too long


def test_a_recording_may_be_as_long_as_allowed():
    windows = list(HearingJudge().windows(wav(chatter(4)), max_seconds=4.0))
    assert windows[-1][0].end == 4 * RATE


def test_silence_counts_before_it_has_a_window(monkeypatch):
    """No more is read than what is too long."""
    seconds_read = []

    def blocks(*_):
        for _ in range(3600):
            seconds_read.append(1)
            yield [silence(1)[None], silence(0)[None]]

    monkeypatch.setattr(judge_module, "track_blocks", blocks)
    with pytest.raises(TooLong, match="more than 10 s: cut it"):
        next(HearingJudge().windows("silence.flac", max_seconds=10.0))
    assert len(seconds_read) == 11
