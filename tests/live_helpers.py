"""A judge for live sessions whose words can be seen in the sound, and sound to feed them."""

import numpy as np
from helpers import RATE, syllables, tiny_processor, tiny_speech_model

from modeling_toxmtl import ToxicityDetectionPipeline
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.moderation.judge import Judge


WORDS = {1000: "damn", 2000: "crap"}  # Hz
PROFANITY_AFTER = 0.25  # seconds of words in a window


def word(frequency: int = 1000, seconds: float = 0.3) -> np.ndarray:
    """What a [`HearingJudge`] takes for a keyword."""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def chatter(seconds: float, seed: int = 0) -> np.ndarray:
    """Sound without a keyword."""
    noise = np.random.default_rng(seed).normal(0, 0.04, round(seconds * RATE))
    return (syllables(np.arange(len(noise)) / RATE) * noise).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


class HearingJudge(Judge):
    """Hears loud tones as keywords, where they are, and profanity where there is enough of them in a window; counts
    the windows that it is asked for."""

    def __init__(self, window: float = 3.0, stride: float = 2.0):
        pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
        super().__init__(pipe, window, stride)
        self.num_heard = 0

    def hear(self, windows):
        self.num_heard += len(windows)
        return [self._row(window, samples) for window, samples in windows]

    def _row(self, window, samples):
        heard, words = np.empty((1, 1), dtype=object), [] if window.is_silent else self._words(window, samples)
        heard[0, 0] = words
        logits = np.full((1, 6), -9.0)
        logits[0, 0] = 20 * (sum(word.end - word.start for word in words) - PROFANITY_AFTER)
        return {"window": np.array([window]), "logits": logits, "keywords": heard}

    def _words(self, window, samples):
        loud = np.abs(samples) > 0.2
        edges = np.flatnonzero(np.diff(np.convolve(loud, np.ones(40), "same") > 0, prepend=False, append=False))
        words = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            crossings = np.count_nonzero(np.diff(np.signbit(samples[start:end])))
            keyword = min(WORDS, key=lambda frequency: abs(frequency - crossings / 2 / (end - start) * RATE))
            times = ((window.start + place) / RATE for place in (start, end))
            words.append(DetectedKeyword(WORDS[keyword], ("Profanity",), *times, 0.9))
        return [word for word in words if window.first <= (word.start + word.end) / 2 * RATE <= window.last]


class NamingJudge(HearingJudge):
    """Takes each word for the first keyword of its list."""

    def _words(self, window, samples):
        name = self.pipe.processor.keywords.keywords[0]
        return [item._replace(keyword=name) for item in super()._words(window, samples)]


def packets(samples: np.ndarray, seed: int = 0, longest: float = 0.2) -> list[np.ndarray]:
    """The sound in packets of random lengths, from a millisecond on."""
    rng, cuts = np.random.default_rng(seed), [0]
    while cuts[-1] < len(samples):
        cuts.append(cuts[-1] + int(rng.integers(16, round(longest * RATE))))
    return [samples[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]


def listen(session, samples: np.ndarray, **how) -> list:
    """All events of a sound."""
    events = [event for packet in packets(samples, **how) for event in session.feed(packet)]
    return events + session.finish()


def of_kind(events: list, kind: str) -> list:
    return [event for event in events if event.event == kind]


def keywords(events: list, state: str = "final") -> list:
    return [event for event in of_kind(events, "keyword") if event.state == state]
