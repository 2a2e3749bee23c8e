"""The benchmark of the speech gate: what counts as heard, and as found."""

import json

import numpy as np
import pytest
from helpers import RATE
from live_helpers import HearingJudge, chatter, word

from benchmarks import speech_gate
from benchmarks.speech_gate import PAUSE, Clip, SpeechGateArguments, Sums, markdown, shares, windows_of, with_noise
from modeling_toxmtl.decoding import DetectedKeyword


def clip(said: tuple[float, ...] = (3.5,)) -> Clip:
    """Three seconds of silence, two of speech with a word in it, and three of silence."""
    spoken = np.concatenate([chatter(0.5), word(), chatter(1.2)])
    words = [DetectedKeyword("damn", (), start, start + 0.3, 1.0) for start in said]
    return Clip(np.pad(spoken, round(PAUSE * RATE)), (3 * RATE, 5 * RATE), words)


@pytest.fixture(scope="module")
def judge():
    return HearingJudge(window=10.0, stride=8.0)


def test_noise_is_as_far_below_the_speech_as_it_is_told(judge):
    rng, clean = np.random.default_rng(0), clip()
    noise = with_noise(clean, "pink", 10.0, rng).samples - clean.samples
    power = [np.mean(part**2) for part in (clean.samples[3 * RATE : 5 * RATE], noise)]
    assert 10 * np.log10(power[0] / power[1]) == pytest.approx(10, abs=0.1)
    np.testing.assert_array_equal(with_noise(clean, "pink", float("inf"), rng).samples, clean.samples)


def test_shares_of_speech_and_of_pauses(judge):
    clean = clip()
    speech, pauses = shares(windows_of(clean.samples, judge), clean)
    assert speech == 2 * RATE and pauses == pytest.approx(RATE, abs=10)  # a margin of half a second on each side
    noisy = clean._replace(samples=clean.samples + chatter(8))
    assert shares(windows_of(noisy.samples, judge), noisy) == (2 * RATE, 6 * RATE)
    assert shares([], clean) == (0, 0)


def test_keywords_that_are_found_and_wrong_reports(judge):
    sums = Sums()
    for said in ((3.5,), (3.5, 4.5), (4.5,)):  # heard as said; one of two; another than said
        sums.add(clip(said), windows_of(clip().samples, judge), judge)
    sums.add(clip()._replace(said=None), [], judge)
    figures = sums.figures()
    assert [figures[f"keywords_{name}"] for name in ("said", "found", "wrong")] == [4, 2, 1]
    assert figures["speech_heard_percent"] == pytest.approx(75) and figures["pauses_heard_percent"] < 15


def test_a_run_with_a_detector_of_its_own(judge, monkeypatch, tmp_path):
    class Loud:
        def __call__(self, frame):
            return float(np.abs(frame).max() > 0.25)

        def reset(self):
            pass

    monkeypatch.setattr(speech_gate, "SileroVad", Loud)
    monkeypatch.setattr(speech_gate, "load_judge", lambda model: None)
    monkeypatch.setattr(speech_gate, "Judge", lambda pipe: judge)
    monkeypatch.setattr(speech_gate, "make_clips", lambda *args: [clip()])
    args = SpeechGateArguments(snrs=[20.0], results_file=str(tmp_path / "r.json"))
    results = speech_gate.main(args)
    assert json.loads((tmp_path / "r.json").read_text())["results"] == results
    rows = {(row["snr_db"], row["rule"]): row for row in results["rows"]}
    assert rows[20.0, "silence"]["pauses_heard_percent"] > 95
    assert rows[20.0, "gate"]["pauses_heard_percent"] < 20 and rows[20.0, "gate"]["keywords_found"] == 1
    assert rows[None, "silence"]["pauses_heard_percent"] < 20
    assert (tmp_path / "r.md").read_text() == markdown(results) + "\n" and "no noise" in markdown(results)
    assert all(value > 0 for value in results["costs"].values())
