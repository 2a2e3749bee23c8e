"""Takes keywords out of a recording: muted, beeped over, or cut.

    toxmtl redact verdicts.jsonl match.mp4 redacted.mp4 --label Profanity --how beep

The words are those of the recording's record, which `toxmtl moderate` wrote; `--label`, `--keyword` and `--min-score`
choose among them. OUTPUT is of any container that FFmpeg writes, by its suffix; the codec is the recording's own where
the container takes it. Video is copied as it is; cover pictures and subtitles are left out. Outside the
spans, lossless formats keep every sample. What was done is written as JSON beside the output.
"""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from ..audio import decoded_frames, heard_times, open_audio, time_origin
from ..io.files import file_hash, write_json
from .records import audio_hash, record_of


WAYS = ("mute", "beep", "cut")
SCHEMA = "toxmtl.redaction/1"
FADE = 0.005  # seconds, within the span
BEEP_HERTZ, BEEP_LEVEL = 1000.0, 0.1  # of full scale
ENCODERS = {"opus": "libopus", "vorbis": "libvorbis"}  # FFmpeg's own are experimental
DEFAULT_ENCODERS = {"ogg": "libopus", "opus": "libopus", "webm": "libopus", "matroska": "libopus"}
LAYOUTS = {"1 channels": "mono", "2 channels": "stereo"}  # of files that name none, which some encoders ask for
VIDEO_FORMATS = ("mp4", "mov", "matroska", "webm")  # which know their codecs; others list what nobody plays


@dataclass
class RedactArguments:
    """What to take out, and how."""

    record: str = field(metadata={"help": "File of records of toxmtl moderate, among them the recording's."})
    audio: str = field(metadata={"help": "The recording, with or without video."})
    output: str = field(metadata={"help": "File to write; its suffix chooses the container."})
    label: list[str] = field(default_factory=list, metadata={"help": "Only keywords of these labels."})
    keyword: list[str] = field(default_factory=list, metadata={"help": "Only these keywords."})
    min_score: float = field(default=0.0, metadata={"help": "Only keywords with at least this score."})
    keep_benign: bool = field(default=False, metadata={"help": "Leave keywords that were judged benign."})
    how: str = field(default="mute", metadata={"help": "What becomes of a keyword.", "choices": WAYS})
    padding_before: float = field(default=0.1, metadata={"help": "Seconds before the start that was heard."})
    padding_after: float = field(
        default=0.2, metadata={"help": "Seconds behind the end that was heard, which is 0.06 s early on average."}
    )
    log: str | None = field(default=None, metadata={"help": "File of what was done; default: OUTPUT.json."})

    def __post_init__(self):
        for name, unit in (("padding_before", "seconds"), ("padding_after", "seconds"), ("min_score", "a score")):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give {unit} from 0 on.")
        if Path(self.output).exists() and Path(self.output).samefile(self.audio):
            raise ValueError(f"--output {self.output} is the recording itself: choose another file.")


@dataclass
class Span:
    """A part to take out, in seconds of the recording, and the keywords in it."""

    start: float
    end: float
    keywords: list[dict[str, Any]]


def chosen(keywords: Sequence[dict[str, Any]], args: RedactArguments) -> list[dict[str, Any]]:
    """Those of a record's keywords that the arguments choose."""
    return [
        word
        for word in keywords
        if (not args.label or set(args.label) & set(word["labels"]))
        and (not args.keyword or word["keyword"] in args.keyword)
        and word["score"] >= args.min_score
        and not (args.keep_benign and word["benign"])
    ]


def spans_of(keywords: Sequence[dict[str, Any]], before: float, after: float) -> list[Span]:
    """The keywords' spans with padding, in order; those that touch are one. They may reach beyond the recording."""
    spans: list[Span] = []
    for word in sorted(keywords, key=lambda word: word["start"]):
        start, end = word["start"] - before, word["end"] + after
        if spans and start <= spans[-1].end:
            spans[-1].end = max(spans[-1].end, end)
            spans[-1].keywords.append(word)
        else:
            spans.append(Span(start, end, [word]))
    return spans


def gains(first: int, length: int, rate: int, spans: Sequence[Span]) -> np.ndarray | None:
    """How much of each sample is left, `(length,)` in [0, 1], of the samples from number `first` on; None for all."""
    near = [span for span in spans if span.start * rate < first + length and span.end * rate > first]
    if not near:
        return None
    times = (first + np.arange(length)) / rate
    left = np.ones(length)
    for span in near:
        depth = np.minimum(times - span.start, span.end - times)  # seconds inside the span; below 0 outside
        left = np.minimum(left, 1 - np.clip(depth / FADE, 0, 1))
    return left


def redact_samples(samples: np.ndarray, left: np.ndarray, first: int, rate: int, how: str) -> np.ndarray:
    """Samples of a frame `(channels, samples)`, in its own format, with spans muted, beeped or cut.

    Args:
        samples: integers or floats, as FFmpeg has them.
        left: of [`gains`].
        first: number of the first sample, by which the tone goes on from frame to frame.
        rate: in Hz.
        how: one of `WAYS`.
    """
    is_float = np.issubdtype(samples.dtype, np.floating)
    zero = 128 if samples.dtype == np.uint8 else 0
    full = 1.0 if is_float else float(2 ** (8 * samples.dtype.itemsize - 1) - 1)
    changed = (samples.astype(np.float64) - zero) * left
    if how == "beep":
        tone = np.sin(2 * np.pi * BEEP_HERTZ * (first + np.arange(len(left))) / rate)
        changed += BEEP_LEVEL * full * tone * (1 - left)
    changed = (changed if is_float else np.rint(changed) + zero).astype(samples.dtype)
    changed = np.where(left < 1, changed, samples)  # what is outside stays as it is, to the bit
    return changed[:, left > 0] if how == "cut" else changed


def _planes(frame) -> np.ndarray:
    """`(channels, samples)` of a frame, whose channels may be interleaved."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def _layout(name):
    return LAYOUTS.get(name, name)


def _like(frame, samples, pts):
    """A frame of `(channels, samples)` with another's format, rate and clock."""
    if not frame.format.is_planar:
        samples = samples.T.reshape(1, -1)
    layout = _layout(frame.layout.name)
    new = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=frame.format.name, layout=layout)
    new.sample_rate, new.time_base, new.pts = frame.rate, frame.time_base, pts
    return new


class _Track:
    """An audio stream on its way from one file to the other."""

    def __init__(self, source, target, spans: Sequence[Span], how: str, name: str):
        self.source, self.spans, self.how, self.name = source, spans, how, name
        codec = source.codec_context
        same_kind = Path(name).suffix.lower() == Path(target.name).suffix.lower()
        encoder = _encoder(codec.codec.canonical_name, target, same_kind)
        writer = av.codec.Codec(encoder, "w")
        rates = writer.audio_rates or [codec.sample_rate]  # Opus has a few only
        rate = codec.sample_rate if codec.sample_rate in rates else max(rates)
        self.stream = target.add_stream(encoder, rate=rate, layout=_layout(codec.layout.name))
        if codec.format.name in {kind.name for kind in writer.audio_formats or ()}:
            self.stream.codec_context.format = codec.format
        if codec.bit_rate and writer.canonical_name == codec.codec.canonical_name:
            self.stream.bit_rate = codec.bit_rate

    def packets(self, container) -> Iterator["av.Packet"]:
        """The stream's packets, redacted and encoded."""
        cut = 0  # samples left out so far
        frames = decoded_frames(container, self.source, self.name)
        for seconds, frame in heard_times(frames, time_origin(container), self.name):
            first = round(seconds * frame.rate)
            left = gains(first, frame.samples, frame.rate, self.spans)
            samples = _planes(frame)
            if left is not None:
                samples = redact_samples(samples, left, first, frame.rate, self.how)
            if samples.shape[1]:
                ticks = 0 if frame.pts is None else round(cut / frame.rate / frame.time_base)
                pts = None if frame.pts is None else frame.pts - ticks
                yield from self.stream.encode(_like(frame, samples, pts))
            cut += frame.samples - samples.shape[1]
        yield from self.stream.encode(None)


def _encoder(codec: str, target, keeps: bool) -> str:
    """The recording's own codec in a container of the same kind, or a video's, that takes it; or else the
    container's."""
    container = target.format.name
    if keeps or container in VIDEO_FORMATS and codec in target.supported_codecs:
        own = ENCODERS.get(codec, codec)
        with suppress(av.error.FFmpegError):  # FFmpeg reads some codecs that it does not write
            return av.codec.Codec(own, "w").name
    return DEFAULT_ENCODERS.get(container, target.default_audio_codec)


def redact(audio: str, output: str, spans: Sequence[Span], how: str = "mute") -> None:
    """Writes a recording without the spans.

    Args:
        audio: the recording; all its audio tracks are redacted.
        output: file to write, which is there in full or not at all.
        spans: in order, and apart; with none, the file is copied.
        how: one of `WAYS`.

    Raises:
        ValueError: if the recording cannot be read, the output cannot be written in its format, or a recording with
            video is to be cut.
    """
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(output).parent, prefix=".redact-") as folder:
        unfinished = Path(folder, Path(output).name)
        if not spans and Path(audio).suffix == Path(output).suffix:
            shutil.copyfile(audio, unfinished)
        else:
            try:
                _write(audio, str(unfinished), spans, how)
            except av.error.FileNotFoundError:
                raise
            except (av.error.FFmpegError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ValueError(f"{audio} cannot be redacted to {output}: {reason}.") from error
        unfinished.replace(output)


def _write(audio, output, spans, how):
    with ExitStack() as files:
        source = files.enter_context(open_audio(audio))
        numbers = range(len(source.streams.audio))
        if not numbers:
            raise ValueError("it holds no audio stream")
        video = [stream for stream in source.streams.video if not stream.disposition & Disposition.attached_pic]
        if video and how == "cut":
            raise ValueError("sound that is cut no longer fits the video: mute it, or beep")
        target = files.enter_context(av.open(output, "w"))
        copied = {stream.index: target.add_stream_from_template(stream) for stream in video}
        containers = [files.enter_context(open_audio(audio)) for _ in numbers]
        tracks = [_Track(containers[i].streams.audio[i], target, spans, how, audio) for i in numbers]
        queues = [track.packets(container) for track, container in zip(tracks, containers, strict=True)]
        queues.append(_copied(source, copied))
        _interleave(queues, target)


def _copied(container, copied):
    for packet in container.demux([container.streams[index] for index in copied]) if copied else ():
        if packet.dts is not None:
            packet.stream = copied[packet.stream.index]
            yield packet


def _interleave(queues, target):
    """Packets of several streams in order of time, so that no muxer has to hold one stream until the end."""
    heads = [(queue, next(queue, None)) for queue in map(iter, queues)]
    while waiting := [(queue, packet) for queue, packet in heads if packet is not None]:
        queue, packet = min(waiting, key=lambda item: float((item[1].dts or 0) * item[1].time_base))
        target.mux(packet)
        heads = [(q, next(q, None) if q is queue else head) for q, head in waiting]


def _check_labels(record, asked):
    """Raises ValueError for a label that the model does not have: nothing would be taken out for it."""
    known = {item["label"] for item in record["labels"] or ()} | {
        label for word in record["keywords"] for label in word["labels"]
    }
    if record["labels"] is not None and (unknown := sorted(set(asked) - known)):
        raise ValueError(f"--label {unknown[0]}: the record knows {', '.join(sorted(known))}.")


def main(args: RedactArguments) -> dict[str, Any]:
    """Redacts, writes the log, and returns it.

    Raises:
        ValueError: if there is no record of this very recording, it has no such label, or cannot be redacted.
    """
    sha256 = audio_hash(args.audio)
    record = record_of(args.record, sha256)
    if record is None:
        raise ValueError(f"{args.record} has no record of {args.audio}: its audio has the SHA-256 {sha256}.")
    if record["keywords"] is None:
        raise ValueError(f"{args.record} has no keywords: the model {record['model']['name']} has no keyword head.")
    _check_labels(record, args.label)
    spans = spans_of(chosen(record["keywords"], args), args.padding_before, args.padding_after)
    redact(args.audio, args.output, spans, args.how)
    log = {
        "schema": SCHEMA,
        "audio": {"file": args.audio, "sha256": sha256},
        "output": {"file": args.output, "sha256": file_hash(args.output)},
        "settings": {name: getattr(args, name) for name in CHOICES},
        "spans": [asdict(span) for span in spans],
    }
    write_json(args.log or f"{args.output}.json", log)
    print(f"{len(spans)} spans, {sum(span.end - span.start for span in spans):.1f} s: {args.output}")
    return log


CHOICES = ("label", "keyword", "min_score", "keep_benign", "how", "padding_before", "padding_after")
