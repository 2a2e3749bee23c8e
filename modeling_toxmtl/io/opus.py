"""Opus packets: encoding with discontinuous transmission (DTX), what a packet says of itself, and Ogg files.

Design choices:
- FFmpeg's libopus wrapper does not switch DTX on, so the encoder is libopus itself, through ctypes: the very library
  that the PyAV wheel carries, or else the system's.
- The Ogg writer is a page of code (RFC 3533, RFC 7845) and not FFmpeg's muxer, since pre-skip and end matter: packets
  cut out of a longer recording need earlier packets to start the decoder with, unheard (RFC 7845, section 4.6),
  and so sound as in the recording, without a second coding.
- Serial numbers are the track's number: equal packets give equal bytes.
"""

import ctypes
import ctypes.util
import functools
import heapq
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np


OPUS_CLOCK = 48_000  # Hz, of granule positions and pre-skip, whatever rate was coded (RFC 7845, section 4)
PRE_ROLL = 3_840  # samples of 48 kHz that a decoder needs to converge (RFC 7845, section 4.6)
FRAME_SECONDS = 0.02  # what voice chat sends
# libopus sends 10 frames more after the last one with activity, then nothing but an update every 20 frames
# (NB_SPEECH_FRAMES_BEFORE_DTX and MAX_CONSECUTIVE_DTX in its silk/define.h)
DTX_HANGOVER = 0.2  # seconds
GAP = 0.2  # seconds between packets; shorter gaps are lost packets, in the middle of speech perhaps

_PACKETS_PER_PAGE = 50
_SEGMENTS_PER_PAGE = 255  # of at most 255 bytes (RFC 3533, section 6)
_LONGEST_PACKET = 5_760  # samples of 48 kHz (RFC 6716, section 3.2.5)
_MAX_PACKET = 1_275  # bytes of a frame (RFC 6716, section 3.2.1), and its TOC
_APPLICATION_VOIP = 2048
_SET_BITRATE, _SET_COMPLEXITY, _SET_DTX, _GET_LOOKAHEAD = 4002, 4010, 4016, 4027
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class OpusTrack:
    """Packets of one speaker, as an Ogg file holds them.

    Args:
        packets: in order, without gaps.
        pre_skip: samples (of 48 kHz) at the start that are decoded and not heard.
        num_samples: samples (of 48 kHz) that are heard.
        channels: 1 or 2.
        gain: that a decoder applies, in 1/256 dB.
    """

    packets: Sequence[bytes]
    pre_skip: int
    num_samples: int
    channels: int = 1
    gain: int = 0


@functools.cache
def _libopus() -> ctypes.CDLL:
    package = Path(av.__file__).parent
    bundled = (package.parent / "av.libs", package / ".dylibs")  # Linux and Windows wheels; macOS wheels
    paths = [str(path) for folder in bundled for path in folder.glob("*opus[-.]*")]
    name = paths[0] if paths else ctypes.util.find_library("opus")
    if name is None:
        raise ImportError("Coding Opus with DTX needs libopus: install PyAV's wheel (pip install av), or libopus.")
    library = ctypes.CDLL(name)
    library.opus_encoder_create.restype = ctypes.c_void_p
    library.opus_encoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_encoder_ctl.argtypes = [ctypes.c_void_p, ctypes.c_int]  # and one more, which depends on the request
    library.opus_encode_float.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int32)
    ]
    return library


def encode_dtx(samples: np.ndarray, sampling_rate: int, bit_rate: int) -> OpusTrack:
    """Codes mono speech as voice chat does: libopus in its "voip" mode, frames of 20 ms, DTX on.

    Args:
        samples: float32 of shape `(samples,)`, at least one.
        sampling_rate: in Hz: 8000, 12000, 16000, 24000 or 48000.
        bit_rate: mean bits a second, 6000 to 128000.

    Raises:
        ValueError: if there are no samples, or libopus refuses the rate.
    """
    if not len(samples):
        raise ValueError("`samples` is empty: Opus needs at least one sample.")
    library, error, delay = _libopus(), ctypes.c_int(), ctypes.c_int()
    encoder = library.opus_encoder_create(sampling_rate, 1, _APPLICATION_VOIP, ctypes.byref(error))
    if error.value:
        raise ValueError(f"`sampling_rate` is {sampling_rate} Hz: libopus refuses it (error {error.value}).")
    try:
        for request, value in ((_SET_BITRATE, bit_rate), (_SET_COMPLEXITY, 5), (_SET_DTX, 1)):
            if status := library.opus_encoder_ctl(encoder, request, ctypes.c_int(value)):
                raise ValueError(f"libopus refuses the setting {request} = {value} (error {status}).")
        library.opus_encoder_ctl(encoder, _GET_LOOKAHEAD, ctypes.byref(delay))
        packets = list(_encode_frames(library, encoder, samples, round(FRAME_SECONDS * sampling_rate), delay.value))
    finally:
        library.opus_encoder_destroy(encoder)
    scale = OPUS_CLOCK // sampling_rate
    return OpusTrack(packets, delay.value * scale, len(samples) * scale)


def _encode_frames(library, encoder, samples, frame_size, delay) -> Iterator[bytes]:
    num_frames = -(-(len(samples) + delay) // frame_size)
    padded = np.zeros(num_frames * frame_size, dtype=np.float32)
    padded[: len(samples)] = samples
    buffer = ctypes.create_string_buffer(_MAX_PACKET + 1)
    for start in range(0, len(padded), frame_size):
        size = library.opus_encode_float(encoder, padded[start:].ctypes.data, frame_size, buffer, len(buffer))
        if size < 0:
            raise RuntimeError(f"libopus could not code a frame (error {size}).")
        yield buffer.raw[:size]


@functools.cache
def _frame_size(toc: int) -> int:
    """Samples (of 48 kHz) of one frame, by the first byte of a packet (RFC 6716, table 2)."""
    config = toc >> 3
    if config < 12:  # SILK
        return (480, 960, 1920, 2880)[config & 3]
    if config < 16:  # hybrid
        return (480, 960)[config & 1]
    return (120, 240, 480, 960)[config & 3]  # CELT


def num_frames(packet: bytes) -> int:
    """Frames of a packet (RFC 6716, section 3.2), 0 if it is empty or cut short."""
    if not packet:
        return 0
    code = packet[0] & 3
    if code == 3:
        return packet[1] & 63 if len(packet) > 1 else 0
    return 1 if code == 0 else 2


def packet_samples(packet: bytes) -> int:
    """Samples (of 48 kHz) that a packet lasts, 0 if it is malformed."""
    samples = num_frames(packet) * _frame_size(packet[0]) if packet else 0
    return samples if samples <= _LONGEST_PACKET else 0


def is_silent(packet: bytes) -> bool:
    """Whether a packet says that nothing is transmitted (DTX): its frames hold no more than a byte each."""
    if len(packet) <= 2:
        return True
    return packet[0] & 3 != 0 and len(packet) - 2 <= num_frames(packet)


def is_digital_silence(packet: bytes) -> bool:
    """Whether a packet was coded from samples that are all zero, as bots send them and codecs without DTX: its CELT
    frames begin with the silence flag (RFC 6716, section 4.3), whose bits are 15 ones."""
    if len(packet) < 3 or packet[0] >> 3 < 16 or packet[0] & 3 > 1:
        return False
    content = packet[1:]
    half = len(content) // num_frames(packet)
    starts = [content[start : start + 2] for start in range(0, len(content), half)]
    return half > 1 and all(first == 0xFF and second >= 0xFE for first, second in starts)


def silent_packet(like: bytes) -> bytes:
    """A packet of one frame with no content, to stand where nothing was transmitted; as long as a frame of `like`."""
    return bytes([like[0] & ~3])


def ogg_crc(page: bytes) -> int:
    """The checksum of RFC 3533, section 6. zlib's has the same polynomial with the bits of each byte reversed."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def ogg_file(*tracks: OpusTrack) -> bytes:
    """An Ogg-Opus file (RFC 7845); several tracks become several logical streams, page by page in the order of time.

    Raises:
        ValueError: if there is no track, one without packets, or a packet longer than any of Opus.
    """
    if not tracks or not all(track.packets for track in tracks):
        raise ValueError("An Ogg-Opus file needs at least one track, and a packet in each.")
    heads = [_page([_opus_head(track)], 0, serial, 0, 2) for serial, track in enumerate(tracks)]
    tags = struct.pack("<8sI", b"OpusTags", 0) + struct.pack("<I", 0)
    comments = [_page([tags], 0, serial, 1, 0) for serial in range(len(tracks))]
    pages = heapq.merge(*(_audio_pages(track, serial) for serial, track in enumerate(tracks)))
    return b"".join([*heads, *comments, *(page for *_, page in pages)])


def _opus_head(track: OpusTrack) -> bytes:
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, track.channels, track.pre_skip, OPUS_CLOCK, track.gain, 0)


def mapping_family(head: bytes) -> int | None:
    """How the channels of an identification header are coded (RFC 7845, section 5.1.1): each packet of family 0 is one
    Opus packet; those of others hold one for each of several streams. None if it is no such header."""
    return head[18] if head.startswith(b"OpusHead") and len(head) > 18 else None


def output_gain(head: bytes) -> int:
    """The gain in 1/256 dB of an identification header (RFC 7845, section 5.1), 0 if it is none."""
    return int.from_bytes(head[16:18], "little", signed=True) if head.startswith(b"OpusHead") else 0


def _audio_pages(track: OpusTrack, serial: int) -> Iterator[tuple[int, int, bytes]]:
    """(granule position, serial, page), so that pages sort by time."""
    granule, end = 0, track.pre_skip + track.num_samples
    groups = list(_page_groups(track.packets))
    for number, packets in enumerate(groups, start=2):
        granule += sum(map(packet_samples, packets))
        is_last = number == len(groups) + 1
        granule = min(granule, end) if is_last else granule  # the end that a decoder trims to
        yield granule, serial, _page(packets, granule, serial, number, 4 if is_last else 0)


def _page_groups(packets: Sequence[bytes]) -> Iterator[list[bytes]]:
    group, segments = [], 0
    for packet in packets:
        needed = len(packet) // 255 + 1
        if group and (len(group) == _PACKETS_PER_PAGE or segments + needed > _SEGMENTS_PER_PAGE):
            yield group
            group, segments = [], 0
        group.append(packet)
        segments += needed
    yield group


def _page(packets: Sequence[bytes], granule: int, serial: int, number: int, flags: int) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if len(lacing) > _SEGMENTS_PER_PAGE:
        raise ValueError(f"A packet of {len(packets[0])} bytes does not fit in an Ogg page: Opus has none as long.")
    fields = ("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, number)
    body = lacing + b"".join(packets)
    checksum = ogg_crc(struct.pack(*fields, 0, len(lacing)) + body)
    return struct.pack(*fields, checksum, len(lacing)) + body
