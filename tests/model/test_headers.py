"""Sound files whose headers declare less than they hold."""

import io
import struct

import numpy as np
import pytest
from helpers import wav
from sounds import encoded, sine

from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.headers import CorrectedFile, true_size


SAMPLES = np.concatenate([sine(440, 1.0), sine(880, 1.0)])
SIZE = 2 * len(SAMPLES)  # bytes
KILLED = [SIZE // 2, 1000, 0]  # bytes that a recorder has declared when it is killed
LARGEST = 2**63 - 1  # of a stream's size
# Codec of FFmpeg's format; the name of the sound's chunk, where in it its size is and how, and what it counts besides
FORMATS = {
    "aiff": ("pcm_s16be", b"SSND", 4, ">I", 8),
    "w64": ("pcm_s16le", b"data\xf3\xac", 16, "<Q", 24),
    "caf": ("pcm_s16be", b"data", 4, ">Q", 4),
}


def written(format: str, codec: str) -> bytes:
    return encoded(SAMPLES, SAMPLING_RATE, codec, format)


@pytest.mark.parametrize("declared", [*KILLED, SIZE - 100, SIZE + 44, 0xFFFFFFFF])
def test_wav(declared):
    """Streams declare none, or all that there can be, and some count the header."""
    content = bytearray(wav(SAMPLES))
    expected = load_audio(bytes(content))
    content[40:44] = declared.to_bytes(4, "little")
    assert np.array_equal(load_audio(bytes(content)), expected)


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize("declared", [*KILLED, SIZE, SIZE + 44, 2**40, 2**64 - 1])
def test_long_wav(name, declared):
    """Files that may have more than 4 GB say their size in a chunk of its own (ITU-R BS.2088)."""
    content = wav(SAMPLES)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 0, declared, 0, 0)
    long = b"".join([name, bytes([255] * 4), content[8:12], sizes, content[12:40], bytes([255] * 4), content[44:]])
    assert np.array_equal(load_audio(long), load_audio(content))


@pytest.mark.parametrize("format", FORMATS)
def test_other_formats(format, tmp_path):
    """They are read to the end, and as they are where a chunk follows."""
    codec, name, offset, code, head = FORMATS[format]
    content = bytearray(written(format, codec))
    expected = load_audio(bytes(content))
    place = content.find(name) + offset
    (size,) = struct.unpack_from(code, content, place)
    for declared in (size, head + size // 4 * 2, head + 2, head, 0, size + 44, *[LARGEST] * (code[1] == "Q")):
        struct.pack_into(code, content, place, declared)
        (tmp_path / "a").write_bytes(content)
        for source in (bytes(content), tmp_path / "a"):
            assert np.array_equal(load_audio(source), expected), declared


def test_chunks_after_the_samples_are_no_sound():
    content = wav(SAMPLES)
    tagged = content + b"LIST" + (12).to_bytes(4, "little") + b"INFOISFT\0\0\0\0"
    assert np.array_equal(load_audio(tagged), load_audio(content))
    content = written("aiff", "pcm_s16be")
    tagged = content + b"ANNO" + (4).to_bytes(4, "big") + b"text"
    assert true_size(io.BytesIO(tagged)) is None


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"caff\0\1\0\0", wav(SAMPLES)[:43], b"FORM\0\0\0\0AIFFCOMM\0\0\0\4abcd"]
)
def test_headers_without_sound_declare_nothing(content):
    assert true_size(io.BytesIO(content)) is None


@pytest.mark.parametrize("step", [1, 3, 5, 100])
def test_a_corrected_file_is_another_in_a_few_bytes(step, tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with CorrectedFile(str(tmp_path / "a"), 4, b"xyz") as file:
        assert b"".join(iter(lambda: file.read(step), b"")) == b"0123xyz789"
        file.seek(5)
        assert file.read() == b"yz789"
