"""The live mode without a browser: `space/live.py`."""

import json

import numpy as np
import pytest
from live import Listening, state_html

from modeling_toxmtl.moderation.live.session import ModerationSession


RATE = 16_000
QUIET = np.zeros(2 * RATE, dtype=np.int16)


@pytest.fixture
def sound(insult) -> np.ndarray:
    return np.concatenate([np.rint(insult.samples * 32767).astype(np.int16), QUIET])


def listen(listening, own, sound, seconds=1.0):
    """Feeds sound by a clock that goes with it."""
    size = round(seconds * RATE)
    for start in range(0, len(sound), size):
        chunk = sound[start : start + size]
        listening.feed(RATE, chunk, own, now=100 + (start + len(chunk)) / RATE)


def test_events_are_those_of_a_session(judge, own, sound):
    listening = Listening(judge, own)
    listen(listening, own, sound)
    listening.finish()
    session = ModerationSession(judge, name="microphone")
    events = [event for start in range(0, len(sound), RATE) for event in session.feed(sound[start : start + RATE])]
    events += session.finish()
    assert [line[:2] for line in reversed(listening.lines)] == [[f"{e.time:.1f}", e.event] for e in events]
    assert listening.records == [event.record for event in events if event.event == "segment"]
    assert "idiot at 2.4 s, 1.00, final" in [line[2] for line in listening.lines]
    assert "microphone is off" in state_html(listening) and listening.raised == []


def test_a_violation_is_raised_while_it_is_said(judge, own, sound):
    listening = Listening(judge, own)
    listen(listening, own, sound[: 3 * RATE])
    listening._hearing.result()
    assert "Bullying" in listening.raised and "Bullying" in state_html(listening)
    listening.finish()
    assert listening.raised == []


def test_other_choices_hold_from_the_next_segment_on(judge, own, sound):
    """The second choice comes while the first sentence is said, which is heard to its end by one list."""
    deaf = own.moved([1.0] * 5).without_word("idiot").without_word("shut up")
    listening = Listening(judge, own)
    listening.feed(RATE, sound[:RATE], own, now=101)
    listen(listening, deaf, np.concatenate([sound[RATE:], sound]))
    listening.finish()
    first, second = listening.records
    assert first["violations"] == ["Bullying"] and "idiot" in [found["keyword"] for found in first["keywords"]]
    assert second["violations"] == second["keywords"] == []
    lists = [record["keyword_list"]["sha256"] for record in (first, second)]
    assert lists[0] == judge.description["keyword_list"]["sha256"] != lists[1]


def test_sound_that_is_lost_is_silence_and_said(judge, own, sound):
    """Of five seconds, the third and fourth never come: what follows is where it was said."""
    listening = Listening(judge, own)
    for second in (0, 1, 4):
        listening.feed(RATE, sound[second * RATE : (second + 1) * RATE], own, now=10.0 + second)
    listening.finish()
    assert ["2.0", "lost", "2.0 s that did not come in time"] in listening.lines
    assert listening._session.state.time == pytest.approx(5, abs=0.01)
    punctual = Listening(judge, own)
    for second in range(5):  # each as late as it may be
        punctual.feed(RATE, sound[second * RATE : (second + 1) * RATE], own, now=10.0 + second + 1.4 * (second > 0))
    punctual.finish()
    assert "lost" not in [line[1] for line in punctual.lines]


def test_stereo_records_and_what_comes_after_the_end(judge, own, sound):
    listening = Listening(judge, own)
    assert listening.write_records() is None
    listening.feed(RATE, np.stack([sound, sound], axis=1), own)
    listening.finish()
    listening.feed(RATE, sound, own)
    listening.finish()
    with open(listening.write_records(), encoding="utf-8") as file:
        (record,) = map(json.loads, file)
    assert record["violations"] == ["Bullying"]


def test_a_fault_of_the_judge_is_told(judge, own, sound, monkeypatch):
    listening = Listening(judge, own)
    monkeypatch.setattr(listening._session, "feed", lambda *args: 1 / 0)
    listening.feed(RATE, sound, own)
    with pytest.raises(ZeroDivisionError):
        listening._hearing.result()
    with pytest.raises(ZeroDivisionError):
        listening.feed(RATE, sound, own)
