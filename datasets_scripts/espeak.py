"""Offline speech synthesis with espeak-ng, through the library that the `espeakng-loader` wheel carries.

Design choices:
- ctypes on the C library: no system package, no subprocess per sentence (about 2 ms a sentence).
- A voice is an accent and a variant (the variant changes the vocal tract and the source, so it plays the part of a
  speaker). Variants, not only their combinations with accents, are disjoint between the splits: whatever is trained on
  the train voices has never heard the timbre of a test voice.
- espeak-ng's own variants are few, and a model learns them by heart. So the train split has made-up ones too, drawn
  from a seed (`draw_variant`); validation and test are spoken by espeak-ng's own variants alone.
- Every sentence is spoken by a new copy of the library (half a millisecond), because a copy carries the phase of its
  pitch flutter from one sentence to the next, and draws the noise of breath from two generators, one of them seeded by
  the clock. So the same arguments give the same samples, whatever was said before.
"""

import _ctypes
import contextlib
import ctypes
import functools
import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


try:
    import espeakng_loader
except ImportError as error:
    raise ImportError("Speech synthesis needs espeakng-loader: pip install -e '.[corpora]'.") from error


class Voice(NamedTuple):
    """An espeak-ng voice: `accent` is a voice file such as `en-us`, `variant` one of espeak-ng's `!v` files such as
    `m3`, or a made-up one such as `made7`."""

    accent: str
    variant: str

    @property
    def name(self) -> str:
        """As espeak-ng writes it."""
        return f"{self.accent}+{self.variant}"


class SpokenWord(NamedTuple):
    """A word of a text with its time in the speech, `start` to `end` in seconds."""

    text: str
    start: float
    end: float


ACCENTS = {
    "en": ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"),
    "es": ("es", "es-419"),
}

MADE_UP_VARIANTS = tuple(f"made{number}" for number in range(400))

VARIANTS = {
    "train": (
        *("m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f3", "f4", "Andrea", "Alicia", "Andy", "Mike", "Hugo"),
        *("Marco", "adam", "belinda", "benjamin", "caleb", "david", "edward", "gustave", "iven", "john", "klatt"),
        *("klatt3", "linda", "max", "michel", "norbert", "paul", "rob", "robert", "steph", "victor", "zac"),
        *MADE_UP_VARIANTS,
    ),
    "validation": ("m8", "Annie", "ian", "steph2"),
    "test": ("m7", "f5", "Alex", "anika", "quincy", "miguel"),
}

# language -> split -> voices
VOICES = {
    language: {
        split: [Voice(accent, variant) for variant in variants for accent in accents]
        for split, variants in VARIANTS.items()
    }
    for language, accents in ACCENTS.items()
}

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: the call returns when the callback has had every sample
_CHARACTER_POSITION = 1
_UTF8 = 1
_IPA = 0x02  # of espeak_TextToPhonemes
_TIE = 0x80 | ord("^") << 8
_PARAMETERS = {"rate": 1, "pitch": 3, "pitch_range": 4, "word_gap": 7}
_LIST_END, _WORD, _END = 0, 1, 5  # types of events


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),  # in characters
        ("audio_position", ctypes.c_int),  # in milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def draw_variant(rng: np.random.Generator) -> str:
    """The text of a made-up espeak-ng variant file: a vocal tract of another length and other formants, another
    pitch, spectral tilt, breathiness and stress. The ranges are those of espeak-ng's own variants."""
    tract, low = rng.uniform(0.85, 1.2), 65 * 3.2 ** rng.random()
    lines = [f"pitch {low:.0f} {low * rng.uniform(1.1, 1.8):.0f}"]
    for formant in range(9):
        frequency = 100 * tract * rng.uniform(0.94, 1.06) if formant else 100 * rng.uniform(0.85, 1.15)
        height = rng.uniform(50, 130) if formant < 4 else rng.uniform(20, 120)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {rng.uniform(75, 160):.0f}")
    lines.append(f"voicing {rng.uniform(40, 150):.0f}")
    lines.append(f"consonants {rng.uniform(60, 150):.0f} {rng.uniform(60, 130):.0f}")
    lines.append(f"roughness {rng.integers(0, 3)}")
    lines.append(f"flutter {rng.integers(0, 7)}")
    if rng.random() < 0.5:
        levels = rng.uniform(60, 255, size=3)
        lines.append(f"tone 500 {levels[0]:.0f} 1300 {levels[1]:.0f} 3000 {levels[2]:.0f}")
    if rng.random() < 0.3:
        lines.append("breath 0 " + " ".join(f"{level:.0f}" for level in rng.uniform(2, 8, size=6)) + " 0 6")
    lines.append("stressAmp " + " ".join(str(level) for level in sorted(rng.integers(14, 28, size=8))))
    return "\n".join(["language variant", *lines, ""])


@functools.cache
def _data_folder() -> tempfile.TemporaryDirectory:
    """espeak-ng's data by links, so that a made-up variant can be put beside its own; goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="espeak-ng-")
    source, target = Path(espeakng_loader.get_data_path()), Path(folder.name, "espeak-ng-data")
    variants = target / "voices" / "!v"
    variants.mkdir(parents=True)
    for directory in (".", "voices", "voices/!v"):
        for entry in (source / directory).iterdir():
            if not (link := target / directory / entry.name).exists():
                link.symlink_to(entry)
    return folder


def _select_voice(library: ctypes.CDLL, voice: Voice) -> bool:
    """Returns whether espeak-ng knows the voice."""
    if voice.variant not in MADE_UP_VARIANTS:
        return library.espeak_SetVoiceByName(voice.name.encode()) == 0
    definition = draw_variant(np.random.default_rng([MADE_UP_VARIANTS.index(voice.variant), 2]))
    Path(_data_folder().name, "espeak-ng-data", "voices", "!v", "made-up").write_text(definition)
    return library.espeak_SetVoiceByName(f"{voice.accent}+made-up".encode()) == 0


def synthesize(
    text: str,
    voice: Voice,
    seed: int = 0,
    rate: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
    word_gap: int = 0,
) -> tuple[np.ndarray, int]:
    """Speaks `text`.

    Args:
        text: what to say, any UTF-8 text.
        voice: who says it.
        seed: of the noise of breath, 0 to 2**31 - 1; the same arguments give the same samples.
        rate: speed in words a minute, 80 to 450.
        pitch: base pitch, 0 to 100.
        pitch_range: liveliness of the pitch, 0 (monotone) to 100.
        word_gap: extra pause between words, in units of 10 ms.

    Returns:
        float32 samples in [-1, 1] of shape `(samples,)`, and their sampling rate in Hz.

    Raises:
        ValueError: if espeak-ng does not know the voice.
    """
    settings = {"rate": rate, "pitch": pitch, "pitch_range": pitch_range, "word_gap": word_gap}
    samples, sampling_rate, _ = _speak(text, voice, seed, settings)
    return samples, sampling_rate


def synthesize_words(text: str, voice: Voice, seed: int = 0, **prosody) -> tuple[np.ndarray, int, list[SpokenWord]]:
    """As [`synthesize`], and when each word is spoken.

    A word ends where the next one begins: espeak-ng leaves no gap between words unless it is told to.
    """
    samples, sampling_rate, events = _speak(text, voice, seed, prosody)
    events = [event for event in events if event.type in (_WORD, _END)]
    words = []
    for event, following in zip(events[:-1], events[1:], strict=True):
        if event.type == _WORD:
            spoken = text[event.text_position - 1 : event.text_position - 1 + event.length]
            words.append(SpokenWord(spoken, event.sample / sampling_rate, following.sample / sampling_rate))
    return samples, sampling_rate, words


def phonemize(text: str, accent: str, has_ties: bool = False) -> str:
    """The pronunciation of `text` in the International Phonetic Alphabet, with the punctuation of the text.

    Args:
        text: what to say, any UTF-8 text.
        accent: whose pronunciation; a voice file of espeak-ng such as `en-us`.
        has_ties: whether `^` joins the two parts of a diphthong or an affricate.

    Raises:
        ValueError: if espeak-ng does not know the accent.
    """
    with _library() as (library, _):
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        if library.espeak_SetVoiceByName(accent.encode()) != 0:
            raise ValueError(f"espeak-ng knows no voice {accent!r}: see `ACCENTS`.")
        # espeak-ng drops the punctuation
        parts = re.split(r"([.,!?;:]+\s*)", text)
        return "".join(part if number % 2 else _clause(library, part, has_ties) for number, part in enumerate(parts))


def _clause(library: ctypes.CDLL, text: str, has_ties: bool) -> str:
    buffer = ctypes.create_string_buffer(text.encode())
    position, phonemes = ctypes.c_void_p(ctypes.addressof(buffer)), []
    while position.value:
        phonemes.append(library.espeak_TextToPhonemes(ctypes.byref(position), _UTF8, _IPA | _TIE * has_ties))
    return " ".join(part.decode() for part in phonemes if part)


@contextlib.contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """A new copy of the library, and its sampling rate in Hz."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        data_path = _data_folder().name.encode()
        sampling_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data_path, 0)
        if sampling_rate <= 0:
            raise RuntimeError(f"espeak-ng could not start from {data_path.decode()}: reinstall espeakng-loader.")
        yield library, sampling_rate
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _speak(text: str, voice: Voice, seed: int, settings: dict[str, int]) -> tuple[np.ndarray, int, list["_Event"]]:
    with _library() as (library, sampling_rate):
        if not _select_voice(library, voice):
            raise ValueError(f"espeak-ng knows no voice {voice.name!r}: see `ACCENTS` and `VARIANTS`.")
        ctypes.CDLL(None).srand(int(seed))
        library.espeak_ng_SetRandSeed(int(seed))
        for parameter, value in settings.items():
            library.espeak_SetParameter(_PARAMETERS[parameter], int(value), 0)
        samples, events = _collect(library, text)
    return samples.astype(np.float32) / 32768.0, sampling_rate, events


def _collect(library: ctypes.CDLL, text: str) -> tuple[np.ndarray, list["_Event"]]:
    chunks, kept = [], []

    @_CALLBACK
    def keep(samples, count, events):
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        for event in itertools.takewhile(lambda event: event.type != _LIST_END, events):
            kept.append(_Event.from_buffer_copy(event))
        return 0  # go on

    library.espeak_SetSynthCallback(keep)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, _CHARACTER_POSITION, 0, _UTF8, None, None)
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.int16), kept
