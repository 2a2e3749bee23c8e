import hashlib
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers import RATE, Speller, by_label, tiny_processor, tiny_speech_model, tone
from live_helpers import HearingJudge, NamingJudge, chatter, keywords, listen, of_kind, packets, silence, word

from benchmarks.live import sentences
from modeling_toxmtl import ToxicityDetectionPipeline
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.session import ModerationSession, SessionSettings, SessionState
from modeling_toxmtl.moderation.moderate import load_judge
from modeling_toxmtl.moderation.records import SCHEMA_FILE


def times(events) -> list[tuple[str, float, float]]:
    return [(event.keyword, round(event.start, 2), round(event.end, 2)) for event in events]


@pytest.fixture(scope="module")
def judge():
    return HearingJudge(window=6.0, stride=4.0)


# --- streamed and offline


def talk(seed: int) -> np.ndarray:
    """Half a minute of tones and pauses; every other pause ends a segment."""
    rng = np.random.default_rng(seed)
    pieces = [
        np.append(tone(round(rng.uniform(0.3, 5) * RATE), rng.uniform(200, 900), seed), silence(pause))
        for pause in rng.permutation([0.3, 0.8, 2.0, 3.0, 4.0, 6.0])
    ]
    return np.concatenate(pieces).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stride", [1.4, 2.0])
def test_streamed_is_offline(seed, stride):
    """Windows, their scores and words are those of the clip as a whole, however it is cut into packets."""
    pipe = ToxicityDetectionPipeline(tiny_speech_model(seed), tiny_processor())
    pipe.model.lm_head = Speller("_damn_  ______________________________________shut up__")
    session, clip = ModerationSession(Judge(pipe, window=2.0, stride=stride, batch_size=2)), talk(seed)
    events = listen(session, clip, seed=seed, longest=1.0)
    wanted = {"return_keywords": True, "return_windows": True, "window_seconds": 2.0, "stride_seconds": stride}
    whole = pipe(clip, **wanted)
    segments = of_kind(events, "segment")
    assert len(segments) >= 3
    heard = [
        (segment.start + window["start"], segment.start + window["end"], window["scores"])
        for segment in segments
        for window in segment.record["windows"]
        if window["scores"]["NoViolation"] < 1  # something was heard
    ]
    expected = [window for window in whole["windows"] if by_label(window["labels"])["NoViolation"] < 1]
    assert len(heard) == len(expected) > 6
    for (start, end, scores), window in zip(heard, expected, strict=True):
        assert (start, end) == pytest.approx((window["start"], window["end"]), abs=1e-3)
        assert scores == pytest.approx(by_label(window["labels"]), abs=1e-4)
    finals = keywords(events)
    assert [(event.keyword, event.labels) for event in finals] == [
        (item["keyword"], item["labels"]) for item in whole["keywords"]
    ]
    for event, item in zip(finals, whole["keywords"], strict=True):
        assert (event.start, event.end, event.score) == pytest.approx(
            (item["start"], item["end"], item["score"]), abs=1e-4
        )


@pytest.mark.slow
def test_two_hundred_clips_that_the_released_model_hears_streamed_are_offline():
    """Examples and sentences of other voices, up to six together, which is longer than a window."""
    root, lengths, num_words = Path(__file__).parents[3], [1, 1, 1, 1, 6], 0
    judge = Judge(load_judge(str(root / "model_cards" / "whisper-tiny-en-toxmtl")))
    cut = slice(round(1.8 * RATE), -round(1.8 * RATE))  # of two seconds of silence
    sounds = [samples[cut] for samples, _ in sentences(46, seed=0, judge=judge)]
    sounds += [load_audio(path) for path in sorted((root / "docs" / "examples").glob("*.ogg"))]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        chosen = [sounds[(seed + number * 7) % len(sounds)] for number in range(rng.choice(lengths))]
        clip = rng.uniform(0.1, 1) * np.concatenate(
            [np.append(sound, silence(rng.uniform(0, 1.5))) for sound in chosen]
        )
        whole = judge.pipe(clip, return_keywords=True, return_windows=True)
        session = ModerationSession(judge, SessionSettings(hop=2.0 * (seed % 4 == 0)))
        events = listen(session, clip, seed=seed, longest=rng.choice([0.03, 0.3, 3.0]))
        num_words += same_as_offline(events, whole)
    assert num_words > 200


def same_as_offline(events, whole) -> int:
    """Asserts it, and returns how many words were heard."""
    heard = [
        (event.start + window["start"], event.start + window["end"], window["scores"])
        for event in of_kind(events, "segment")
        for window in event.record["windows"]
    ]
    expected = [window for window in whole["windows"] if by_label(window["labels"])["NoViolation"] < 1]
    assert len(heard) == len(expected)
    for (start, end, scores), window in zip(heard, expected, strict=True):
        assert (start, end) == pytest.approx((window["start"], window["end"]), abs=1e-3)
        assert scores == pytest.approx(by_label(window["labels"]), abs=1e-4)
    finals = keywords(events)
    assert [event.keyword for event in finals] == [item["keyword"] for item in whole["keywords"]]
    for event, item in zip(finals, whole["keywords"], strict=True):
        assert (event.start, event.end) == pytest.approx((item["start"], item["end"]), abs=0.02)
        assert event.score == pytest.approx(item["score"], abs=1e-4)
    return len(finals)


def test_packets_decide_nothing(judge):
    clip = np.concatenate([chatter(4), word(), chatter(3), word(2000), silence(3), chatter(1), word(), chatter(1)])
    first, second = (
        [(type(event), event.to_dict() | {"time": 0}) for event in listen(ModerationSession(judge), clip, seed=seed)
         if event.event == "segment" or event.event == "keyword" and event.state == "final"]
        for seed in (0, 1)
    )  # fmt: skip
    assert first == second and len(first) == 5


# --- what is said, and when


def test_what_is_said_of_an_insult(judge):
    """Speech, the word before its window is full, the violation, the verdict, and that it is over."""
    clip = np.concatenate([silence(2), chatter(1), word(seconds=0.4), chatter(1.2), silence(3)])
    events = listen(ModerationSession(judge, name="call"), clip)
    told = [
        (
            event.event,
            getattr(event, "state", None),
            getattr(event, "raised", None),
            getattr(event, "provisional", None),
        )
        for event in events
    ]
    assert told == [
        ("speech started", None, None, None),
        ("keyword", "provisional", None, None),
        ("violation", None, True, True),
        ("keyword", "final", None, None),
        ("segment", None, None, None),
        ("violation", None, False, False),
    ]
    started, early, raised, final, segment, cleared = events
    assert started.start == pytest.approx(1.5, abs=0.01) and started.time < 2.6
    assert times([early, final]) == [("damn", 3.0, 3.4)] * 2
    assert early.time < 3.4 + 0.3 + 0.4 + 0.3 < final.time  # lookahead, hop, and a packet
    assert (raised.label, cleared.label) == ("Profanity", "Profanity")
    assert (segment.start, segment.end) == pytest.approx((1.5, 5.1), abs=0.01)
    record = segment.record
    jsonschema.validate(record, json.loads(SCHEMA_FILE.read_text()))
    assert record["clip"] == "call#0" and record["violations"] == ["Profanity"]
    assert record["keywords"][0]["start"] == pytest.approx(1.5, abs=0.01)  # from the segment's start on
    assert segment.time < 4.6 + 1.5 + 0.5  # speech may go on for that long


def test_a_word_is_reported_once(judge):
    """Looks overlap, and so do windows."""
    clip = np.concatenate([chatter(1.5)] + [np.append(word(), chatter(0.9, seed)) for seed in range(12)])
    events = listen(ModerationSession(judge, SessionSettings(context=2.0)), clip)
    assert len(keywords(events)) == len(keywords(events, "provisional")) == 12
    assert not keywords(events, "withdrawn")
    assert times(keywords(events)) == times(keywords(events, "provisional"))


def test_another_judge_hears_from_the_next_segment_on():
    """Records name the list that all of their segment was heard for."""
    judge, insult = NamingJudge(), np.concatenate([chatter(1), word(), chatter(1)])
    other = judge.with_keywords(KeywordList([KeywordEntry("banana", ("Other",))]))
    session = ModerationSession(judge)
    events = session.feed(np.tile(insult, 3))
    session.state.judge = other
    events += listen(session, np.concatenate([insult, silence(3), insult]))
    records = [event.record for event in of_kind(events, "segment")]
    assert [record["keyword_list"] for record in records] == [
        each.description["keyword_list"] for each in (judge, other)
    ]
    first = judge.pipe.processor.keywords.keywords[0]
    assert [[item["keyword"] for item in record["keywords"]] for record in records] == [[first] * 4, ["banana"]]


def test_without_looks_only_windows_are_heard(judge):
    judge.num_heard = 0
    events = listen(ModerationSession(judge, SessionSettings(hop=0)), np.concatenate([chatter(2), word(), chatter(5)]))
    assert judge.num_heard == 2 and [event.state for event in of_kind(events, "keyword")] == ["final"]


def test_silence_asks_for_nothing(judge):
    state = SessionState(judge)
    for _ in range(100):
        assert state.feed(silence(1)) == [] and state.asks() == []
    assert state.finish() == [] and state.asks() == [] and state.time == 100


def test_what_is_too_short_to_be_heard_says_nothing(judge):
    session = ModerationSession(judge)
    assert session.feed(word()[:300]) == [] and session.finish() == []


# --- a judge that takes its time


def answer_all(state, judge) -> list:
    asks = state.asks()
    rows = judge.hear([(ask.window, ask.samples) for ask in asks])
    return [event for ask, row in zip(asks, rows, strict=True) for event in state.answer(ask.number, row)]


def test_one_look_at_a_time_and_no_word_falls_between_two(judge):
    """A busy judge is asked rarely, for as much as it takes."""
    state = SessionState(judge, SessionSettings(hop=0.2, context=1.0))
    clip = np.concatenate([chatter(2), word(), chatter(0.3), word(2000), chatter(0.6)])
    asks = [ask for packet in packets(clip) if not state.feed(packet) or True for ask in state.asks()]
    looks = [ask for ask in asks if ask.is_look]
    assert len(looks) == 1  # it was not answered
    assert state.answer(looks[0].number, None) == []
    assert state.feed(chatter(0.4)) == []
    (look,) = [ask for ask in state.asks() if ask.is_look]
    assert (look.window.end - look.window.start) / RATE > 2  # from what the first one was sure of
    (row,) = judge.hear([(look.window, look.samples)])
    assert [event.keyword for event in state.answer(look.number, row) if event.event == "keyword"] == ["damn", "crap"]


def test_late_answers_in_any_order_give_the_same_verdict(judge):
    clip = np.concatenate([chatter(2), word(), chatter(4), word(2000), chatter(1), silence(3)])
    expected = of_kind(listen(ModerationSession(judge), clip), "segment")
    state = SessionState(judge)
    for packet in packets(clip, seed=1):
        state.feed(packet)
    state.finish()
    asks = [ask for ask in state.asks() if not ask.is_look]
    rows = judge.hear([(ask.window, ask.samples) for ask in asks])
    events = []
    for ask, row in reversed(list(zip(asks, rows, strict=True))):
        assert not of_kind(events, "segment")
        events += state.answer(ask.number, row)
    assert [event.record for event in of_kind(events, "segment")] == [event.record for event in expected]
    assert times(keywords(events)) == [("damn", 2.0, 2.3), ("crap", 6.3, 6.6)]
    assert state.num_open == 1  # the look


def test_a_window_must_be_judged(judge):
    state = SessionState(judge)
    state.feed(chatter(7.5))
    (number,) = [ask.number for ask in state.asks() if not ask.is_look]
    with pytest.raises(ValueError, match="must be judged"):
        state.answer(number, None)


# --- words that are taken back, and violations that come and go


class Fickle(HearingJudge):
    """Takes a word that its window cuts for another."""

    def _words(self, window, samples):
        cut = np.abs(samples[-round(0.5 * RATE) :]).max() > 0.2
        return [item._replace(keyword="crap") if cut else item for item in super()._words(window, samples)]


def test_what_a_whole_window_does_not_hear_is_withdrawn():
    clip = np.concatenate([chatter(1), word(), chatter(2), silence(2)])
    events = listen(ModerationSession(Fickle(), SessionSettings(hop=0.2)), clip, longest=0.05)
    assert times(keywords(events)) == [("damn", 1.0, 1.3)]
    assert [event.keyword for event in keywords(events, "provisional")] == ["crap", "damn"]
    assert times(keywords(events, "withdrawn")) == [("crap", 1.0, 1.3)]


def test_violations_have_two_thresholds():
    """From 0.5 on it is raised; between that and 0.4 it stays; below it is cleared."""
    scores = iter([0.1, 0.6, 0.45, 0.55, 0.39, 0.45, 0.7])

    class Scripted(HearingJudge):
        def _row(self, window, samples):
            row = super()._row(window, samples)
            score = next(scores, 1e-9)
            row["logits"][0, 0] = np.log(score / (1 - score))
            return row

    session = ModerationSession(Scripted(window=15.0, stride=10.0), SessionSettings(hop=0.5))
    events = listen(session, np.append(chatter(1 + 6 * 0.5 + 0.3), silence(2)), longest=0.05)
    told = [(event.raised, round(event.score, 2)) for event in of_kind(events, "violation")]
    assert told == [(True, 0.6), (False, 0.39), (True, 0.7), (False, 0.0)]


# --- long speech, and its sound


def test_speech_without_an_end_gets_verdicts_on_the_way(judge):
    """Segments overlap as windows do; words are reported once, and violations are not cleared between them."""
    clip = np.concatenate([chatter(1)] + [np.append(word(), chatter(0.7, seed)) for seed in range(30)])
    events = listen(ModerationSession(judge, SessionSettings(max_segment=12.0)), clip)
    segments = of_kind(events, "segment")
    assert len(segments) > 3 and all(segment.end - segment.start <= 12 for segment in segments)
    assert all(after.start <= before.end for before, after in zip(segments, segments[1:], strict=False))
    assert times(keywords(events)) == [
        ("damn", round(1.0 + number, 2), round(1.3 + number, 2)) for number in range(30)
    ]
    assert not keywords(events, "withdrawn") and len(of_kind(events, "speech started")) == 1
    assert [event.raised for event in of_kind(events, "violation")] == [True, False]


def test_the_record_is_of_the_sound_that_is_kept(judge):
    """Judged by itself, the file gives the same verdict."""
    clip = np.concatenate([silence(1), chatter(3), word(), chatter(2), silence(2)])
    (segment,) = of_kind(listen(ModerationSession(judge, SessionSettings(keep_audio=True)), clip), "segment")
    assert hashlib.sha256(segment.audio).hexdigest() == segment.record["audio"]["sha256"]
    pieces = list(judge.pipe.preprocess(segment.audio, **segment.record["hearing"]))
    spans = [tuple(piece["window"][0, :2].tolist()) for piece in pieces]
    assert [(start / RATE, end / RATE) for start, end in spans] == [
        pytest.approx((window["start"], window["end"]), abs=1e-3) for window in segment.record["windows"]
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop": -1}, "`hop` is -1: give 0 or more"),
        ({"context": float("nan")}, "`context` is nan"),
        ({"release": 1.1}, "`release` is 1.1: give a share"),
        ({"context": 0.5}, "`context` is 0.5: give `hop` and twice `lookahead` at least"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        SessionSettings(**settings)
