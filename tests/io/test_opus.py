import dataclasses
import io

import av
import numpy as np
import pytest
from pipeline_helpers import speech_with_pauses

from modeling_toxmtl.audio import load_audio
from modeling_toxmtl.io.opus import (
    OPUS_CLOCK,
    OpusTrack,
    encode_dtx,
    is_silent,
    num_frames,
    ogg_crc,
    ogg_file,
    output_gain,
    packet_samples,
    silent_packet,
)


SPANS = [(1.0, 2.0), (4.0, 5.0)]


@pytest.fixture(scope="module")
def track() -> OpusTrack:
    return encode_dtx(speech_with_pauses(SPANS, 7.0), 16_000, 24_000)


def test_silence_is_not_transmitted_and_speech_is(track):
    silent = np.array([is_silent(packet) for packet in track.packets])
    assert silent[130:195].mean() > 0.9  # 2.6 to 3.9 s
    assert not silent[51:99].any()  # 1.02 to 1.98 s


def test_a_file_decodes_to_its_length_and_sound(track):
    samples = speech_with_pauses(SPANS, 7.0)
    decoded = load_audio(ogg_file(track))
    assert len(decoded) == len(samples)
    lags = range(-40, 41)
    match = [np.dot(decoded[17_000 + lag : 31_000 + lag], samples[17_000:31_000]) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 2  # of 16,000 a second: the encoder's delay is gone
    assert np.abs(decoded[45_000:60_000]).max() < 1e-3


def test_packets_come_back_as_they_went_in(track):
    with av.open(io.BytesIO(ogg_file(track))) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    assert packets == list(track.packets)
    assert sum(map(packet_samples, packets)) >= track.pre_skip + track.num_samples


def test_the_gain_is_in_the_header(track):
    head = ogg_file(dataclasses.replace(track, gain=-3072))[28:]
    assert output_gain(head) == -3072 and output_gain(b"") == output_gain(bytes(19)) == 0


@pytest.mark.parametrize(
    ("packet", "count"),
    [
        (bytes([3 << 3]) + bytes(1439), 60),  # 60 ms of 192 kbit/s
        (bytes([19 << 3 | 3, 6]) + bytes(7650), 9),  # 120 ms of 510 kbit/s, the most of RFC 6716
        (bytes([16 << 3 | 3, 48]) + bytes(61_200), 3),  # 48 frames of 1275 bytes
    ],
)
def test_packets_of_any_size_come_back(packet, count):
    with av.open(io.BytesIO(ogg_file(OpusTrack([packet] * count, 0, 48_000)))) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    assert packets == [packet] * count


def test_a_packet_longer_than_any_of_opus_is_refused(track):
    with pytest.raises(ValueError, match="A packet of 65025 bytes does not fit in an Ogg page"):
        ogg_file(OpusTrack([*track.packets, bytes(65_025)], 0, 48_000))


def test_two_tracks_are_two_streams(track):
    other = OpusTrack(track.packets[:100], track.pre_skip, 50_000)
    with av.open(io.BytesIO(ogg_file(track, other))) as container:
        assert len(container.streams.audio) == 2
        packets = [[], []]
        for packet in container.demux():
            if packet.size:
                packets[packet.stream.index].append(bytes(packet))
    assert packets == [list(track.packets), list(other.packets)]


def crc_bit_by_bit(data):
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("data", [b"", b"\x00", b"OggS", bytes(range(256)) * 3])
def test_checksum_is_that_of_the_definition(data):
    assert ogg_crc(data) == crc_bit_by_bit(data)


# RFC 6716, section 3.1: config in the upper 5 bits, stereo flag, number of frames in the lower 2
@pytest.mark.parametrize(
    ("packet", "frames", "samples", "silent"),
    [
        (bytes([1 << 3]), 1, 960, True),  # SILK, 20 ms, nothing in it
        (bytes([1 << 3, 7]), 1, 960, True),
        (bytes([1 << 3, 7, 7]), 1, 960, False),
        (bytes([3 << 3 | 1, 7, 7]), 2, 5760, True),  # two frames of 60 ms, a byte each
        (bytes([1 << 3 | 3, 3, 1, 1, 1]), 3, 2880, True),
        (bytes([1 << 3 | 3, 3, 1, 1, 1, 1]), 3, 2880, False),
        (bytes([13 << 3, 9, 9]), 1, 960, False),  # hybrid, 20 ms
        (bytes([16 << 3, 9, 9]), 1, 120, False),  # CELT, 2.5 ms
        (b"", 0, 0, True),
        (bytes([3]), 0, 0, True),  # the number of frames is missing
        (bytes([3 << 3 | 3, 3, *bytes(9)]), 3, 0, False),  # 180 ms, longer than allowed
    ],
)
def test_what_a_packet_says_of_itself(packet, frames, samples, silent):
    assert (num_frames(packet), packet_samples(packet), is_silent(packet)) == (frames, samples, silent)


def test_a_silent_packet_lasts_as_long_as_a_frame(track):
    filler = silent_packet(track.packets[60])
    assert is_silent(filler) and packet_samples(filler) == packet_samples(track.packets[60]) == 0.02 * OPUS_CLOCK


@pytest.mark.parametrize(
    ("samples", "rate", "message"), [(0, 16_000, "empty"), (100, 44_100, "`sampling_rate` is 44")]
)
def test_what_libopus_cannot_code_is_refused(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        encode_dtx(np.zeros(samples, np.float32), rate, 24_000)


def test_a_file_needs_packets():
    with pytest.raises(ValueError, match="at least one track"):
        ogg_file(OpusTrack([], 0, 0))
