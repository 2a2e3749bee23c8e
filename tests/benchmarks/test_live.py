"""The benchmark of live sessions: which delays and which second thoughts count."""

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, word

from benchmarks.live import RememberingJudge, delays, markdown, measure, taken_back
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.moderation.live.events import Keyword, Segment, Violation
from modeling_toxmtl.moderation.live.session import SessionSettings


def heard(time: float, keyword: str, start: float, state: str) -> Keyword:
    return Keyword(time, keyword, ("Profanity",), start, start + 0.4, 0.9, state)


def said(keyword: str, start: float) -> DetectedKeyword:
    return DetectedKeyword(keyword, (), start, start + 0.5, 1.0)


def test_the_first_report_of_a_word_that_is_in_the_verdict_counts():
    events = [
        heard(2.0, "damn", 1.0, "provisional"),
        heard(3.0, "crap", 2.0, "provisional"),
        heard(5.0, "damn", 1.0, "final"),
        heard(5.0, "crap", 2.0, "withdrawn"),
        heard(5.0, "damn", 4.0, "final"),
    ]
    assert delays(events, [said("damn", 1.0), said("crap", 2.0), said("damn", 3.9)]) == pytest.approx([0.5, 0.6])


def test_what_is_taken_back():
    verdict = Segment(5.0, 0.0, 4.0, {"violations": ["Profanity"]})
    events = [Violation(1.0, label, 0.9, True, True) for label in ("Profanity", "Bullying", "Bullying")]
    assert taken_back([*events, heard(5.0, "damn", 1.0, "withdrawn"), verdict]) == (1, 1)


class Judge(RememberingJudge, HearingJudge):
    """Sees words in the sound, and remembers."""


def test_sound_is_heard_once_and_counted_each_time():
    judge = Judge(window=6.0, stride=4.0)
    clip = np.concatenate([chatter(1), word(), chatter(1)])
    settings = SessionSettings(hop=0.4, context=2.0)
    first = measure(judge, [(clip, [said("damn", 1.0)])], settings)
    num_heard = judge.num_heard
    assert measure(judge, [(clip, [said("damn", 1.0)])], settings) == first and judge.num_heard == num_heard
    assert first["keywords"] == 1 and first["withdrawn_percent"] == first["violations_taken_back"] == 0
    assert 1 < first["seconds_heard_per_second"] < 6


def test_table_by_hand():
    row = {"hop": 0.4, "context": 3.0, "lookahead": 0.3, "p50_ms": 512.4, "p95_ms": 700.0, "withdrawn_percent": 1.25}
    lines = markdown({"settings": [row | {"violations_taken_back": 2, "seconds_heard_per_second": 6.26}]}).splitlines()
    assert lines[2] == "| 0.4 s | 3 s | 0.3 s | 512 ms | 700 ms | 1.2 % | 2 | 6.3 |"
