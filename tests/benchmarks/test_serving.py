"""The load tool: words are matched with their events, and the curve ends where it is too slow."""

import asyncio
import os

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, silence, word
from server_helpers import Running

from benchmarks import serving
from benchmarks.serving import Heard, ServingArguments, load, markdown, measure, usage
from modeling_toxmtl.decoding import DetectedKeyword


CLIP = np.concatenate([silence(0.2), chatter(1), word(), chatter(0.7), silence(0.3)])
CLIPS = [(CLIP, [DetectedKeyword("damn", (), 1.2, 1.5, 1.0)])]


def test_every_word_of_every_session_is_timed(monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.5)
    with Running(HearingJudge(window=6.0, stride=4.0)) as running:
        heard = asyncio.run(load(f"ws://127.0.0.1:{running.port}/v1/stream", CLIPS, 2, 4.0, seed=0))
    assert heard.said == len(heard.delays) >= 4
    assert min(heard.delays) > 0 and heard.seconds >= 4 * 3.0  # as long as a sentence with its pause


def test_the_curve_ends_where_it_is_too_slow(monkeypatch):
    async def loaded(url, clips, number, seconds, seed):
        return Heard([0.1 * number] * 100, said=120, seconds=seconds * number)

    monkeypatch.setattr(serving, "load", loaded)
    args = ServingArguments(sessions=[1, 5, 8, 50], seconds=1.0, most_ms=700.0)
    rows = measure(args, CLIPS, 0, os.getpid())
    assert [row["sessions"] for row in rows] == [1, 5, 8]
    assert rows[1]["p95_ms"] == pytest.approx(500) and rows[1]["heard"] == 100 and rows[1]["said"] == 120


def test_usage_is_that_of_the_process():
    seconds, megabytes = usage(os.getpid())
    assert seconds == pytest.approx(sum(os.times()[:2]), abs=0.5) and 10 < megabytes < 10_000


def test_table_by_hand():
    row = {"sessions": 5, "p50_ms": 400.2, "p95_ms": 690.0, "p99_ms": 900.0, "said": 120, "heard": 100}
    lines = markdown({"loads": [row | {"sound_per_second": 4.96, "cores": 0.512, "megabytes": 812.3}]}).splitlines()
    assert lines[2] == "| 5 | 400 ms | 690 ms | 900 ms | 100 of 120 | 5.0 s | 0.51 | 812 |"
