"""Which sound is heard with and without the guards."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import RATE, tone

from benchmarks.guards import PAUSE, all_is_heard, between_pauses, markdown, scenes, seconds_heard
from modeling_toxmtl.listening import plan_windows


def judge() -> SimpleNamespace:
    """Only its windows, of 15 s."""

    def preprocess(samples):
        windows = plan_windows([[samples[None]]], 15 * RATE, 10 * RATE, 400)
        return ({"window": np.array([window])} for window, _ in windows)

    return SimpleNamespace(preprocess=preprocess)


def test_a_muted_pause_is_heard_without_the_guards_alone():
    recording = between_pauses(tone(2 * RATE))
    length = 2 * PAUSE + 2
    assert len(recording) == length * RATE
    assert seconds_heard(judge(), recording) == pytest.approx(2 + 1, abs=0.1)  # a margin of half a second on each side
    with all_is_heard():
        assert seconds_heard(judge(), recording) == 15 * 3 + length - 30
    assert seconds_heard(judge(), recording) < 4


def test_a_fans_windows_without_speech_are_not_heard():
    swelling = tone(2 * RATE) * np.abs(np.sin(np.arange(2 * RATE) / RATE * 9)).astype(np.float32)
    recording = scenes(0)["between pauses with a fan"](swelling)
    assert seconds_heard(judge(), recording) == 15 * 2  # those that begin at 10 and at 20 s
    with all_is_heard():
        assert seconds_heard(judge(), recording) == 15 * 3 + 12
    assert np.array_equal(recording, scenes(0)["between pauses with a fan"](swelling))


def test_table_by_hand():
    row = {"heard_percent": 14.25, "cost": 5.0, "mAP": 88.0, "f1": 90.0, "more": 1}
    assert "| muted | with | 14.2 | 5.0 | 88.00 | 90.00 |" in markdown({"muted": {"with": row}})
