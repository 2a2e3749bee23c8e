import dataclasses
import io
import json
import tracemalloc
import wave

import av
import numpy as np
import pytest
from helpers import float_wav, wav
from pipeline_helpers import SPANS, dtx_file, speech_with_pauses

from benchmarks.pipeline import repeated
from modeling_toxmtl.audio import load_audio, resample
from modeling_toxmtl.data.chunk import ChunkStage, cut_chunks, cut_packets, encode_flac, find_chunks, run
from modeling_toxmtl.data.recordings import RecordingsArguments, list_recordings
from modeling_toxmtl.data.shards import Rejected, read_rows
from modeling_toxmtl.data.speech_spans import Span
from modeling_toxmtl.data.splits import Entry, assign_splits
from modeling_toxmtl.data.stages import WorkArguments
from modeling_toxmtl.io.opus import OpusTrack, encode_dtx, ogg_file


def webm_of_some(recording, path, is_kept):
    """The packets that are kept in WebM, as a recorder stores what arrives."""
    with av.open(str(recording)) as source, av.open(str(path), "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size and is_kept(packet):
                packet.stream = stream
                target.mux(packet)
    return path


def webm_without_silence(recording, path):
    return webm_of_some(recording, path, lambda packet: packet.size > 2)


def rows_of(path):
    return list(ChunkStage()([{"path": str(path), "speaker": "a", "source": "a", "split": ""}]))


def test_boundaries_are_within_60_ms_and_no_speech_is_lost(recording):
    chunks = list(find_chunks(str(recording), 0, ChunkStage()))
    assert len(chunks) == len(SPANS)
    for chunk, (start, end) in zip(chunks, SPANS, strict=True):
        assert start - 0.06 <= chunk.start <= start and end <= chunk.end <= end + 0.06


def test_gaps_between_time_stamps_cut_as_dtx_does(recording, tmp_path):
    webm = webm_without_silence(recording, tmp_path / "call.webm")
    for chunk, (start, end) in zip(find_chunks(str(webm), 0, ChunkStage()), SPANS, strict=True):
        assert start - 0.06 <= chunk.start <= start and end <= chunk.end <= end + 0.26  # all that was sent


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path):
    """Its cuts are found packet by packet: an hour takes no more than five minutes do, but for the cuts themselves."""
    track, peaks = encode_dtx(speech_with_pauses(SPANS, 9.0), 16_000, 24_000), {}
    for minutes in (5, 60):
        (tmp_path / "long.ogg").write_bytes(ogg_file(repeated(track, 60 * minutes)))
        tracemalloc.start()
        cuts = sum(1 for _ in find_chunks(str(tmp_path / "long.ogg"), 0, ChunkStage()))
        peaks[minutes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert cuts == pytest.approx(minutes * 60 / 9 * len(SPANS), rel=0.05)
    assert peaks[60] < peaks[5] + 2_000_000  # the file itself has ten times as many bytes


@pytest.mark.parametrize("max_pause", [0.6, 3.0])  # chunks of one span, and one chunk with the silence in it
def test_chunks_sound_as_in_the_recording(recording, max_pause):
    whole = load_audio(recording, 48_000)
    spans = list(find_chunks(str(recording), 0, ChunkStage(max_pause=max_pause)))
    assert len(spans) == (3 if max_pause < 1 else 1)
    for chunk in cut_chunks(str(recording), 0, spans):
        samples = load_audio(chunk.audio, 48_000)
        start = round(chunk.start * 48_000)
        assert len(samples) == pytest.approx((chunk.end - chunk.start) * 48_000, abs=1)
        np.testing.assert_allclose(samples, whole[start : start + len(samples)], atol=1e-4)


@pytest.mark.parametrize("format", ["ogg", "webm"])
def test_chunks_are_as_loud_as_the_recording(tmp_path, format):
    track = encode_dtx(speech_with_pauses(SPANS, 9.0), 16_000, 24_000)
    quiet, path = ogg_file(dataclasses.replace(track, gain=-12 * 256)), tmp_path / f"call.{format}"
    (tmp_path / "call.ogg").write_bytes(quiet)
    if format == "webm":
        webm_of_some(tmp_path / "call.ogg", path, lambda packet: True)
    whole = load_audio(path)
    assert np.abs(whole).max() == pytest.approx(10 ** (-12 / 20) * np.abs(load_audio(ogg_file(track))).max(), rel=0.02)
    chunks = [load_audio(row["audio"]["bytes"]) for row in rows_of(path)]
    assert max(np.abs(chunk).max() for chunk in chunks) == pytest.approx(np.abs(whole).max(), rel=0.02)


def test_silence_that_was_not_sent_is_filled_in(recording, tmp_path):
    webm = webm_without_silence(recording, tmp_path / "call.webm")
    spans = list(find_chunks(str(webm), 0, ChunkStage(max_pause=3.0)))
    (chunk,) = cut_chunks(str(webm), 0, spans)
    samples, whole = load_audio(chunk.audio), load_audio(recording)
    assert len(samples) / 16_000 == pytest.approx(SPANS[-1][1] - SPANS[0][0], abs=0.26)
    start = round(chunk.start * 16_000)
    loud = np.abs(whole[start : start + len(samples)]) > 0.05
    assert np.abs(samples[loud]).mean() > 5 * np.abs(samples[~loud]).mean()  # in its place


@pytest.mark.parametrize("first_sent", [0.0, 0.98])  # seconds
def test_where_nothing_was_sent_for_long_a_chunk_sounds_as_in_the_recording(first_sent):
    """Push-to-talk: the sender is mute between 2.5 s and what is said at 4 s, without any update."""
    track = encode_dtx(speech_with_pauses(SPANS, 9.0), 16_000, 24_000)
    whole = load_audio(ogg_file(track), 48_000)
    packets = [(960 * index - track.pre_skip, packet) for index, packet in enumerate(track.packets)]
    sent = [(time, packet) for time, packet in packets if first_sent <= time / 48_000 < 2.5 or time / 48_000 > 3.97]
    for chunk, span in zip(cut_packets(sent, [Span(*span) for span in SPANS]), SPANS, strict=True):
        samples, start = load_audio(chunk.audio, 48_000), round(chunk.start * 48_000)
        assert (chunk.start, chunk.end) == span and len(samples) == round((span[1] - span[0]) * 48_000)
        np.testing.assert_allclose(samples, whole[start : start + len(samples)], atol=1e-4)


def test_push_to_talk_gives_the_chunks_that_were_sent(recording, tmp_path):
    def is_sent(packet):
        return packet.pts < 0 or 3.97 < packet.pts / 48_000 < 5.8

    (row,) = rows_of(webm_of_some(recording, tmp_path / "call.webm", is_sent))
    assert row["start"] == pytest.approx(4.0, abs=0.06) and row["end"] == pytest.approx(5.5, abs=0.06)


def test_a_malformed_packet_is_taken_for_a_lost_one(tmp_path):
    track = encode_dtx(speech_with_pauses(SPANS, 9.0), 16_000, 24_000)
    packets = list(track.packets)
    packets[80] = bytes([packets[80][0] | 3, 0, *packets[80][2:]])  # no frames
    (tmp_path / "call.ogg").write_bytes(ogg_file(OpusTrack(packets, track.pre_skip, track.num_samples)))
    rows = rows_of(tmp_path / "call.ogg")
    assert len(rows) == len(SPANS)
    for row in rows:
        assert len(load_audio(row["audio"]["bytes"])) / 16_000 == pytest.approx(row["duration"], abs=1e-3)


def test_what_fails_while_it_is_cut_is_quarantined(recording, monkeypatch):
    def no_file(track):
        raise ValueError("a packet that fits nowhere")

    monkeypatch.setattr("modeling_toxmtl.data.chunk.ogg_file", no_file)
    assert rows_of(recording) == [Rejected(str(recording), "unreadable: a packet that fits nowhere")]


def test_other_codecs_are_cut_by_energy_and_lose_nothing(tmp_path):
    samples = speech_with_pauses(SPANS, 9.0)
    (tmp_path / "call.wav").write_bytes(wav(samples))
    decoded = load_audio(tmp_path / "call.wav")
    spans = list(find_chunks(str(tmp_path / "call.wav"), 0, ChunkStage()))
    assert len(spans) == 3
    for chunk, (start, end) in zip(cut_chunks(str(tmp_path / "call.wav"), 0, spans), SPANS, strict=True):
        assert chunk.start <= start and end <= chunk.end and chunk.extension == "flac"
        first = round(chunk.start * 16_000)
        piece = load_audio(chunk.audio)
        np.testing.assert_array_equal(piece, decoded[first : first + len(piece)])


def test_long_speech_gives_chunks_of_the_longest_length_allowed(tmp_path):
    path = tmp_path / "monologue.ogg"
    path.write_bytes(dtx_file([(0.5, 9.5)], 10.0))
    chunks = list(find_chunks(str(path), 0, ChunkStage(max_seconds=3.0)))
    assert all(chunk.end - chunk.start <= 3.0 + 1e-9 for chunk in chunks)
    assert sum(chunk.end - chunk.start for chunk in chunks) == pytest.approx(9.0, abs=0.12)
    assert all(a.end == pytest.approx(b.start) for a, b in zip(chunks, chunks[1:], strict=False))


def eight_channels():
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(8)
        output.setsampwidth(2)
        output.setframerate(16_000)
        output.writeframes(bytes(16 * 1000))
    return file.getvalue()


def picture():
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 8
        stream.pix_fmt = "rgb24"
        for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")):
            container.mux(packet)
    return file.getvalue()


FAULTS = {
    "noise.ogg": (lambda good: np.random.default_rng(0).bytes(5000), "unreadable: "),
    "empty.ogg": (lambda good: b"", "empty file"),
    "zero-length.wav": (lambda good: wav(np.zeros(0)), "zero length"),
    "channels.wav": (lambda good: eight_channels(), "8 channels"),
    "truncated.ogg": (lambda good: good[: len(good) // 2], "truncated"),
    "truncated.wav": (lambda good: wav(speech_with_pauses(SPANS, 9.0))[:90_000], "truncated"),
    "truncated.flac": (
        lambda good: encode_flac(speech_with_pauses(SPANS, 9.0))[:40_000],
        "truncated: it declares 9.00 s and holds",
    ),
    "mislabelled.ogg": (lambda good: wav(speech_with_pauses(SPANS, 9.0)), "mislabelled: named .ogg, but"),
    "picture.wav": (lambda good: picture(), "no audio stream"),
    "silence.ogg": (lambda good: dtx_file([], 2.0), "no speech in it: 2.0"),
    "corrupt.ogg": (
        lambda good: good[:300] + bytes(len(good) - 600) + good[-300:],
        "no speech in it: 2.01 of its 9.00 s can be read",
    ),
}


def test_what_cannot_be_used_is_quarantined_and_the_rest_completes(recording, tmp_path):
    good = recording.read_bytes()
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, (make, _) in FAULTS.items():
        (folder / name).write_bytes(make(good))
    (folder / "call.ogg").write_bytes(good)
    work = WorkArguments(str(tmp_path / "work"), num_proc=1)
    manifest = run(RecordingsArguments(str(folder), files_per_shard=4), ChunkStage(), work)
    rows = [row for shard in manifest.shards for row in read_rows(shard.path)]
    assert [row["source"] for row in rows] == ["call.ogg"] * 3
    lines = (tmp_path / "work" / "chunk" / "quarantine.jsonl").read_text().splitlines()
    reasons = {json.loads(line)["id"].rpartition("/")[2]: json.loads(line)["reason"] for line in lines}
    assert set(reasons) == set(FAULTS)
    for name, (_, reason) in FAULTS.items():
        assert reason in reasons[name], reasons[name]


def streamed_wav(size):
    """A WAV file that was piped: its size was not known when the header was written."""
    content = bytearray(wav(speech_with_pauses(SPANS, 9.0)))
    content[40:44] = size.to_bytes(4, "little")
    return bytes(content)


def encoded(format, codec, sampling_rate, **options):
    """Half a minute of silence and half a minute of speech: early packets say little of the later ones' bit rate."""
    samples = resample(speech_with_pauses([(30.0, 59.0)], 60.0), 16_000, sampling_rate)
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=sampling_rate, options={"flags": "+qscale", "global_quality": "472"})
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = sampling_rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def with_longer_video(recording, path):
    with av.open(str(recording)) as source, av.open(str(path), "w", format="matroska") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        pictures = target.add_stream("mpeg4", rate=1)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = sound
                target.mux(packet)
        for second in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = second
            target.mux(pictures.encode(frame))
        target.mux(pictures.encode(None))


@pytest.mark.parametrize("size", [0x7FFFFFFF - 36, 0xFFFFFFFF - 36, 0xFFFFFFFF])
def test_a_wav_file_of_unknown_size_is_not_truncated(tmp_path, size):
    (tmp_path / "a.wav").write_bytes(streamed_wav(size))
    assert [row["source_path"] for row in rows_of(tmp_path / "a.wav")] == [str(tmp_path / "a.wav")] * 3


def test_a_duration_that_is_guessed_is_not_believed(tmp_path):
    """FFmpeg guesses that of raw AAC, and of MP3 of a varying bit rate, from the first packets."""
    files = {"a.aac": encoded("adts", "aac", 44_100), "a.mp3": encoded("mp3", "libmp3lame", 44_100, write_xing="0")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with av.open(str(tmp_path / name)) as container:
            assert container.duration / av.time_base > 61.0
        assert all(row["end"] > 30.0 for row in rows_of(tmp_path / name))


def test_an_mp3_file_with_a_header_is_whole_or_truncated(tmp_path):
    content = encoded("mp3", "libmp3lame", 44_100)
    (tmp_path / "a.mp3").write_bytes(content)
    assert rows_of(tmp_path / "a.mp3")[-1]["end"] == pytest.approx(59.0, abs=0.2)
    (tmp_path / "a.mp3").write_bytes(content[:-1000])
    (rejected,) = rows_of(tmp_path / "a.mp3")
    assert rejected.reason == "truncated: it has fewer bytes than its header says"


def test_a_video_longer_than_the_sound_truncates_nothing(recording, tmp_path):
    with_longer_video(recording, tmp_path / "a.mkv")
    assert len(rows_of(tmp_path / "a.mkv")) == 3


def test_a_webm_file_without_its_end_is_truncated(recording, tmp_path):
    content = webm_of_some(recording, tmp_path / "a.webm", lambda packet: True).read_bytes()
    (tmp_path / "a.webm").write_bytes(content[: len(content) // 2])
    (rejected,) = rows_of(tmp_path / "a.webm")
    assert rejected.reason.startswith("truncated: it declares 9.0")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_quarantined(tmp_path, value):
    samples = speech_with_pauses(SPANS, 9.0)
    (tmp_path / "whole.wav").write_bytes(float_wav(samples))
    samples[25_000:25_400] = value
    (tmp_path / "call.wav").write_bytes(float_wav(samples))
    assert len(rows_of(tmp_path / "whole.wav")) == len(SPANS)
    (rejected,) = rows_of(tmp_path / "call.wav")
    assert rejected.reason.endswith("call.wav holds samples that are NaN or infinite.")


def test_each_track_is_a_speaker_if_nobody_is_named(tmp_path):
    tracks = [encode_dtx(speech_with_pauses([span], 4.0), 16_000, 24_000) for span in ((0.5, 1.5), (2.0, 3.0))]
    (tmp_path / "call.ogg").write_bytes(ogg_file(*tracks))
    rows = list(ChunkStage()(list_recordings(str(tmp_path))))
    assert [(row["speaker"], row["track"]) for row in rows] == [("call.ogg#0", 0), ("call.ogg#1", 1)]
    assert [row["start"] for row in rows] == [pytest.approx(0.5, abs=0.06), pytest.approx(2.0, abs=0.06)]


def test_a_speaker_who_is_named_is_in_one_split(tmp_path):
    """Whether a file has one track or two."""
    tracks = [encode_dtx(speech_with_pauses([span], 4.0), 16_000, 24_000) for span in ((0.5, 1.5), (2.0, 3.0))]
    (tmp_path / "duo.ogg").write_bytes(ogg_file(*tracks))
    (tmp_path / "solo.ogg").write_bytes(ogg_file(tracks[0]))
    (tmp_path / "calls.csv").write_text("path,speaker,source\nduo.ogg,alice,1\nsolo.ogg,alice,2\n")
    rows = list(ChunkStage()(list_recordings(str(tmp_path / "calls.csv"))))
    assert [row["speaker"] for row in rows] == ["alice"] * 3
    entries = [Entry(row["id"], row["speaker"], row["source"], row["split"], (), row["duration"]) for row in rows]
    assert len(set(assign_splits(entries, {"train": 0.5, "test": 0.5}).values())) == 1


def test_the_end_of_the_recording_ends_the_last_chunk(tmp_path):
    track = encode_dtx(speech_with_pauses([(0.5, 2.0)], 2.0), 16_000, 24_000)
    (tmp_path / "a.ogg").write_bytes(ogg_file(OpusTrack(track.packets, track.pre_skip, track.num_samples)))
    (row,) = rows_of(tmp_path / "a.ogg")
    assert len(load_audio(row["audio"]["bytes"])) / 16_000 == pytest.approx(row["duration"], abs=1e-3)
    assert row["end"] == pytest.approx(2.0, abs=0.02)
