"""The progress of a run."""

import io

import pytest
from helpers import RATE, tone, wav
from sounds import encoded

from modeling_toxmtl.moderation.inputs import Clip
from modeling_toxmtl.moderation.progress import Progress, stated_seconds


def test_a_long_recording_is_a_share_of_a_clip(tmp_path, monkeypatch):
    """By its container's length, within which time and rate go on."""
    path = tmp_path / "long.wav"
    path.write_bytes(wav(tone(4 * RATE)))
    clock, screen = [0.0], io.StringIO()
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Progress(3, disable=False, file=screen, mininterval=0) as progress:
        progress.add(1, 2.0)
        for seconds in (1.0, 3.0, 9.0):  # a container may state too little
            progress.part(Clip("long", str(path)), seconds)
            shares = {1.0: 1.25, 3.0: 1.75, 9.0: 2.0}
            assert progress.bar.n == pytest.approx(shares[seconds])
        clock[0] = 2.75
        progress.add(1, 9.0)
        assert progress.bar.n == 2 and "2.0/3 clips" in str(progress.bar) and "left" in str(progress.bar)
        assert "0.00 h of sound, 4 times as fast" in str(progress.bar)
    with Progress(5, num_kept=4, disable=False, file=screen) as progress:
        progress.add(1, 1.0)
        assert progress.bar.n == 5


def test_lengths_that_containers_state():
    assert stated_seconds(wav(tone(2 * RATE))) == 2.0
    assert stated_seconds(encoded(tone(2 * RATE), RATE, "libopus", "ogg")) == pytest.approx(2.0, abs=0.1)
