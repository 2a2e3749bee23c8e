import numpy as np
import pytest
from pipeline_helpers import speech_with_pauses

from modeling_toxmtl.data.speech_spans import (
    Frame,
    Span,
    energy_frames,
    find_speech,
    plan_chunks,
)


def frames_of(text: str, levels=None) -> list[Frame]:
    """A frame of 20 ms per character; `#` is active, `-` silent, at `.` the sender stops, a space was not sent."""
    levels = levels or [1.0] * len(text)
    return [
        Frame(0.02 * index, 0.02 * (index + 1), sign == "#", levels[index], None if sign in "#-" else 0.2)
        for index, sign in enumerate(text)
        if sign != " "
    ]


def spans_of(text, shortest=0.04, max_seconds=15.0, opening=0.2):
    return [
        (round(span.start / 0.02), round(span.end / 0.02))
        for span in find_speech(frames_of(text), shortest, max_seconds, opening)
    ]


@pytest.mark.parametrize("noise", ["hiss", "hum"])
def test_speech_in_louder_steady_noise_is_not_lost(noise):
    time = np.arange(16_000 * 12) / 16_000
    noises = {"hiss": 0.2 * np.random.default_rng(0).normal(size=len(time)), "hum": 0.3 * np.sin(880 * np.pi * time)}
    samples = 0.5 * speech_with_pauses([(2, 10)], 12.0) + noises[noise]
    frames = [frame for frame in energy_frames([samples.astype(np.float32)], 16_000) if 2 <= frame.start < 10]
    assert np.mean([frame.is_active for frame in frames]) > 0.99


def test_the_senders_hangover_is_no_speech():
    assert spans_of(".." + "#" * 30 + ".....") == [(2, 22)]


def test_runs_of_the_hangover_and_updates_of_the_background_are_no_speech():
    assert spans_of("#" * 10 + "." * 20 + "#" + "." * 20 + "#" * 12 + "...") == [(51, 53)]


def test_a_recording_that_ends_in_speech_keeps_its_end():
    assert spans_of("." + "#" * 30) == [(1, 31)]


def test_all_is_kept_that_is_sent_before_a_gap_or_silence():
    """Who releases a key stops at once, and does not wait as DTX does."""
    assert spans_of("." + "#" * 9 + " " * 30 + "#" * 6 + " " * 30 + "#" * 30 + "-" * 20 + "#" * 4 + "---") == [
        (40, 46),
        (76, 106),
        (126, 130),
    ]


def test_long_gaps_are_silence_and_short_ones_lost_packets():
    assert spans_of("#" * 20 + " " * 11 + "#" * 20 + "...") == [(0, 20), (31, 41)]
    assert spans_of("#" * 20 + " " * 9 + "#" * 20 + "...") == [(0, 39)]
    assert spans_of("#" + " " * 5 + "#" * 20 + "...") == [(6, 16)]  # an update of the background before speech


def test_speech_without_pause_is_cut_where_it_is_quietest():
    levels = [9.0] * 120
    levels[10], levels[40], levels[90] = 1.0, 2.0, 3.0  # the first is in the first half
    spans = list(find_speech(frames_of("#" * 120, levels), 0.0, 1.0))
    assert [round(span.start / 0.02) for span in spans] == [0, 40, 90]
    assert all(span.end - span.start <= 1.0 + 1e-9 for span in spans)


def plan(spans, max_seconds=10.0, max_pause=1.0, padding=0.0):
    return [
        (round(span.start, 3), round(span.end, 3))
        for span in plan_chunks([Span(*span) for span in spans], max_seconds, max_pause, padding)
    ]


def test_short_pauses_are_joined_and_long_ones_end_a_chunk():
    assert plan([(0, 1), (1.5, 2), (3.5, 4)]) == [(0, 2), (3.5, 4)]


def test_what_is_too_long_is_divided_at_its_longest_pause():
    assert plan([(0, 4), (4.3, 8), (8.9, 12)]) == [(0, 8), (8.9, 12)]
    assert plan([(0, 4), (4.9, 8), (8.3, 12)]) == [(0, 4), (4.9, 12)]


def test_padding_takes_no_more_than_half_a_pause():
    assert plan([(0.05, 1), (3, 4)], padding=0.1) == [(0, 1.1), (2.9, 4.1)]
    assert plan([(1, 9.5), (9.6, 12)], padding=0.1) == [(0.9, 9.55), (9.55, 12.1)]


@pytest.mark.parametrize("seed", range(20))
def test_no_speech_is_lost_and_no_chunk_too_long(seed):
    rng = np.random.default_rng(seed)
    spans, position = [], 0.0
    for pause, length in zip(rng.exponential(0.5, 60).tolist(), rng.uniform(0.01, 7.0, 60).tolist(), strict=True):
        spans.append(Span(position + pause, position + pause + length))
        position += pause + length
    chunks = list(plan_chunks(spans, 8.0, 1.0, 0.1))
    assert all(chunk.end - chunk.start <= 8.0 + 1e-6 for chunk in chunks)
    assert all(before.end <= after.start + 1e-9 for before, after in zip(chunks, chunks[1:], strict=False))
    for span in spans:
        assert any(chunk.start <= span.start + 1e-9 and span.end <= chunk.end + 1e-9 for chunk in chunks)


def test_the_plan_needs_no_more_than_a_few_chunks_ahead():
    def speech():
        for number in range(1_000_000):
            assert number < 1000, "the plan waits for the end of speech that never pauses"
            yield Span(2.0 * number, 2.0 * number + 1.9)

    chunks = plan_chunks(speech(), 15.0, 1.0, 0.1)
    assert [next(chunks) for _ in range(50)][-1].end < 1000


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_energy_finds_the_spans(noise):
    truth = [(1.0, 2.5), (4.0, 5.0)]
    samples = speech_with_pauses(truth, 7.0)
    samples += noise * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    found = list(find_speech(energy_frames([samples], 16_000), 0.0, 0.04, 15.0))
    starts, ends = min(span.start for span in found), max(span.end for span in found)
    assert starts == pytest.approx(1.0, abs=0.06) and ends == pytest.approx(5.0, abs=0.06)
    assert not any(span.start < 3.9 and span.end > 2.6 for span in found)
