"""From the model's outputs on windows to the paper's Table 2, and to one prediction per clip."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel

from ..decoding import DetectedKeyword
from ..io.tables import read_labels
from ..keywords import KeywordList
from ..labels import add_evidence, aggregate_windows, keyword_evidence, scores_from_logits
from ..multitask_config import TASKS
from .collator import ToxicityDataCollator
from .dataset import ToxicityDataset
from .metrics import (
    average_precision,
    calibration_metrics,
    classification_metrics,
    decision_metrics,
    keyword_metrics,
)


TABLE_COLUMNS = {
    "AP_Profanity": "Profanity",
    "AP_DatingAndSexting": "Dating & Sexting",
    "AP_Racist": "Racist",
    "AP_Bullying": "Bullying",
    "AP_Other": "Other",
    "AP_NoViolation": "No Violation",
    "mAP": "mAP",
    "keyword_false_accept_rate": "False Accept Rate",
    "keyword_false_reject_rate": "False Reject Rate",
    "keyword_weighted_ap": "Weighted AP",
    "keyword_f1": "F1",
}


@dataclass
class ClipPrediction:
    """What the model says of one clip.

    Args:
        id: of the clip.
        scores: a score in [0, 1] for each label; None without a classifier.
        violations: whose score reaches the label's threshold; None without a classifier.
        keywords: heard in the clip, with times from its start; None without a keyword head.
        words: the whole decoded word sequence, phrases as one item; None without a keyword head.
    """

    id: str
    scores: dict[str, float] | None
    violations: list[str] | None
    keywords: list[DetectedKeyword] | None
    words: list[str] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = asdict(self)
        if self.keywords is not None:
            fields["keywords"] = [keyword._asdict() for keyword in self.keywords]
        return fields


class ClipEvaluation:
    """Metrics of a dataset from its windows' outputs, batch by batch: `compute_metrics` for `batch_eval_metrics=True`.

    Keywords are decoded as the outputs come, so that memory does not grow with frame-wise logits. After the last
    batch, `predictions` holds one entry per clip, and `metrics` what was returned. Where the model's configuration has
    `keyword_evidence`, scores and metrics are with it, and `mAP_classifier` without.

    Args:
        dataset: whose items are predicted in their order.
    """

    def __init__(self, dataset: ToxicityDataset):
        self.dataset, self.config, self.processor = dataset, dataset.config, dataset.processor
        self.predictions: list[ClipPrediction] = []
        self.metrics: dict[str, float] = {}
        self._reset()

    def _reset(self):
        self._logits, self._decoded = [], []

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Takes in a batch; after the last one (`compute_result`) returns the metrics, without those that are
        undefined."""
        outputs = batch.predictions if isinstance(batch.predictions, tuple) else (batch.predictions,)
        tasks = [task for task in TASKS if task in self.config.tasks]  # in the order of the model's output
        outputs = dict(zip(tasks, outputs, strict=True))
        if "classification" in outputs:
            self._logits.extend(outputs["classification"].float().cpu().numpy())
        if "keyword" in outputs:
            self._decode(outputs["keyword"].float().cpu().numpy())
        if not compute_result:
            return {}
        self.predictions = self._join_windows()
        metrics = {}
        if "classification" in self.config.tasks:
            metrics |= self._classification_metrics()
        if "keyword" in self.config.tasks:
            metrics |= self._keyword_metrics()
        headline = [metrics[name] for name in ("mAP", "keyword_f1") if metrics.get(name) is not None]
        metrics["quality"] = float(np.mean(headline)) if headline else None
        self._reset()
        self.metrics = {name: value for name, value in metrics.items() if value is not None}
        return self.metrics

    def confidence_intervals(self, resamples: int = 1000, seed: int = 0) -> dict[str, list[float]]:
        """95 % intervals of the metrics after the last batch, by the percentile bootstrap over clips: each resample
        draws as many clips as there are, with replacement.

        Returns:
            metric name to lower and upper end, in percent; without the metrics that no clip defines, and without the
            weighted average precision.
        """
        generator = np.random.default_rng(seed)
        intervals = {}
        if "classification" in self.config.tasks:
            logits, targets = self.labelled()
            draws = _resample(len(targets), resamples, generator)
            values = [_average_precisions(logits[rows], targets[rows]) for rows in draws]
            names = [f"AP_{name}" for name in self.config.label2id] + ["mAP"]
            intervals |= _percentiles(names, values)
        if "keyword" in self.config.tasks:
            counts = self._keyword_counts()
            draws = _resample(len(counts), resamples, generator)
            values = [_keyword_rates(*counts[rows].sum(0)) for rows in draws]
            names = [f"keyword_{name}" for name in ("false_accept_rate", "false_reject_rate", "f1")]
            intervals |= _percentiles(names, values)
        return intervals

    def _decode(self, keyword_logits):
        first = len(self._decoded)
        windows = self.dataset.windows[first : first + len(keyword_logits)]
        lengths = [window.end - window.start for window in windows]
        self._decoded += self.processor.decode_keywords(keyword_logits, self.config, lengths)

    def _join_windows(self):
        """One prediction per row of the dataset, in its order; also keeps each clip's logits for the metrics."""
        windows = self.dataset.windows
        windows_of: dict[int, list[int]] = {}
        for index in sorted(range(len(windows)), key=windows.__getitem__):  # by row and time
            windows_of.setdefault(windows[index].row, []).append(index)
        ids = self.dataset.rows["id"]
        self._clip_logits, self._classifier_logits, self._evidence = [], [], []
        return [self._join(str(ids[row]), indices) for row, indices in windows_of.items()]

    def _join(self, clip_id, indices):
        scores = violations = keywords = words = None
        if self._logits:
            names = list(self.config.label2id)
            plain = np.stack([self._logits[index] for index in indices])
            evidence = np.zeros_like(plain)
            if self._decoded:
                evidence = np.stack([keyword_evidence(self._decoded[index].keywords, names) for index in indices])
            with_evidence = add_evidence(plain, evidence, self.config.keyword_evidence, names)
            logits = aggregate_windows(with_evidence, names)
            self._clip_logits.append(logits)
            self._classifier_logits.append(aggregate_windows(plain, names))
            self._evidence.append(evidence.max(axis=0))
            scores = dict(zip(names, scores_from_logits(logits).tolist(), strict=True))
            violations = self.config.violations(scores)
        if self._decoded:
            words = [word for index in indices for word in self._decoded[index].words]
            keywords = []
            for index in indices:
                offset = self.dataset.windows[index].start / self.dataset.rate
                keywords += [keyword.shifted(offset) for keyword in self._decoded[index].keywords]
        return ClipPrediction(clip_id, scores, violations, keywords, words)

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, L) logits and multi-hot targets of the labelled clips, after the last batch."""
        return self._of_labelled(self._clip_logits), self._targets()

    def labelled_parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `labelled`, but (N, L) logits of the classifier alone, keyword evidence, and targets."""
        return self._of_labelled(self._classifier_logits), self._of_labelled(self._evidence), self._targets()

    @functools.cached_property
    def _labels(self):
        """Those of each row, None where there are none."""
        return [read_labels(value) for value in self.dataset.rows["labels"]]

    def _of_labelled(self, values):
        chosen = [value for value, names in zip(values, self._labels, strict=True) if names is not None]
        return np.array(chosen).reshape(-1, len(self.config.label2id))

    def _targets(self):
        return self._of_labelled([self.dataset.multi_hot(names or ()) for names in self._labels])

    def _classification_metrics(self):
        logits, targets = self.labelled()
        scores, names = scores_from_logits(logits), list(self.config.label2id)
        metrics = classification_metrics(logits, targets, names)
        if self.config.keyword_evidence:
            alone = classification_metrics(self._of_labelled(self._classifier_logits), targets, names)
            metrics["mAP_classifier"] = alone["mAP"]
        return {
            **metrics,
            **calibration_metrics(scores, targets),
            **decision_metrics(scores, targets, self.config.thresholds),
        }

    def _transcribed(self):
        """References, hypotheses and word scores of the transcribed clips."""
        keyword_list = self.processor.keywords
        references, hypotheses, scores = [], [], []
        for transcript, prediction in zip(self.dataset.rows["transcript"], self.predictions, strict=True):
            if transcript is None:
                continue
            references.append(keyword_list.merge(keyword_list.substitute(transcript).split()))
            hypotheses.append(prediction.words)
            found = [keyword.score for keyword in prediction.keywords]
            scores.append(scores_of_words(prediction.words, found, keyword_list))
        return references, hypotheses, scores

    def _keyword_counts(self):
        """(N, 4) true and false positives, false and true negatives of each transcribed clip."""
        references, hypotheses, _ = self._transcribed()
        keywords = self.processor.keywords.keywords
        clips = [
            keyword_metrics([said], [heard], keywords) for said, heard in zip(references, hypotheses, strict=True)
        ]
        return np.array([[clip[name] for name in ("tp", "fp", "fn", "tn")] for clip in clips]).reshape(-1, 4)

    def _keyword_metrics(self):
        references, hypotheses, scores = self._transcribed()
        metrics = keyword_metrics(references, hypotheses, self.processor.keywords.keywords, scores)
        return {
            f"keyword_{name.removeprefix('num_').replace('keywords', 'support')}": v for name, v in metrics.items()
        }


def scores_of_words(words: Sequence[str], scores: Sequence[float], keywords: KeywordList) -> list[float]:
    """A score for every decoded word: those of the keywords, in their order, and 0 for fillers."""
    of_keywords = iter(scores)
    return [next(of_keywords) if word in keywords else 0.0 for word in words]


@torch.inference_mode()
def predict_batches(model: PreTrainedModel, dataset: ToxicityDataset, batch_size: int = 8) -> list[EvalPrediction]:
    """The outputs of a model, for `ClipEvaluation`; kept in memory, so that they can be decoded again and again."""
    batches = []
    loader = DataLoader(dataset, batch_size, collate_fn=ToxicityDataCollator(dataset.processor))
    for inputs in tqdm(loader, desc="Running the model"):
        audio = {name: inputs[name].to(model.device) for name in (model.main_input_name, "attention_mask")}
        outputs = model.eval()(**audio)
        outputs = [outputs.get(name) for name in ("logits", "keyword_logits")]
        batches.append(EvalPrediction(tuple(output.cpu() for output in outputs if output is not None), label_ids=None))
    return batches


def evaluate_batches(dataset: ToxicityDataset, batches: Sequence[EvalPrediction]) -> ClipEvaluation:
    """The evaluation of outputs of `predict_batches`, with the keywords decoded as the dataset's processor says."""
    evaluation = ClipEvaluation(dataset)
    for number, batch in enumerate(batches, start=1):
        evaluation(batch, compute_result=number == len(batches))
    return evaluation


def _resample(size: int, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    return (generator.integers(0, size, size) for _ in range(resamples if size else 0))


def _average_precisions(logits, targets):
    """Per label and their mean; NaN without a clip that has the label."""
    columns = zip(logits.T, targets.T, strict=True)
    values = [100 * average_precision(scores, target) if target.any() else np.nan for scores, target in columns]
    present = [value for value in values if not np.isnan(value)]
    return [*values, np.mean(present) if present else np.nan]


def _keyword_rates(tp, fp, fn, tn):
    parts = ((fp, fp + tn), (fn, fn + tp), (2 * tp, 2 * tp + fp + fn))
    return [100 * part / whole if whole else np.nan for part, whole in parts]


def _percentiles(names, values):
    """Name to the ends of the middle 95 % of each column of `values`, resamples by metrics."""
    columns = np.array(values, dtype=float).reshape(-1, len(names)).T
    columns = {name: column[~np.isnan(column)] for name, column in zip(names, columns, strict=True)}
    return {name: np.percentile(column, [2.5, 97.5]).tolist() for name, column in columns.items() if len(column)}


def system_name(config: PreTrainedConfig) -> str:
    """The name of a system in the paper's Table 2."""
    if len(config.tasks) == 1:
        return {"classification": "Toxicity Classifier", "keyword": "Audio to Keyword"}[config.tasks[0]]
    extras = [" + Info. Sharing"] * config.use_info_sharing + [" + Task Adapter"] * config.use_task_adapter
    return "MTL" + "".join(extras)


def markdown_table(rows: dict[str, tuple[int, dict[str, float]]]) -> str:
    """The paper's Table 2: a row per system, given its number of parameters and its metrics in percent."""
    header = ["Model", "Params (M)", *TABLE_COLUMNS.values()]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for name, (num_parameters, metrics) in rows.items():
        values = [f"{metrics[key]:.2f}" if metrics.get(key) is not None else "-" for key in TABLE_COLUMNS]
        lines.append("| " + " | ".join([name, f"{num_parameters / 1e6:.1f}", *values]) + " |")
    return "\n".join(lines)
