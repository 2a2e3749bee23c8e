"""Finds the decoding settings that give the best keyword F1 on a validation split, and stores them with the model.

    toxmtl tune runs/mine --dataset my_clips

The model runs once; each combination of the grid then decodes the same logits. Ties go to the better weighted AP, then
to the narrower beam. Prints the table and rewrites the model folder's `processor_config.json`. Where keywords count in
the scores of the labels (`keyword_evidence`), scores change, so that a promise (`promise.py`) goes.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm.auto import tqdm
from transformers import AutoModelForAudioClassification, EvalPrediction, PreTrainedConfig
from transformers.utils import logging

from ..decoding import DecodingSettings
from ..processing_toxmtl import ToxicityMTLProcessor
from .dataset import ToxicityDataset, usable_dataset
from .evaluation import evaluate_batches, predict_batches
from .folders import audio_root, load_clips
from .promise import PROMISE_FILE


logger = logging.get_logger(__name__)

COLUMNS = {
    "keyword_f1": "F1",
    "keyword_weighted_ap_scores": "weighted AP",
    "keyword_false_accept_rate": "FAR",
    "keyword_false_reject_rate": "FRR",
}


@dataclass
class TuningArguments:
    """What to tune, on what, and the grid."""

    model: str = field(metadata={"help": "Model folder; its processor_config.json is rewritten."})
    dataset: str = field(default="demo_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    split: str = field(default="validation", metadata={"help": "Split to tune on."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    language_model: str | None = field(
        default=None, metadata={"help": "Word n-gram model to decode with and to store; default: the model's own."}
    )
    decoder: str | None = field(default=None, metadata={"help": "lexicon or pyctcdecode; default: the model's own."})
    alpha: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0], metadata={"help": "Language model weights to try."}
    )
    beta: list[float] = field(default_factory=lambda: [-1.0, 0.0, 1.0], metadata={"help": "Word weights to try."})
    beam_width: list[int] = field(default_factory=lambda: [16, 64], metadata={"help": "Beam widths to try."})
    other_word_penalty: list[float] = field(
        default_factory=lambda: [4.0, 8.0, 12.0],
        metadata={"help": "Penalties to try of words outside the list (lexicon only)."},
    )
    common_word_penalty: list[float] = field(
        default_factory=lambda: [0.25, 0.35, 0.45],
        metadata={"help": "Penalties to try of common words (lexicon only, if the model has common words)."},
    )
    batch_size: int = field(default=8, metadata={"help": "Clips per forward pass."})


def check_folder(model: str) -> None:
    """Raises ValueError if there is no folder to rewrite."""
    if not Path(model, "config.json").exists():
        raise ValueError(f"{model} is no model folder, and would be rewritten: download or export a Hub model.")


def load_split(
    processor: ToxicityMTLProcessor,
    config: PreTrainedConfig,
    dataset: str,
    name: str | None,
    split: str,
    max_samples: int | None,
) -> ToxicityDataset:
    """The usable rows of one split, cut into windows of 15 s as in evaluation.

    Raises:
        ValueError: if there is no such split, or none of its rows can be used.
    """
    rows = load_clips(dataset, name, [split], max_samples)[split]
    return usable_dataset(rows, processor, config, f"Split {split!r} of {dataset}", audio_root(dataset))


def grid(args: TuningArguments, processor: ToxicityMTLProcessor) -> list[DecodingSettings]:
    """The settings to try, narrow beams first. What changes nothing is not varied: alpha without a language model,
    and the penalties without the lexicon decoder or common words."""
    settings = processor.decoding
    axes = {"beam_width": sorted(set(args.beam_width)), "beta": args.beta}
    if processor.language_model is not None:
        axes["alpha"] = args.alpha
    if settings.decoder == "lexicon":
        axes["other_word_penalty"] = args.other_word_penalty
        if processor.common_words is not None:
            axes["common_word_penalty"] = args.common_word_penalty
    combinations = itertools.product(*axes.values())
    return [replace(settings, **dict(zip(axes, values, strict=True))) for values in combinations]


def tune(
    dataset: ToxicityDataset, batches: Sequence[EvalPrediction], candidates: Iterable[DecodingSettings]
) -> list[tuple[DecodingSettings, dict[str, float]]]:
    """Decodes with each of the settings, and leaves the dataset's processor with the best.

    Returns:
        the settings with their metrics, best first.

    Raises:
        ValueError: if no transcribed clip has a keyword, so that nothing tells the settings apart.
    """
    results = []
    for settings in tqdm(candidates, desc="Decoding"):
        dataset.processor.decoding = settings
        results.append((settings, evaluate_batches(dataset, batches).metrics))
    if all("keyword_f1" not in metrics for _, metrics in results):
        raise ValueError("There is nothing to tune on: no transcribed clip has a keyword, and none was heard.")
    results.sort(key=lambda result: [-result[1].get(name, 0.0) for name in list(COLUMNS)[:2]])
    dataset.processor.decoding = results[0][0]
    return results


def markdown(results: Sequence[tuple[DecodingSettings, dict[str, float]]]) -> str:
    """A row per setting."""
    fields = ("decoder", "beam_width", "alpha", "beta", "other_word_penalty", "common_word_penalty")
    lines = ["| " + " | ".join([*fields, *COLUMNS.values()]) + " |", "|---" * (len(fields) + len(COLUMNS)) + "|"]
    for settings, metrics in results:
        values = [str(getattr(settings, name)) for name in fields]
        values += [f"{metrics[name]:.2f}" if name in metrics else "-" for name in COLUMNS]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def main(args: TuningArguments) -> list[tuple[DecodingSettings, dict[str, float]]]:
    """Tunes, prints the table, stores the best; returns what `tune` does.

    Raises:
        ValueError: if there is no folder to rewrite, or nothing to tune on.
    """
    check_folder(args.model)
    model = AutoModelForAudioClassification.from_pretrained(args.model)
    processor = ToxicityMTLProcessor.from_pretrained(args.model)
    if args.language_model:
        processor.language_model = args.language_model
    if args.decoder:
        processor.decoding = replace(processor.decoding, decoder=args.decoder)
    candidates = grid(args, processor)
    dataset = load_split(processor, model.config, args.dataset, args.dataset_name, args.split, args.max_samples)
    results = tune(dataset, predict_batches(model, dataset, args.batch_size), candidates)
    print(markdown(results))
    processor.save_pretrained(args.model)
    if model.config.keyword_evidence:
        Path(args.model, PROMISE_FILE).unlink(missing_ok=True)  # it was of the scores before
        logger.warning(
            f"{args.model}: keywords count in the scores of its labels, which other settings change: choose its "
            "thresholds again (toxmtl calibrate)."
        )
    return results
