"""The arguments of `run_mtl.py`: flags, or the fields of its JSON file."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..decoding import DECODERS
from ..keyword_reader import KEYWORD_TARGETS


SWITCH = {"nargs": "?", "const": True}  # `--flag` means `--flag true`, though the default is neither


@dataclass
class ModelArguments:
    """Which system to build, and what it starts from. A model of this package stays the system it is, unless told
    otherwise."""

    model_name_or_path: str = field(
        default="patrickvonplaten/wavlm-libri-clean-100h-base-plus",
        metadata={
            "help": "Checkpoint of WavLM, wav2vec 2.0, HuBERT or Whisper, with or without heads, or a model of this "
            "package; a folder or Hub id."
        },
    )
    tasks: list[str] | None = field(
        default=None,
        metadata={"help": "Heads: classification, keyword, or both; default: those of the model, or both."},
    )
    use_info_sharing: bool | None = field(
        default=None, metadata={"help": "MTL + Info. Sharing (paper, section 3.3.3).", **SWITCH}
    )
    use_task_adapter: bool | None = field(
        default=None, metadata={"help": "MTL + Task Adapter (paper, section 3.3.2).", **SWITCH}
    )
    classification_loss_weight: float | None = field(
        default=None, metadata={"help": "λ of the paper's equation 1; default: that of the model, or 0.7."}
    )
    labels: list[str] | None = field(default=None, metadata={"help": "Labels, if not those of the checkpoint."})
    keywords: str | None = field(
        default=None, metadata={"help": "Keyword list, a JSON file; default: that of the model, or the packaged one."}
    )
    keyword_target: str | None = field(
        default=None,
        metadata={
            "choices": list(KEYWORD_TARGETS),
            "help": "What the keyword head writes: keywords (any other word as the filler, as in the paper) or "
            "transcript (all words, so that keywords added later are heard without training); default: that of the "
            "model, or keywords.",
        },
    )
    common_words: str | None = field(
        default=None,
        metadata={
            "help": "Text file of common words, the commonest first, that compete with the keywords of a transcript; "
            "default: those of the model, or of the training transcripts."
        },
    )
    characters: str | None = field(
        default=None,
        metadata={"help": "Letters of the keyword head, for another alphabet than the checkpoint's; it starts anew."},
    )
    language_model: str | None = field(
        default=None,
        metadata={"help": "Word n-gram model of substituted transcripts, ARPA or kenlm binary, to decode with."},
    )
    decoder: str | None = field(
        default=None, metadata={"help": f"One of {', '.join(DECODERS)}; default: that of the checkpoint, or lexicon."}
    )
    config_overrides: str = field(
        default="{}", metadata={"help": "Other configuration fields, as a JSON object: '{\"layerdrop\": 0.0}'."}
    )
    freeze_feature_encoder: bool = field(default=True, metadata={"help": "Keep the convolutions as they are."})
    freeze_layers: int = field(default=0, metadata={"help": "Keep so many of the lowest blocks as they are."})
    freeze_base_model: bool = field(default=False, metadata={"help": "Train the heads and task adapters only."})
    teacher: str | None = field(
        default=None,
        metadata={
            "help": "Model of this package and of the same family, a folder or Hub id: its scores and its characters "
            "are learnt, too."
        },
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a Hub model."})


@dataclass
class DataArguments:
    """What to train and test on."""

    dataset: str = field(
        default="demo_data",
        metadata={"help": "Folder of Parquet files, audio folder with metadata.csv or .jsonl, or Hub id."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    validation_split: str = field(default="validation", metadata={"help": "Split that names the best checkpoint."})
    test_split: str = field(default="test", metadata={"help": "Split of the final results."})
    max_train_seconds: float = field(default=15.0, metadata={"help": "Longer training clips are left out (paper)."})
    window_seconds: float = field(
        default=15.0, metadata={"help": "Longer test clips are cut into such windows (paper)."}
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first so many rows of each split."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that inspect the clips."})
    early_stopping_patience: int = field(
        default=0, metadata={"help": "Stop after so many evaluations without a better one; 0: never."}
    )


@dataclass
class ToxicityTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the paper's protocol (section 4.1) as defaults.

    Changed: `learning_rate`, `weight_decay`, `warmup_steps` (a share of all steps), `num_train_epochs`,
    `per_device_train_batch_size` (the paper used 8 GPUs), and evaluation and checkpoints every epoch, the best of
    which is kept.
    """

    output_dir: str = field(default="runs/mtl", metadata={"help": "Where checkpoints, the model and results go."})
    learning_rate: float = field(default=4e-5, metadata={"help": "Peak learning rate."})
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the heads; default: that of the encoder."}
    )
    initial_classification_loss_weight: float | None = field(
        default=None,
        metadata={"help": "λ at the start of training, from where it moves to that of the model; default: no change."},
    )
    use_keyword_evidence: bool = field(
        default=False,
        metadata={"help": "Let keywords that are heard count in the scores; their weight is fitted after training."},
    )
    weight_decay: float = field(default=0.2, metadata={"help": "Weight decay of AdamW."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up, or their share if below 1."})
    num_train_epochs: float = field(default=25, metadata={"help": "Epochs."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Clips per device and step."})
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "How batches are drawn."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(
        default="quality",
        metadata={"help": "Which metric names the best checkpoint; `quality` is the mean of mAP and keyword F1."},
    )
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether that metric is better when high."})
    batch_eval_metrics: bool = field(default=True, metadata={"help": "Decode batch by batch (must stay on)."})
    hub_strategy: str = field(default="end", metadata={"help": "When to push; checkpoints hold pickles."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Must stay off: audio is a column."})

    def __post_init__(self):
        do_eval = self.do_eval
        super().__post_init__()
        self.do_eval = do_eval  # the base class turns it on wherever training evaluates
        if not self.batch_eval_metrics or self.remove_unused_columns:
            raise ValueError("`batch_eval_metrics` must stay on and `remove_unused_columns` off: see their help.")
        weight = self.initial_classification_loss_weight
        if weight is not None and not 0 <= weight <= 1:
            raise ValueError(f"`initial_classification_loss_weight` must lie between 0 and 1, but is {weight}.")
