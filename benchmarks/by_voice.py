"""Quality by voice: the predictions of a run, split by who speaks.

    python -m benchmarks.by_voice --predictions runs/voices/predictions.jsonl --dataset voice_data

Groups are the parts of the column `speaker` before the accent: the engine and its voice. Everyday sentences, which
nobody wrote for this corpus, are a group of their own as well.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from transformers import HfArgumentParser

from benchmarks import write_results
from modeling_toxmtl import KeywordList
from modeling_toxmtl.io.files import read_json_lines
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.metrics import average_precision, keyword_metrics


@dataclass
class ByVoiceArguments:
    """Which predictions, and of which clips."""

    predictions: str = field(metadata={"help": "predictions.jsonl of run_mtl.py --do_predict."})
    dataset: str = field(default="voice_data", metadata={"help": "Folder or Hub id, as for run_mtl.py."})
    split: str = field(default="test", metadata={"help": "Split that was predicted."})
    keywords: str | None = field(default=None, metadata={"help": "Keyword list; default: the packaged one."})
    results_file: str = field(
        default="benchmarks/results/by_voice.json", metadata={"help": "Where results go; a table beside it."}
    )


def group_of(speaker: str) -> str:
    """Engine and voice, without accent and pitch: "kokoro:jf_nezumi/en-us*1.00" is "kokoro:jf_nezumi"; espeak-ng's
    many variants and blends of styles are one group each."""
    engine, _, voice = speaker.partition(":")
    style = voice.partition("/")[0].partition("*")[0]
    if engine == "espeak":
        return "espeak"
    return f"{engine}:blends" if "+" in style else f"{engine}:{style}" if engine == "kokoro" else engine


def measure(rows: list[dict], predictions: dict[str, dict], keywords: KeywordList) -> dict[str, float | int | None]:
    """Keyword F1, precision and recall, and mAP over the labels that occur, of clips with their predictions."""
    heard = [predictions[row["id"]] for row in rows]
    said = [keywords.merge(keywords.tokens(row["transcript"])) for row in rows]
    metrics = keyword_metrics(said, [clip["words"] for clip in heard], keywords.keywords)
    labels = sorted({label for row in rows for label in read_labels(row["labels"])})
    targets = np.array([[label in read_labels(row["labels"]) for label in labels] for row in rows], dtype=float)
    scores = np.array([[clip["scores"][label] for label in labels] for clip in heard])
    precisions = [100 * average_precision(*columns) for columns in zip(scores.T, targets.T, strict=True)]
    return {
        "clips": len(rows),
        "keywords": metrics["num_keywords"],
        "keyword_f1": metrics["f1"],
        "keyword_precision": metrics["precision"],
        "keyword_recall": metrics["recall"],
        "mAP": float(np.mean(precisions)) if len(labels) > 1 else None,
        "accused": 100 * float(np.mean([bool(c["violations"]) for c, t in zip(heard, rows, strict=True)
                                        if read_labels(t["labels"]) == ["NoViolation"]] or [0.0])),
    }  # fmt: skip


def markdown(results: dict[str, dict]) -> str:
    """A row per group."""
    lines = ["| Voice | Clips | Keywords said | F1 | Precision | Recall | mAP | Harmless clips accused |"]
    lines.append("|---" + "|---:" * 7 + "|")
    for group, row in results.items():
        names = ("keyword_f1", "keyword_precision", "keyword_recall", "mAP", "accused")
        values = ["-" if row[name] is None else f"{row[name]:.1f}" for name in names]
        lines.append(f"| {group} | {row['clips']} | {row['keywords']} | {' | '.join(values)} |")
    return "\n".join(lines)


def main(args: ByVoiceArguments) -> dict[str, dict]:
    """Measures each group and all clips together; writes and returns the results."""
    predictions = {clip["id"]: clip for clip in read_json_lines(args.predictions)}
    keywords = KeywordList.from_file(args.keywords) if args.keywords else KeywordList.default()
    rows = load_clips(args.dataset, splits=[args.split])[args.split].select_columns(
        ["id", "labels", "transcript", "speaker", "source"]
    )
    groups = defaultdict(list)
    for row in rows:
        if row["id"] in predictions:
            groups[group_of(row["speaker"]) if row["transcript"] else "no speech"].append(row)
    if not groups:
        raise ValueError(f"--predictions: {args.predictions} has no clip of the split {args.split!r}.")
    everything = [row for group in groups.values() for row in group]
    results = {group: measure(groups[group], predictions, keywords) for group in sorted(groups)}
    if everyday := [row for row in everything if "everyday" in row["source"]]:
        results["everyday sentences"] = measure(everyday, predictions, keywords)
    results["all"] = measure(everything, predictions, keywords)
    write_results(args, results, markdown(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(ByVoiceArguments, description=__doc__).parse_args_into_dataclasses())
