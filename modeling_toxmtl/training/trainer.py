"""`Trainer` for the multi-task model: each task's loss in the logs, length groups without decoding, clip-level
metrics."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from .evaluation import ClipEvaluation
from .export import push_folder


TASK_LOSSES = ("classification_loss", "keyword_loss")


@dataclass
class ToxicityTrainingArguments(TrainingArguments):
    """`TrainingArguments` with the paper's protocol (section 4.1) as defaults.

    Changed: `learning_rate`, `weight_decay`, `warmup_steps` (a share of all steps), `num_train_epochs`,
    `per_device_train_batch_size` (the paper used 8 GPUs), and evaluation and checkpoints every epoch, the best of
    which is kept.
    """

    output_dir: str = field(default="runs/mtl", metadata={"help": "Where checkpoints, the model and results go."})
    learning_rate: float = field(default=4e-5, metadata={"help": "Peak learning rate."})
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


class EpochSampler(LengthGroupedSampler):
    """Groups by length in an order that follows from seed and epoch alone.

    The base class asks the global generator, whose state dropout lets drift apart between processes: they would then
    share out different orders, and train on some clips twice and on others never.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int):
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


class ToxicityTrainer(Trainer):
    """Trains on `ToxicityDataset`s and evaluates clips; `evaluation` is the last one, `predictions` its clips."""

    evaluation: ClipEvaluation | None = None

    @property
    def predictions(self):
        return () if self.evaluation is None else self.evaluation.predictions

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._task_losses = {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            for name in TASK_LOSSES:
                if outputs.get(name) is not None:
                    # `DataParallel` gives one for each GPU
                    self._task_losses.setdefault(name, []).append(outputs[name].detach().mean())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, *args, **kwargs):
        if "loss" in logs:
            for name, values in self._task_losses.items():
                logs[name] = sum(values).item() / len(values)
            self._task_losses = {}
        super().log(logs, *args, **kwargs)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):  # the name of one of several
            dataset = self.eval_dataset[dataset]
        if isinstance(dataset, dict):  # the base class comes back with each
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        with self._evaluates(dataset):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix="test"):
        with self._evaluates(test_dataset):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    @contextmanager
    def _evaluates(self, dataset):
        self.compute_metrics = evaluation = ClipEvaluation(dataset)
        yield
        self.evaluation = evaluation

    def push_to_hub(self, commit_message: str = "End of training", token=None, revision=None, **kwargs):
        """Pushes the output folder as it stands: the model, its code, results and card, and no pickled arguments or
        predictions, which the base class would push too."""
        if not self.is_world_process_zero():
            return None
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        return push_folder(
            self.args.output_dir,
            self.hub_model_id,
            private=self.args.hub_private_repo,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            commit_message=commit_message,
        )

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(dataset)
        # the base class would decode every clip to learn its length
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSampler(batch_size, dataset.lengths, seed)

    def _get_eval_sampler(self, eval_dataset):
        # `ClipEvaluation` knows windows by their place; the base class would group these by length too
        return SequentialSampler(eval_dataset)
