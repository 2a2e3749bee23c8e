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
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import transformers
from transformers import AutoConfig, EarlyStoppingCallback, HfArgumentParser, set_seed
from transformers.trainer_utils import get_last_checkpoint

from modeling_toxmtl import ToxicityMTLProcessor, WavLMForToxicityMTL, WavLMToxicityMTLConfig
from modeling_toxmtl.decoding import DECODERS
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import scores_from_logits
from modeling_toxmtl.processing_toxmtl import alphabet_tokenizer
from modeling_toxmtl.training import calibration
from modeling_toxmtl.training.card import write_model_card
from modeling_toxmtl.training.collator import ToxicityDataCollator
from modeling_toxmtl.training.dataset import RowInspector, ToxicityDataset, fingerprint, inspect_rows
from modeling_toxmtl.training.evaluation import markdown_table, system_name
from modeling_toxmtl.training.folders import load_clips
from modeling_toxmtl.training.metrics import calibration_metrics
from modeling_toxmtl.training.trainer import ToxicityTrainer, ToxicityTrainingArguments


logger = logging.getLogger("run_mtl")


# What a model of this package knows of itself, and any other checkpoint takes from the configuration's defaults
SYSTEM_FIELDS = ("tasks", "use_info_sharing", "use_task_adapter", "classification_loss_weight")
# What a run may be resumed with though it began with another: how long it goes on, where, and how it is evaluated
RESUMABLE_WITH = ("num_train_epochs", "max_steps", "world_size", "decoder", "language_model")
SWITCH = {"nargs": "?", "const": True}  # `--flag` means `--flag true`, though the default is neither


@dataclass
class ModelArguments:
    """Which system to build, and what it starts from. A model of this package stays the system it is, unless told
    otherwise."""

    model_name_or_path: str = field(
        default="patrickvonplaten/wavlm-libri-clean-100h-base-plus",
        metadata={"help": "WavLM checkpoint, with or without heads, or a model of this package; a folder or Hub id."},
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
    freeze_base_model: bool = field(default=False, metadata={"help": "Train the heads and task adapters only."})
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


def load_model(args: ModelArguments) -> tuple[WavLMForToxicityMTL, ToxicityMTLProcessor]:
    """The model and processor that `args` describe, with what the checkpoint has; transformers reports what is new."""
    keywords = KeywordList.from_file(args.keywords) if args.keywords else None
    tokenizer = alphabet_tokenizer(args.characters) if args.characters else None
    processor = ToxicityMTLProcessor.from_checkpoint(args.model_name_or_path, keywords, args.model_revision, tokenizer)
    if args.language_model:
        processor.language_model = args.language_model
    if args.decoder:
        processor.decoding = replace(processor.decoding, decoder=args.decoder)
    overrides = args.config_overrides  # a JSON file of arguments holds the object itself
    overrides = dict(json.loads(overrides) if isinstance(overrides, str) else overrides)
    overrides |= {name: getattr(args, name) for name in SYSTEM_FIELDS if getattr(args, name) is not None}
    if args.labels:
        overrides["id2label"] = dict(enumerate(args.labels))
    alphabet = {"vocab_size": len(processor.tokenizer), "pad_token_id": processor.tokenizer.pad_token_id}
    if given := sorted(overrides.keys() & alphabet):
        raise ValueError(f"--config_overrides: {', '.join(given)} follows the tokenizer; see --characters.")
    source = AutoConfig.from_pretrained(args.model_name_or_path, revision=args.model_revision)
    config = WavLMToxicityMTLConfig.from_encoder(source, **alphabet, **overrides)
    model = WavLMForToxicityMTL.from_pretrained(
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
    if args.freeze_base_model:
        model.freeze_base_model()
    return model, processor


def load_datasets(args: DataArguments, splits: set[str], model, processor, report_file: Path):
    """The needed splits as datasets, their fingerprints, and how many rows are not used; writes which and why."""
    clips = load_clips(args.dataset, args.dataset_name, splits, args.max_samples)
    root = args.dataset if Path(args.dataset).is_dir() else "."
    inspector = RowInspector(processor, model.config, root)
    datasets, hashes, rejected_counts, report = {}, {}, {}, []
    for split in sorted(splits):
        is_train = split == args.train_split
        rows, rejected = inspect_rows(
            clips[split], inspector, args.max_train_seconds if is_train else None, args.preprocessing_num_workers
        )
        for row in rejected:
            logger.warning("%s: row %s is not used: %s", split, row.id, row.reason)
            report.append({"split": split, **row._asdict()})
        write_lines(report_file, report)
        logger.info("%s: %d clips, %d not used", split, len(rows), len(rejected))
        if not len(rows):
            raise ValueError(f"Split {split!r} of {args.dataset} has no usable row; {report_file} says why.")
        datasets[split] = ToxicityDataset(
            rows, processor, model.config, None if is_train else args.window_seconds, root
        )
        hashes[split], rejected_counts[split] = fingerprint(rows), len(rejected)
    return datasets, hashes, rejected_counts


def check_validation(dataset: ToxicityDataset, config: WavLMToxicityMTLConfig) -> None:
    """Raises ValueError if no clip of the validation split tells which checkpoint is the best."""
    columns = [{"classification": "labels", "keyword": "transcript"}[task] for task in config.tasks]
    if all(value is None for column in columns for value in dataset.rows[column]):
        raise ValueError(
            f"No clip of the validation split has a value in {' or '.join(columns)}, so nothing tells which "
            "checkpoint is the best."
        )


def write_lines(path: Path, rows: list[dict]) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def describe_run(model_args, data_args, training_args, model, hashes, rejected) -> dict:
    """What a reader needs to get the same numbers: commit, versions, data hashes, seed, arguments."""
    training = (
        "seed",
        "learning_rate",
        "weight_decay",
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
    )
    training += ("gradient_accumulation_steps", "warmup_steps", "bf16", "fp16", "world_size")
    scheduler = getattr(training_args.lr_scheduler_type, "value", training_args.lr_scheduler_type)
    return {
        "commit": current_commit(),
        "versions": {name: version(name) for name in ("torch", "transformers", "datasets", "accelerate", "numpy")}
        | {"python": platform.python_version()},
        "model": {name: value for name, value in vars(model_args).items() if name != "model_revision"}
        | {name: getattr(model.config, name) for name in SYSTEM_FIELDS},
        "parameters": model.num_parameters(),
        "data": {"dataset": data_args.dataset, "sha256": hashes, "rejected": rejected},
        "training": {name: getattr(training_args, name) for name in training} | {"lr_scheduler_type": scheduler},
    }


def current_commit() -> str | None:
    """Of this checkout, if it is one and git is there to say so."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return git.stdout.strip() or None


def check_resumed(file: Path, results: dict) -> None:
    """Raises ValueError if the run that `file` describes began with other settings or data than those of `results`,
    which would then be said of it."""

    def settings(text):
        described = json.loads(text)
        hashes = {f"SHA-256 of {split}": value for split, value in described["data"]["sha256"].items()}
        return described["model"] | described["training"] | hashes

    before, now = settings(file.read_text(encoding="utf-8")), settings(json.dumps(results))
    names = [name for name in now if name in before and name not in RESUMABLE_WITH and now[name] != before[name]]
    if names:
        changes = ", ".join(f"{name} is {now[name]!r}, and was {before[name]!r}" for name in names)
        raise ValueError(
            f"{file.parent} holds the checkpoints of another run: {changes}. Choose another --output_dir, or go on "
            "with the same settings."
        )


def metrics_of(results: dict[str, float], prefix: str) -> dict[str, float]:
    """The reproducible part of `Trainer.evaluate`'s results: no times."""
    timing = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "epoch")
    named = {name.removeprefix(f"{prefix}_"): value for name, value in results.items()}
    return {name: value for name, value in sorted(named.items()) if not name.endswith(timing)}


def main(model_args: ModelArguments, data_args: DataArguments, training_args: ToxicityTrainingArguments) -> dict:
    """Runs what the arguments ask for and returns the content of `results.json`."""
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        raise ValueError("Nothing to do: pass --do_train, --do_eval or --do_predict, or a JSON file that does.")
    set_seed(training_args.seed)
    output_dir = Path(training_args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    model, processor = load_model(model_args)
    logger.info("%s: %.1f M parameters", system_name(model.config), model.num_parameters() / 1e6)

    splits = set()
    if training_args.do_train:
        splits |= {data_args.train_split, data_args.validation_split}
    if training_args.do_eval or training_args.do_predict:
        splits.add(data_args.test_split)
    with training_args.main_process_first(desc="inspecting clips"):
        datasets, hashes, rejected = load_datasets(data_args, splits, model, processor, output_dir / "rejected.jsonl")

    patience = data_args.early_stopping_patience
    trainer = ToxicityTrainer(
        model=model,
        args=training_args,
        train_dataset=datasets.get(data_args.train_split),
        eval_dataset=datasets.get(data_args.validation_split, datasets.get(data_args.test_split)),
        data_collator=ToxicityDataCollator(processor),
        processing_class=processor,
        callbacks=[EarlyStoppingCallback(patience)] if patience else [],
    )
    results = describe_run(model_args, data_args, training_args, model, hashes, rejected)
    if training_args.do_train:
        check_validation(datasets[data_args.validation_split], model.config)
        checkpoint = training_args.resume_from_checkpoint or get_last_checkpoint(str(output_dir))
        description = output_dir / "run.json"
        if checkpoint and description.exists():
            check_resumed(description, results)
        elif trainer.is_world_process_zero():
            description.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        trained = trainer.train(resume_from_checkpoint=checkpoint)
        measured = trained.metrics
        if checkpoint:  # of the rest alone: no loss and no time of the whole
            measured = {"epoch": measured["epoch"]}
        trainer.save_metrics("train", measured)
        if "classification" in model.config.tasks:
            calibrations = calibrate(trainer)
            results["calibration"] = {name: asdict(label) for name, label in calibrations.items()}
        trainer.save_model()
        validation = trainer.evaluate()
        trainer.save_metrics("eval", validation)
        results["validation"] = metrics_of(validation, "eval")
    if training_args.do_eval or training_args.do_predict:
        test = trainer.evaluate(datasets[data_args.test_split], metric_key_prefix="test")
        trainer.save_metrics("test", test)
        results["test"] = metrics_of(test, "test")
        results["test_intervals"] = trainer.evaluation.confidence_intervals(seed=training_args.seed)
        if "calibration" in results:
            logits, targets = trainer.evaluation.labelled()
            raw_scores = scores_from_logits(calibration.uncalibrated(logits, calibrations))
            results["test_uncalibrated"] = calibration_metrics(raw_scores, targets)
    if trainer.is_world_process_zero():
        write_results(output_dir, results, system_name(model.config), model.num_parameters())
        if training_args.do_predict:
            write_lines(output_dir / "predictions.jsonl", [clip.to_dict() for clip in trainer.predictions])
        if training_args.do_train:
            write_model_card(output_dir, name=training_args.hub_model_id or output_dir.name)
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return results


def calibrate(trainer: ToxicityTrainer) -> dict[str, calibration.LabelCalibration]:
    """Calibrates the model on the validation split."""
    trainer.evaluate()
    logits, targets = trainer.evaluation.labelled()
    calibrations = calibration.fit(logits, targets, trainer.model.config.thresholds)
    calibration.apply(trainer.model, calibrations)
    return calibrations


def write_results(output_dir: Path, results: dict, name: str, num_parameters: int) -> None:
    """Writes `results.json`, and the table of the test set (or else of the validation set) to `results.md` and the
    screen."""
    (output_dir / "results.json").write_text(
        json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    table = markdown_table({name: (num_parameters, results.get("test", results.get("validation")))})
    (output_dir / "results.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    transformers.utils.logging.enable_explicit_format()
    main(*parse_arguments(sys.argv[1:]))
