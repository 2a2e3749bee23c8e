"""What becomes of odd clips: each row of the table in docs/moderation.md."""

import io
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import RATE, float_wav, tone, tracks, wav
from moderation_helpers import listener, run
from scipy.io import wavfile
from sounds import encoded

from modeling_toxmtl.moderation.inputs import Clip


PAGE = Path(__file__).parents[2] / "docs" / "moderation.md"
OUTCOMES = dict(
    re.findall(r"^\| ([^|]+) \| ((?:error|judged|its files)[^|]*) \|$", PAGE.read_text("utf-8"), flags=re.M)
)
SOUND = tone(2 * RATE)


def video() -> bytes:
    """Of a second, without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=Fraction(10), width=32, height=32, pix_fmt="yuv420p")
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return file.getvalue()


def stereo(left: np.ndarray, right: np.ndarray) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, RATE, np.stack([left, right], axis=1).astype(np.float32))
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


CLIPS = {
    "no audio file": b"no audio",
    "no audio stream": video(),
    "no samples": wav(SOUND[:0]),
    "too short to be heard": wav(SOUND[:100]),
    "NaN or infinite samples": float_wav(np.where(np.arange(RATE) == 5000, np.nan, SOUND[:RATE])),
    "silence": wav(np.zeros(2 * RATE)),
    "steady noise": wav(0.1 * np.random.default_rng(0).standard_normal(2 * RATE)),
    "sampling rate of 1 to 768 kHz": wav(tone(2000, rate=1000), rate=1000),
    "another sampling rate": wav(tone(2000, rate=1000), rate=999),
    "cut off": half(wav(SOUND)),
    "cut off before its index (MP4)": half(encoded(SOUND, RATE, "aac", "mp4")),
    "two tracks that differ": tracks(SOUND, tone(2 * RATE, 900, 1), codec="pcm_f32le", rate=RATE),
    "stereo whose channels differ": stereo(SOUND, tone(2 * RATE, 900, 1)),
    "stereo in antiphase": stereo(SOUND, -SOUND),
}
SOURCES = {  # (track, channel) of the windows
    "two tracks that differ": [(0, 0), (1, 0)],
    "stereo whose channels differ": [(0, 0), (0, 1)],
}


def heard(audio: str | bytes):
    ((item,),) = listener(window_seconds=15.0).hear([Clip("clip", audio)])
    return item


def test_every_outcome_is_documented_and_tested():
    others = {"folder, as an input", "folder, in a table", "missing file", "pipe"}
    assert OUTCOMES.keys() == CLIPS.keys() | others


@pytest.mark.parametrize("name", CLIPS)
def test_outcome(name):
    record, error = heard(CLIPS[name])[1:]
    outcome = OUTCOMES[name]
    if outcome.startswith("error"):
        assert record is None and re.search("`(.*)`", outcome)[1] in error
        return
    assert error is None
    assert [(part["track"], part["channel"]) for part in record["windows"]] == SOURCES.get(name, [(0, 0)])
    assert record["audio"]["seconds"] == pytest.approx(1.0 if name == "cut off" else 2.0, abs=0.1)
    assert record["violations"] == [] or name not in ("silence", "steady noise")


def test_antiphase_loses_nothing():
    alone, both = (heard(audio).record for audio in (float_wav(SOUND), CLIPS["stereo in antiphase"]))
    assert [item["score"] for item in both["labels"]] == pytest.approx(
        [item["score"] for item in alone["labels"]], abs=1e-5
    )


def test_folders_and_missing_files(folder, clips, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("moderate", str(folder), str(tmp_path / "empty")) == 1
    assert "there are no clips in" in capsys.readouterr().err
    (tmp_path / "list.csv").write_text(f"path\n{clips}\ngone.wav\n{clips / '0.wav'}\n")
    assert run("moderate", str(folder), str(tmp_path / "list.csv"), "--format", "jsonl") == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    for name, clip in (("folder, in a table", str(clips)), ("missing file", str(tmp_path / "gone.wav"))):
        (line,) = (line for line in lines if line.startswith(f"{clip}: "))
        assert re.search("`(.*)`", OUTCOMES[name])[1] in line
    assert json.loads(captured.out)["clip"] == str(clips / "0.wav")
