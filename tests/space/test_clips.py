"""A clip, and decisions on it: `space/clips.py`."""

import json

import clips
import numpy as np
import pytest
from choices import own_judge
from clips import LEAD, decide, excerpt, hear, write_record, write_redacted
from helpers import RATE, tone, wav

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.inputs import Clip


def said(record) -> list[str]:
    return [word["keyword"] for word in record["keywords"]]


def test_the_decision_is_that_of_toxmtl_moderate(judge, insult):
    ((heard,),) = Listener(judge.pipe, judge.description).hear([Clip(insult.name, insult.path)])
    assert decide(judge, insult) == heard.record
    assert said(heard.record) == ["shut up", "idiot"]


def test_a_moved_threshold_flips_the_verdict_and_hears_nothing_again(deaf, own, insult):
    assert decide(own_judge(deaf, own), insult)["violations"] == ["Bullying"]
    places = {**own.places, "Bullying": 1.0}
    assert decide(own_judge(deaf, own.moved(list(places.values()))), insult)["violations"] == []


def test_an_added_word_is_found_and_hears_nothing_again(deaf, own, harmless):
    assert said(decide(own_judge(deaf, own), harmless)) == []
    record = decide(own_judge(deaf, own.with_word("ladder", ["Other"], "", 0.0)), harmless)
    assert said(record) == ["ladder"] and record["keywords"][0]["labels"] == ["Other"]
    assert record["keyword_list"]["keywords"] == 82
    assert said(decide(own_judge(deaf, own), harmless)) == []


def test_a_keywords_own_threshold(deaf, own, insult):
    strict = own.with_word("idiot", ["Bullying"], "", 1.0)
    assert said(decide(own_judge(deaf, strict), insult)) == ["shut up"]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no sound at all", "the file cannot be read as audio"), (b"", "the file"), (wav(tone(10)), "10 samples")],
)
def test_a_bad_file_says_why_and_not_where_it_lies(judge, tmp_path, content, why):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why) as error:
        hear(judge, str(path))
    assert str(error.value).startswith("bad.wav cannot be heard: ") and str(tmp_path) not in str(error.value)


def test_a_clip_that_is_too_long_is_refused(judge, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MAX_SECONDS", 1.0)
    path = tmp_path / "long.wav"
    path.write_bytes(wav(tone(2 * RATE)))
    with pytest.raises(ValueError, match="more than"):
        hear(judge, str(path))


def test_the_record_as_a_file(judge, insult):
    record = decide(judge, insult)
    path = write_record(insult, record)
    assert path.endswith("insult.verdict.jsonl")
    with open(path, encoding="utf-8") as file:
        assert json.loads(file.read()) == record


def test_redacted_sound_is_silent_where_the_keywords_were(judge, insult, harmless):
    record = decide(judge, insult)
    muted = load_audio(write_redacted(insult, record, "mute"))
    for word in record["keywords"]:
        first, last = (round(word[edge] * RATE) for edge in ("start", "end"))
        assert np.abs(insult.samples[first:last]).max() > 0.1 > 100 * np.abs(muted[first:last]).max()
    cut = load_audio(write_redacted(insult, record, "cut"))
    assert len(cut) < len(insult.samples) - RATE
    assert write_redacted(harmless, decide(judge, harmless), "mute") is None


def test_an_excerpt_begins_before_its_keyword(insult):
    rate, samples = excerpt(insult, 1.0)
    first = round((1.0 - LEAD) * RATE)
    assert rate == RATE and len(samples) == len(insult.samples) - first
    np.testing.assert_allclose(samples / 32767, np.clip(insult.samples[first:], -1, 1), atol=1 / 32767)
    assert len(excerpt(insult, 0.0)[1]) == len(insult.samples)
