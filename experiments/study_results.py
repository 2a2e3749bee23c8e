"""What the study keeps of each clip, and which differences between systems are real.

Design choices:
- A run's Parquet file has, for each clip of both test sets, the logits of the labels and the counts of the keywords:
  enough to measure any two systems on the same clips again.
- The interval of a difference counts two sources of chance. Clips: all systems are measured on the same 1,000
  resamples of the test clips (paired bootstrap). Seeds: to the resampled difference of means, draws of Student's t are
  added. Two or three seeds of one system would say little about their variance: it is pooled over systems of the same
  kind (`kind_of`), where those with one seed borrow it. Two kinds differ in variance, so that the degrees of freedom
  of their difference are those of Welch and Satterthwaite.
- What chance the finite test set has is in the seeds' variance, too: intervals are too wide rather than too narrow.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.io.files import atomic_write, read_json_lines
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.labels import LABELS
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.metrics import keyword_metrics


TEST_SETS = ("balanced", "real")
COUNTS = ("tp", "fp", "fn", "tn")
RESAMPLES = 1000
DRAWS = 200  # of the seeds' chance, for each resample
SATURATED = 1e-6  # scores nearer to 0 or 1 than this count as equal


class Clips(NamedTuple):
    """The clips of one test set as one run heard them.

    Args:
        ids: (N,) strings.
        targets: (N, L) multi-hot.
        logits: (N, L), None without a classifier.
        counts: (N, 4) true and false positives, false and true negatives of the keywords, None without a keyword head.
    """

    ids: np.ndarray
    targets: np.ndarray
    logits: np.ndarray | None
    counts: np.ndarray | None


class Difference(NamedTuple):
    """Of two systems in a metric, in points of a percentage.

    Args:
        value: of the means over seeds.
        reference: mean of the system that the other is compared with.
        lower, upper: ends of the 95 % interval; None as long as no second seed says how much seeds matter. Both are 0
            if the two systems are one in this metric.
    """

    value: float
    reference: float
    lower: float | None
    upper: float | None

    def percent(self, points: float) -> float:
        """The value, or an end of the interval, in percent of the reference."""
        return 100 * points / self.reference

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.lower is not None and not self.lower <= 0 <= self.upper


def clip_table(model: Path, predictions: Path, dataset: str) -> pa.Table:
    """The clips of a test set, of the `predictions.jsonl` of `run_mtl.py`.

    Args:
        model: folder of the model, for its keyword list.
        predictions: one line per clip.
        dataset: folder whose test split was predicted.
    """
    rows = load_clips(dataset, splits=["test"])["test"].select_columns(["id", "labels", "transcript"])
    rows = {row["id"]: row for row in rows}
    clips = list(read_json_lines(predictions))
    labels = [read_labels(rows[clip["id"]]["labels"]) for clip in clips]
    columns: dict[str, Any] = {"id": [clip["id"] for clip in clips]}
    columns |= {f"is_{name}": pa.array([name in names for names in labels]) for name in LABELS}
    if clips[0]["scores"] is not None:
        scores = np.array([[clip["scores"][name] for name in LABELS] for clip in clips])
        scores = scores.clip(SATURATED, 1 - SATURATED)
        logits = np.log(scores / (1 - scores)).astype(np.float16)
        columns |= {name: pa.array(column) for name, column in zip(LABELS, logits.T, strict=True)}
    if clips[0]["words"] is not None:
        keywords = ToxicityMTLProcessor.from_pretrained(model).keywords
        said = [keywords.merge(keywords.substitute(rows[clip["id"]]["transcript"]).split()) for clip in clips]
        counts = [keyword_metrics([words], [clip["words"]], keywords.keywords)
                  for words, clip in zip(said, clips, strict=True)]  # fmt: skip
        columns |= {name: pa.array([clip[name] for clip in counts], pa.uint8()) for name in COUNTS}
    return pa.table(columns)


def write_clips(path: Path, tables: Mapping[str, pa.Table]) -> None:
    """Writes the clips of both test sets to one compact file."""
    marked = [table.add_column(0, "set", pa.array([name] * len(table))) for name, table in tables.items()]
    with atomic_write(path) as unfinished:
        pq.write_table(pa.concat_tables(marked), unfinished, compression="zstd", compression_level=19)


def read_clips(path: Path, test_set: str) -> Clips:
    """The clips of one test set of a run's Parquet file, in the order of their ids."""
    table = pq.read_table(path, filters=[("set", "=", test_set)]).sort_by("id")

    def matrix(names):
        if not set(names) <= set(table.column_names):
            return None
        return np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)

    targets = matrix([f"is_{name}" for name in LABELS])
    return Clips(table["id"].to_numpy(), targets, matrix(LABELS), matrix(COUNTS))


@cache
def draw_clips(size: int) -> np.ndarray:
    """(`RESAMPLES`, N) how often each clip is drawn; the same for all systems."""
    rng = np.random.default_rng(0)
    return rng.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float32)


def average_precisions(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of one label, in percent, where clip n counts `weights[r, n]` times: `(R,)`; equal scores
    enter together. NaN where no clip with the label counts.

    Args:
        scores, targets: (N,).
        weights: (R, N).
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.searchsorted(-scores[order], -scores[order], side="right") - 1
    drawn = weights[:, order]
    hits = drawn * targets[order]
    precision = hits.cumsum(1)[:, last_of_tie] / np.maximum(drawn.cumsum(1)[:, last_of_tie], 1)
    with np.errstate(invalid="ignore"):
        return 100 * (hits * precision).sum(1) / hits.sum(1)


def measure(clips: Clips, metric: str, weights: np.ndarray) -> np.ndarray | None:
    """`mAP`, `AP_<label>` or `keyword_f1` in percent of clips that count `weights` times: `(R,)`; None if the run
    does not have it."""
    if metric == "keyword_f1":
        if clips.counts is None:
            return None
        tp, fp, fn, _ = (weights @ clips.counts).T
        return 200 * tp / (2 * tp + fp + fn)
    if clips.logits is None:
        return None
    names = [metric.removeprefix("AP_")] if metric.startswith("AP_") else LABELS
    numbers = [LABELS.index(name) for name in names]
    precisions = [average_precisions(clips.logits[:, k], clips.targets[:, k], weights) for k in numbers]
    return np.nanmean(precisions, axis=0)


class Comparisons:
    """Compares systems on one test set; what was measured is kept.

    Args:
        folder: of the results files.
        test_set: one of `TEST_SETS`.
        results: system to seed to results, of all runs.
    """

    def __init__(self, folder: Path, test_set: str, results: Mapping[str, Mapping[int, dict]]):
        self.folder, self.test_set, self.results = folder, test_set, results
        self._resampled: dict[tuple[str, int, str], tuple[float, np.ndarray] | None] = {}
        self._variances: dict[tuple[tuple, str], tuple[float, int]] = {}
        self._first: tuple[Path, Clips] | None = None  # whose clips all must have

    def difference(self, system: str, reference: str, metric: str) -> Difference | None:
        """How much the means of two systems over their seeds differ; None if one has not run, or lacks the metric."""
        both = [list(self.results.get(name, {}).values()) for name in (system, reference)]
        measured = [[self._measure(run, metric) for run in runs] for runs in both]
        if any(not runs or None in runs for runs in measured):
            return None
        mean, base = (np.mean([whole for whole, _ in runs]) for runs in measured)
        resampled, base_resampled = (np.stack([drawn for _, drawn in runs]) for runs in measured)
        lower = upper = None
        if np.array_equal(resampled, base_resampled):
            lower = upper = 0.0
        elif (chance := self._seed_chance(both, metric)) is not None:
            drawn = resampled.mean(0) - base_resampled.mean(0) + chance
            lower, upper = (float(end) for end in np.percentile(drawn, [2.5, 97.5]))
        return Difference(float(mean - base), float(base), lower, upper)

    def _measure(self, results, metric):
        """The metric on all clips and on the resamples; None if the run does not have it."""
        key = (results["run"], results["seed"], metric)
        if key not in self._resampled:
            path = self.folder / f"{results['run']}-seed{results['seed']}.parquet"
            clips = read_clips(path, self.test_set)
            self._check_clips(path, clips)
            whole = measure(clips, metric, np.ones((1, len(clips.ids)), np.float32))
            resampled = measure(clips, metric, draw_clips(len(clips.ids)))
            self._resampled[key] = None if whole is None else (whole[0], resampled)
        return self._resampled[key]

    def _seed_chance(self, both, metric):
        """(`DRAWS`, `RESAMPLES`) of what seeds add to the difference of two systems' means; None if unknown."""
        shares = Counter()
        for runs in both:
            shares[kind_of(runs[0])] += 1 / len(runs)
        variances = {kind: self._seed_variance(kind, metric) for kind in shares}
        if not all(freedom for _, freedom in variances.values()):
            return None
        parts = [(share * variances[kind][0], variances[kind][1]) for kind, share in shares.items()]
        total = sum(part for part, _ in parts)
        if not total:
            return np.zeros((DRAWS, RESAMPLES))
        freedom = total**2 / sum(part**2 / known for part, known in parts)  # Welch and Satterthwaite
        return np.sqrt(total) * np.random.default_rng(1).standard_t(freedom, (DRAWS, RESAMPLES))

    def _seed_variance(self, kind, metric):
        """Variance of a metric by chance of the seed, and its degrees of freedom, over all systems of a kind. What two
        systems have in common, as the keywords of one training with two ways to classify, counts once."""
        if (kind, metric) not in self._variances:
            of_kind = [list(seeds.values()) for seeds in self.results.values()
                       if kind_of(next(iter(seeds.values()))) == kind]  # fmt: skip
            measured = {tuple(found[0] for run in runs if (found := self._measure(run, metric))) for runs in of_kind}
            self._variances[kind, metric] = pooled_variance(measured)
        return self._variances[kind, metric]

    def _check_clips(self, path, clips):
        """Raises ValueError if they are not those of the runs before."""
        if self._first is None:
            self._first = path, clips
        before, first = self._first
        if not (np.array_equal(clips.ids, first.ids) and np.array_equal(clips.targets, first.targets)):
            raise ValueError(f"{before} and {path} have different test clips: remove the results of one.")


def kind_of(results: Mapping[str, Any]) -> tuple:
    """What a run starts from, which tasks it learns, for how long, and what its keyword head is to write: where these
    are the same, chance is taken to be, too."""
    arguments = results["arguments"]
    names = ("model_name_or_path", "num_train_epochs", "keyword_target")
    return (*arguments["tasks"], *(arguments[name] for name in names))


def pooled_variance(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Variance of values about the means of their groups, and its degrees of freedom; without any, (0, 0)."""
    groups = [np.array(group) for group in groups]
    freedom = sum(max(len(group) - 1, 0) for group in groups)
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups if len(group))
    return (float(squares / freedom), freedom) if freedom else (0.0, 0)
