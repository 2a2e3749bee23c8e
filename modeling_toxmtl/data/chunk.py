"""Stage 1: divides recordings into chunks of continuous speech (paper, section 2).

    python -m modeling_toxmtl.data.chunk --recordings raw_audio --work_dir work

Reads whatever PyAV opens. Each audio track of a file is taken for one speaker. Opus is cut without decoding: the
packets tell where speech is, and those of a chunk are copied into an Ogg file of their own, so that it sounds as in
the recording. Other codecs are decoded, cut by their energy and kept as 16 kHz FLAC, which loses nothing more.

What cannot be used goes to the quarantine list with the reason: unreadable, empty, truncated or mislabelled files, and
tracks of more than two channels, which can hold more than one speaker.
"""

import io
import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from datasets import Audio, Features, Value
from transformers import HfArgumentParser

from ..audio import SAMPLING_RATE, resampled_blocks
from ..io.files import content_hash, file_hash
from ..io.tables import cell_text, read_table
from .opus import (
    DTX_HANGOVER,
    OPUS_CLOCK,
    PRE_ROLL,
    OpusTrack,
    is_silent,
    ogg_file,
    output_gain,
    packet_samples,
    silent_packet,
)
from .schema import check_split
from .speech_spans import (
    SHORTEST_BURST,
    Frame,
    Span,
    energy_frames,
    find_speech,
    plan_chunks,
)
from .stages import Manifest, Rejected, Shard, WorkArguments, finished_shard, run_stage, write_rows


FORMATS = {  # by extension, FFmpeg's name
    ".ogg": "ogg",
    ".oga": "ogg",
    ".opus": "ogg",
    ".webm": "matroska,webm",
    ".mka": "matroska,webm",
    ".mkv": "matroska,webm",
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".m4a": "mov,mp4,m4a,3gp,3g2,mj2",
    ".mp4": "mov,mp4,m4a,3gp,3g2,mj2",
    ".aac": "aac",
    ".wma": "asf",
}
RECORDINGS = Features(
    {
        "path": Value("string"),
        "bytes": Value("int64"),
        "modified": Value("int64"),  # nanoseconds
        "speaker": Value("string"),
        "source": Value("string"),
        "split": Value("string"),
    }
)
OPUS_PADDING = 0.02  # seconds around a chunk: a packet
ENERGY_PADDING = 0.1  # seconds: soft beginnings and ends are under the threshold
TRUNCATION = 0.5  # seconds that a file may lack of what it declares
ESTIMATED = ("aac", "mp3")  # formats whose duration FFmpeg guesses from the bit rate
STREAMED_WAV = 0x7FFF0000  # bytes; a size from here on was written without knowing the end
OGG_TAIL = 65_307  # bytes, the longest page (RFC 3533)
AUDIO_ERRORS = (av.error.FFmpegError, OSError, ValueError)


class Unusable(ValueError):
    """A recording or track that goes to the quarantine; the message is the reason."""


@dataclass
class RecordingsArguments:
    """Which recordings to read."""

    recordings: str = field(
        metadata={
            "help": "Folder of audio files, or a table (.csv, .tsv, .jsonl) with the columns `path` (relative to the "
            "table) and, where known, `speaker`, `source` (what must stay in one split, such as a session), `split`."
        }
    )
    files_per_shard: int = field(default=16, metadata={"help": "Files that are one unit of work, on average."})

    def __post_init__(self):
        if self.files_per_shard < 1:
            raise ValueError(f"--files_per_shard is {self.files_per_shard}: give at least 1.")


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
        return asdict(self)

    def __call__(self, rows: Iterator[dict]) -> Iterator[dict | Rejected]:
        for row in rows:
            try:
                check_file(row["path"])
                num_tracks, sha256 = count_tracks(row["path"]), file_hash(row["path"])
            except AUDIO_ERRORS as error:
                yield Rejected(row["path"], _reason(error))
                continue
            for track in range(num_tracks):
                yield from self._track_rows(row, track, num_tracks, sha256)

    def _track_rows(self, row, track, num_tracks, sha256):
        tag = f"#{track}" if num_tracks > 1 else ""
        recording = {name: row[name] for name in ("source", "split")}
        recording |= {"speaker": row["speaker"] + tag, "source_path": row["path"], "source_sha256": sha256}
        try:
            spans = list(find_chunks(row["path"], track, self))  # reads all of the file: a fault is found before a row
            for chunk in cut_chunks(row["path"], track, spans):
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


def check_file(path: str) -> None:
    """Raises Unusable for files that are missing or empty, or whose content is not what their name says or ends too
    early."""
    if not os.path.exists(path):
        raise Unusable("no such file: a wrong path, a dangling link, or a name that is not in UTF-8")
    if not os.path.getsize(path):
        raise Unusable("empty file")
    with av.open(path) as container:
        if not container.streams.audio:
            raise Unusable("no audio stream")
        expected = FORMATS.get(Path(path).suffix.lower())
        if expected and container.format.name != expected:
            raise Unusable(f"mislabelled: named {Path(path).suffix}, but its format is {container.format.name}")
        if container.format.name == "ogg" and not _ends_with_a_page(path):
            raise Unusable("truncated: its last Ogg page is not whole, or not the last of its stream")
        if container.format.name == "wav" and _wav_lacks_bytes(path):
            raise Unusable("truncated: it has fewer samples than its header says")
        if container.format.name == "mp3" and _mp3_lacks_bytes(path):
            raise Unusable("truncated: it has fewer bytes than its header says")


def _ends_with_a_page(path):
    with open(path, "rb") as file:
        file.seek(-min(OGG_TAIL, os.path.getsize(path)), os.SEEK_END)
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    is_last_of_stream = page[5] & 4
    return bool(is_last_of_stream) and len(page) == 27 + page[26] + sum(page[27 : 27 + page[26]])


def _wav_lacks_bytes(path):
    """FFmpeg believes the file's size, not its header."""
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                is_stream = size >= STREAMED_WAV
                return not is_stream and file.tell() + size > os.path.getsize(path)
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _mp3_lacks_bytes(path):
    """By the header of encoders that vary the bit rate; other files do not say how long they are."""
    with open(path, "rb") as file:
        head = file.read(10)
        start = 0
        if head.startswith(b"ID3"):  # tags before the audio; seven bits of each byte of their size count
            start = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:])))
        file.seek(start)
        header = re.search(rb"(?:Xing|Info)\0\0\0(.)(.{8})", file.read(200), re.DOTALL)
    if header is None or not header[1][0] & 2:
        return False
    offset = 4 * (header[1][0] & 1)  # the number of frames, if given, is before that of bytes
    size = int.from_bytes(header[2][offset : offset + 4], "big")
    return start + size > os.path.getsize(path)


def count_tracks(path: str) -> int:
    """Number of audio streams."""
    with av.open(path) as container:
        return len(container.streams.audio)


def find_chunks(path: str, track: int, settings: ChunkStage) -> Iterator[Span]:
    """Where the chunks of a track are, by its packets if it is Opus, by its energy if not.

    Raises:
        Unusable: if the track is empty, truncated, without speech, or of more than two channels. At the end of the
            iteration, perhaps.
        av.error.FFmpegError: if it cannot be decoded.
    """
    with av.open(path) as container:
        stream = container.streams.audio[track]
        if stream.channels > 2:
            raise Unusable(f"{stream.channels} channels: split them into tracks of one speaker each")
        measured = _Measured()
        if stream.codec_context.name in ("opus", "libopus"):
            frames, hangover, padding = packet_frames(container, stream), settings.dtx_hangover, OPUS_PADDING
            shortest = max(hangover, OPUS_PADDING)
        else:
            blocks = resampled_blocks(container.decode(stream), SAMPLING_RATE)
            frames, hangover, padding = energy_frames(blocks, SAMPLING_RATE), 0.0, ENERGY_PADDING
            shortest = SHORTEST_BURST
        longest = settings.max_seconds - 2 * padding
        speech = find_speech(measured.follow(frames), hangover, shortest, longest)
        num_chunks = 0
        for span in plan_chunks(speech, settings.max_seconds, settings.max_pause, padding):
            num_chunks += 1
            yield span
        if measured.end is None:
            raise Unusable("zero length: no audio in it")
        declared = _declared_seconds(container, stream)
        if measured.end < declared - TRUNCATION:
            raise Unusable(f"truncated: it declares {declared:.2f} s and holds {measured.end:.2f} s")
        if not num_chunks:  # corrupt pages of an Ogg file are left out
            raise Unusable(f"no speech in it: {measured.seconds:.2f} of its {measured.end:.2f} s can be read")


def _declared_seconds(container, stream):
    """How long a track is by what its file says, 0 where it does not say so."""
    if container.format.name in ESTIMATED:
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return 0.0 if len(container.streams) > 1 else (container.duration or 0) / av.time_base


class _Measured:
    """Follows frames and knows how long they are together, and where the last one ended."""

    seconds: float = 0.0
    end: float | None = None

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.seconds += frame.end - frame.start
            self.end = frame.end
            yield frame


def packet_frames(container, stream) -> Iterator[Frame]:
    """Opus packets as frames; nothing is decoded. Raises Unusable for packets that go back in time."""
    seconds, before = float(stream.time_base), None
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None:
            start, size = packet.pts * seconds, packet.size
            if before is not None and start < before:
                raise Unusable(f"out of order: after {before:.2f} s, its packets go back to {start:.2f} s")
            before = start
            # A duration is missing in WebM, and two bytes or fewer are silence without a look.
            is_active = size > 2 and not (size < 50 and is_silent(bytes(packet)))
            duration = packet.duration * seconds if packet.duration else packet_samples(bytes(packet)) / OPUS_CLOCK
            yield Frame(start, start + duration, is_active, size)


def cut_chunks(path: str, track: int, spans: list[Span]) -> Iterator[Chunk]:
    """The audio of the spans of a track, in order."""
    with av.open(path) as container:
        stream = container.streams.audio[track]
        if stream.codec_context.name in ("opus", "libopus"):
            clock = stream.time_base * OPUS_CLOCK
            packets = (
                (round(packet.pts * clock), bytes(packet))
                for packet in container.demux(stream)
                if packet.size and packet.pts is not None
            )
            gain = output_gain(stream.codec_context.extradata or b"")
            yield from cut_packets(packets, spans, stream.channels, gain)
        else:
            yield from cut_samples(resampled_blocks(container.decode(stream), SAMPLING_RATE), spans)


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


def list_recordings(path: str) -> list[dict]:
    """Rows of `RECORDINGS` for a folder, whose links are followed, or a table.

    Raises:
        FileNotFoundError: if there is none; the message names it.
        ValueError: if it has no recordings, or a row lacks `path`.
    """
    location = Path(path)
    if location.is_dir():
        rows, root = [{"path": str(file.relative_to(location))} for file in sorted(_files(location))], location
    elif location.suffix in (".csv", ".tsv", ".jsonl") and location.is_file():
        rows, root = read_table(location, required=["path"]), location.parent
    else:
        raise FileNotFoundError(f"--recordings: {path} is no folder and no .csv, .tsv or .jsonl file.")
    if not rows:
        raise ValueError(f"--recordings: {path} has no recordings.")
    return [_recording(root, row) for row in rows]


def _files(folder):
    """The files and dangling links in a folder; the folders in it are entered once, though links may form a circle."""
    entered = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # which of two ways to a folder is taken does not depend on the file system
        for name in folders.copy():
            if (target := os.path.realpath(os.path.join(parent, name))) in entered:
                folders.remove(name)
            entered.add(target)
        files = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (file for file in files if file.is_file() or not file.exists())


def _recording(root, row):
    name = str(row["path"])
    file = root / name
    status = file.stat() if file.is_file() else None
    text = {
        "path": str(file),
        "speaker": cell_text(row, "speaker", name),  # unknown: nobody else, for all we know
        "source": cell_text(row, "source", name),
        "split": cell_text(row, "split"),
    }
    return {column: _in_utf8(value) for column, value in text.items()} | {
        "bytes": status.st_size if status else 0,
        "modified": status.st_mtime_ns if status else 0,
    }


def _in_utf8(name):
    """What of a file's name is not UTF-8 is written as an escape, under which there is no file."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_recordings(args: RecordingsArguments, work_dir: str) -> list[Shard]:
    """Writes the list of recordings as shards, the input of the chunk stage. The hash of its path says whether a file
    starts a shard, and names it: a file that is added changes only the shard it comes into.

    Raises:
        ValueError: if a recording has a split of another name; the message names it.
    """
    groups: dict[str, list[dict]] = {}
    for row in list_recordings(args.recordings):
        check_split(row["split"], row["path"])  # before the hours that the stages take
        path_hash = content_hash(os.path.relpath(row["path"], args.recordings))
        if not groups or int(path_hash, 16) % args.files_per_shard == 0:
            name = path_hash
        groups.setdefault(name, []).append(row)
    shards = []
    for name, rows in groups.items():
        path = Path(work_dir, "recordings", f"{name}-{content_hash(rows)}.parquet")
        shards.append(finished_shard(path, name) or write_rows(path, name, rows, RECORDINGS))
    return shards


def run(recordings: RecordingsArguments, stage: ChunkStage, work: WorkArguments) -> Manifest:
    """Runs the stage; returns what it made."""
    return run_stage(stage, write_recordings(recordings, work.work_dir), work)


def main(recordings: RecordingsArguments, stage: ChunkStage, work: WorkArguments) -> None:
    manifest = run(recordings, stage, work)
    print(f"{manifest.num_rows} chunks, {len(manifest.rejected)} recordings or tracks in quarantine.")


if __name__ == "__main__":
    parser = HfArgumentParser((RecordingsArguments, ChunkStage, WorkArguments), description=__doc__)
    main(*parser.parse_args_into_dataclasses())
