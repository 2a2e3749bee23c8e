"""What the study keeps of each clip, and which differences between systems are real.

Design choices:
- A run's Parquet file has, for each clip of both test sets, the logits of the labels and the counts of the keywords:
  enough to measure any two systems on the same clips again.
- The interval of a difference counts two sources of chance. Clips: all systems are measured on the same 1,000
  resamples of the test clips (paired bootstrap). Seeds: to the resampled difference of means, draws of Student's t are
  added. Two or three seeds of one system would say little about their variance: it is pooled over systems of the same
  kind (`kind_of`), where those with one seed borrow it. A difference of two kinds gets a draw of each (Behrens and
  Fisher), which errs on the side of wide intervals where degrees of freedom are few.
- The seeds' variance holds that of seeds on these very clips, which the bootstrap counts again.
"""

from collections import defaultdict
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
        base: mean of the system that the other is compared with.
        lower, upper: ends of the 95 % interval; None as long as no second seed of either's kind says how much seeds
            matter. Both are 0 if the two are one in this metric, with the same seeds.
    """

    value: float
    base: float
    lower: float | None
    upper: float | None

    def percent(self, points: float) -> float:
        """The value, or an end of the interval, in percent of the base; NaN if that is 0."""
        return 100 * points / self.base if self.base else float("nan")

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
    """`mAP` or `keyword_f1` in percent of clips that count `weights` times: `(R,)`; None if the run does not have
    it."""
    if metric == "keyword_f1":
        if clips.counts is None:
            return None
        tp, fp, fn, _ = (weights @ clips.counts).T
        return 200 * tp / np.maximum(2 * tp + fp + fn, 1)
    if clips.logits is None:
        return None
    columns = zip(clips.logits.T, clips.targets.T, strict=True)
    precisions = [average_precisions(scores, targets, weights) for scores, targets in columns]
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
        shares = defaultdict(float)  # of each kind's variance
        for runs in both:
            shares[kind_of(runs[0])] += 1 / len(runs)
        rng, chance = np.random.default_rng(1), np.zeros((DRAWS, RESAMPLES))
        for kind, share in shares.items():
            variance, freedom = self._seed_variance(kind, metric)
            if not freedom:
                return None
            chance += np.sqrt(share * variance) * rng.standard_t(freedom, chance.shape)
        return chance

    def _seed_variance(self, kind, metric):
        """Variance of a metric by chance of the seed, and its degrees of freedom, over all systems of a kind."""
        if (kind, metric) not in self._variances:
            systems = [list(seeds.values()) for seeds in self.results.values()]
            self._variances[kind, metric] = pooled_variance(
                [self._measure(run, metric)[0] for run in runs] for runs in systems if kind_of(runs[0]) == kind
            )
        return self._variances[kind, metric]

    def _check_clips(self, path, clips):
        """Raises ValueError if they are not those of the runs before."""
        if self._first is None:
            self._first = path, clips
        before, first = self._first
        if not (np.array_equal(clips.ids, first.ids) and np.array_equal(clips.targets, first.targets)):
            raise ValueError(f"{before} and {path} have different test clips: remove the results of one.")


def kind_of(results: Mapping[str, Any]) -> tuple:
    """The start of a run, its tasks, what its keyword head is to write, and whether keywords count in its scores: runs
    that agree in these are assumed to vary equally from seed to seed."""
    arguments = results["arguments"]
    return (
        arguments["model_name_or_path"],
        tuple(arguments["tasks"]),
        arguments["keyword_target"],
        arguments.get("use_keyword_evidence", False),
    )


def pooled_variance(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Variance of values about the means of their groups, and its degrees of freedom; without any, (0, 0)."""
    groups = [np.array(group) for group in groups]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return (float(squares / freedom), freedom) if freedom else (0.0, 0)
