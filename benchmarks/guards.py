"""What is not heard of silence and steady noise (`listening.py`): what that saves, and what it loses.

    toxmtl export model_cards/whisper-tiny-en-toxmtl exported --to onnx
    python -m benchmarks.guards --model exported --dataset voice_data

The clips of a corpus are judged as they are; and between pauses, as one sends them who speaks now and then: with the
microphone muted, or open beside a fan, which goes on behind the speech. Each is judged with the guards and without
them, when all of it is heard, and counts.

`Heard` is the sound that the model hears, of which windows overlap; the cost is the processor's time for an hour of
the recording. The quality is that of `baselines.py`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
from tqdm import tqdm
from transformers import HfArgumentParser

from benchmarks import write_results
from benchmarks.backbone import processor_name
from benchmarks.baselines import quality
from datasets_scripts.effects import make_noise
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.judging import Judging
from modeling_toxmtl.listening import frame_size
from modeling_toxmtl.moderation.hearing import load_judge
from modeling_toxmtl.training.folders import load_clips


PAUSE = 20.0  # seconds before and behind a clip
FAN = -50.0  # dB of full scale
COLUMNS = {  # of a result: the table's title, and the format
    "heard_percent": ("Heard (%)", "{:.1f}"),
    "cost": ("Seconds for an hour", "{:.1f}"),
    "mAP": ("mAP", "{:.2f}"),
    "f1": ("Keyword F1", "{:.2f}"),
}


@dataclass
class GuardArguments:
    """What to measure, and on what."""

    model: str = field(metadata={"help": "Folder or Hub id of a model of this package, exported or not."})
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="validation", metadata={"help": "Split to judge."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    seed: int = field(default=0, metadata={"help": "Of the noise."})
    results_file: str = field(
        default="benchmarks/results/guards.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


def between_pauses(samples: np.ndarray) -> np.ndarray:
    """A clip `(samples,)` between muted pauses."""
    return np.pad(samples, round(PAUSE * SAMPLING_RATE))


def beside_a_fan(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same, with its noise all through."""
    paused = between_pauses(samples)
    return paused + np.float32(10 ** (FAN / 20)) * make_noise("pink", len(paused), SAMPLING_RATE, rng)


def scenes(seed: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is made of a clip, by name."""
    rng = np.random.default_rng(seed)
    return {
        "clips as they are": lambda samples: samples,
        "between muted pauses": between_pauses,
        "between pauses with a fan": lambda samples: beside_a_fan(samples, rng),
    }


@contextmanager
def all_is_heard() -> Iterator[None]:
    """Without the guards."""
    size = frame_size()
    everything = {
        "loud_frames": lambda samples: np.ones((len(samples), -(-samples.shape[1] // size)), dtype=bool),
        "_loud_samples": lambda samples: np.arange(samples.shape[1]),
        "is_steady": lambda samples: False,
    }
    with ExitStack() as stack:
        for name, value in everything.items():
            stack.enter_context(patch(f"modeling_toxmtl.listening.{name}", value))
        yield


def seconds_heard(judge: Judging, samples: np.ndarray) -> float:
    """Of all windows that the model hears."""
    windows = np.concatenate([np.asarray(prepared["window"]) for prepared in judge.preprocess(samples)])
    start, end, *_, is_silent = windows.T
    return float(((end - start) * (1 - is_silent)).sum() / SAMPLING_RATE)


def measure(judge: Judging, rows: list[dict], recordings: Iterable[np.ndarray]) -> dict[str, float | None]:
    """The figures of a recording for each row."""
    verdicts, sound, heard, seconds = [], 0.0, 0.0, 0.0
    for recording in recordings:
        sound, heard = sound + len(recording) / SAMPLING_RATE, heard + seconds_heard(judge, recording)
        start = time.process_time()
        verdicts.append(judge(recording, return_keywords=True))
        seconds += time.process_time() - start
    figures = {"heard_percent": 100 * heard / sound, "cost": 3600 * seconds / sound}
    return figures | quality(rows, verdicts, judge.processor.keywords)


def markdown(results: dict[str, dict[str, dict]]) -> str:
    """Two rows for each scene."""
    lines = ["| Sound | Guards | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|---|" + "---:|" * len(COLUMNS))
    for scene, ways in results.items():
        for way, row in ways.items():
            cells = [pattern.format(row[name]) for name, (_, pattern) in COLUMNS.items()]
            lines.append("| " + " | ".join([scene, way, *cells]) + " |")
    return "\n".join(lines)


def main(args: GuardArguments) -> dict[str, dict[str, dict]]:
    """Judges, prints the table and writes the results."""
    rows = load_clips(args.dataset, splits=[args.split], max_samples=args.max_samples)[args.split]
    clips, judge = [load_audio(row["audio"]["bytes"]) for row in rows], load_judge(args.model)
    results = {}
    for name in scenes(args.seed):
        results[name] = {}
        for way, guards in (("with", nullcontext()), ("without", all_is_heard())):
            scene = scenes(args.seed)[name]
            with guards:
                results[name][way] = measure(judge, rows, (scene(clip) for clip in tqdm(clips, desc=f"{name}, {way}")))
    write_results(args, results, markdown(results), clips=len(rows), machine=processor_name())
    return results


if __name__ == "__main__":
    main(HfArgumentParser(GuardArguments, description=__doc__).parse_args_into_dataclasses()[0])
