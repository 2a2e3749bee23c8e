"""Speaks the example clips of `make demo` in voices that no model was trained on.

pip install -e ".[voices]"
python docs/make_examples.py docs/examples
"""

import sys
from pathlib import Path

import numpy as np

from datasets_scripts.effects import encode_opus
from datasets_scripts.speech_engines import TEST_STYLES, KokoroEngine, KokoroVoice
from modeling_toxmtl.audio import SAMPLING_RATE, resample


EXAMPLES = {  # name: style, text
    "insult": (TEST_STYLES[0], "Oh shut up, you absolute idiot."),
    "by_context": (TEST_STYLES[1], "Nobody on this team likes you, just leave and never come back."),
    "harmless": (TEST_STYLES[1], "Meet me at the market, I will bring the ladder."),
    "sound_alikes": (TEST_STYLES[0], "The duck hit the cockpit, and the assassin passed the grass."),
}
SILENCE = round(0.4 * SAMPLING_RATE)  # around the speech
BIT_RATE = 24_000


def main(folder: str) -> None:
    """Writes an Ogg-Opus file for each example."""
    engine = KokoroEngine()
    for name, (style, text) in EXAMPLES.items():
        voice = KokoroVoice("test", ((style, 100),))
        samples, rate = engine.speak(text.lower().replace(".", ""), voice, 1.0, np.random.default_rng(0))
        samples = np.pad(resample(samples, rate, SAMPLING_RATE), SILENCE)
        Path(folder, f"{name}.ogg").write_bytes(encode_opus(samples, SAMPLING_RATE, BIT_RATE))


if __name__ == "__main__":
    main(*sys.argv[1:])
