"""Stage 1: divides recordings into chunks of continuous speech (paper, section 2).

    toxmtl data chunk raw_audio --work-dir work

Reads whatever PyAV opens. Each audio track of a file is taken for one speaker of its own, unless the table of
recordings names who speaks in the file: the same name is the same speaker, in all tracks and files. Opus that is sent
with pauses is cut without decoding: the packets tell where speech is, and those of a chunk are copied into an Ogg file
of their own, so that it sounds as in the recording. Everything else is decoded, cut by its energy and kept as 16 kHz
FLAC, which loses nothing more.

What cannot be used goes to the quarantine list with the reason: unreadable, empty, truncated or mislabelled files, and
tracks of more than two channels, which can hold more than one speaker.
"""

import io
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import av
import numpy as np
from datasets import Audio, Features, Value

from ..audio import (
    SAMPLING_RATE,
    check_finite,
    decoded_frames,
    first_stamp,
    open_audio,
    resampled_blocks,
    time_origin,
)
from ..io.files import file_hash
from ..io.opus import (
    DTX_HANGOVER,
    GAP,
    OPUS_CLOCK,
    PRE_ROLL,
    OpusTrack,
    is_digital_silence,
    is_silent,
    mapping_family,
    ogg_file,
    output_gain,
    packet_samples,
    silent_packet,
)
from .containers import Unusable, check_file, declared_seconds
from .recordings import RecordingsArguments, write_recordings
from .shards import Rejected
from .speech_spans import (
    SHORTEST_BURST,
    Frame,
    Span,
    energy_frames,
    find_speech,
    plan_chunks,
)
from .stages import Manifest, WorkArguments, run_stage


OPUS_PADDING = 0.02  # seconds around a chunk: a packet
ENERGY_PADDING = 0.1  # seconds: soft beginnings and ends are under the threshold
LONGEST_RUN = 30.0  # seconds that somebody may speak without a pause
TRUNCATION = 0.5  # seconds that a file may lack of what it declares
AUDIO_ERRORS = (av.error.FFmpegError, OSError, ValueError)


@dataclass
class ChunkStage:
    """How recordings are divided."""

    max_seconds: float = field(default=15.0, metadata={"help": "No chunk is longer (paper: 15)."})
    max_pause: float = field(default=0.6, metadata={"help": "Seconds; a longer pause always ends a chunk."})
    dtx_hangover: float = field(
        default=DTX_HANGOVER, metadata={"help": "Seconds that the sender goes on after speech (libopus: 0.2)."}
    )

    name = "chunk"
    uses_model = False
    features = Features(
        {
            "id": Value("string"),
            "audio": Audio(decode=False),
            "duration": Value("float32"),
            "speaker": Value("string"),
            "source": Value("string"),
            "split": Value("string"),
            "source_path": Value("string"),
            "source_sha256": Value("string"),
            "track": Value("int32"),
            "start": Value("float64"),
            "end": Value("float64"),
        }
    )

    def __post_init__(self):
        if self.max_seconds < 1:
            raise ValueError(f"--max_seconds is {self.max_seconds}: give at least 1.")

    def settings(self) -> dict:
        """As of [`Stage`]."""
        return asdict(self)

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        """Rows of chunks, of rows of recordings."""
        for row in rows:
            try:
                num_tracks, sha256 = check_file(row["path"]), file_hash(row["path"])
            except AUDIO_ERRORS as error:
                yield Rejected(row["path"], _reason(error))
                continue
            for track in range(num_tracks):
                yield from self._track_rows(row, track, num_tracks, sha256)

    def _track_rows(self, row, track, num_tracks, sha256):
        tag = f"#{track}" if num_tracks > 1 else ""
        recording = {name: row[name] for name in ("source", "split")}
        speaker = row["speaker"] or row["name"] + tag  # unknown: nobody else, for all we know
        recording |= {"speaker": speaker, "source_path": row["path"], "source_sha256": sha256}
        try:
            by_packets = packets_tell(row["path"], track, self)
            # reads all of the file: a fault is found before a row
            spans = list(find_chunks(row["path"], track, self, by_packets))
            for chunk in cut_chunks(row["path"], track, spans, by_packets):
                id = f"{sha256[:12]}-{track}-{round(1000 * chunk.start):08d}"
                audio = {"bytes": chunk.audio, "path": f"{id}.{chunk.extension}"}
                place = {"track": track, "start": chunk.start, "end": chunk.end, "duration": chunk.end - chunk.start}
                yield {"id": id, "audio": audio, **recording, **place}
        except AUDIO_ERRORS as error:
            yield Rejected(row["path"] + tag, _reason(error))


class Chunk(NamedTuple):
    """An encoded piece of a track, from `start` to `end` seconds."""

    start: float
    end: float
    audio: bytes
    extension: str


def _reason(error):
    if isinstance(error, Unusable):
        return str(error)
    return f"unreadable: {getattr(error, 'strerror', None) or error}"  # without the path that FFmpeg adds


def packets_tell(path: str, track: int, settings: ChunkStage) -> bool:
    """Whether the packets of a track say where speech is: it is Opus, with one stream in each packet, and sent with
    pauses (DTX, or gaps). Half a minute without one is no speech alone, but an open microphone. Times that go back are
    those of several recordings that were joined, each with a clock of its own."""
    with open_audio(path) as container:
        stream = container.streams.audio[track]
        if stream.codec_context.name not in ("opus", "libopus") or mapping_family(_head(stream)) != 0:
            return False
        start = end = before = None
        has_pause = False
        for frame in packet_frames(container, stream, settings.dtx_hangover):
            if before is not None and frame.start < before:
                return False
            before = frame.start
            is_pause = frame.hangover is not None or end is not None and frame.start - end > GAP
            has_pause = has_pause or is_pause
            start = frame.start if start is None or is_pause else start
            end = frame.end
            if end - start > LONGEST_RUN:
                return False
        return has_pause


def find_chunks(path: str, track: int, settings: ChunkStage, by_packets: bool | None = None) -> Iterator[Span]:
    """Where the chunks of a track are, by its packets if they tell, by its energy if not.

    Args:
        path: of the file.
        track: number of the audio stream.
        settings: how to divide.
        by_packets: of [`packets_tell`], if it has been asked.

    Raises:
        Unusable: if the track is empty, truncated, without speech, or of more than two channels. At the end of the
            iteration, perhaps.
        ValueError: if a sample is NaN or infinite.
        av.error.FFmpegError: if it cannot be decoded.
    """
    if by_packets is None:
        by_packets = packets_tell(path, track, settings)
    with open_audio(path) as container:
        stream = container.streams.audio[track]
        if stream.channels > 2:
            raise Unusable(f"{stream.channels} channels: split them into tracks of one speaker each")
        measured = _Measured()
        if by_packets:
            frames, padding = packet_frames(container, stream, settings.dtx_hangover), OPUS_PADDING
        else:
            blocks = _blocks(container, stream, path, measured.watch)
            frames, padding = energy_frames(blocks, SAMPLING_RATE), ENERGY_PADDING
        opening = settings.dtx_hangover if by_packets else None
        longest = settings.max_seconds - 2 * padding
        speech = find_speech(measured.follow(frames), SHORTEST_BURST, longest, opening)
        num_chunks = 0
        for span in plan_chunks(speech, settings.max_seconds, settings.max_pause, padding):
            num_chunks += 1
            yield span
        if measured.end is None:
            raise Unusable("zero length: no audio in it")
        declared = declared_seconds(container, stream)
        started = float(first_stamp(container, stream) * stream.time_base)
        if max(started + measured.end, measured.clock) < declared - TRUNCATION:
            pauses = "; pauses are lost in AVI: save it as Matroska" * (container.format.name == "avi")
            raise Unusable(f"truncated: it declares {declared:.2f} s and holds {measured.end:.2f} s{pauses}")
        if not num_chunks:  # corrupt pages of an Ogg file are left out
            raise Unusable(f"no speech in it: {measured.seconds:.2f} of its {measured.end:.2f} s can be read")


def _head(stream):
    return stream.codec_context.extradata or b""


def _blocks(container, stream, path, watch=iter):
    """Samples of 16 kHz, by the clock of the file. Raises ValueError if one is NaN or infinite."""
    frames = watch(decoded_frames(container, stream, path))
    for block in resampled_blocks(frames, SAMPLING_RATE, time_origin(container), path):
        check_finite(block, path)
        yield block


class _Measured:
    """Follows frames and knows how long they are together, where the last one ended, and what the file's own clock,
    which may start late or jump, shows there."""

    seconds: float = 0.0
    end: float | None = None
    clock: float = 0.0

    def watch(self, frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
        """The decoded frames as they are."""
        for frame in frames:
            self.clock = max(self.clock, (frame.time or 0.0) + frame.samples / frame.rate)
            yield frame

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.seconds += frame.end - frame.start
            self.end = frame.end
            yield frame


def packet_frames(container: av.container.InputContainer, stream: av.AudioStream, hangover: float) -> Iterator[Frame]:
    """Opus packets as frames; nothing is decoded. `hangover` are the seconds that are sent between speech and DTX."""
    seconds, first = float(stream.time_base), first_stamp(container, stream)
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            start, size = (packet.pts - first) * seconds, packet.size
            # a duration is missing in WebM, and longer packets are neither
            content = bytes(packet) if size < 50 or not packet.duration else b""
            is_pause = size <= 2 or size < 50 and is_silent(content)
            is_active = not (is_pause or size < 50 and is_digital_silence(content))
            duration = packet.duration * seconds if packet.duration else packet_samples(content) / OPUS_CLOCK
            yield Frame(start, start + duration, is_active, size, hangover if is_pause else None)


def cut_chunks(path: str, track: int, spans: list[Span], by_packets: bool | None = None) -> Iterator[Chunk]:
    """The audio of the spans of a track, in order: its packets if they tell where speech is, its samples if not."""
    if by_packets is None:
        by_packets = packets_tell(path, track, ChunkStage())
    with open_audio(path) as container:
        stream = container.streams.audio[track]
        if by_packets:
            clock, first = stream.time_base * OPUS_CLOCK, first_stamp(container, stream)
            packets = (
                (round((packet.pts - first) * clock), bytes(packet))
                for packet in container.demux(stream)
                if packet.size and packet.pts is not None
            )
            yield from cut_packets(packets, spans, stream.channels, output_gain(_head(stream)))
        else:
            yield from cut_samples(_blocks(container, stream, path), spans)


def cut_packets(
    packets: Iterable[tuple[int, bytes]], spans: list[Span], channels: int = 1, gain: int = 0
) -> Iterator[Chunk]:
    """Copies the packets of each span into an Ogg file, with the ones before that start the decoder, unheard.

    Args:
        packets: (time in samples of 48 kHz, content), in order.
        spans: in order, without overlaps.
        channels: of the track.
        gain: of the track, in 1/256 dB.
    """
    held: deque[tuple[int, bytes]] = deque()
    packets = iter(packets)
    for span in spans:
        start, end = round(span.start * OPUS_CLOCK), round(span.end * OPUS_CLOCK)
        while held and _packet_end(held[0]) <= start - PRE_ROLL:
            held.popleft()
        while not held or _packet_end(held[-1]) < end:
            if (packet := next(packets, None)) is None:
                break
            if _packet_end(packet) > start - PRE_ROLL:
                held.append(packet)
        yield _opus_chunk(list(held), start, end, channels, gain)


def _packet_end(packet):
    time, content = packet
    return time + packet_samples(content)


def _opus_chunk(held, start, end, channels, gain):
    time, packet = held[0]
    size = packet_samples(silent_packet(packet))
    not_sent = max(0, time - (start - PRE_ROLL))  # of what is to start the decoder
    first = position = time - math.ceil(not_sent / size) * size
    content = []
    for time, packet in held:
        if time >= end:
            break
        if not packet_samples(packet):  # malformed: as good as lost
            continue
        filler = silent_packet(packet)
        size = packet_samples(filler)
        for _ in range(round((time - position) / size)):  # nothing was sent
            content.append(filler)
            position += size
        content.append(packet)
        position += packet_samples(packet)
    end = min(end, position)
    track = OpusTrack(content, start - first, end - start, channels, gain)
    return Chunk(start / OPUS_CLOCK, end / OPUS_CLOCK, ogg_file(track), "ogg")


def cut_samples(blocks: Iterable[np.ndarray], spans: list[Span]) -> Iterator[Chunk]:
    """Codes the samples of each span as FLAC; `blocks` are 16 kHz mono samples, in order."""
    held, position, blocks = np.zeros(0, dtype=np.float32), 0, iter(blocks)
    for span in spans:
        start, end = round(span.start * SAMPLING_RATE), round(span.end * SAMPLING_RATE)
        parts, length = [held], len(held)
        while position + length < end:
            if (block := next(blocks, None)) is None:
                break
            if position + length + len(block) <= start:  # before the span
                position, parts, length = position + length + len(block), [], 0
            else:
                parts.append(block)
                length += len(block)
        held = np.concatenate(parts) if parts else held[:0]
        samples = held[max(0, start - position) : end - position]
        yield Chunk(start / SAMPLING_RATE, (start + len(samples)) / SAMPLING_RATE, encode_flac(samples), "flac")
        held, position = held[end - position :], min(end, position + len(held))


def encode_flac(samples: np.ndarray) -> bytes:
    """16-bit FLAC of float32 mono samples of 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=SAMPLING_RATE)
        stream.layout, stream.format = "mono", "s16"
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


def run(recordings: RecordingsArguments, stage: ChunkStage, work: WorkArguments) -> Manifest:
    """Runs the stage; returns what it made."""
    return run_stage(stage, write_recordings(recordings, work.work_dir), work)


def main(recordings: RecordingsArguments, stage: ChunkStage, work: WorkArguments) -> None:
    """Runs the stage and says how much it made."""
    manifest = run(recordings, stage, work)
    print(f"{manifest.num_rows} chunks, {len(manifest.rejected)} recordings or tracks in quarantine.")
