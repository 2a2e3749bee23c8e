"""`Trainer` for the multi-task model: each task's loss in the logs, length groups without decoding, clip-level
metrics."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PredictionOutput

from .evaluation import ClipEvaluation
from .export import push_folder


TASK_LOSSES = ("classification_loss", "keyword_loss")


class EpochSampler(LengthGroupedSampler):
    """Groups by length in an order that follows from seed and epoch alone.

    The base class asks the global generator, whose state dropout lets drift apart between processes: they would then
    share out different orders, and train on some clips twice and on others never.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The next pass draws the order of this epoch."""
        self.epoch = epoch

    def __iter__(self):
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


class LossWeightSchedule(TrainerCallback):
    """Moves λ, the weight of the classification loss, in a straight line from `start` to that of the model's
    configuration, `end`, which it has again when training ends."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Sets λ of the step."""
        share = state.global_step / state.max_steps
        model.config.classification_loss_weight = self.start + share * (self.end - self.start)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Leaves λ as it was."""
        model.config.classification_loss_weight = self.end


class EarlyStopping(EarlyStoppingCallback):
    """Stops training after so many evaluations without a better one, those before the checkpoint that a run goes on
    from included.

    `restore_callback_states_from_checkpoint` would count them, too, but with the patience of the checkpoint, whatever
    the run is given.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes over the count."""
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = self.counted(state)
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())  # of a run that began without

    def counted(self, state: TrainerState) -> int:
        """Evaluations without a better one, up to a checkpoint's state."""
        stored = state.stateful_callbacks.get(type(self).__name__, {"attributes": {}})
        return stored["attributes"].get("early_stopping_patience_counter", 0)

    def has_stopped(self, state: TrainerState) -> bool:
        """Whether a run has stopped with a checkpoint's state."""
        return self.counted(state) >= self.early_stopping_patience


class ToxicityTrainer(Trainer):
    """Trains on `ToxicityDataset`s and evaluates clips; `evaluation` is the last one, `predictions` its clips."""

    evaluation: ClipEvaluation | None = None

    @property
    def predictions(self) -> Sequence[dict]:
        """Of the clips of the last evaluation."""
        return () if self.evaluation is None else self.evaluation.predictions

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._task_losses = {}
        start = self.args.initial_classification_loss_weight
        if start is not None:
            self.add_callback(LossWeightSchedule(start, self.model.config.classification_loss_weight))

    def restore_ended(self, checkpoint: Path) -> bool:
        """Takes over what a run that has ended with this checkpoint ended with; False if there is more to train.

        The base class asks only after a step whether to stop, and so would train on.
        """
        state, args = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)), self.args
        done, whole = state.epoch, args.num_train_epochs
        if args.max_steps > 0:
            done, whole = state.global_step, args.max_steps
        stoppers = [callback for callback in self.callback_handler.callbacks if isinstance(callback, EarlyStopping)]
        if done < whole and not any(callback.has_stopped(state) for callback in stoppers):
            return False
        best = Path(args.load_best_model_at_end and state.best_model_checkpoint or checkpoint)
        # the folder may have been moved
        self._load_from_checkpoint(str(best if best.is_dir() else checkpoint.with_name(best.name)))
        self.state.epoch = state.epoch
        return True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """As of the base class, with `head_learning_rate` for what is not in the encoder."""
        optimizer = super().create_optimizer(*args, **kwargs)
        rate = self.args.head_learning_rate
        if rate is not None:
            encoder = {id(parameter) for parameter in self.model.base_model.parameters()}
            for group in list(optimizer.param_groups):
                heads = [parameter for parameter in group["params"] if id(parameter) not in encoder]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) in encoder]
                options = {name: value for name, value in group.items() if name not in ("params", "initial_lr")}
                optimizer.add_param_group({**options, "params": heads, "lr": rate})
        return optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """As of the base class, with the [`added_losses`] in training; keeps each part of the loss for the log."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            added = self.added_losses(inputs, outputs)
            tasks = {name: outputs[name] for name in TASK_LOSSES if outputs.get(name) is not None}
            for name, part in {**tasks, **added}.items():
                # `DataParallel` gives one for each GPU
                self._task_losses.setdefault(name, []).append(part.detach().mean())
            loss = loss + sum(added.values())
        return (loss, outputs) if return_outputs else loss

    def added_losses(self, inputs: dict[str, Any], outputs: Any) -> dict[str, torch.Tensor]:
        """What is learnt beside the tasks, of a batch and what the model made of it: scalars by name, here none."""
        return {}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As of the base class, with the mean of each task's loss since the last log."""
        if "loss" in logs:
            for name, values in self._task_losses.items():
                logs[name] = sum(values).item() / len(values)
            self._task_losses = {}
        super().log(logs, *args, **kwargs)

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """As of the base class, by clips: a clip that was cut is joined again."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):  # the name of one of several
            dataset = self.eval_dataset[dataset]
        if isinstance(dataset, dict):  # the base class comes back with each
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        with self._evaluates(dataset):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: Dataset, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """As of the base class; the clips' scores and keywords are in `predictions`."""
        with self._evaluates(test_dataset):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    @contextmanager
    def _evaluates(self, dataset):
        self.compute_metrics = evaluation = ClipEvaluation(dataset)
        yield
        self.evaluation = evaluation

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        token: str | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> CommitInfo | None:
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
