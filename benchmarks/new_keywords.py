"""How well keywords are heard that were added to the list after training, before and after a short fine-tune.

A keyword head learns to write the filler for every word outside its list, so a word that joins the list later need not
be spelled. This measures it on the demo: words that the demo model has heard as filler become keywords, and the same
model is tested as it is, and again after a few steps of `run_mtl.py` with the longer list. Nothing is labelled anew:
the targets derive from transcripts and list.

    python -m benchmarks.new_keywords --model_name_or_path runs/demo --dataset demo_data
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from benchmarks import write_results
from modeling_toxmtl import KeywordList, ToxicityMTLProcessor
from modeling_toxmtl.training.arguments import ToxicityTrainingArguments
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.metrics import keyword_metrics
from run_mtl import DataArguments, ModelArguments
from run_mtl import main as run_mtl


# Words of the demo's sentences that are no keywords of the packaged list
NEW_KEYWORDS = {
    "Profanity": ("hell", "bloody", "bugger"),
    "DatingAndSexting": ("kiss",),
    "Bullying": ("uninstall", "hates"),
    "Other": ("drunk", "pills", "weed", "militia"),
}
COLUMNS = {"num_keywords": "Said", "precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass
class NewKeywordsArguments:
    """What to measure, and where results go."""

    model_name_or_path: str = field(default="runs/demo", metadata={"help": "Model trained on the packaged list."})
    dataset: str = field(default="demo_data", metadata={"help": "The demo corpus that it was trained on."})
    output_dir: str = field(default="runs/new_keywords", metadata={"help": "Folder for the fine-tuned model."})
    results_file: str = field(
        default="benchmarks/results/new_keywords.json", metadata={"help": "Where the figures go, as JSON."}
    )
    max_steps: int = field(default=200, metadata={"help": "Steps of the fine-tune."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of the fine-tune."})
    bf16: bool = field(default=False, metadata={"help": "Train in bfloat16."})
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU."})


def extended_list(keywords: KeywordList) -> KeywordList:
    """The model's list with `NEW_KEYWORDS` at its end."""
    longer = KeywordList.from_dict(keywords.to_dict())
    for label, words in NEW_KEYWORDS.items():
        for word in words:
            longer.add(word, [label])
    return longer


def predict(args: NewKeywordsArguments, keywords_file: Path, output_dir: Path, **training) -> list[dict]:
    """Predictions on the test split by `run_mtl.py` with the longer list."""
    precision = {"bf16": args.bf16, "use_cpu": args.use_cpu}
    run_mtl(
        ModelArguments(model_name_or_path=args.model_name_or_path, keywords=str(keywords_file)),
        DataArguments(dataset=args.dataset),
        ToxicityTrainingArguments(str(output_dir), do_predict=True, report_to="none", **precision, **training),
    )
    with open(output_dir / "predictions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def figures(predictions: list[dict], transcripts: dict[str, str], keywords: KeywordList) -> dict[str, dict]:
    """Keyword metrics over the new keywords and over those of the old list."""
    new = [word for words in NEW_KEYWORDS.values() for word in words]
    old = [word for word in keywords.keywords if word not in new]
    references = [keywords.merge(keywords.substitute(transcripts[clip["id"]]).split()) for clip in predictions]
    hypotheses = [clip["words"] for clip in predictions]
    groups = {"trained": old, "new": new}
    return {name: keyword_metrics(references, hypotheses, words) for name, words in groups.items()}


def markdown_table(results: dict[str, dict]) -> str:
    """A row per moment and group of keywords."""
    lines = ["| Model | Keywords | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---:|" * len(COLUMNS)]
    for moment, groups in results.items():
        for group, metrics in groups.items():
            lines.append(f"| {moment} | {group} | " + " | ".join(_cell(metrics[name]) for name in COLUMNS) + " |")
    return "\n".join(lines)


def _cell(value) -> str:
    return "-" if value is None else f"{value}" if isinstance(value, int) else f"{value:.1f}"


def main(args: NewKeywordsArguments) -> dict[str, dict]:
    """Measures, prints the table and writes the results."""
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    keywords = extended_list(ToxicityMTLProcessor.from_pretrained(args.model_name_or_path).keywords)
    keywords.save(keywords_file := output_dir / "keywords.json")
    test = load_clips(args.dataset)["test"]
    transcripts = dict(zip(test["id"], test["transcript"], strict=True))
    training = {"do_train": True, "max_steps": args.max_steps, "learning_rate": args.learning_rate}
    training |= {"per_device_train_batch_size": 8, "weight_decay": 0.01, "adam_beta2": 0.98}
    runs = {"before": predict(args, keywords_file, output_dir / "before")}
    runs[f"after {args.max_steps} steps"] = predict(args, keywords_file, output_dir / "after", **training)
    results = {moment: figures(predictions, transcripts, keywords) for moment, predictions in runs.items()}
    write_results(args, results, markdown_table(results))
    return results


if __name__ == "__main__":
    main(*HfArgumentParser(NewKeywordsArguments, description=__doc__).parse_args_into_dataclasses())
