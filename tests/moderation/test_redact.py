"""`toxmtl redact`: what is outside the spans stays, and what is inside goes."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers import RATE, tone, wav
from moderation_helpers import EMPTY_RECORD
from transformers import pipeline

from modeling_toxmtl import cli
from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.inputs import Clip
from modeling_toxmtl.moderation.record import describe_judge
from modeling_toxmtl.moderation.records import audio_hash
from modeling_toxmtl.moderation.redact import FADE, RedactArguments, Span, _planes, chosen, gains, redact, spans_of


ROOT = Path(__file__).parents[2]
WORDS = [
    {"keyword": "damn", "labels": ["Profanity"], "start": 0.5, "end": 0.7, "score": 0.9, "benign": True},
    {"keyword": "shut up", "labels": ["Bullying", "Other"], "start": 1.2, "end": 1.5, "score": 0.4, "benign": False},
]


def span(start: float, end: float) -> Span:
    return Span(start, end, [])


def decode(path) -> np.ndarray:
    """`(channels, samples)` in the file's own format."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([_planes(frame) for frame in frames], axis=1)


def write(
    path, codec: str, form: str, samples: np.ndarray, rate: int, layout: str, video: bool = False, start: float = 0.0
):
    """An audio file of integer `(channels, samples)`, with a video stream or without; the sound starts late."""
    with av.open(str(path), "w") as output:
        pictures = (
            output.add_stream("mpeg4", rate=Fraction(10), width=32, height=32, pix_fmt="yuv420p") if video else None
        )
        stream = output.add_stream(codec, rate=rate, layout=layout)
        if form in {kind.name for kind in stream.codec_context.codec.audio_formats}:
            stream.codec_context.format = form
        for number in range(20 if video else 0):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            output.mux(pictures.encode(picture))
        if video:
            output.mux(pictures.encode(None))
        packed = np.ascontiguousarray(samples.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format=form, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


# --- what to take out


def arguments(**options) -> RedactArguments:
    return RedactArguments("v.jsonl", "a.wav", "b.wav", **options)


def test_words_are_chosen_by_label_keyword_score_and_verdict():
    def names(**options):
        return [word["keyword"] for word in chosen(WORDS, arguments(**options))]

    assert names() == ["damn", "shut up"]
    assert names(label=["Other"]) == ["shut up"] and names(label=["Racist"]) == []
    assert names(keyword=["damn", "crap"]) == ["damn"]
    assert names(min_score=0.5) == ["damn"] and names(min_score=0.4) == ["damn", "shut up"]
    assert names(keep_benign=True) == ["shut up"]
    assert names(label=["Bullying"], min_score=0.5) == []


def test_spans_are_padded_and_joined():
    apart = spans_of(WORDS[::-1], before=0.1, after=0.2)
    assert [(round(s.start, 3), round(s.end, 3)) for s in apart] == [(0.4, 0.9), (1.1, 1.7)]
    (joined,) = spans_of(WORDS, before=0.3, after=0.2)
    assert (joined.start, joined.end) == (0.2, 1.7) and joined.keywords == WORDS
    nested = [WORDS[0] | {"end": 3.0}, WORDS[1]]
    assert spans_of(nested, 0, 0)[0].end == 3.0


def test_gains_fade_within_the_span():
    left = gains(0, RATE, RATE, [span(0.25, 0.5)])
    inside = np.flatnonzero(left < 1)
    assert inside[0] in (4000, 4001) and inside[-1] in (7999, 8000)
    fade = round(FADE * RATE)
    assert (left[4000 + fade : 8000 - fade] == 0).all()
    np.testing.assert_allclose(left[4000 : 4000 + fade], 1 - np.arange(fade) / fade, atol=1e-9)
    assert gains(0, 4000, RATE, [span(0.25, 0.5)]) is None
    np.testing.assert_array_equal(gains(3000, 2000, RATE, [span(0.25, 0.5)]), left[3000:5000])


# --- what is left


@pytest.mark.parametrize("how", ["mute", "beep", "cut"])
@pytest.mark.parametrize(
    ("suffix", "codec", "form", "kind"),
    [
        ("wav", "pcm_s16le", "s16", np.int16),
        ("wav", "pcm_f32le", "flt", np.float32),
        ("wav", "pcm_u8", "u8", np.uint8),
        ("flac", "flac", "s16", np.int16),
        ("flac", "flac", "s32", np.int32),
        ("mka", "pcm_s16le", "s16", np.int16),
        ("wav", "pcm_s24le", "s32", np.int32),
        ("aiff", "pcm_s16be", "s16", np.int16),
    ],
)
def test_lossless_formats_keep_every_sample_outside(tmp_path, how, suffix, codec, form, kind):
    """Of stereo at 44.1 kHz; spans at the very start, in the middle and at the very end."""
    rate, spans = 44_100, [span(-0.1, 0.2), span(0.8, 1.1), span(1.9, 2.5)]
    floats = np.stack([tone(2 * rate, 300, rate=rate), tone(2 * rate, 500, 1, rate=rate)])
    scale = {np.float32: 1.0, np.uint8: 127, np.int16: 2**15 - 1, np.int32: 2**31 - 2**8}[kind]
    given = (np.clip(floats, -0.99, 0.99).astype(np.float64) * scale).astype(np.int64 if scale != 1.0 else kind)
    given = (given + 128 if kind is np.uint8 else given & ~0xFF if kind is np.int32 else given).astype(kind)
    source = write(tmp_path / f"in.{suffix}", codec, form, given, rate, "stereo")
    np.testing.assert_array_equal(before := decode(source), given)
    redact(str(source), str(tmp_path / f"out.{suffix}"), spans, how)
    after = decode(tmp_path / f"out.{suffix}")
    left = gains(0, 2 * rate, rate, spans)
    zero = 128 if kind is np.uint8 else 0
    if how == "cut":
        assert after.shape[1] == (left > 0).sum()
        np.testing.assert_array_equal(after[:, left[left > 0] == 1], before[:, left == 1])
        return
    assert after.dtype == before.dtype and after.shape == before.shape
    np.testing.assert_array_equal(after[:, left == 1], before[:, left == 1])
    silent = after[:, left == 0].astype(np.float64) - zero
    if how == "mute":
        assert not silent.any()
    else:  # a tone of 1 kHz, a tenth of full scale, and nothing of what was said
        times = np.flatnonzero(left == 0) / rate
        wanted = 0.1 * np.sin(2 * np.pi * 1000 * times) * (2 ** (8 * given.itemsize - 1) - 1 if scale != 1.0 else 1)
        assert np.abs(silent - wanted).max() <= max(1.0 if scale != 1.0 else 1e-6, 2**8 * (kind is np.int32))
    assert np.abs(np.diff(after[0].astype(np.float64)[: round(0.205 * rate)])).max() < 0.5 * scale  # no click


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        ("ogg", "ogg", "opus"),
        ("mp3", "mp3", "mp3float"),
        ("m4a", "m4a", "aac"),
        ("webm", "webm", "opus"),
        ("wav", "ogg", "opus"),
        ("ogg", "wav", "pcm_s16le"),
        ("m4a", "mka", "aac"),
        ("mulaw.wav", "wav", "pcm_mulaw"),
        ("adpcm.wav", "wav", "adpcm_ima_wav"),
    ],
)
def test_containers_and_codecs(tmp_path, source, target, codec):
    encoder = {"ogg": "libopus", "webm": "libopus", "mp3": "libmp3lame", "m4a": "aac", "wav": "pcm_s16le"}.get(source)
    encoder, rate = encoder or codec, {"wav": 44_100, "mulaw.wav": 8000, "adpcm.wav": 22_050}.get(source, 48_000)
    samples = np.round(tone(2 * rate, rate=rate) * 32767).astype(np.int16)[None]
    write(tmp_path / f"in.{source}", encoder, "s16", samples, rate, "mono")
    redact(str(tmp_path / f"in.{source}"), str(tmp_path / f"out.{target}"), [span(0.5, 1.0)])
    with av.open(str(tmp_path / f"out.{target}")) as container:
        assert container.streams.audio[0].codec_context.codec.name.replace("lib", "") == codec
    heard = load_audio(tmp_path / f"out.{target}")
    assert len(heard) == pytest.approx(2 * RATE, abs=0.08 * RATE)
    assert np.abs(heard[round(0.58 * RATE) : round(0.92 * RATE)]).max() < 0.01
    for start, end in ((0.1, 0.42), (1.08, 1.9)):
        said = samples[0, round(start * rate) : round(end * rate)] / 32767
        left = heard[round(start * RATE) : round(end * RATE)]
        assert np.sqrt(np.square(left).mean()) == pytest.approx(np.sqrt(np.square(said).mean()), rel=0.12)


def packets(path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_six_channels_at_once(tmp_path):
    """Surround sound in Opus: every channel is muted, and stays where it is."""
    rate = 48_000
    floats = np.stack([tone(2 * rate, 200 + 100 * channel, channel, rate) for channel in range(6)])
    source = write(tmp_path / "in.ogg", "libopus", "s16", np.round(floats * 32767).astype(np.int16), rate, "5.1")
    redact(str(source), str(tmp_path / "out.ogg"), [span(0.5, 1.0)])
    before, after = decode(source), decode(tmp_path / "out.ogg")
    assert before.shape == after.shape and np.abs(after[:, round(0.58 * rate) : round(0.92 * rate)]).max() < 0.02
    for one, other in zip(before[:, -rate // 2 :], after[:, -rate // 2 :], strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.9


def test_a_cover_picture_is_no_video(tmp_path):
    """It is left out, and does not keep the sound from being cut."""
    source = tmp_path / "in.mp3"
    with av.open(str(source), "w") as output:
        sound = output.add_stream("libmp3lame", rate=RATE, layout="mono")
        cover = output.add_stream("png", width=32, height=32, pix_fmt="rgb24")
        cover.disposition = Disposition.attached_pic.value
        frame = av.AudioFrame.from_ndarray(tone(2 * RATE)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packets in (cover.encode(picture), cover.encode(None), sound.encode(frame), sound.encode(None)):
            output.mux(packets)
    with av.open(str(source)) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    redact(str(source), str(tmp_path / "out.mp3"), [span(0.5, 1.0)], "cut")
    assert len(load_audio(tmp_path / "out.mp3")) == pytest.approx(1.5 * RATE, abs=0.05 * RATE)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_that_starts_late_stays_with_the_video(tmp_path, suffix):
    """A beep of the sound is where it was, by the file's clock, and spans are where they were heard."""
    rate = 48_000
    beep = np.zeros(2 * rate)
    beep[rate : rate + rate // 10] = 0.5 * np.sin(np.arange(rate // 10) / 10)
    samples = np.round(beep * 32767).astype(np.int16)[None]
    source = write(tmp_path / f"in.{suffix}", "aac", "s16", samples, rate, "mono", video=True, start=0.5)
    redact(str(source), str(tmp_path / f"out.{suffix}"), [span(0.6, 0.8)])
    before, after = (np.abs(load_audio(tmp_path / f"{name}.{suffix}")) > 0.1 for name in ("in", "out"))
    assert before.argmax() == pytest.approx(1.5 * RATE, abs=0.03 * RATE)
    assert after.argmax() == pytest.approx(before.argmax(), abs=0.002 * RATE)
    redact(str(source), str(tmp_path / f"out.{suffix}"), [span(1.4, 1.7)])
    assert np.abs(load_audio(tmp_path / f"out.{suffix}")).max() < 0.1


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_video_is_copied(tmp_path, suffix):
    samples = np.round(tone(2 * 48_000, rate=48_000) * 32767).astype(np.int16)[None]
    source = write(tmp_path / f"in.{suffix}", "aac", "s16", samples, 48_000, "mono", video=True)
    redact(str(source), str(tmp_path / f"out.{suffix}"), [span(0.5, 1.0)], "beep")
    assert packets(source) == packets(tmp_path / f"out.{suffix}") != []
    heard = load_audio(tmp_path / f"out.{suffix}")[round(0.6 * RATE) : round(0.9 * RATE)]
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * RATE / len(heard) == pytest.approx(1000, abs=5)
    with pytest.raises(ValueError, match="sound that is cut no longer fits the video: mute it, or beep"):
        redact(str(source), str(tmp_path / f"cut.{suffix}"), [span(0.5, 1.0)], "cut")
    assert not (tmp_path / f"cut.{suffix}").exists()


def test_what_was_not_sent_is_counted_as_it_is_heard(tmp_path):
    """A keyword behind a gap in time is where the pipeline hears it, not so many samples into the file."""
    with av.open(str(tmp_path / "in.mka"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in (0, 3):
            integers = np.round(tone(RATE, seed=start) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(integers, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start * RATE, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    before = load_audio(tmp_path / "in.mka")
    assert len(before) == 4 * RATE
    redact(str(tmp_path / "in.mka"), str(tmp_path / "out.mka"), [span(3.2, 3.5)])
    after = load_audio(tmp_path / "out.mka")
    assert not after[round(3.21 * RATE) : round(3.49 * RATE)].any()
    np.testing.assert_allclose(after[: round(3.2 * RATE)], before[: round(3.2 * RATE)], atol=1e-6)
    np.testing.assert_allclose(after[round(3.5 * RATE) :], before[round(3.5 * RATE) :], atol=1e-6)


def test_all_tracks_are_redacted(tmp_path):
    with av.open(str(tmp_path / "in.mka"), "w") as output:
        streams = [output.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(2)]
        for number, stream in enumerate(streams):
            integers = np.round(tone(RATE, seed=number) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(integers, format="s16", layout="mono")
            frame.sample_rate = RATE
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    redact(str(tmp_path / "in.mka"), str(tmp_path / "out.mka"), [span(0.3, 0.6)])
    with av.open(str(tmp_path / "out.mka")) as container:
        assert len(container.streams.audio) == 2
    heard = load_audio(tmp_path / "out.mka")
    assert not heard[round(0.31 * RATE) : round(0.59 * RATE)].any() and heard[: RATE // 4].any()


# --- the command


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    return stop.value.code


def test_command_writes_what_it_did(tmp_path, capsys):
    audio, output = tmp_path / "a.wav", tmp_path / "b.wav"
    audio.write_bytes(wav(tone(2 * RATE)))
    labels = [{"label": "Profanity"}, {"label": "Bullying"}]
    record = EMPTY_RECORD | {"audio": {"sha256": audio_hash(str(audio))}, "keywords": WORDS, "labels": labels}
    (tmp_path / "v.jsonl").write_text(json.dumps(record) + "\n")
    command = ("redact", str(tmp_path / "v.jsonl"), str(audio), str(output))
    assert run(*command, "--label", "Profanity", "--how", "cut", "--padding-before", "0") == 0
    log = json.loads((tmp_path / "b.wav.json").read_text())
    assert log["schema"] == "toxmtl.redaction/1" and log["settings"]["how"] == "cut"
    assert log["audio"]["sha256"] == audio_hash(str(audio)) and log["output"]["sha256"] == audio_hash(str(output))
    ((start, end),) = [(s["start"], round(s["end"], 3)) for s in log["spans"]]
    assert (start, end) == (0.5, 0.9) and log["spans"][0]["keywords"] == WORDS[:1]
    capsys.readouterr()
    assert run(*command, "--keyword", "crap", "--log", str(tmp_path / "log.json")) == 0  # nothing to take out
    assert output.read_bytes() == audio.read_bytes() and json.loads((tmp_path / "log.json").read_text())["spans"] == []
    assert run(*command, "--label", "profanity") == 1
    assert "--label profanity: the record knows Bullying, Other, Profanity" in capsys.readouterr().err
    for option in ("--padding-before", "--padding-after", "--min-score"):
        assert run(*command, option, "nan") == 1 and f"{option} is nan: give" in capsys.readouterr().err
    assert run("redact", str(tmp_path / "v.jsonl"), str(audio), str(audio)) == 1
    assert "is the recording itself" in capsys.readouterr().err
    audio.write_bytes(wav(tone(RATE)))
    assert run(*command) == 1 and "has no record of" in capsys.readouterr().err


def test_formats_that_nobody_writes(tmp_path):
    audio = tmp_path / "a.wav"
    audio.write_bytes(wav(tone(RATE)))
    with pytest.raises(ValueError, match="a.wav cannot be redacted to .*b.unknown"):
        redact(str(audio), str(tmp_path / "b.unknown"), [span(0.1, 0.2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]
    (tmp_path / "t.wav").write_text("no audio")
    with pytest.raises(ValueError, match="t.wav cannot be redacted"):
        redact(str(tmp_path / "t.wav"), str(tmp_path / "b.wav"), [span(0.1, 0.2)])


def test_no_keyword_is_heard_in_what_is_left(tmp_path):
    """By the released model, with the default padding, however it is taken out."""
    pipe = pipeline("audio-classification", model=str(ROOT / "model_cards" / "whisper-tiny-en-toxmtl"))
    listener = Listener(pipe, describe_judge(pipe, window_seconds=15.0))

    def keywords(path):
        (((_, record, _),),) = listener.hear([Clip(str(path), str(path))])
        return record["keywords"]

    clip = ROOT / "docs" / "examples" / "insult.ogg"
    heard = keywords(clip)
    assert [word["keyword"] for word in heard] == ["shut up", "idiot"]
    for how in ("mute", "beep", "cut"):
        redact(str(clip), str(tmp_path / f"{how}.ogg"), spans_of(heard, 0.1, 0.2), how)
        assert keywords(tmp_path / f"{how}.ogg") == [], how
