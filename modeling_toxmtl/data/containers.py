"""What is wrong with an audio file, by what its container says: missing, empty, mislabelled or truncated."""

import os
import re
from pathlib import Path

import av

from ..audio import open_audio


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
ESTIMATED = ("aac", "mp3")  # formats whose duration FFmpeg guesses from the bit rate
STREAMED_WAV = 0x7FFF0000  # bytes; a size from here on was written without knowing the end
OGG_TAIL = 65_307  # bytes, the longest page (RFC 3533)


class Unusable(ValueError):
    """A recording or track that goes to the quarantine; the message is the reason."""


def check_file(path: str) -> int:
    """Returns the number of audio streams.

    Raises:
        Unusable: for files that are missing or empty, or whose content is not what their name says or ends too early.
    """
    if not os.path.exists(path):
        raise Unusable("no such file: a wrong path, a dangling link, or a name that is not in UTF-8")
    if not os.path.getsize(path):
        raise Unusable("empty file")
    with open_audio(path) as container:
        if not container.streams.audio:
            raise Unusable("no audio stream")
        expected = FORMATS.get(Path(path).suffix.lower())
        if expected and container.format.name != expected:
            raise Unusable(f"mislabelled: named {Path(path).suffix}, but its format is {container.format.name}")
        if container.format.name == "ogg" and not _ends_with_a_page(path):
            raise Unusable("truncated: its last Ogg page is not whole")
        if container.format.name == "wav" and _wav_lacks_bytes(path):
            raise Unusable("truncated: it has fewer samples than its header says")
        if container.format.name == "mp3" and _mp3_lacks_bytes(path):
            raise Unusable("truncated: it has fewer bytes than its header says")
        return len(container.streams.audio)


def _ends_with_a_page(path):
    with open(path, "rb") as file:
        file.seek(-min(OGG_TAIL, os.path.getsize(path)), os.SEEK_END)
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    # Tags may follow, and who records a stream leaves out that a page is the last
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _wav_lacks_bytes(path):
    """FFmpeg believes the file's size, not its header, which may count itself."""
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                is_stream = size >= STREAMED_WAV
                return not is_stream and size > os.path.getsize(path)
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


def declared_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """How long a track is by what its file says; 0 where it does not say so."""
    if container.format.name in ESTIMATED:
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return 0.0 if len(container.streams) > 1 else (container.duration or 0) / av.time_base
