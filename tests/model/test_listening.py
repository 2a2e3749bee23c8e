import itertools

import numpy as np
import pytest
from helpers import RATE, syllables, tone

from datasets_scripts.effects import make_noise
from modeling_toxmtl import listening
from modeling_toxmtl.listening import (
    WindowPlanner,
    loud_frames,
    one_report_per_word,
    plan_windows,
    split_windows,
)


def plan(*tracks: np.ndarray, window: float = 15.0, stride: float = 10.0) -> list:
    """The windows of tracks `(samples,)` or `(channels, samples)`; lengths in seconds."""
    block = [np.atleast_2d(track).astype(np.float32) for track in tracks]
    return list(plan_windows([block], round(window * RATE), round(stride * RATE), shortest=400))


def spans(planned) -> list[tuple[float, float, bool]]:
    """In seconds, and whether something is heard."""
    return [(round(w.start / RATE, 1), round(w.end / RATE, 1), not w.is_silent) for w, _ in planned]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def band(low: float, high: float, seconds: float = 3.0, level: float = 0.1) -> np.ndarray:
    """Noise between two frequencies."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(round(seconds * RATE)))
    frequencies = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    noise = np.fft.irfft(np.where((frequencies >= low) & (frequencies <= high), spectrum, 0))
    return level * noise / noise.std()


# --- what can be heard

TIME = np.arange(3 * RATE) / RATE
NOTHING_TO_HEAR = {
    "silence": silence(3),
    "offset": np.full(3 * RATE, 0.3),
    "dither": np.random.default_rng(0).integers(-1, 2, 3 * RATE) / 32768,
    "hum": 0.1 * np.sin(2 * np.pi * 50 * TIME),
    "loud hum": 0.9 * np.sin(2 * np.pi * 60 * TIME),
    "hum with harmonics": sum(0.1 / n * np.sin(2 * np.pi * 50 * n * TIME) for n in (1, 2, 3)),
    "above speech": band(6000, 8000),
    "click": np.eye(1, 3 * RATE, RATE)[0],
}


@pytest.mark.parametrize("name", NOTHING_TO_HEAR)
def test_nothing_to_hear(name):
    assert spans(plan(NOTHING_TO_HEAR[name])) == [(0, 3, False)]


STEADY = {
    "static": 0.1 * np.random.default_rng(0).standard_normal(3 * RATE),
    "a fan": 0.1 * make_noise("pink", 3 * RATE, RATE, np.random.default_rng(0)),
    "tone": 0.2 * np.sin(2 * np.pi * 440 * TIME),
    "chord": sum(0.1 * np.sin(2 * np.pi * pitch * TIME) for pitch in (262, 330, 392)),
}


@pytest.mark.parametrize("name", STEADY)
def test_steady_noise_is_not_heard(name):
    """However loud, in silence and where a window holds nothing else."""
    assert spans(plan(STEADY[name])) == [(0, 3, False)]
    assert not any(heard for *_, heard in spans(plan(np.concatenate([silence(5), STEADY[name], silence(5)]))))


def test_speech_in_steady_noise_is_heard():
    """As loud as the noise, and in one window of the two; a shorter sound may be a held vowel."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE)
    noise[20 * RATE : 23 * RATE] += syllables(TIME) * band(300, 3000, level=0.12)
    assert spans(plan(noise, stride=15)) == [(0, 15, False), (15, 30, True)]
    vowel = 0.2 * np.sin(2 * np.pi * 440 * TIME[: round(1.9 * RATE)])
    assert spans(plan(np.append(vowel, silence(1)))) == [(0, 2.4, True), (2.4, 2.9, False)]


@pytest.mark.parametrize("gain", [1.0, 1e-1, 1e-2, 3e-3])
def test_soft_speech_is_heard(gain):
    """At 50 dB below a loud voice, too."""
    assert spans(plan(gain * syllables(TIME) * band(200, 4000, level=0.3))) == [(0, 3, True)]


def test_half_a_second_around_a_sound_is_heard():
    clip = np.concatenate([silence(5), tone(RATE), silence(1), tone(RATE), silence(6), tone(2 * RATE)])
    expected = [(0, 4.5, False), (4.5, 8.5, True), (8.5, 13.5, False), (13.5, 16, True)]
    assert spans(plan(clip)) == expected


@pytest.mark.parametrize("seconds", [0.7, 3, 13.01, 40])
def test_a_muted_microphone_leaves_no_trace(seconds):
    """Before speech or after it, of any length, what is heard is the same to the sample."""

    def heard(*pieces):
        (samples,) = [samples for window, samples in plan(np.concatenate(pieces)) if not window.is_silent]
        return samples

    speech = tone(3 * RATE) * np.hanning(3 * RATE)
    expected = heard(silence(0.6), speech, silence(0.6))
    np.testing.assert_array_equal(heard(silence(0.6), speech, silence(seconds)), expected)
    np.testing.assert_array_equal(heard(silence(seconds), speech, silence(0.6)), expected)


def test_silent_windows_between_sounds_are_not_heard():
    """Where windows lie side by side, one may have the silent end of a part alone."""
    clip = np.append(tone(round(14.9 * RATE)), silence(0.5))
    assert spans(plan(clip, stride=15)) == [(0, 15, True), (15, 15.4, False)]


def test_windows_cover_a_recording():
    rng = np.random.default_rng(0)
    for _ in range(20):
        pieces = [
            np.append(silence(seconds), tone(round(length * RATE)))
            for seconds, length in rng.exponential((4, 8), (4, 2))
        ]
        clip = np.concatenate(pieces).astype(np.float32)
        position = 0
        for window, heard in plan(clip):
            assert window.start <= position < window.end
            assert window.is_silent or np.array_equal(heard, clip[window.start : window.end])
            position = window.end
        assert position == len(clip)


# --- blocks


def sounds_and_pauses(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Tones, noise, clicks and silence of random lengths."""
    pieces = [np.zeros(0)]
    while sum(map(len, pieces)) < num_samples:
        length = int(rng.exponential(rng.choice([3000, 12_000, 40_000]))) + 1
        kinds = (np.zeros(length), 0.1 * rng.standard_normal(length), np.hanning(length) * tone(length, 700.0), 1e-5)
        pieces.append(kinds[rng.integers(4)] * np.ones(length))
        pieces[-1][: rng.integers(2)] = 0.8  # a click, or none
    return np.concatenate(pieces)[:num_samples]


def random_tracks(rng: np.random.Generator) -> list[np.ndarray]:
    """One or two tracks of one to three channels, some of which are alike throughout, some for a while."""
    tracks = []
    for _ in range(rng.integers(1, 3)):
        num_channels, num_samples = rng.integers(1, 4), int(rng.integers(400, 8 * RATE))
        track = np.stack([sounds_and_pauses(rng, num_samples) for _ in range(num_channels)]).astype(np.float32)
        alike = rng.integers(2 * num_samples)
        track[-1, :alike] = rng.choice([1.0, -0.5]) * track[0, :alike]
        tracks.append(track)
    return tracks


@pytest.mark.parametrize("seed", range(8))
def test_windows_do_not_depend_on_the_blocks(seed):
    """However a recording is cut into blocks, windows and samples are those of the whole."""
    rng = np.random.default_rng(seed)
    tracks = random_tracks(rng)
    length, settings = max(track.shape[1] for track in tracks), (2 * RATE, round(rng.uniform(0.5, 2) * RATE), 400)
    whole = list(plan_windows([tracks], *settings))
    for size in (3000, 40_000):
        edges = np.cumsum(rng.integers(1, size, 2 * length // size + 1))
        cuts = [0, *edges[edges < length].tolist(), length]
        blocks = [[track[:, start:end] for track in tracks] for start, end in itertools.pairwise(cuts)]
        planned = list(plan_windows(blocks, *settings))
        assert [window for window, _ in planned] == [window for window, _ in whole]
        for (_, samples), (_, expected) in zip(planned, whole, strict=True):
            np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("clip", [tone(120 * RATE), silence(120)], ids=["sound", "silence"])
def test_no_more_is_held_or_measured_than_an_open_window_needs(clip, monkeypatch):
    """Of two minutes in blocks of a second: the window that is open, and what decides where sounds end. Each frame is
    measured once."""
    measured, held = [], []
    monkeypatch.setattr(
        listening, "loud_frames", lambda samples: measured.append(samples.shape[1]) or loud_frames(samples)
    )
    planner = WindowPlanner(5 * RATE, 4 * RATE, 400)
    for start in range(0, len(clip), RATE):
        planner.append([clip[None, start : start + RATE].astype(np.float32)])
        planned = list(planner.windows(is_complete=False))
        held.append(planner.end - planner.held_from)
        if clip.any() and start // RATE in (5, 9):  # a second after its end
            assert [window.end for window, _ in planned] == [start]
    assert max(held) < (5 + 3) * RATE and max(measured) < 1.2 * RATE and sum(measured) <= len(clip)


def fed(planner: WindowPlanner, clip: np.ndarray, size: int = 1600) -> list:
    """The windows of a clip in blocks of this size."""
    planned = []
    for start in range(0, len(clip), size):
        planner.append([clip[None, start : start + size].astype(np.float32)])
        planned += planner.windows(is_complete=False)
    return planned


@pytest.mark.parametrize("seed", range(4))
def test_silence_of_any_length_is_as_zeros(seed):
    """Windows and samples are those of the same clip with zeros in it."""
    rng = np.random.default_rng(seed)
    clips = [sounds_and_pauses(rng, round(rng.uniform(0.5, 4) * RATE)) for _ in range(3)]
    pauses = rng.integers(0, 9 * RATE, 3).tolist()
    planned, expected = [], []
    with_silence, with_zeros = (WindowPlanner(2 * RATE, RATE, 400) for _ in range(2))
    for clip, pause in zip(clips, pauses, strict=True):
        planned += [*fed(with_silence, clip), *with_silence.silence(pause)]
        expected += fed(with_zeros, np.append(clip, np.zeros(pause)))
    planned += with_silence.windows(is_complete=True)
    expected += with_zeros.windows(is_complete=True)
    assert [window for window, _ in planned] == [window for window, _ in expected]
    for (_, samples), (_, same) in zip(planned, expected, strict=True):
        np.testing.assert_array_equal(samples, same)


def test_hours_of_silence_cost_nothing():
    planner = WindowPlanner(2 * RATE, RATE, 400)
    fed(planner, tone(RATE))
    assert spans(planner.silence(100 * 3600 * RATE)) == [(0, 1.5, True)]
    planned = fed(planner, tone(RATE))
    assert spans([*planned, *planner.windows(is_complete=True)]) == [
        (1.5, 360_000.5, False),
        (360_000.5, 360_002, True),
    ]


def test_the_latest_of_an_open_part():
    """At most what is asked for; its words are those that no edge cuts, unless the part begins there."""
    planner = WindowPlanner(15 * RATE, 10 * RATE, 400)
    assert planner.latest(3 * RATE, 1600) == []
    fed(planner, np.append(silence(2), tone(RATE)))
    ((window, samples),) = planner.latest(3 * RATE, 1600)
    assert (window.start, window.end, window.first, window.last) == (1.5 * RATE, 3 * RATE, 1.5 * RATE, 2.9 * RATE)
    np.testing.assert_array_equal(samples, np.append(silence(0.5), tone(RATE)).astype(np.float32))
    fed(planner, tone(4 * RATE))
    ((window, _),) = planner.latest(3 * RATE, 1600)
    assert (window.start, window.end, window.first, window.last) == (4 * RATE, 7 * RATE, 4.1 * RATE, 6.9 * RATE)
    fed(planner, silence(1))
    assert planner.latest(3 * RATE, 1600)[0][0].end == 7.5 * RATE  # no more than the part's window will have
    sideways = WindowPlanner(2 * RATE, 2 * RATE, 400)
    fed(sideways, tone(3 * RATE))
    assert sideways.latest(3 * RATE, 1600)[0][0].start == sideways.held_from  # nor than is held
    fed(planner, silence(1))
    assert planner.part is None and planner.num_closed == 1 and planner.latest(3 * RATE, 1600) == []


def test_channels_that_appear_on_the_way():
    """A single channel stands for all."""
    first, left, right = (tone(3 * RATE, frequency, number) for number, frequency in enumerate((300.0, 500.0, 900.0)))
    blocks = [[np.stack(block).astype(np.float32)] for block in ([first], [left, right])]
    planned = list(plan_windows(blocks, 3 * RATE, 3 * RATE, 400))
    assert sources(planned) == [(0, 0), (0, 0), (0, 1)]
    for (_, samples), expected in zip(planned, (first, left, right), strict=True):
        np.testing.assert_array_equal(samples, expected.astype(np.float32))


def test_too_short_to_be_heard():
    for blocks in ([], [[np.zeros((1, 0), np.float32)]], [[np.zeros((1, 399), np.float32)]]):
        with pytest.raises(ValueError, match="The clip has (0|399) samples at 16000 Hz, but the model needs at least"):
            list(plan_windows(blocks, RATE, RATE, 400))


# --- windows


@pytest.mark.parametrize(
    ("num_samples", "windows"),
    [
        (0, [(0, 0)]),
        (7, [(0, 7)]),
        (10, [(0, 10)]),
        (12, [(0, 12)]),  # a rest of 2 is too short alone
        (13, [(0, 10), (10, 13)]),
        (22, [(0, 10), (10, 22)]),
        (30, [(0, 10), (10, 20), (20, 30)]),
    ],
)
def test_split_windows(num_samples, windows):
    assert split_windows(num_samples, window=10, shortest=3) == windows


@pytest.mark.parametrize(
    ("num_samples", "windows"),
    [
        (10, [(0, 10)]),
        (11, [(0, 10), (6, 11)]),
        (16, [(0, 10), (6, 16)]),
        (17, [(0, 10), (6, 16), (12, 17)]),
    ],
)
def test_windows_that_overlap(num_samples, windows):
    assert split_windows(num_samples, window=10, shortest=3, stride=6) == windows


def test_windows_are_no_longer_than_a_model_hears():
    """With the rest that may join one."""
    options = {"shortest": 400, "longest": 480_000}
    assert split_windows(500_000, window=479_600, **options) == [(0, 479_600), (479_600, 500_000)]
    with pytest.raises(ValueError, match="`window_seconds` is 30, but the model hears at most 29.9 s at once"):
        split_windows(16_000, window=480_000, **options)


def test_windows_are_no_shorter_than_a_model_hears():
    with pytest.raises(ValueError, match="`window_seconds` is 0.01, but the model hears no less than 0.025 s"):
        split_windows(16_000, window=160, shortest=400)


@pytest.mark.parametrize("stride", [0, -1.0, 15.1])
def test_strides_that_leave_samples_out(stride):
    with pytest.raises(ValueError, match=f"`stride_seconds` is {stride:g}: .* no more than `window_seconds`, 15"):
        plan(tone(RATE), stride=stride)


@pytest.mark.parametrize("stride", [5.0, 10.0, 14.0, 15.0])
def test_every_place_is_heard_whole_by_a_window(stride):
    """A word as long as half the overlap lies inside a window that reports it, wherever it is."""
    windows = [window for window, _ in plan(tone(50 * RATE), stride=stride)]
    half = round((15 - stride) / 4 * RATE)
    for middle in range(half, 50 * RATE - half, 1000):
        homes = [w for w in windows if w.first <= middle <= w.last]
        assert any(w.start <= middle - half and middle + half <= w.end for w in homes)


# --- words


def word(keyword: str, start: float, end: float, score: float, channel: int = 0) -> dict:
    return {"keyword": keyword, "start": start, "end": end, "score": score, "track": 0, "channel": channel}


def test_one_report_per_word():
    first, again = word("damn", 1.0, 1.3, 0.8), word("damn", 1.02, 1.32, 0.9)
    later, other = word("damn", 1.4, 1.6, 0.7), word("crap", 0.2, 0.5, 0.6)
    assert one_report_per_word([later, first, other, again]) == [other, again, later]
    assert one_report_per_word([]) == []


def test_two_readings_of_a_sound_are_one_word():
    assert one_report_per_word([word("damn", 1.0, 1.3, 0.6), word("dam", 1.1, 1.4, 0.5)]) == [
        word("damn", 1.0, 1.3, 0.6)
    ]


def test_two_speakers_may_talk_at_once():
    """Each in a channel of their own; the same word in both is heard through the other's microphone."""
    left, right = word("damn", 1.0, 1.3, 0.6, channel=0), word("crap", 1.1, 1.4, 0.5, channel=1)
    assert one_report_per_word([left, right]) == [left, right]
    echo = word("damn", 1.0, 1.3, 0.4, channel=1)
    assert one_report_per_word([left, echo]) == [left]


# --- channels and tracks


def sources(planned) -> list[tuple[int, int]]:
    return [(window.track, window.channel) for window, _ in planned]


def test_channels_that_differ_are_heard_one_by_one():
    left, right = tone(3 * RATE, 300.0), tone(3 * RATE, 700.0, seed=1)
    planned = plan(np.stack([left, right]))
    assert sources(planned) == [(0, 0), (0, 1)]
    np.testing.assert_array_equal(planned[0][1], left)
    np.testing.assert_array_equal(planned[1][1], right)
    assert sources(plan(left, right)) == [(0, 0), (1, 0)]  # of two tracks


def test_channels_that_are_alike_are_heard_as_one():
    left = tone(3 * RATE)
    ((_, same),) = plan(np.stack([left, left]))
    np.testing.assert_array_equal(same, left)
    ((_, softer),) = plan(np.stack([left, 0.5 * left]))
    np.testing.assert_allclose(softer, 0.75 * left, atol=1e-6)
    ((_, opposite),) = plan(np.stack([0.9 * left, -left]))
    np.testing.assert_array_equal(opposite, -left)


def test_silent_channels_are_not_heard():
    left = tone(3 * RATE)
    ((window, heard),) = plan(np.stack([silence(3), left, 1e-4 * tone(3 * RATE, 900.0, 1)]))
    assert (window.track, window.channel) == (0, 1)
    np.testing.assert_array_equal(heard, left)
    assert spans(plan(np.zeros((6, 3 * RATE)))) == [(0, 3, False)]


def test_tracks_of_different_length():
    short, long = tone(2 * RATE), tone(20 * RATE, 900.0, 1)
    planned = plan(short, long)
    assert sources(planned) == [(0, 0), (1, 0), (1, 0)]
    assert [len(heard) for _, heard in planned] == [15 * RATE, 15 * RATE, 10 * RATE]
