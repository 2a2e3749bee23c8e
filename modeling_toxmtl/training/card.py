"""Model cards, rendered from what was measured.

A card has no number of its own: everything comes from files in the folder (`results.json`, `config.json`,
`processor_config.json`, `train_results.json`, `export.json`), so that rendering again must give the same card. What no
measurement tells, such as the voices that a model heard, is in `NOTES.md` of the folder.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedConfig

from ..hub import PIPELINE_TASK
from ..processing_toxmtl import ToxicityMTLProcessor
from ..runtime import EXPORT_FILE
from .evaluation import TABLE_COLUMNS, system_name


CARD = "README.md"
NOTES = "NOTES.md"  # in a model folder: what no measurement tells, as Markdown


def write_model_card(folder: str | Path, **metadata: Any) -> str:
    """Renders the card of a model folder into its README.md, and returns it.

    Args:
        folder: with the model's configuration and processor; `results.json` and `train_results.json` of `run_mtl.py`
            are used where they are.
        metadata: fields for the Hub that no file tells: `name`, `license`, `language`, `base_model`, `datasets`.
    """
    folder = Path(folder)
    card = render_model_card(
        AutoConfig.from_pretrained(folder),
        ToxicityMTLProcessor.from_pretrained(folder),
        _read_json(folder / "results.json"),
        _read_json(folder / "train_results.json"),
        _read_json(folder / EXPORT_FILE),
        notes=_read_text(folder / NOTES),
        **{"name": folder.resolve().name, **metadata},
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    return card


def render_model_card(
    config: PreTrainedConfig,
    processor: ToxicityMTLProcessor,
    results: dict,
    train_results: dict,
    export: dict,
    name: str,
    notes: str = "",
    **metadata: Any,
) -> str:
    """The card of a model, given the content of its files; see [`write_model_card`]."""
    splits = [split for split in ("test", "validation") if split in results]
    intervals = {split: results.get(f"{split}_intervals", {}) for split in splits}
    rows = {split: _metric_rows(results[split], intervals[split]) for split in splits}
    headline = results[splits[0]] if splits else {}
    precisions = [row for row in rows[splits[0]] if row["key"].startswith("AP_")] if splits else []
    thresholds = _threshold_rows(config, headline, _measured_at(config, results))
    dataset = results.get("data", {}).get("dataset")
    base_model = results.get("model", {}).get("model_name_or_path")
    fields = {
        "license": "apache-2.0",
        "language": processor.keywords.language,
        "base_model": base_model if _is_hub_id(base_model) else None,
        "datasets": [dataset] if _is_hub_id(dataset) else None,
        "tags": [config.model_type.removesuffix("_toxmtl"), "voice-toxicity", "multi-task", "keyword-spotting"],
        "model_name": name if splits else None,
        "eval_results": _eval_results(rows[splits[0]], dataset, splits[0]) if splits else None,
        **metadata,
    }
    return _render(
        "model_card.md",
        metadata=_front_matter(fields),
        name=name,
        notes=notes.strip(),
        system=system_name(config),
        tasks=config.tasks,
        labels=list(config.label2id),
        num_keywords=len(processor.keywords.keywords),
        language=processor.keywords.language,
        keyword_target=processor.keyword_target,
        parameters=results["parameters"] if results else _count_parameters(config),
        results=rows,
        intervals=intervals,
        supports={split: _supports(results[split]) for split in splits},
        thresholds=thresholds,
        rechosen=any(not row["is_measured"] for row in thresholds),
        decided_on=splits[0] if splits else None,
        evidence=[headline["mAP"], headline["mAP_classifier"]] if "mAP_classifier" in headline else None,
        before=results.get("test_uncalibrated", {}),
        after=results.get("test", {}),
        dataset=dataset,
        hashes=results.get("data", {}).get("sha256"),
        rejected=results.get("data", {}).get("rejected"),
        training=results.get("training"),
        base_model=base_model,
        commit=results.get("commit"),
        versions=results.get("versions", {}),
        worst_label=min(precisions, key=lambda row: row["value"], default=None),
        missed=headline.get("keyword_false_reject_rate"),
        runtime=train_results.get("train_runtime"),
        export=export,
    )


def _front_matter(fields):
    """The YAML of the card; a field that is None is left out."""
    known = {key: value for key, value in fields.items() if value is not None}
    return ModelCardData(**known, library_name="transformers", pipeline_tag=PIPELINE_TASK).to_yaml()


def _metric_rows(metrics, intervals):
    return [
        {"key": key, "name": name, "value": metrics[key], "interval": intervals.get(key)}
        for key, name in TABLE_COLUMNS.items()
        if metrics.get(key) is not None
    ]


def _measured_at(config, results):
    """The thresholds of the metrics; of results that do not state them, those of the configuration."""
    calibrated = {name: label["threshold"] for name, label in results.get("calibration", {}).items()}
    return config.thresholds | calibrated | results.get("thresholds", {})


def _threshold_rows(config, metrics, measured_at):
    """Of a calibrated model; a threshold that was chosen after the metrics were measured has none."""
    rows = []
    for name, threshold in config.thresholds.items():
        if name in (config.label_thresholds or {}) and f"recall_{name}" in metrics:
            is_measured = threshold == measured_at[name]
            found = {part: metrics.get(f"{part}_{name}") if is_measured else None for part in ("precision", "recall")}
            rows.append({"name": name, "value": threshold, "is_measured": is_measured, **found})
    return rows


def _supports(metrics):
    counts = {name.removeprefix("support_"): value for name, value in metrics.items() if name.startswith("support_")}
    parts = [f"{count} clips with {name}" for name, count in counts.items()]
    if "keyword_support" in metrics:
        parts.append(f"{metrics['keyword_support']} keywords said")
    return ", ".join(parts)


def _eval_results(rows, dataset, split):
    return [
        EvalResult(
            task_type=PIPELINE_TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=row["key"],
            metric_name=row["name"],
            metric_value=round(row["value"], 2),
        )
        for row in rows
    ]


def _is_hub_id(name):
    """A folder named like a Hub id would make a broken link in the metadata."""
    return name is not None and name.count("/") == 1 and not Path(name).exists()


def _count_parameters(config):
    import torch

    with torch.device("meta"):
        return AutoModelForAudioClassification.from_config(config).num_parameters()


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _render(template: str, **values: Any) -> str:
    environment = Environment(loader=PackageLoader(__package__), undefined=StrictUndefined, keep_trailing_newline=True)
    values["metadata"] = values["metadata"].rstrip("\n")
    return environment.get_template(template).render(values)
