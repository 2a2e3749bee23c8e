"""The load tool: words are matched with their events, and the curve ends where it is too slow."""

import asyncio
import os
import subprocess
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, silence, word
from server_helpers import Running

from benchmarks import serving
from benchmarks.serving import Heard, ServingArguments, ceiling, load, markdown, measure, usage, wait_for
from modeling_toxmtl.decoding import DetectedKeyword


CLIP = np.concatenate([silence(0.2), chatter(1), word(), chatter(0.7), silence(0.3)])
CLIPS = [(CLIP, [DetectedKeyword("damn", (), 1.2, 1.5, 1.0)])]


def test_every_word_of_every_session_is_timed(monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.5)
    with Running(HearingJudge(window=6.0, stride=4.0)) as running:
        heard = asyncio.run(load(f"ws://127.0.0.1:{running.port}/v1/stream", CLIPS, 2, 8.0, seed=0))
    assert heard.said == len(heard.delays) >= 4
    assert min(heard.delays) > 0 and heard.seconds >= 4 * 3.0  # as long as a sentence with its pause


def test_the_curve_ends_where_it_is_too_slow(monkeypatch):
    async def loaded(url, clips, number, seconds, seed):
        return Heard([0.1 * number] * 100, said=120, seconds=seconds * number)

    monkeypatch.setattr(serving, "load", loaded)
    args = ServingArguments(sessions=[1, 5, 8, 50], seconds=1.0, most_ms=700.0)
    rows = measure(args, CLIPS, "ws://nowhere", os.getpid())
    assert [row["sessions"] for row in rows] == [1, 5, 8]
    assert rows[1]["p95_ms"] == pytest.approx(500) and rows[1]["heard"] == 100 and rows[1]["said"] == 120


def test_usage_is_that_of_processes_and_what_they_started():
    alone, _ = usage(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        seconds, megabytes = usage(os.getpid())
        own, _ = usage(child.pid)
        child.kill()
    assert own == pytest.approx(0.3, abs=0.15) and seconds >= alone + own - 0.05
    assert 10 < megabytes < 10_000


@pytest.mark.parametrize("setup", ["0", "ray", "ray:0", "ray:two", "spark:2", "-1"])
def test_setups_are_numbers_of_replicas(setup):
    with pytest.raises(ValueError, match="give a number of replicas"), serving.serving("nowhere", setup):
        pass


def test_all_replicas_are_waited_for(monkeypatch):
    """The kernel may deal the first connections to one of two."""
    answers = iter(['up{replica="a"} 1', 'up{replica="a"} 1', "OSError", 'up{replica="b"} 1', "never asked for"])

    def answer(url, timeout):
        if (text := next(answers)) == "OSError":
            raise OSError
        return BytesIO(text.encode())

    monkeypatch.setattr(serving, "urlopen", answer)
    monkeypatch.setattr(serving.time, "sleep", lambda seconds: None)
    wait_for(1234, 2)
    assert next(answers) == "never asked for"


def test_the_ceiling_is_sound_over_time(monkeypatch):
    """Two sentences of three seconds in all, which take a second and a half."""
    times = iter([10.0, 11.5])
    monkeypatch.setattr(serving.time, "monotonic", lambda: next(times))
    judge = SimpleNamespace(pipe=lambda samples, return_keywords: None)
    assert ceiling(judge, [(silence(1.0), []), (silence(2.0), [])]) == pytest.approx(2.0)


def test_table_by_hand():
    row = {"sessions": 5, "p50_ms": 400.2, "p95_ms": 690.0, "p99_ms": 900.0, "said": 120, "heard": 100}
    row |= {"sound_per_second": 4.96, "cores": 0.512, "megabytes": 812.3}
    lines = markdown({"ceiling": 80.04, "setups": {"ray:2": [row]}}).splitlines()
    assert lines[2] == "| ray:2 | 5 | 400 ms | 690 ms | 900 ms | 100 of 120 | 5.0 s | 0.51 | 812 |"
    assert lines[3] == "| ceiling: as files | | | | | | 80.0 s | | |"
