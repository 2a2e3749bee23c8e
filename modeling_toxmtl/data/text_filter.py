"""Trains the text classifier of the text filter on your own labelled text.

    toxmtl data train-text-filter labelled.csv --model-name-or-path distilbert-base-uncased \\
        --output-dir my_filter

The table (.csv, .jsonl) has the columns `text` and `labels` (in a CSV, `|` stands between labels). The model is
multi-label: a sigmoid for each label that occurs in the table.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from ..io.tables import cell_text, read_labels, read_table
from ..labels import LABELS


@dataclass
class TextFilterArguments:
    """What to train on, and how long."""

    texts: str = field(metadata={"help": "Table (.csv, .jsonl) with the columns text and labels."})
    model_name_or_path: str = field(
        default="distilbert-base-uncased", metadata={"help": "Model to start from, a Hub id or folder."}
    )
    output_dir: str = field(default="text_filter", metadata={"help": "Folder for the trained classifier."})
    epochs: float = field(default=3.0, metadata={"help": "Passes over the texts."})
    max_steps: int = field(default=-1, metadata={"help": "Stop after so many steps, whatever --epochs says."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate."})
    batch_size: int = field(default=32, metadata={"help": "Texts a step."})
    seed: int = field(default=0, metadata={"help": "The same seed on the same machine gives the same classifier."})


class LabelledTexts(Dataset):
    """Tokenised texts with multi-hot labels."""

    def __init__(self, rows: list[dict], label_names: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.encodings = [tokenizer(row["text"], truncation=True) for row in rows]
        self.targets = [[float(name in row["labels"]) for name in label_names] for row in rows]

    def __len__(self) -> int:
        return len(self.encodings)

    def __getitem__(self, index: int) -> dict:
        return {**self.encodings[index], "labels": self.targets[index]}


def read_texts(path: str) -> list[dict]:
    """Rows with `text` and a list `labels`.

    Raises:
        ValueError: if a row lacks either, or a label is unknown; the message names file and row.
    """
    rows = []
    for number, row in enumerate(read_table(Path(path)), start=1):
        try:
            labels, text = read_labels(row.get("labels")), cell_text(row, "text")
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}.") from error
        if not text or labels is None:
            raise ValueError(f"{path}, row {number}: give `text` and `labels`.")
        if unknown := sorted(set(labels) - set(LABELS)):
            raise ValueError(f"{path}, row {number}: unknown labels {unknown}: choose from {LABELS}.")
        rows.append({"text": text, "labels": labels})
    return rows


def train(
    args: TextFilterArguments, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict]
) -> PreTrainedModel:
    """Trains `model`, whose labels are those to learn, on the rows of [`read_texts`], and saves it."""
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    training = TrainingArguments(
        output_dir=args.output_dir,
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
        per_device_train_batch_size=args.batch_size,
        warmup_steps=0.1,
        seed=args.seed,
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
    )
    Trainer(
        model=model,
        args=training,
        train_dataset=LabelledTexts(rows, names, tokenizer),
        data_collator=DataCollatorWithPadding(tokenizer),
    ).train()
    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)
    return model


def main(args: TextFilterArguments) -> None:
    """Trains and saves the classifier."""
    rows = read_texts(args.texts)
    names = [label for label in LABELS if any(label in row["labels"] for row in rows)]
    model = AutoModelForSequenceClassification.from_pretrained(
        args.model_name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        problem_type="multi_label_classification",
        ignore_mismatched_sizes=True,
    )
    train(args, model, AutoTokenizer.from_pretrained(args.model_name_or_path), rows)
    print(f"Wrote a classifier of {', '.join(names)} to {args.output_dir}.")
