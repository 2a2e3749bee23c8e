"""What sessions leave behind: each kind of client is one, and what a process holds is counted."""

import asyncio
import os
import threading

import numpy as np
import pytest
from live_helpers import HearingJudge, chatter, word
from server_helpers import Running

from benchmarks import session_leaks
from benchmarks.session_leaks import ENDS, FORMATS, held, markdown, metrics, open_and_close, packets
from modeling_toxmtl.io.opus import OPUS_CLOCK, packet_samples


SPEECH = np.concatenate([chatter(1), word(seconds=0.4), chatter(1)])


@pytest.mark.parametrize("end", ENDS)
def test_sessions_of_every_format_end_as_they_are_told(end, monkeypatch):
    monkeypatch.setattr(session_leaks, "ENDS", (end,))
    with Running(HearingJudge()) as running:
        url = f"ws://127.0.0.1:{running.port}/v1/stream"
        asyncio.run(open_and_close(url, SPEECH, range(12), seed=0))
        text = metrics(url)
    codes = {line.split('"')[1] for line in text.splitlines() if line.startswith("toxmtl_session_ends_total")}
    assert codes <= ({"1003", "1007"} if end == "garbage" else {"1000", "1006"})
    assert ('toxmtl_events_total{event="segment"}' in text) == (end == "end")


def test_packets_are_as_long_as_the_sound():
    for form, rate in FORMATS.items():
        sent = list(packets(SPEECH, form))
        seconds = [packet_samples(p) / OPUS_CLOCK if form == "opus" else len(p) / 2 / rate for p in sent]
        assert max(seconds) == pytest.approx(0.02) and sum(seconds) == pytest.approx(2.4, abs=0.03)


def test_what_a_process_holds():
    before, over = held(os.getpid()), threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with open(os.devnull):
        sound = np.ones(20_000_000)
        after = held(os.getpid())
    over.set()
    thread.join()
    assert after["megabytes"] - before["megabytes"] == pytest.approx(sound.nbytes / 1e6, abs=10)
    assert (after["descriptors"], after["threads"]) == (before["descriptors"] + 1, before["threads"] + 1)


def test_table_by_hand():
    row = {"sessions": 500, "megabytes": 532.96, "descriptors": 8, "threads": 4}
    assert markdown({"rows": [row]}).splitlines()[2] == "| 500 | 533.0 | 8 | 4 |"
