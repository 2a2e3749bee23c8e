import numpy as np
import pytest
import torch
from helpers import RATE, dataset_of, record, tiny_processor, tiny_speech_model, tone, wav
from torch.utils.data import SequentialSampler

from modeling_toxmtl.heads import ToxicityMTLOutput
from modeling_toxmtl.training import dataset as dataset_module
from modeling_toxmtl.training.arguments import ToxicityTrainingArguments
from modeling_toxmtl.training.collator import ToxicityDataCollator
from modeling_toxmtl.training.dataset import RowInspector, ToxicityDataset, inspect_rows
from modeling_toxmtl.training.trainer import EpochSampler, ToxicityTrainer


LABELS = [["Profanity"], ["NoViolation"], ["Bullying", "Profanity"], ["Racist"]]
TRANSCRIPTS = ["damn it", "hello", "shut up", "well"]


def make_dataset(model, seconds=(0.5, 0.4, 0.6, 0.3), window_seconds=None, **missing) -> ToxicityDataset:
    rows = [
        record(str(i), wav(tone(round(length * RATE), 200.0 + 90 * i, i)), LABELS[i % 4], TRANSCRIPTS[i % 4])
        for i, length in enumerate(seconds)
    ]
    for index, fields in missing.items():
        rows[int(index.removeprefix("row"))] |= fields
    processor = tiny_processor(family=model.config.model_type.removesuffix("_toxmtl"))
    usable, rejected = inspect_rows(dataset_of(*rows), RowInspector(processor, model.config))
    assert not rejected
    return ToxicityDataset(usable, processor, model.config, window_seconds)


def make_trainer(model, dataset, tmp_path, **arguments) -> ToxicityTrainer:
    arguments = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
        "warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "train_sampling_strategy": "sequential",
        **arguments,
    }
    return ToxicityTrainer(
        model=model,
        args=ToxicityTrainingArguments(output_dir=str(tmp_path / "run"), **arguments),
        train_dataset=dataset,
        eval_dataset=dataset,
        data_collator=ToxicityDataCollator(dataset.processor),
        processing_class=dataset.processor,
    )


def training_logs(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


# --- arguments


def test_defaults_are_the_protocol_of_the_paper(tmp_path):
    args = ToxicityTrainingArguments(output_dir=str(tmp_path))
    assert args.optim.value.startswith("adamw")
    assert (args.learning_rate, args.adam_epsilon, args.weight_decay) == (4e-5, 1e-8, 0.2)
    assert args.lr_scheduler_type == "linear"
    assert args.get_warmup_steps(1000) == 100  # 10 %
    assert (args.num_train_epochs, args.max_steps) == (25, -1)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (32, 1)
    assert args.train_sampling_strategy == "group_by_length"
    assert args.load_best_model_at_end and args.metric_for_best_model == "quality" and args.greater_is_better


@pytest.mark.parametrize("wrong", [{"batch_eval_metrics": False}, {"remove_unused_columns": True}])
def test_arguments_that_must_stay(tmp_path, wrong):
    with pytest.raises(ValueError, match="`batch_eval_metrics` must stay on and `remove_unused_columns` off"):
        ToxicityTrainingArguments(output_dir=str(tmp_path), **wrong)


def test_evaluation_in_training_is_no_evaluation_at_the_end(tmp_path):
    args = ToxicityTrainingArguments(output_dir=str(tmp_path))
    assert args.eval_strategy == "epoch" and not args.do_eval
    assert ToxicityTrainingArguments(output_dir=str(tmp_path), do_eval=True).do_eval


# --- training


@pytest.mark.parametrize("tasks", [["classification", "keyword"], ["classification"], ["keyword"]])
def test_logs_the_mean_loss_of_each_task(tmp_path, tasks):
    model = tiny_speech_model(tasks=tasks)
    dataset = make_dataset(model)
    collate = ToxicityDataCollator(dataset.processor)
    with torch.no_grad():
        outputs = [model(**collate([dataset[i], dataset[i + 1]])) for i in (0, 2)]
    # with a learning rate of 0 every step sees the same model
    trainer = make_trainer(model, dataset, tmp_path, max_steps=4, logging_steps=2, learning_rate=0.0)
    trainer.train()
    logs = training_logs(trainer)
    assert len(logs) == 2
    for name in ("loss", "classification_loss", "keyword_loss"):
        losses = [output.get(name) for output in outputs]
        for entry in logs:  # the second entry starts from nothing
            assert (name in entry) == (losses[0] is not None)
            if name in entry:
                assert entry[name] == pytest.approx(float(sum(losses)) / 2, rel=1e-4)
    if len(tasks) == 2:
        by_hand = 0.7 * logs[0]["classification_loss"] + 0.3 * logs[0]["keyword_loss"]
        assert logs[0]["loss"] == pytest.approx(by_hand, rel=1e-4)


def test_the_weight_of_the_classification_loss_moves(tmp_path):
    model = tiny_speech_model(classification_loss_weight=0.6)
    arguments = {"max_steps": 4, "learning_rate": 0.0, "initial_classification_loss_weight": 0.2}
    trainer = make_trainer(model, make_dataset(model), tmp_path, **arguments)
    trainer.train()
    for entry, weight in zip(training_logs(trainer), (0.2, 0.3, 0.4, 0.5), strict=True):
        by_hand = weight * entry["classification_loss"] + (1 - weight) * entry["keyword_loss"]
        assert entry["loss"] == pytest.approx(by_hand, rel=1e-4)
    assert model.config.classification_loss_weight == 0.6
    with pytest.raises(ValueError, match="`initial_classification_loss_weight` must lie between 0 and 1, but is 2"):
        ToxicityTrainingArguments(output_dir=str(tmp_path), initial_classification_loss_weight=2)


def test_logs_the_mean_loss_of_several_devices(tmp_path):
    """`DataParallel` gives a loss for each of them."""
    model = tiny_speech_model()
    trainer = make_trainer(model, make_dataset(model), tmp_path)
    trainer._task_losses = {}
    outputs = {"loss": torch.tensor(1.0), "keyword_loss": torch.tensor([1.0, 3.0])}
    model.forward = lambda **inputs: ToxicityMTLOutput(**outputs)
    trainer.compute_loss(model.train(), {})
    logs = {"loss": 1.0}
    trainer.log(logs)
    assert logs["keyword_loss"] == 2.0


def test_losses_of_an_evaluation_are_not_logged_as_training(tmp_path):
    model = tiny_speech_model()
    dataset = make_dataset(model)
    logs = {}
    for strategy in ("no", "steps"):
        trainer = make_trainer(
            model, dataset, tmp_path, max_steps=2, learning_rate=0.0, eval_strategy=strategy, eval_steps=1
        )
        trainer.train()
        logs[strategy] = [entry["keyword_loss"] for entry in training_logs(trainer)]
    assert logs["steps"] == pytest.approx(logs["no"], rel=1e-5)
    assert logs["no"][0] != logs["no"][1]


def test_two_steps_change_every_parameter(family, tmp_path):
    model = tiny_speech_model(family=family, use_info_sharing=True, use_task_adapter=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    make_trainer(model, make_dataset(model), tmp_path, max_steps=2, learning_rate=1e-2).train()
    # a key's bias adds the same to all scores of a query, and softmax takes it away; SpecAugment is off, and
    # Whisper's positions are sinusoids
    without_effect = ("k_proj.bias", "masked_spec_embed", "embed_positions.weight")
    unchanged = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert [name for name in unchanged if not name.endswith(without_effect)] == []


@pytest.mark.parametrize("fields", [{}, {"use_info_sharing": True}, {"use_task_adapter": True}])
def test_heads_learn_at_their_own_rate(family, fields, tmp_path):
    """SGD moves a parameter by its rate times its gradient: the encoder's at one, and all others at the other."""
    moves = {}
    for head_rate in (None, 3e-3):
        model = tiny_speech_model(family=family, **fields)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        arguments = {"learning_rate": 1e-3, "head_learning_rate": head_rate, "optim": "sgd", "weight_decay": 0.0}
        make_trainer(model, make_dataset(model), tmp_path, max_steps=1, max_grad_norm=0.0, **arguments).train()
        moves[head_rate] = {name: parameter - before[name] for name, parameter in model.named_parameters()}
    for name, alike in moves[None].items():
        times = 1.0 if name.startswith(f"{model.base_model_prefix}.") else 3.0
        torch.testing.assert_close(moves[3e-3][name], times * alike, atol=2e-6, rtol=1e-3, msg=name)
    assert max(move.abs().max() for name, move in moves[3e-3].items() if "lm_head" in name) > 1e-4


def test_rates_are_scheduled_and_decayed_alike(family, tmp_path):
    """Every parameter is in one group, keeps its decay (none for biases and norms), and follows the schedule."""
    model = tiny_speech_model(family=family)
    arguments = {"learning_rate": 1e-3, "head_learning_rate": 4e-3, "lr_scheduler_type": "linear", "max_steps": 4}
    trainer = make_trainer(model, make_dataset(model), tmp_path, **arguments)
    trainer.train()
    groups = trainer.optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [names[id(parameter)] for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    encoder = f"{model.base_model_prefix}."
    for group in groups:
        own = [names[id(parameter)] for parameter in group["params"]]
        assert all(name.startswith(encoder) for name in own) or not any(name.startswith(encoder) for name in own)
        assert all(name.endswith("bias") or "norm" in name for name in own) == (group["weight_decay"] == 0), own
        assert group["initial_lr"] == (1e-3 if own[0].startswith(encoder) else 4e-3)
        assert group["lr"] == 0  # at the end of the schedule


def test_accumulated_gradients_equal_a_larger_batch(family, tmp_path):
    models = []
    for size, accumulated in ((4, 1), (2, 2)):
        model = tiny_speech_model(family=family)
        make_trainer(
            model,
            make_dataset(model),
            tmp_path,
            max_steps=1,
            learning_rate=0.1,
            optim="sgd",  # AdamW's first step is the sign of the gradient, and hides its size
            weight_decay=0.0,
            max_grad_norm=0.0,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
        ).train()
        models.append(model)
    start, moved = tiny_speech_model(family=family), 0.0
    for (name, whole), split, old in zip(
        models[0].named_parameters(), models[1].parameters(), start.parameters(), strict=True
    ):
        torch.testing.assert_close(whole, split, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
        moved = max(moved, (whole - old).abs().max().item())
    assert moved > 1e-3


# --- sampling


def test_groups_by_length_without_decoding(tmp_path, monkeypatch):
    model = tiny_speech_model()
    seconds = [0.2 + index / 100 for index in np.random.default_rng(0).permutation(32).tolist()]
    dataset = make_dataset(model, seconds)

    def refuse(*args):
        raise AssertionError("audio was decoded")

    monkeypatch.setattr(dataset_module, "load_audio", refuse)
    arguments = {"train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2}
    trainer = make_trainer(model, dataset, tmp_path, **arguments)
    order = list(trainer._get_train_sampler())
    assert sorted(order) == list(range(32))
    lengths = [seconds[index] for index in order]
    assert lengths[0] == max(seconds)  # out of memory at once, or never
    # four groups of two steps, 2 * 2 clips each, from long to short; the longest clip has left one of them
    groups = [lengths[start : start + 8] for start in range(0, 32, 8)]
    assert sum(group == sorted(group, reverse=True) for group in groups) >= 3
    with pytest.raises(AssertionError, match="decoded"):
        next(iter(trainer.get_train_dataloader()))


def test_order_follows_from_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(100, 200, 32).tolist()

    def orders(seed):
        sampler = EpochSampler(4, lengths, seed)
        for epoch in (0, 1, 2):
            sampler.set_epoch(epoch)
            torch.rand(seed + epoch)  # what dropout takes from the global generator, differently in each process
            yield list(sampler)

    first, again, other = list(orders(0)), list(orders(0)), list(orders(1))
    assert first == again
    assert first[0] != first[1] != first[2] != first[0] and first[0] != other[0]
    assert all(sorted(order) == list(range(32)) for order in first)


def test_each_epoch_has_another_order(tmp_path, monkeypatch):
    model = tiny_speech_model()
    dataset = make_dataset(model, [0.3 + index / 100 for index in range(8)])
    seen = []
    get_item = ToxicityDataset.__getitem__
    monkeypatch.setattr(
        ToxicityDataset, "__getitem__", lambda self, index: seen.append(index) or get_item(self, index)
    )
    arguments = {"train_sampling_strategy": "group_by_length", "num_train_epochs": 2}
    make_trainer(model, dataset, tmp_path, **arguments).train()
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]


def test_other_strategies_are_left_alone(tmp_path):
    model = tiny_speech_model()
    trainer = make_trainer(model, make_dataset(model), tmp_path)
    assert isinstance(trainer._get_train_sampler(), SequentialSampler)


# --- evaluation


def test_evaluates_clips(family, tmp_path):
    model = tiny_speech_model(family=family)
    dataset = make_dataset(model, (0.5, 2.5, 1.0, 0.4), window_seconds=1.0)
    trainer = make_trainer(model, dataset, tmp_path)
    assert list(trainer.predictions) == []
    metrics = trainer.evaluate()
    assert [clip.id for clip in trainer.predictions] == ["0", "1", "2", "3"]
    assert 0 <= metrics["eval_mAP"] <= 100 and 0 <= metrics["eval_quality"] <= 100
    assert metrics["eval_support_Profanity"] == 2
    assert np.isfinite(metrics["eval_loss"])

    clip = dataset[[window.row for window in dataset.windows].index(2)]
    with torch.no_grad():
        logits = model(torch.tensor(clip[model.main_input_name])[None]).logits[0]
    scores = torch.sigmoid(logits).tolist()
    assert list(trainer.predictions[2].scores.values()) == pytest.approx(scores, abs=1e-5)


def test_order_of_clips_when_training_groups_by_length(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "MAX_SAMPLES_IN_MEMORY", 0)
    model = tiny_speech_model()
    dataset = make_dataset(model, (0.4, 1.0, 0.5, 1.2, 0.6, 0.3))
    predictions, decoded = {}, []
    load_audio = dataset_module.load_audio
    monkeypatch.setattr(dataset_module, "load_audio", lambda *args: decoded.append(1) or load_audio(*args))
    for strategy in ("sequential", "group_by_length"):
        trainer = make_trainer(model, dataset, tmp_path, train_sampling_strategy=strategy)
        trainer.evaluate()
        predictions[strategy] = trainer.predictions
    assert predictions["group_by_length"] == predictions["sequential"]
    assert len(decoded) == 2 * 6  # each clip once


def test_evaluates_another_dataset(tmp_path):
    model = tiny_speech_model()
    trainer = make_trainer(model, make_dataset(model), tmp_path)
    trainer.evaluate()
    metrics = trainer.evaluate(make_dataset(model, (0.5, 0.4)), metric_key_prefix="test")
    assert [clip.id for clip in trainer.predictions] == ["0", "1"]
    assert metrics["test_support_NoViolation"] == 1 and "eval_mAP" not in metrics


def test_predicts_another_dataset(tmp_path):
    """After the evaluation of one with as many windows."""
    model = tiny_speech_model()
    other = make_dataset(model, (0.3, 0.5, 0.4, 0.6), row0={"labels": ["Racist"], "id": "another"})
    trainer = make_trainer(model, make_dataset(model), tmp_path)
    expected = trainer.evaluate(other, metric_key_prefix="test")
    trainer.evaluate()
    assert trainer.predict(other).metrics["test_mAP"] == expected["test_mAP"]
    assert [clip.id for clip in trainer.predictions] == ["another", "1", "2", "3"]


def test_evaluates_several_datasets(tmp_path):
    model = tiny_speech_model()
    dataset, other = make_dataset(model), make_dataset(model, (0.3, 0.5))
    trainer = make_trainer(model, dataset, tmp_path)
    expected = trainer.evaluate()["eval_mAP"], trainer.evaluate(other)["eval_mAP"]
    trainer.eval_dataset = {"all": dataset, "two": other}
    metrics = trainer.evaluate()
    assert (metrics["eval_all_mAP"], metrics["eval_two_mAP"]) == expected
    assert trainer.evaluate({"given": other})["eval_given_mAP"] == expected[1]


@pytest.mark.parametrize("tasks", [["classification"], ["keyword"], ["keyword", "classification"]])
def test_evaluates_single_tasks_and_any_order(tmp_path, tasks):
    model = tiny_speech_model(tasks=tasks)
    metrics = make_trainer(model, make_dataset(model), tmp_path).evaluate()
    assert ("eval_mAP" in metrics) == ("classification" in tasks)
    assert ("eval_keyword_tn" in metrics) == ("keyword" in tasks)


def test_trains_and_evaluates_partly_labelled_clips(tmp_path):
    model = tiny_speech_model()
    dataset = make_dataset(model, row0={"labels": None}, row1={"labels": None}, row2={"transcript": None})
    trainer = make_trainer(model, dataset, tmp_path, max_steps=2, learning_rate=0.0)
    trainer.train()
    first, second = training_logs(trainer)
    assert first["classification_loss"] == 0 and second["classification_loss"] > 0
    assert trainer.evaluate()["eval_support_NoViolation"] == 0
