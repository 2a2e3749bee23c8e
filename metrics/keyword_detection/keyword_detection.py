"""Word-level keyword detection, as an `evaluate` module around `modeling_toxmtl.training.metrics`."""

import datasets
import evaluate

from modeling_toxmtl.training.metrics import keyword_metrics


_DESCRIPTION = """\
Keyword detection in recognised speech: false accept rate, false reject rate, precision, recall, F1 and weighted
average precision, in percent, counted on the aligned words of reference and hypothesis.
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
    predictions: per clip, the list of recognised words, normalised; a keyword phrase is one word.
    references: per clip, the list of words said.
    scores: with the configuration "scored" only: per clip, one score in [0, 1] per recognised word.
    keywords: the words to detect; every other word is a filler.
Returns:
    false_accept_rate, false_reject_rate, precision, recall, f1: in percent, None where undefined.
    weighted_ap: average precision of each keyword on hard decisions, weighted by its number of reference tokens.
    weighted_ap_scores: the same on the scores, None in the default configuration.
    tp, fp, fn, tn: counts; num_keywords: number of reference keyword tokens.
Example:
    >>> import evaluate
    >>> metric = evaluate.load("metrics/keyword_detection")
    >>> results = metric.compute(
    ...     predictions=[["good", "damn", "good"], ["crap"]],
    ...     references=[["good", "damn", "good"], ["good"]],
    ...     keywords=["crap", "damn"],
    ... )
    >>> results["false_reject_rate"], results["precision"], results["tp"], results["fp"]
    (0.0, 50.0, 1, 1)
"""


class KeywordDetection(evaluate.Metric):
    """`keyword_metrics` on word lists gathered batch by batch; the configuration "scored" gathers word scores too.

    A configuration, and not alternative features: `evaluate` picks among alternatives by the first clip alone, so that
    one without words would choose the wrong one and turn the scored words that follow into strings.
    """

    def _info(self):
        if self.config_name not in ("default", "scored"):
            raise ValueError(f'configuration {self.config_name!r} is unknown: choose "default" or "scored"')
        features = {
            "predictions": datasets.Sequence(datasets.Value("string")),
            "references": datasets.Sequence(datasets.Value("string")),
        }
        if self.config_name == "scored":
            features["scores"] = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(features),
            reference_urls=["https://openreview.net/forum?id=Ma0LkoqMM5"],
        )

    def _compute(self, predictions, references, keywords, scores=None):
        return keyword_metrics(references, predictions, keywords, scores)
