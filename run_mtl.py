"""Fine-tunes, evaluates and applies a voice-toxicity model: any of the paper's five systems, on any dataset of clips.

    python run_mtl.py experiments/demo_mtl.json
    python run_mtl.py experiments/paper_mtl.json --dataset my_clips --output_dir runs/mine --use_info_sharing
    python run_mtl.py --model_name_or_path runs/mine --dataset my_clips --do_eval --output_dir runs/again

Arguments are flags, or the fields of one JSON file; flags after the file override it. Writes the model, its processor,
`results.json`, the paper's Table 2 as `results.md`, a model card rendered from them, and with `--do_predict` a
`predictions.jsonl`.
"""

import json
import logging
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import transformers
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    HfArgumentParser,
    PreTrainedModel,
    set_seed,
)

from modeling_toxmtl import ToxicityMTLProcessor
from modeling_toxmtl.alphabet import alphabet_tokenizer
from modeling_toxmtl.configuration_toxmtl import configuration_for
from modeling_toxmtl.io.files import write_json, write_json_lines, write_text
from modeling_toxmtl.io.tables import read_labels
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import scores_from_logits
from modeling_toxmtl.multitask_config import ToxicityMTLFields
from modeling_toxmtl.processing_toxmtl import LANGUAGE_MODEL_FOLDER
from modeling_toxmtl.training.arguments import DataArguments, ModelArguments, ToxicityTrainingArguments
from modeling_toxmtl.training.calibration import LabelCalibration, calibrate, uncalibrated
from modeling_toxmtl.training.card import write_model_card
from modeling_toxmtl.training.checkpoints import find_damage, last_whole_checkpoint
from modeling_toxmtl.training.collator import ToxicityDataCollator
from modeling_toxmtl.training.dataset import ToxicityDataset, rank_words, usable_dataset
from modeling_toxmtl.training.distillation import DistillingTrainer, load_teacher
from modeling_toxmtl.training.evaluation import system_name
from modeling_toxmtl.training.folders import audio_root, load_clips
from modeling_toxmtl.training.metrics import calibration_metrics
from modeling_toxmtl.training.provenance import (
    MODEL_FIELDS,
    check_resumed,
    current_commit,
    describe_run,
    reproducible_metrics,
    write_results,
)
from modeling_toxmtl.training.trainer import EarlyStopping, ToxicityTrainer


logger = logging.getLogger("run_mtl")


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, ToxicityTrainingArguments]:
    """Arguments from flags, or from a JSON file and the flags after it."""
    parser = HfArgumentParser((ModelArguments, DataArguments, ToxicityTrainingArguments), description=__doc__)
    if argv and argv[0].endswith(".json"):
        fields = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
        known = {action.dest for action in parser._actions}
        if unknown := sorted(set(fields) - known):
            parser.error(f"{argv[0]}: unknown field {', '.join(unknown)}; see --help for those there are")
        parser.set_defaults(**fields)
        argv = argv[1:]
    return parser.parse_args_into_dataclasses(argv)


def load_model(args: ModelArguments) -> tuple[PreTrainedModel, ToxicityMTLProcessor]:
    """The model and processor that `args` describe, with what the checkpoint has; transformers reports what is new."""
    keywords = KeywordList.from_file(args.keywords) if args.keywords else None
    tokenizer = alphabet_tokenizer(args.characters) if args.characters else None
    processor = ToxicityMTLProcessor.from_checkpoint(
        args.model_name_or_path, keywords, args.model_revision, tokenizer, args.keyword_target
    )
    if args.language_model:
        processor.language_model = args.language_model
    if args.common_words:
        processor.common_words = args.common_words
    if args.decoder:
        processor.decoding = replace(processor.decoding, decoder=args.decoder)
    overrides = args.config_overrides  # a JSON file of arguments holds the object itself
    overrides = dict(json.loads(overrides) if isinstance(overrides, str) else overrides)
    overrides |= {name: getattr(args, name) for name in MODEL_FIELDS if getattr(args, name) is not None}
    if args.labels:
        overrides["id2label"] = dict(enumerate(args.labels))
    alphabet = {"vocab_size": len(processor.tokenizer), "pad_token_id": processor.tokenizer.pad_token_id}
    if given := sorted(overrides.keys() & alphabet):
        raise ValueError(f"--config_overrides: {', '.join(given)} follows the tokenizer; see --characters.")
    source = AutoConfig.from_pretrained(args.model_name_or_path, revision=args.model_revision)
    config = configuration_for(source.model_type).from_encoder(source, **alphabet, **overrides)
    model = AutoModelForAudioClassification.from_pretrained(
        args.model_name_or_path,
        config=config,
        revision=args.model_revision,
        dtype="float32",
        ignore_mismatched_sizes=True,  # heads for other labels or characters start anew
    )
    # as many other letters or labels would pass for the same
    if args.characters and "keyword" in config.tasks:
        model.lm_head.reset_parameters()
    if args.labels and args.labels != list(source.id2label.values()) and "classification" in config.tasks:
        model.classifier.reset_parameters()
    if "keyword" in config.tasks:
        processor.decoder()  # what it lacks is said now, not after the first epoch
    if args.freeze_feature_encoder:
        model.freeze_feature_encoder()
    if args.freeze_layers:
        model.freeze_layers(args.freeze_layers)
    if args.freeze_base_model:
        model.freeze_base_model()
    return model, processor


def load_datasets(
    args: DataArguments, splits: set[str], model: PreTrainedModel, processor: ToxicityMTLProcessor, report: Path
) -> dict[str, ToxicityDataset]:
    """The needed splits; writes which rows are not used, and why."""
    clips = load_clips(args.dataset, args.dataset_name, splits, args.max_samples)
    datasets, rejected = {}, []
    for split in sorted(splits):
        is_train = split == args.train_split
        datasets[split] = usable_dataset(
            clips[split],
            processor,
            model.config,
            source=f"Split {split!r} of {args.dataset}",
            root=audio_root(args.dataset),
            max_seconds=args.max_train_seconds if is_train else None,
            window_seconds=None if is_train else args.window_seconds,
            num_proc=args.preprocessing_num_workers,
        )
        rejected += [{"split": split, **row._asdict()} for row in datasets[split].rejected]
        logger.info("%s: %d clips, %d not used", split, len(datasets[split].rows), len(datasets[split].rejected))
    write_json_lines(report, rejected)
    return datasets


def check_validation(dataset: ToxicityDataset, config: ToxicityMTLFields) -> None:
    """Raises ValueError if no clip of the validation split has a label or a keyword, without which there is no
    `quality`."""
    keywords, signs = dataset.processor.keywords, {}
    if "classification" in config.tasks:
        signs["a label"] = any(read_labels(labels) for labels in dataset.rows["labels"])
    if "keyword" in config.tasks:
        found = (keywords.find(keywords.tokens(text or "")) for text in dataset.rows["transcript"])
        signs["a keyword in its transcript"] = any(found)
    if not any(signs.values()):
        raise ValueError(
            f"No clip of the validation split has {' or '.join(signs)}, so nothing tells which checkpoint is the "
            "best: choose another --validation_split, or add such clips to it."
        )


def train(trainer: ToxicityTrainer, results: dict) -> None:
    """Trains or goes on, calibrates and saves the model, and adds what was measured to the results."""
    output_dir = Path(trainer.args.output_dir)
    if trainer.args.metric_for_best_model in ("quality", "eval_quality"):
        check_validation(trainer.eval_dataset, trainer.model.config)
    checkpoint = trainer.args.resume_from_checkpoint or last_whole_checkpoint(output_dir)
    if damage := checkpoint and find_damage(Path(checkpoint)):
        raise ValueError(f"--resume_from_checkpoint: {checkpoint} is damaged ({damage}): name another, or none.")
    description = output_dir / "run.json"
    if checkpoint and description.exists():
        check_resumed(description, results)
    elif trainer.is_world_process_zero():
        write_json(description, results)
    trainer.model.config.keyword_evidence = None  # of the model before
    if checkpoint and trainer.restore_ended(Path(checkpoint)):
        logger.info("%s is the end of the run: nothing is left to train", checkpoint)
    else:
        measured = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint)).metrics
    if checkpoint:  # of the rest alone: no loss and no time of the whole
        measured = {"epoch": trainer.state.epoch}
    trainer.save_metrics("train", measured)
    has_classifier = "classification" in trainer.model.config.tasks
    if has_classifier and any(labels is not None for labels in trainer.eval_dataset.rows["labels"]):
        trainer.evaluate()
        calibrations = calibrate(
            trainer.model, trainer.evaluation, use_keyword_evidence=trainer.args.use_keyword_evidence
        )
        results["calibration"] = {name: asdict(label) for name, label in calibrations.items()}
    elif has_classifier:
        logger.warning("No clip of the validation split has labels: scores are not calibrated, nor thresholds chosen.")
    trainer.save_model()
    validation = trainer.evaluate()
    trainer.save_metrics("eval", validation)
    results["validation"] = reproducible_metrics(validation, "eval")


def test(trainer: ToxicityTrainer, dataset: ToxicityDataset, results: dict) -> None:
    """Evaluates the model on the test set and adds what was measured to the results."""
    metrics = trainer.evaluate(dataset, metric_key_prefix="test")
    trainer.save_metrics("test", metrics)
    results["test"] = reproducible_metrics(metrics, "test")
    results["test_intervals"] = trainer.evaluation.confidence_intervals(seed=trainer.args.seed)
    if "calibration" in results:
        logits, _, targets = trainer.evaluation.labelled_parts()
        calibrations = {name: LabelCalibration(**label) for name, label in results["calibration"].items()}
        raw_scores = scores_from_logits(uncalibrated(logits, calibrations))
        results["test_uncalibrated"] = calibration_metrics(raw_scores, targets)


def main(model_args: ModelArguments, data_args: DataArguments, training_args: ToxicityTrainingArguments) -> dict:
    """Runs what the arguments ask for and returns the content of `results.json`."""
    do_test = training_args.do_eval or training_args.do_predict
    if not (training_args.do_train or do_test):
        raise ValueError("Nothing to do: pass --do_train, --do_eval or --do_predict, or a JSON file that does.")
    set_seed(training_args.seed)
    output_dir = Path(training_args.output_dir)
    model, processor = load_model(model_args)
    logger.info("%s: %.1f M parameters", system_name(model.config), model.num_parameters() / 1e6)
    splits = {data_args.train_split, data_args.validation_split} if training_args.do_train else set()
    splits |= {data_args.test_split} if do_test else set()
    with training_args.main_process_first(desc="inspecting clips"):
        datasets = load_datasets(data_args, splits, model, processor, output_dir / "rejected.jsonl")
    if training_args.do_train and processor.keyword_target == "transcript" and processor.common_words is None:
        processor.common_words = str(output_dir / LANGUAGE_MODEL_FOLDER / "common_words.txt")
        write_text(processor.common_words, "\n".join(rank_words(datasets[data_args.train_split])) + "\n")
    patience = data_args.early_stopping_patience
    make_trainer = ToxicityTrainer
    if model_args.teacher:
        make_trainer = partial(DistillingTrainer, teacher=load_teacher(model_args.teacher, model, processor))
    trainer = make_trainer(
        model=model,
        args=training_args,
        train_dataset=datasets.get(data_args.train_split),
        eval_dataset=datasets.get(data_args.validation_split, datasets.get(data_args.test_split)),
        data_collator=ToxicityDataCollator(processor),
        processing_class=processor,
        callbacks=[EarlyStopping(patience)] if patience else [],
    )
    results = {"commit": current_commit(Path(__file__).parent)}
    results |= describe_run(model_args, data_args, training_args, model, datasets)
    if training_args.do_train:
        train(trainer, results)
    if "classification" in model.config.tasks:
        results["thresholds"] = model.config.thresholds  # that precision and recall are measured at
    if do_test:
        test(trainer, datasets[data_args.test_split], results)
    if trainer.is_world_process_zero():
        write_results(output_dir, results, system_name(model.config))
        if training_args.do_predict:
            write_json_lines(output_dir / "predictions.jsonl", [clip.to_dict() for clip in trainer.predictions])
        if training_args.do_train:
            write_model_card(output_dir, name=training_args.hub_model_id or output_dir.name)
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return results


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    transformers.utils.logging.enable_explicit_format()
    main(*parse_arguments(sys.argv[1:]))
