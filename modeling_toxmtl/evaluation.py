"""From the model's outputs on windows to the paper's Table 2, and to one prediction per clip."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import EvalPrediction

from .configuration_toxmtl import TASKS
from .data import ToxicityDataCollator, ToxicityDataset, read_labels
from .labels import aggregate_windows, scores_from_logits
from .metrics import classification_metrics, keyword_metrics
from .modeling_toxmtl import WavLMForToxicityMTL
from .processing_toxmtl import DetectedKeyword


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
        keywords: heard in the clip, with times from its start; None without a keyword head.
        words: the whole decoded word sequence, phrases as one item; None without a keyword head.
    """

    id: str
    scores: dict[str, float] | None
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
    batch, `predictions` holds one entry per clip.

    Args:
        dataset: whose items are predicted in their order.
    """

    def __init__(self, dataset: ToxicityDataset):
        self.dataset, self.config, self.processor = dataset, dataset.config, dataset.processor
        self.predictions: list[ClipPrediction] = []
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
        return {name: value for name, value in metrics.items() if value is not None}

    def _decode(self, keyword_logits):
        first = len(self._decoded)
        windows = self.dataset.windows[first : first + len(keyword_logits)]
        lengths = [window.end - window.start for window in windows]
        self._decoded += self.processor.decode_keywords(keyword_logits, self.config, lengths)

    def _join_windows(self):
        """One prediction per row of the dataset; also keeps each clip's logits for the metrics."""
        windows_of: dict[int, list[int]] = {}
        for index, window in enumerate(self.dataset.windows):
            windows_of.setdefault(window.row, []).append(index)
        ids = self.dataset.rows["id"]
        self._clip_logits = []
        return [self._join(str(ids[row]), indices) for row, indices in windows_of.items()]

    def _join(self, clip_id, indices):
        scores = keywords = words = None
        if self._logits:
            names = list(self.config.label2id)
            logits = aggregate_windows(np.stack([self._logits[index] for index in indices]), names)
            self._clip_logits.append(logits)
            scores = dict(zip(names, scores_from_logits(logits).tolist(), strict=True))
        if self._decoded:
            words = [word for index in indices for word in self._decoded[index].words]
            keywords = []
            for index in indices:
                offset = self.dataset.windows[index].start / self.dataset.rate
                keywords += [keyword.shifted(offset) for keyword in self._decoded[index].keywords]
        return ClipPrediction(clip_id, scores, keywords, words)

    def _classification_metrics(self):
        names = [read_labels(value) for value in self.dataset.rows["labels"]]
        labelled = [index for index, value in enumerate(names) if value is not None]
        logits = [self._clip_logits[index] for index in labelled]
        targets = [self.dataset.multi_hot(names[index]) for index in labelled]
        return classification_metrics(logits, targets, list(self.config.label2id))

    def _keyword_metrics(self):
        keyword_list = self.processor.keywords
        references, hypotheses, scores = [], [], []
        for transcript, prediction in zip(self.dataset.rows["transcript"], self.predictions, strict=True):
            if transcript is None:
                continue
            references.append(keyword_list.merge(keyword_list.substitute(transcript).split()))
            hypotheses.append(prediction.words)
            keyword_scores = iter(prediction.keywords)
            scores.append([next(keyword_scores).score if word in keyword_list else 0.0 for word in prediction.words])
        metrics = keyword_metrics(references, hypotheses, keyword_list.keywords, scores)
        return {
            f"keyword_{name.removeprefix('num_').replace('keywords', 'support')}": v for name, v in metrics.items()
        }


@torch.inference_mode()
def predict_batches(model: WavLMForToxicityMTL, dataset: ToxicityDataset, batch_size: int = 8) -> list[EvalPrediction]:
    """The outputs of a model, for `ClipEvaluation`; kept in memory, so that they can be decoded again and again."""
    batches = []
    loader = DataLoader(dataset, batch_size, collate_fn=ToxicityDataCollator(dataset.processor))
    for inputs in tqdm(loader, desc="Running the model"):
        audio = {name: inputs[name].to(model.device) for name in ("input_values", "attention_mask")}
        outputs = model.eval()(**audio)
        outputs = [outputs.get(name) for name in ("logits", "keyword_logits")]
        batches.append(EvalPrediction(tuple(output.cpu() for output in outputs if output is not None), label_ids=None))
    return batches


def evaluate_batches(dataset: ToxicityDataset, batches: Sequence[EvalPrediction]) -> dict[str, float]:
    """The metrics of outputs of `predict_batches`, with the keywords decoded as the dataset's processor says."""
    evaluation, metrics = ClipEvaluation(dataset), {}
    for number, batch in enumerate(batches, start=1):
        metrics = evaluation(batch, compute_result=number == len(batches))
    return metrics


def markdown_table(rows: dict[str, tuple[int, dict[str, float]]]) -> str:
    """The paper's Table 2: a row per system, given its number of parameters and its metrics in percent."""
    header = ["Model", "Params (M)", *TABLE_COLUMNS.values()]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for name, (num_parameters, metrics) in rows.items():
        values = [f"{metrics[key]:.2f}" if metrics.get(key) is not None else "-" for key in TABLE_COLUMNS]
        lines.append("| " + " | ".join([name, f"{num_parameters / 1e6:.1f}", *values]) + " |")
    return "\n".join(lines)
