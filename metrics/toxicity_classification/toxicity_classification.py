"""Average precision per toxicity label and mAP, as an `evaluate` module around `modeling_toxmtl.training.metrics`."""

import datasets
import evaluate

from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.training.metrics import classification_metrics


_DESCRIPTION = """\
Multi-label toxicity classification: the average precision of each label and their mean (mAP), in percent, over the
labels that occur in the references.
"""

_CITATION = """\
@inproceedings{nandwana2024voice,
  title     = {Voice Toxicity Detection Using Multi-Task Learning},
  author    = {Nandwana, Mahesh Kumar and He, Yifan and Liu, Joseph and Yu, Xiao and Shang, Charles and
               Du Bois, Eloi and McGuire, Morgan and Bhat, Kiran},
  booktitle = {2024 IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  pages     = {331--335},
  year      = {2024}
}
"""

_INPUTS_DESCRIPTION = """\
Args:
    predictions: per clip, one score per label: logits or probabilities.
    references: per clip, one 0 or 1 per label.
    label_names: names of the labels, in the order of the scores. Default: the six labels of the paper.
Returns:
    AP_<label>: average precision in percent, None for a label without a positive clip.
    mAP: mean over the labels that have a positive clip, None when there is none.
    support_<label>: number of clips that have the label.
Example:
    >>> import evaluate
    >>> metric = evaluate.load("metrics/toxicity_classification")
    >>> results = metric.compute(
    ...     predictions=[[0.9, 0.2], [0.6, 0.7], [0.4, 0.1]],
    ...     references=[[1, 0], [0, 1], [1, 0]],
    ...     label_names=["Profanity", "Bullying"],
    ... )
    >>> round(results["AP_Profanity"], 1), results["AP_Bullying"], results["support_Profanity"]
    (83.3, 100.0, 2)
"""


class ToxicityClassification(evaluate.Metric):
    """`classification_metrics` on scores and multi-hot labels gathered batch by batch."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    # An integer feature would cut a soft label such as 0.5 down to 0 before it can be refused.
                    "references": datasets.Sequence(datasets.Value("float64")),
                }
            ),
            reference_urls=[
                "https://openreview.net/forum?id=Ma0LkoqMM5",
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html",
            ],
        )

    def _compute(self, predictions, references, label_names=LABELS):
        return classification_metrics(predictions, references, label_names)
