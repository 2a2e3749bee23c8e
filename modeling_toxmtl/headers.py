"""Headers that declare less sound than their file holds, as recorders leave them that are killed: the size is that of
an earlier moment, none, or not known yet. FFmpeg would stop there, or refuse the file.

What follows the sound is more of it, unless a chunk of the format follows. Nothing is written: the size is read as if
it were the true one.
"""

import io
import os
import re
from typing import BinaryIO, NamedTuple


UNKNOWN = 1 << 62  # a size from here on is that of a stream, in formats that have eight bytes for it


class _Layout(NamedTuple):
    """How a format of chunks is written.

    Args:
        first: where the first chunk begins.
        name: bytes of a chunk's name, of which four tell.
        size: bytes of its size, which follows.
        order: of the size's bytes.
        head: bytes that a size counts before the content.
        alignment: chunks begin at multiples of so many bytes.
        sound: name of the chunk that holds the sound.
    """

    first: int
    name: int
    size: int
    order: str
    head: int
    alignment: int
    sound: bytes


_LAYOUTS = {  # by how a file begins
    rb"(?:RIFF|RF64|BW64).{4}WAVE": _Layout(12, 4, 4, "little", 0, 2, b"data"),
    rb"FORM.{4}AIF[FC]": _Layout(12, 4, 4, "big", 0, 2, b"SSND"),
    rb"riff.{20}wave": _Layout(40, 16, 8, "little", 24, 8, b"data"),  # Sony Wave64
    rb"caff\x00\x01": _Layout(8, 4, 8, "big", 0, 1, b"data"),
}


class CorrectedFile(io.FileIO):
    """A file of which the bytes from `place` on are read as the `content`."""

    def __init__(self, path: str, place: int, content: bytes):
        super().__init__(path)
        self.place, self.content = place, content

    def read(self, size: int = -1, /) -> bytes:
        """As of a file."""
        offset = self.place - self.tell()
        data = bytearray(super().read(size))
        for position, byte in enumerate(self.content, offset):
            if 0 <= position < len(data):
                data[position] = byte
        return bytes(data)


def true_size(file: BinaryIO) -> tuple[int, bytes] | None:
    """Where a file declares the size of its sound, and the bytes of the true size; None if it declares enough, or is
    of another format than WAV (RIFF, RF64, BW64), AIFF, Wave64 and CAF."""
    begin = file.read(40)
    layout = next((layout for pattern, layout in _LAYOUTS.items() if re.match(pattern, begin, re.DOTALL)), None)
    if layout is None:
        return None
    end, position = file.seek(0, os.SEEK_END), layout.first
    long_place = None  # of the size in WAV files that may have more than 4 GB
    while chunk := _chunk_at(file, position, layout):
        name, place, start, size = chunk
        if name == b"ds64":
            long_place = start + 8
        if name == layout.sound:
            width = layout.size
            if long_place is not None:
                file.seek(long_place)
                place, width, size = long_place, 8, int.from_bytes(file.read(8), "little")
            if size < UNKNOWN and not _sound_follows(file, _next(start, size, layout), end, layout):
                return None
            true = min(end - start + layout.head, (1 << 8 * width) - 1)
            return place, true.to_bytes(width, layout.order)
        position = _next(start, min(size, end), layout)
    return None


def _chunk_at(file, position, layout):
    """Name, place of the size, start of the content and its size; None at the end of the file."""
    file.seek(position)
    head = file.read(layout.name + layout.size)
    if len(head) < layout.name + layout.size:
        return None
    size = int.from_bytes(head[layout.name :], layout.order) - layout.head
    return head[:4], position + layout.name, position + len(head), max(size, 0)


def _next(start, size, layout):
    return start + size + -(start + size) % layout.alignment


def _sound_follows(file, position, end, layout):
    """A chunk has a name of printable ASCII, and a size that fits the file."""
    chunk = _chunk_at(file, position, layout) if position < end else None
    return chunk is not None and not (all(0x20 <= sign < 0x7F for sign in chunk[0]) and chunk[2] + chunk[3] <= end)
