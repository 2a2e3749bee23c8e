"""Draws a verdict over the waveform of a clip: the picture of the README.

python docs/draw_verdict.py model_cards/whisper-tiny-en-toxmtl docs/examples/insult.ogg docs/verdict.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from transformers import pipeline

import modeling_toxmtl  # noqa: F401  registers the models
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio


INK, ACCENT, FAINT = "#1f2933", "#c62828", "#9aa5b1"


def draw(samples: np.ndarray, verdict: dict, thresholds: dict[str, float]) -> Figure:
    """The clip's waveform with its keywords above, and a bar for each label's score with a tick at its threshold."""
    figure = Figure(figsize=(9, 3), layout="constrained", dpi=150)
    wave, bars = figure.subplots(1, 2, width_ratios=[2.2, 1])
    wave.plot(np.arange(len(samples)) / SAMPLING_RATE, samples, color=FAINT, linewidth=0.5)
    top = 1.1 * np.abs(samples).max()
    for word in verdict["keywords"]:
        wave.axvspan(word["start"], word["end"], color=ACCENT, alpha=0.15, linewidth=0)
        middle = (word["start"] + word["end"]) / 2
        wave.text(middle, top, f"{word['keyword']} {word['score']:.2f}", ha="center", va="bottom", color=ACCENT)
    wave.set(xlabel="seconds", yticks=[], ylim=(-top, 1.35 * top), xlim=(0, len(samples) / SAMPLING_RATE))
    items = verdict["labels"][::-1]
    colors = [ACCENT if item["label"] in verdict["violations"] else FAINT for item in items]
    bars.barh([item["label"] for item in items], [item["score"] for item in items], color=colors)
    for place, item in enumerate(items):
        bars.plot([thresholds[item["label"]]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1)
    bars.set(xlim=(0, 1), xlabel="score (tick: threshold)")
    for axes in (wave, bars):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    return figure


def main(model: str, clip: str, picture: str) -> None:
    moderate = pipeline("audio-classification", model=model)
    verdict = moderate(clip, return_keywords=True)
    draw(load_audio(clip), verdict, moderate.model.config.thresholds).savefig(Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
