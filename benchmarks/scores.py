"""The beam's score of a keyword against the exact posterior probability that it was said.

    python -m benchmarks.scores --model runs/demo --dataset demo_data

The lexicon decoder scores a keyword by the share of the surviving readings that have it there. Exact is one minus the
forward sum over the lexicon without that keyword, divided by the sum with it: both over all paths. Both scores are
given to the same detections of the clips that are one window long, and compared with the transcripts.
"""

import math
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm
from transformers import AutoModelForAudioClassification, HfArgumentParser

from benchmarks import write_results
from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.decoders import log_softmax
from modeling_toxmtl.training.evaluation import predict_batches, scores_of_words
from modeling_toxmtl.training.metrics import keyword_metrics
from modeling_toxmtl.training.tuning import load_split


MARGIN = 16.0  # nats; what is less likely by more is left out of the exact sums: one part in nine million


@dataclass
class ScoresArguments:
    """What to measure, and where results go."""

    model: str = field(default="runs/demo", metadata={"help": "Model folder or Hub id."})
    dataset: str = field(default="demo_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    split: str = field(default="test", metadata={"help": "Split to measure on."})
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows."})
    results_file: str = field(
        default="benchmarks/results/scores.json", metadata={"help": "JSON; the table goes beside it as .md."}
    )


class ExactScores:
    """Posterior probabilities by the forward sum; see the module's docstring."""

    def __init__(self, processor: ToxicityMTLProcessor):
        self.processor, self._decoders = processor, {}

    def __call__(self, log_probs: np.ndarray, keyword: str) -> float:
        """The probability that a one-word keyword occurs in a clip."""
        total = self._decoder(None).log_total(log_probs)
        return 1.0 - math.exp(self._decoder(keyword).log_total(log_probs) - total)

    def _decoder(self, without):
        if without not in self._decoders:
            self._decoders[without] = self.processor.decoder("lexicon").exhaustive(MARGIN, without)
        return self._decoders[without]


def summarize(beam: np.ndarray, exact: np.ndarray, said: np.ndarray) -> dict[str, dict]:
    """Per score: its mean, its Brier score (the mean squared difference from what was said), and the difference from
    the exact one."""
    return {
        name: {
            "mean": float(scores.mean()),
            "brier": float(np.square(scores - said).mean()),
            "mean_difference": float(np.abs(scores - exact).mean()),
            "largest_difference": float(np.abs(scores - exact).max()),
        }
        for name, scores in (("beam", beam), ("exact", exact))
    }


def markdown(results: dict) -> str:
    """A row per score."""
    lines = ["| Score | weighted AP | mean | Brier | mean difference | largest | ms per clip |"]
    lines.append("|---|" + "---:|" * 6)
    for name in ("beam", "exact"):
        row = results[name]
        lines.append(
            f"| {name} | {row['weighted_ap']:.2f} | {row['mean']:.3f} | {row['brier']:.4f} "
            f"| {row['mean_difference']:.4f} | {row['largest_difference']:.3f} | {row['ms_per_clip']:.1f} |"
        )
    return "\n".join(lines)


def main(args: ScoresArguments) -> dict:
    """Measures, prints the table and writes the results."""
    model = AutoModelForAudioClassification.from_pretrained(args.model)
    processor = ToxicityMTLProcessor.from_pretrained(args.model)
    dataset = load_split(processor, model.config, args.dataset, args.dataset_name, args.split, args.max_samples)
    logits = [x.numpy() for batch in predict_batches(model, dataset) for x in batch.predictions[-1].float()]
    windows_of = [window.row for window in dataset.windows]
    exact_score, keywords = ExactScores(processor), processor.keywords
    references, hypotheses, scores, seconds = [], [], {"beam": [], "exact": []}, {"beam": 0.0, "exact": 0.0}
    said, transcripts = [], dataset.rows["transcript"]
    for row, length, clip in zip(tqdm(windows_of, desc="Scoring"), dataset.lengths, logits, strict=True):
        if windows_of.count(row) > 1:
            continue
        clip = clip[: model.config.num_frames(length)]
        start = time.process_time()
        (decoded,) = processor.decode_keywords(clip[None], model.config, decoder="lexicon")
        seconds["beam"] += time.process_time() - start
        start = time.process_time()
        exact = [exact_score(log_softmax(clip), found.keyword) for found in decoded.keywords]
        seconds["exact"] += time.process_time() - start
        references.append(keywords.merge(keywords.substitute(transcripts[row]).split()))
        hypotheses.append(decoded.words)
        said += [found.keyword in references[-1] for found in decoded.keywords]
        scores["beam"].append([found.score for found in decoded.keywords])
        scores["exact"].append(exact)
    if not said:
        raise SystemExit(
            f"{args.model} detects no keyword in the {args.split} split of {args.dataset}: nothing to compare"
        )
    results = summarize(*(np.array(sum(scores[name], [])) for name in ("beam", "exact")), np.array(said))
    for name, found in scores.items():
        of_words = [scores_of_words(words, clip, keywords) for words, clip in zip(hypotheses, found, strict=True)]
        metrics = keyword_metrics(references, hypotheses, keywords.keywords, of_words)
        results[name] |= {
            "weighted_ap": metrics["weighted_ap_scores"],
            "ms_per_clip": 1e3 * seconds[name] / len(references),
        }
    results |= {"clips": len(references), "detections": len(said), "correct": sum(said)}
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(ScoresArguments, description=__doc__).parse_args_into_dataclasses())
