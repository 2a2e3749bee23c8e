"""Files whose container says less than all, or too much: what is whole is used, and at its time."""

import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import wav
from pipeline_helpers import dtx_file, speech_with_pauses

from modeling_toxmtl.audio import load_audio, resample
from modeling_toxmtl.data.chunk import ChunkStage
from modeling_toxmtl.io.opus import OpusTrack, encode_dtx, ogg_crc, ogg_file


RATE = 16_000
SPANS = [(0.5, 1.5), (3.0, 4.0)]
SPEECH = speech_with_pauses(SPANS, 5.0)


def rows_of(path):
    return list(ChunkStage()([{"path": str(path), "speaker": "a", "source": "a", "split": ""}]))


def spans_of(path):
    """Of the chunks; a rejected file fails with its reason."""
    rows = rows_of(path)
    assert all(isinstance(row, dict) for row in rows), rows
    return [(row["start"], row["end"]) for row in rows]


def is_at(spans, expected):
    return len(spans) == len(expected) and all(
        start - 0.3 <= begin <= start + 0.02 and end - 0.02 <= stop <= end + 0.35
        for (begin, stop), (start, end) in zip(spans, expected, strict=True)
    )


def write(path, format, codec, samples, layout="mono", later=lambda seconds: 0.0, options=None):
    """Codes samples of 16 kHz, `(channels, samples)`; `later` says how many seconds later a packet comes."""
    channels = np.stack([resample(channel, RATE, 48_000) for channel in np.atleast_2d(samples)])
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=48_000, options=options or {})
        stream.layout = layout
        if codec == "flac":
            stream.format = "s16"
        for start in [*range(0, channels.shape[1], 960), None]:
            frame = None
            if start is not None:
                block = np.ascontiguousarray(channels[:, start : start + 960])
                if codec == "flac":
                    block = np.rint(block * 32767).astype(np.int16).T.reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, format="s16" if codec == "flac" else "fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            for packet in stream.encode(frame):
                shift = round(later(float(packet.pts * packet.time_base)) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                container.mux(packet)
    return path


# Ogg


def without_end(content):
    """A recorder of streams does not know which page will be the last."""
    last = content.rfind(b"OggS")
    page = bytearray(content[last:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
    return content[:last] + bytes(page)


@pytest.mark.parametrize(
    "change",
    [
        without_end,
        lambda content: content + b"TAG" + bytes(125),  # ID3v1
        lambda content: content + b"APETAGEX" + bytes(200),
        lambda content: content + bytes(4096),  # blocks of a disk
        lambda content: without_end(content) + bytes(10),
    ],
)
def test_an_ogg_file_ends_with_a_whole_page_and_nothing_more_is_asked(tmp_path, change):
    (tmp_path / "a.ogg").write_bytes(change(dtx_file(SPANS, 5.0)))
    assert is_at(spans_of(tmp_path / "a.ogg"), SPANS)


def test_an_ogg_file_that_ends_within_a_page_is_truncated(tmp_path):
    for lacking in (1, 500):
        (tmp_path / "a.ogg").write_bytes(without_end(dtx_file(SPANS, 5.0))[:-lacking])
        (rejected,) = rows_of(tmp_path / "a.ogg")
        assert rejected.reason == "truncated: its last Ogg page is not whole"


@pytest.mark.parametrize("change", [lambda content: content, without_end], ids=["whole", "without end"])
def test_ogg_files_that_were_joined_are_one_recording(tmp_path, change):
    """As stations and recorders chain them: the clock of each starts anew."""
    (tmp_path / "a.ogg").write_bytes(change(dtx_file(SPANS, 5.0)) + dtx_file(SPANS, 5.0))
    assert is_at(spans_of(tmp_path / "a.ogg"), [*SPANS, *((start + 5, end + 5) for start, end in SPANS)])


def restamped(content, seconds):
    """An Ogg file whose clock shows so many seconds more, as a stream's that runs when its recording begins."""
    pages = [bytearray(b"OggS" + page) for page in content.split(b"OggS")[1:]]
    for page in pages[2:]:  # after the headers
        page[6:14] = struct.pack("<q", struct.unpack("<q", page[6:14])[0] + round(seconds * 48_000))
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
    return b"".join(map(bytes, pages))


def test_an_ogg_stream_that_starts_late_is_whole(tmp_path):
    """Its time is that of a player, which begins with the sound (RFC 7845, section 4.3)."""
    (tmp_path / "a.ogg").write_bytes(restamped(dtx_file(SPANS, 5.0), 1000))
    assert is_at(spans_of(tmp_path / "a.ogg"), SPANS)
    for name, codec in (("a.oga", "flac"), ("a.opus", "libopus")):
        path = write(tmp_path / name, "ogg", codec, SPEECH, later=lambda time: 1000.0)
        assert is_at(spans_of(path), SPANS), codec


# WAV


@pytest.mark.parametrize("extra", [44, 36, -80_000, -1])
def test_a_wav_header_may_count_itself_or_too_little(tmp_path, extra):
    content = bytearray(wav(SPEECH))
    content[40:44] = (len(content) - 44 + extra).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(bytes(content))
    assert is_at(spans_of(tmp_path / "a.wav"), SPANS)


# clocks


def pause_of(seconds, after=2.0):
    return lambda time: seconds if time > after else 0.0


LATER = [SPANS[0], (33.0, 34.0)]


@pytest.mark.parametrize(
    ("name", "format", "codec"),
    [
        ("a.mka", "matroska", "flac"),
        ("a.mp4", "mp4", "aac"),
        ("a.m4a", "mp4", "flac"),
        ("a.webm", "webm", "libopus"),
        ("a.mp4", "mp4", "libmp3lame"),
    ],
)
def test_a_gap_in_the_time_stamps_is_silence(tmp_path, name, format, codec):
    path = write(tmp_path / name, format, codec, SPEECH, later=pause_of(30.0))
    assert is_at(spans_of(path), LATER)


@pytest.mark.parametrize(("name", "format", "codec"), [("a.mkv", "matroska", "flac"), ("a.webm", "webm", "libopus")])
def test_nobody_speaks_for_more_than_an_hour(tmp_path, name, format, codec):
    path = write(tmp_path / name, format, codec, SPEECH, later=pause_of(4000.0))
    assert is_at(spans_of(path), [SPANS[0], (4003.0, 4004.0)])


def test_pauses_that_a_format_does_not_date_are_named(tmp_path):
    (rejected,) = rows_of(write(tmp_path / "a.avi", "avi", "libmp3lame", SPEECH, later=pause_of(30.0)))
    assert re.fullmatch("truncated: .*; pauses are lost in AVI: save it as Matroska", rejected.reason)


def test_a_clock_that_jumps_is_no_truncation(tmp_path):
    path = write(tmp_path / "a.mka", "matroska", "flac", SPEECH, later=pause_of(1e6))
    assert is_at(spans_of(path), SPANS)


@pytest.mark.parametrize(("name", "format", "codec"), [("a.mkv", "matroska", "flac"), ("a.webm", "webm", "libopus")])
def test_sound_that_starts_late_is_late(tmp_path, name, format, codec):
    path = write(tmp_path / name, format, codec, SPEECH, later=lambda time: 10.0)
    assert is_at(spans_of(path), [(start + 10, end + 10) for start, end in SPANS])


# Opus that is more, or less, than packets of one stream sent with DTX


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_opus_of_other_mapping_families_sounds_as_in_the_recording(tmp_path, layout):
    channels = np.stack([SPEECH, 0.3 * SPEECH]) if layout == "stereo" else SPEECH
    path = write(tmp_path / "a.opus", "ogg", "libopus", channels, layout, options={"mapping_family": "255"})
    whole, rows = load_audio(path), rows_of(path)
    assert len(rows) == len(SPANS)
    for row in rows:
        samples = load_audio(row["audio"]["bytes"])
        same = whole[round(row["start"] * RATE) :][: len(samples)]
        assert np.corrcoef(samples[: len(same)], same)[0, 1] > 0.999


def silent_packets(count):
    """What bots send while nobody speaks: CELT frames of 20 ms with the silence flag."""
    return [bytes([0xF8, 0xFF, 0xFE])] * count


def test_silent_packets_of_bots_are_silence(tmp_path):
    track = encode_dtx(resample(SPEECH, RATE, 48_000), 48_000, 64_000)
    spoken = [packet for packet in track.packets if len(packet) > 2]
    packets = [*spoken, *silent_packets(1500), *spoken]
    length = 960 * len(packets)
    (tmp_path / "a.ogg").write_bytes(ogg_file(OpusTrack(packets, track.pre_skip, length - track.pre_skip)))
    spans = spans_of(tmp_path / "a.ogg")
    first = 0.02 * len(spoken)
    assert max(end for start, end in spans if start < first) < first + 0.35
    assert min(start for start, end in spans if start > first) > first + 29.5


@pytest.mark.parametrize("noise", [0.0, 1e-4, 1e-3])
def test_a_voice_note_without_dtx_is_cut_by_ear(tmp_path, noise):
    samples = speech_with_pauses([(1.0, 2.0), (12.0, 13.0)], 14.0)
    samples = samples + noise * np.random.default_rng(0).normal(size=len(samples)).astype(np.float32)
    path = write(tmp_path / "a.opus", "ogg", "libopus", samples)
    assert is_at(spans_of(path), [(1.0, 2.0), (12.0, 13.0)])


def test_a_microphone_that_is_left_open_is_cut_by_ear(tmp_path):
    """Pauses at its start and end say nothing of the minute between."""
    samples = speech_with_pauses([(1.0, 2.0), (40.0, 41.0)], 42.0)
    samples = samples + 3e-4 * np.random.default_rng(0).normal(size=len(samples)).astype(np.float32)
    path = write(tmp_path / "a.webm", "webm", "libopus", samples, later=pause_of(5.0, after=3.0))
    assert is_at(spans_of(path), [(1.0, 2.0), (45.0, 46.0)])


def test_no_sent_speech_is_lost_before_a_gap(tmp_path):
    """Push-to-talk: the packets end with the speech."""
    samples = speech_with_pauses([(0.0, 2.0), (2.0, 4.0)], 4.0)
    path = write(tmp_path / "a.webm", "webm", "libopus", samples, later=pause_of(5.0))
    (first, second) = spans_of(path)
    assert first[1] >= 2.0 and second[0] <= 7.02 and second[1] >= 8.98


# damage


def test_a_few_damaged_bytes_of_an_mp3_file_cost_no_more_than_themselves(tmp_path):
    path = write(tmp_path / "a.mp3", "mp3", "libmp3lame", np.tile(SPEECH, 4))
    content, size = bytearray(path.read_bytes()), path.stat().st_size
    content[size // 2 : size // 2 + 40] = bytes(40)
    path.write_bytes(bytes(content))
    assert len(spans_of(path)) == 8


def test_a_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "12:30 call.ogg").write_bytes(dtx_file(SPANS, 5.0))
    assert is_at(spans_of("12:30 call.ogg"), SPANS)


def test_a_sample_rate_that_changes_is_followed(tmp_path):
    """ADTS frames say their own rate, and files of several are simply joined."""
    parts = []
    for rate in (48_000, 24_000):
        with av.open(str(tmp_path / "part.aac"), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=rate)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(resample(SPEECH, RATE, rate)[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
        parts.append((tmp_path / "part.aac").read_bytes())
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    spans = spans_of(tmp_path / "a.aac")
    assert is_at(spans, [*SPANS, *((start + 5.1, end + 5.1) for start, end in SPANS)])
