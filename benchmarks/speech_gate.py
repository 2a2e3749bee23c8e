"""What of noisy clips a live session hears: by the silence rule, and behind a speech gate.

    python -m benchmarks.speech_gate --model model_cards/whisper-tiny-en-toxmtl

Sentences of the demo's test split, spoken by its test voices, and the example clips, which natural voices speak, stand
between pauses of three seconds; noise of every kind goes through all of it. Measured are the share of speech that is
heard, the share of the pauses that is heard, margins included, the keywords of the sentences that the model finds then
and the reports of words that were not said, and the time that each rule takes for a second of sound.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from transformers import HfArgumentParser

from benchmarks import write_results
from benchmarks.live import sentences
from datasets_scripts.effects import BACKGROUND_KINDS, make_noise
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.decoding import DetectedKeyword
from modeling_toxmtl.listening import Window, plan_windows
from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.moderation.judge import Judge
from modeling_toxmtl.moderation.live.gate import SileroVad, SpeechGate


PAUSE = 3.0  # seconds before and behind a sentence
EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
EXAMPLE_SILENCE = 0.4  # seconds around the speech of an example
SENTENCE_SILENCE = 2.0  # the same of `sentences`
RULES = ("silence", "gate")


@dataclass
class SpeechGateArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    num_clips: int = field(default=24, metadata={"help": "Number of sentences."})
    snrs: list[float] = field(
        default_factory=lambda: [0.0, 5.0, 10.0, 20.0], metadata={"help": "Speech above noise, in dB."}
    )
    seed: int = field(default=0, metadata={"help": "Of voices, speech rates and noise."})
    results_file: str = field(
        default="benchmarks/results/speech_gate.json", metadata={"help": "Where the figures go, as JSON."}
    )


class Clip(NamedTuple):
    """A sentence between pauses.

    Args:
        samples: `(samples,)` at `SAMPLING_RATE`, without noise.
        speech: first sample of the sentence, and one past its last.
        said: its keywords; None where they are not known.
    """

    samples: np.ndarray
    speech: tuple[int, int]
    said: list[DetectedKeyword] | None


def make_clips(num_clips: int, seed: int, judge: Judge) -> list[Clip]:
    """The sentences, and the examples."""
    clips = [_between_pauses(samples, SENTENCE_SILENCE, said) for samples, said in sentences(num_clips, seed, judge)]
    examples = (load_audio(path) for path in sorted(EXAMPLES.glob("*.ogg")))
    return [*clips, *(_between_pauses(samples, EXAMPLE_SILENCE, None) for samples in examples)]


def _between_pauses(samples, silence, said):
    cut, pause = round(silence * SAMPLING_RATE), round(PAUSE * SAMPLING_RATE)
    spoken = samples[cut : len(samples) - cut]
    said = said and [word.shifted(PAUSE - silence) for word in said]
    return Clip(np.pad(spoken, pause), (pause, pause + len(spoken)), said)


def with_noise(clip: Clip, kind: str, snr: float, rng: np.random.Generator) -> Clip:
    """With noise all through, `snr` dB below the mean power of the speech."""
    noise = make_noise(kind, len(clip.samples), SAMPLING_RATE, rng).astype(np.float32)
    start, end = clip.speech
    scale = 10 ** (-snr / 20) * np.sqrt(np.mean(clip.samples[start:end] ** 2) / np.mean(noise**2))
    return clip._replace(samples=np.clip(clip.samples + np.float32(scale) * noise, -1, 1))


def gated(samples: np.ndarray, detector: SileroVad) -> np.ndarray:
    """The samples behind a gate: what is no speech is zero."""
    gate = SpeechGate(detector)
    sounds = [*gate.feed([samples]), *gate.end()]
    return np.concatenate([np.zeros(sound, dtype=np.float32) if isinstance(sound, int) else sound for sound in sounds])


def windows_of(samples: np.ndarray, judge: Judge) -> list[tuple[Window, np.ndarray]]:
    """The windows of a clip in which something can be heard."""
    planner = judge.planner()
    windows = plan_windows([[samples[None]]], planner.window, planner.stride, planner.shortest, planner.longest)
    return [(window, heard) for window, heard in windows if not window.is_silent]


def shares(windows: Sequence[tuple[Window, np.ndarray]], clip: Clip) -> tuple[int, int]:
    """Samples of speech, and of pauses, that are heard."""
    is_heard = np.zeros(len(clip.samples), dtype=bool)
    for window, _ in windows:
        is_heard[window.start : window.end] = True
    speech = int(is_heard[slice(*clip.speech)].sum())
    return speech, int(is_heard.sum()) - speech


def keywords_of(windows: list, judge: Judge, said: list[DetectedKeyword]) -> tuple[int, int]:
    """Keywords that were said and found, and reports of others."""
    if not windows:
        return 0, 0
    found = judge.verdict(judge.hear(windows))["keywords"]
    right = sum(any(_is_of(word, report) for report in found) for word in said)
    return right, sum(not any(_is_of(word, report) for word in said) for report in found)


def _is_of(word, report):
    return report["keyword"] == word.keyword and report["start"] < word.end and word.start < report["end"]


class Sums:
    """What a rule came to, over many clips."""

    def __init__(self):
        self.speech = self.pauses = self.speech_heard = self.pauses_heard = 0
        self.said = self.found = self.wrong = 0

    def add(self, clip: Clip, windows: list, judge: Judge) -> None:
        """Counts a clip of which these windows are heard."""
        start, end = clip.speech
        self.speech, self.pauses = self.speech + end - start, self.pauses + len(clip.samples) - (end - start)
        speech, pauses = shares(windows, clip)
        self.speech_heard, self.pauses_heard = self.speech_heard + speech, self.pauses_heard + pauses
        if clip.said is not None:
            found, wrong = keywords_of(windows, judge, clip.said)
            self.said, self.found, self.wrong = self.said + len(clip.said), self.found + found, self.wrong + wrong

    def figures(self) -> dict[str, float]:
        """In percent, and counts of keywords."""
        return {
            "speech_heard_percent": 100 * self.speech_heard / self.speech,
            "pauses_heard_percent": 100 * self.pauses_heard / self.pauses,
            "keywords_said": self.said,
            "keywords_found": self.found,
            "keywords_wrong": self.wrong,
        }


def measure(args: SpeechGateArguments, judge: Judge, detector: SileroVad) -> list[dict]:
    """The figures of each SNR and rule."""
    clips, rows = make_clips(args.num_clips, args.seed, judge), []
    for snr in (*args.snrs, float("inf")):
        rng, sums = np.random.default_rng(args.seed), {rule: Sums() for rule in RULES}
        for number, clip in enumerate(tqdm(clips, desc=f"{snr:g} dB")):
            noisy = with_noise(clip, BACKGROUND_KINDS[number % len(BACKGROUND_KINDS)], snr, rng)
            for rule, samples in (("silence", noisy.samples), ("gate", gated(noisy.samples, detector))):
                sums[rule].add(noisy, windows_of(samples, judge), judge)
        rows += [{"snr_db": None if np.isinf(snr) else snr, "rule": rule, **sums[rule].figures()} for rule in RULES]
    return rows


def costs(judge: Judge, detector: SileroVad, seconds: float = 60.0) -> dict[str, float]:
    """Milliseconds of processor time for a second of noise: to decide by each rule, and to hear it in windows."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLING_RATE), dtype=np.float32)
    windows = windows_of(noise, judge)
    judge.hear(windows[:1])
    works = {
        "silence": lambda: windows_of(noise, judge),
        "gate": lambda: gated(noise, detector),
        "hear": lambda: judge.hear(windows),
    }
    figures = {}
    for name, work in works.items():
        before = time.process_time()
        work()
        figures[f"{name}_ms_per_second"] = 1000 * (time.process_time() - before) / seconds
    return figures


def markdown(results: dict) -> str:
    """The table of the page."""
    lines = [
        "| speech above noise | rule | speech heard | pauses heard | keywords found | wrong reports |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        snr = "no noise" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
        lines.append(
            f"| {snr} | {row['rule']} | {row['speech_heard_percent']:.1f} % | {row['pauses_heard_percent']:.1f} % | "
            f"{row['keywords_found']} of {row['keywords_said']} | {row['keywords_wrong']} |"
        )
    return "\n".join(lines)


def main(args: SpeechGateArguments) -> dict:
    """Measures, prints and writes."""
    judge, detector = Judge(load_judge(args.model)), SileroVad()
    results = {"rows": measure(args, judge, detector), "costs": costs(judge, detector)}
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(SpeechGateArguments).parse_args_into_dataclasses())
