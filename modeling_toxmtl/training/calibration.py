"""Makes label scores probabilities, and chooses the score from which on a label counts.

    toxmtl calibrate runs/mine --dataset my_clips

Trained with a weighted loss on few clips, a classifier ranks well before its sigmoid is a probability. Each label's
logit gets a scale and an offset that fit the validation split (Platt 1999), which change no ranking, and then a
threshold, which goes into the configuration as `label_thresholds`. Scale and offset are folded into the classifier's
last layer, so that every way of loading the model has the calibrated scores. On request, the weight of the keywords
that were heard is fitted with them, and goes into the configuration as `keyword_evidence`: that changes the ranking.
`run_mtl.py` does this after training;
the command does it again on other clips, such as those of a new community. It rewrites the model in its folder, whose
`results.json` and card go on to describe the model as it was.

    toxmtl calibrate runs/mine --dataset my_clips --max-fpr 0.01

leaves the scores as they are, and chooses thresholds with a promise (`promise.py`), which `calibration.json` in the
model's folder states.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForAudioClassification, PreTrainedModel
from transformers.utils import logging

from ..io.files import write_json
from ..labels import DEFAULT_THRESHOLD, NO_VIOLATION, scores_from_logits
from ..processing_toxmtl import ToxicityMTLProcessor
from .evaluation import ClipEvaluation, evaluate_batches, predict_batches
from .promise import PROMISE_FILE, SCOPES, Goal, choose_promised, promise_table
from .tuning import check_folder, load_split


logger = logging.get_logger(__name__)

SMALLEST_SCALE = 0.05  # of a label that the logits do not tell; nought would lose the order of the clips
LARGEST_FACTOR = 1e4  # of logits that hardly differ; the search tries ever larger ones, which would overflow


@dataclass
class LabelCalibration:
    """How a label's logit and the keywords heard become a probability, from which on the label counts."""

    scale: float = 1.0
    offset: float = 0.0
    threshold: float = DEFAULT_THRESHOLD
    evidence: float = 0.0


@dataclass
class CalibrationArguments:
    """What to calibrate, and on what."""

    model: str = field(metadata={"help": "Model folder; its weights and config.json are rewritten."})
    dataset: str = field(default="demo_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    split: str = field(default="validation", metadata={"help": "Split to fit; not one that you report results on."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    use_keyword_evidence: bool = field(
        default=False,
        metadata={"help": "Fit how much a keyword that is heard says of its labels; scores change, and rank better."},
    )
    max_fpr: float | None = field(
        default=None, metadata={"help": "Promise: at most this share of harmless clips is reported (0 to 1)."}
    )
    min_recall: float | None = field(
        default=None, metadata={"help": "Promise: at least this share of violations is reported (0 to 1)."}
    )
    min_precision: float | None = field(
        default=None, metadata={"help": "Promise: at least this share of reports is right (0 to 1)."}
    )
    confidence: float = field(default=0.95, metadata={"help": "Of the promise."})
    scope: str = field(
        default="decision",
        metadata={
            "help": "decision: the promise is of clips as a whole, with one threshold; label: of each label.",
            "choices": SCOPES,
        },
    )
    windows: int = field(default=1, metadata={"help": "Longest recordings that --max-fpr holds for, in windows."})
    batch_size: int = field(default=8, metadata={"help": "Clips per forward pass."})

    def __post_init__(self):
        if len(goals := self.goals) > 1:
            raise ValueError(f"--{' and --'.join(goals)} exclude each other: give one.".replace("_", "-"))
        for name, rate in goals.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"--{name.replace('_', '-')} must lie between 0 and 1, but is {rate}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"--confidence must lie between 0 and 1, but is {self.confidence}.")
        if self.windows < 1:
            raise ValueError(f"--windows is {self.windows}: give at least 1.")
        if self.windows > 1 and self.max_fpr is None:
            raise ValueError("--windows is for --max-fpr alone: more windows only raise the chance of a report.")

    @property
    def goals(self) -> dict[str, float]:
        """What is to be promised, with its rate: none or one."""
        given = {name: getattr(self, name) for name in ("max_fpr", "min_recall", "min_precision")}
        return {name: rate for name, rate in given.items() if rate is not None}


def fit_scale(
    logits: np.ndarray, targets: np.ndarray, evidence: np.ndarray | None = None, sign: int = 1
) -> tuple[float, float, float]:
    """Scale and offset of one label's logits, and weight of its evidence, that make their sigmoid the likeliest
    probability.

    The targets are smoothed as in Platt (1999), by one clip more with and one without the label, so that a label whose
    clips are told apart without error does not become certain.

    Args:
        logits: (N,).
        targets: (N,) 0 or 1, both of which occur.
        evidence: (N,) in [0, 1], of the keywords heard; without any, its weight is 0.
        sign: of the evidence's weight: 1, or -1 where keywords speak against the label.

    Returns:
        scale, at least `SMALLEST_SCALE`, offset, and weight: the calibrated logit is
        `scale * logit + offset + weight * evidence`.
    """
    positives = float(targets.sum())
    smoothed = np.where(targets > 0, (positives + 1) / (positives + 2), 1 / (len(targets) - positives + 2))
    logits, smoothed = torch.tensor(logits, dtype=torch.double), torch.tensor(smoothed)
    log_scale, offset, log_weight = (torch.zeros((), dtype=torch.double, requires_grad=True) for _ in range(3))
    has_evidence = evidence is not None and evidence.any()
    parameters = [log_scale, offset, log_weight] if has_evidence else [log_scale, offset]
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")
    evidence = torch.tensor(evidence if has_evidence else 0.0, dtype=torch.double)

    def scale():
        return log_scale.clamp(math.log(SMALLEST_SCALE), math.log(LARGEST_FACTOR)).exp()

    def weight():
        return sign * log_weight.clamp(max=math.log(LARGEST_FACTOR)).exp()

    def closure():
        optimizer.zero_grad()
        calibrated = scale() * logits + offset + weight() * evidence
        loss = F.binary_cross_entropy_with_logits(calibrated, smoothed)
        loss.backward()
        return loss

    optimizer.step(closure)
    return scale().item(), offset.item(), weight().item() if has_evidence else 0.0


def choose_threshold(scores: np.ndarray, targets: np.ndarray) -> float:
    """The threshold in (0, 1] with the best F1, between two scores that occur.

    Args:
        scores: (N,) in [0, 1].
        targets: (N,) 0 or 1; one at least is 1.
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(targets[order])
    is_last = np.append(scores[1:] < scores[:-1], True)  # equal scores count together
    precision, recall = hits / np.arange(1, len(scores) + 1), hits / hits[-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    last = int(np.argmax(np.where(is_last, f1, -1.0)))
    below = scores[last + 1] if last + 1 < len(scores) else 0.0
    return float((scores[last] + below) / 2)


def fit(
    logits: np.ndarray,
    targets: np.ndarray,
    thresholds: dict[str, float],
    evidence: np.ndarray | None = None,
) -> dict[str, LabelCalibration]:
    """Calibration of each label.

    Args:
        logits: (N, L) of the clips.
        targets: (N, L) multi-hot.
        thresholds: those of the L labels before, by name and in column order.
        evidence: (N, L), of the keywords heard, to be used too.

    Returns:
        label to its calibration; a label that no clip or every clip has stays as it is, with a warning.

    Raises:
        ValueError: if there are no clips.
    """
    if not len(targets):
        raise ValueError("There are no labelled clips to calibrate on.")
    calibrations = {}
    heard = [None] * len(thresholds) if evidence is None else evidence.T
    for (name, before), column, target, words in zip(thresholds.items(), logits.T, targets.T, heard, strict=True):
        if np.unique(target).size < 2:
            logger.warning(f"{name}: not calibrated, for the clips to fit do not both have it and lack it.")
            calibrations[name] = LabelCalibration(threshold=before)
            continue
        scale, offset, weight = fit_scale(column, target, words, sign=-1 if name == NO_VIOLATION else 1)
        calibrated = scale * column + offset + (0.0 if words is None else weight * words)
        threshold = choose_threshold(scores_from_logits(calibrated), target)
        calibrations[name] = LabelCalibration(scale, offset, threshold, weight)
    return calibrations


@torch.no_grad()
def apply(model: PreTrainedModel, calibrations: dict[str, LabelCalibration]) -> None:
    """Folds scales and offsets into the model's classifier, and puts evidence and thresholds into its
    configuration."""
    weight, bias = model.classifier.weight, model.classifier.bias
    scales, offsets = (
        torch.tensor([getattr(calibrations[label], name) for label in model.config.label2id]).to(weight)
        for name in ("scale", "offset")
    )
    weight.mul_(scales[:, None])
    bias.mul_(scales).add_(offsets)
    model.config.label_thresholds = {label: calibration.threshold for label, calibration in calibrations.items()}
    evidence = {label: calibration.evidence for label, calibration in calibrations.items()}
    model.config.keyword_evidence = evidence if any(evidence.values()) else None


def calibrate(
    model: PreTrainedModel,
    evaluation: ClipEvaluation,
    use_keyword_evidence: bool = False,
) -> dict[str, LabelCalibration]:
    """Fits the labelled clips of a finished evaluation of the model, and applies it; returns what [`fit`] does."""
    logits, evidence, targets = evaluation.labelled_parts()
    evidence = evidence if use_keyword_evidence else None
    calibrations = fit(logits, targets, model.config.thresholds, evidence)
    apply(model, calibrations)
    return calibrations


def uncalibrated(logits: np.ndarray, calibrations: dict[str, LabelCalibration]) -> np.ndarray:
    """(N, L) logits of a calibrated classifier as they would be without."""
    scales, offsets = np.array([(label.scale, label.offset) for label in calibrations.values()]).T
    return (logits - offsets) / scales


def markdown(calibrations: dict[str, LabelCalibration]) -> str:
    """A row per label."""
    lines = ["| label | scale | offset | threshold | evidence |", "|---|---:|---:|---:|---:|"]
    for name, label in calibrations.items():
        figures = (label.scale, label.offset, label.threshold, label.evidence)
        lines.append(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    return "\n".join(lines)


def main(args: CalibrationArguments) -> dict[str, dict[str, float]]:
    """Calibrates, prints the table, rewrites the model; returns label to scale, offset and threshold.

    Raises:
        ValueError: if there is no folder to rewrite, no classifier in it, no usable clip, or an argument is out of
            range.
    """
    check_folder(args.model)
    model = AutoModelForAudioClassification.from_pretrained(args.model)
    if "classification" not in model.config.tasks:
        raise ValueError(f"{args.model} has no classifier to calibrate.")
    if args.use_keyword_evidence and "keyword" not in model.config.tasks:
        raise ValueError(f"--use_keyword_evidence: {args.model} has no keyword head.")
    processor = ToxicityMTLProcessor.from_pretrained(args.model)
    dataset = load_split(processor, model.config, args.dataset, args.dataset_name, args.split, args.max_samples)
    evaluation = evaluate_batches(dataset, predict_batches(model, dataset, args.batch_size))
    if args.goals:
        return _promise(model, evaluation, args)
    calibrations = calibrate(model, evaluation, args.use_keyword_evidence)
    model.save_pretrained(args.model)
    Path(args.model, PROMISE_FILE).unlink(missing_ok=True)  # it was of the scores and thresholds before
    print(markdown(calibrations))
    return {name: asdict(label) for name, label in calibrations.items()}


def _promise(model, evaluation, args):
    """Chooses thresholds with a promise, and states it in the model's folder."""
    logits, targets = evaluation.labelled()
    ((kind, rate),) = args.goals.items()
    names = list(model.config.label2id)
    promises = choose_promised(
        scores_from_logits(logits), targets, names, Goal(kind, rate, args.confidence, args.windows), args.scope
    )
    thresholds = model.config.thresholds | {name: promise.threshold for name, promise in promises.items()}
    model.config.label_thresholds = thresholds
    model.config.save_pretrained(args.model)
    stated = {name: asdict(promise) for name, promise in promises.items()}
    about = {"dataset": args.dataset, "split": args.split, "clips": len(targets), "scope": args.scope}
    write_json(Path(args.model, PROMISE_FILE), about | {"promises": stated})
    print(promise_table(promises))
    return stated
