"""Renders `docs/study.md` and its figures from the results of the study; nothing of it is written by hand.

What has not run is said to be so, and only what the interval of a difference leaves no doubt of is called real.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.study_results import TEST_SETS, Comparisons, Difference
from modeling_toxmtl.io.files import write_text
from modeling_toxmtl.training.evaluation import TABLE_COLUMNS


PAGE = Path("docs/study.md")
TEMPLATE = "study_page.md"
SYSTEMS_FIGURE, LAMBDA_FIGURE = "study_systems.png", "study_lambda.png"
COLUMNS = {**TABLE_COLUMNS, "keyword_precision": "Precision", "keyword_recall": "Recall"}
NAMES = {"mAP": "mAP", "keyword_f1": "F1"}  # of the metrics that are compared
TITLES = {"balanced": "Balanced test clips", "real": "Real-world rates"}
NOT_RUN = "not run"
MAX_GROWTH, MIN_GAIN = 1.1, 6.0  # of a system without a price: parameters of MTL, percent of Audio to Keyword's F1

Results = Mapping[str, Mapping[int, dict]]


def write_page(
    content: Mapping[str, Any], results: Results, folder: Path, tuned: dict | None, minutes_left: float
) -> None:
    """Writes the page, and its figures where there is something to draw.

    Args:
        content: of the plan.
        results: variant to seed to results file.
        folder: of the results files.
        tuned: the arguments that tuning chose, None as long as it has not ended.
        minutes_left: of the runs that have not finished.
    """
    write_text(PAGE, render_page(content, results, folder, tuned, minutes_left))
    drawn = figures(content, results)
    if SYSTEMS_FIGURE in drawn:
        draw_systems(content, results, PAGE.with_name(SYSTEMS_FIGURE))
    if LAMBDA_FIGURE in drawn:
        draw_lambda(content, results, PAGE.with_name(LAMBDA_FIGURE))


def render_page(
    content: Mapping[str, Any], results: Results, folder: Path, tuned: dict | None, minutes_left: float
) -> str:
    """The page as Markdown; arguments as of `write_page`."""
    comparisons = {test_set: Comparisons(folder, test_set, results) for test_set in TEST_SETS}
    sections = [
        {
            "title": section["title"],
            "tables": {title: system_table(content, section, results, name) for name, title in TITLES.items()},
            "differences": difference_table(content, section, comparisons),
        }
        for section in content["sections"]
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(TEMPLATE).render(
        content=content,
        tuning=tuning_table(content, results),
        tuned=tuned,
        sections=sections,
        claims=claim_table(content, comparisons),
        goal=goal_table(content, results, comparisons),
        figures=figures(content, results),
        runs=sum(len(seeds) for seeds in results.values()),
        missing=missing_runs(content, results),
        hours_left=minutes_left / 60,
        facts=facts(results),
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Markdown; all but the first `text_columns` are numbers."""
    lines = [header, ["---"] * text_columns + ["---:"] * (len(header) - text_columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def system_table(content: Mapping, section: Mapping, results: Results, test_set: str) -> str:
    """The paper's Table 2: a row per system, mean ± standard deviation over seeds; empty if none has run."""
    rows = []
    if not any(name in results for name in section["variants"]):
        return ""
    for name in section["variants"]:
        runs = list(results.get(name, {}).values())
        title = content["variants"][name]["title"]
        if not runs:
            rows.append([title, NOT_RUN, *[""] * (len(COLUMNS) + 1)])
            continue
        cells = [spread([run[test_set].get(metric) for run in runs]) for metric in COLUMNS]
        rows.append([title, str(len(runs)), f"{runs[0]['parameters'] / 1e6:.1f}", *cells])
    return table(["System", "Seeds", "Params (M)", *COLUMNS.values()], rows)


def spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation of what several seeds gave; "-" where a system does not have it."""
    if any(value is None for value in values):
        return "-"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def difference_table(content: Mapping, section: Mapping, comparisons: Mapping[str, Comparisons]) -> str:
    """A row per metric and pair of systems that can be compared."""
    pairs: dict[frozenset, tuple[str, str]] = {}
    for reference in section["against"]:
        for name in section["variants"]:
            if name != reference:
                pairs.setdefault(frozenset({name, reference}), (name, reference))
    rows = []
    for metric, metric_name in NAMES.items():
        for name, reference in pairs.values():
            found = [comparisons[test_set].difference(name, reference, metric) for test_set in TEST_SETS]
            if None not in found:
                titles = [content["variants"][one]["title"] for one in (name, reference)]
                rows.append([f"{titles[0]} − {titles[1]}", metric_name, *map(describe, found)])
    return table(["Difference", "Metric", *TITLES.values()], rows, 2) if rows else ""


def describe(difference: Difference) -> str:
    """A difference with its relative size and interval, and in bold if it is real."""
    if difference.lower == difference.upper == 0:
        return "the same"
    text = f"{difference.value:+.1f} ({difference.percent(difference.value):+.1f} %)"
    if difference.lower is None:
        return f"{text}, no second seed"
    text += f", {difference.lower:+.1f} to {difference.upper:+.1f}"
    return f"**{text}**" if difference.is_real else text


def claim_table(content: Mapping, comparisons: Mapping[str, Comparisons]) -> str:
    """What the paper claims, and whether it is so here."""
    rows = []
    for claim in content["claims"]:
        percents, cells = claim.get("paper", {}), []
        for test_set in TEST_SETS:
            found = comparisons[test_set].difference(claim["system"], claim["reference"], claim["metric"])
            percent = percents.get(test_set)
            cells.append(NOT_RUN if found is None else f"{verdict(found, claim['sign'], percent)}: {describe(found)}")
        said = " and ".join(f"{percent:+.1f} %" for percent in percents.values()) or claim["words"]
        rows.append([claim["text"], NAMES[claim["metric"]], said, *cells])
    return table(["Claim", "Metric", "Paper", *TITLES.values()], rows, 5)


def verdict(difference: Difference, sign: int, percent: float | None) -> str:
    """What a difference says of the claim that it has this sign, and in the paper this relative size, if one is
    given."""
    if difference.is_real:
        return "reproduced" if difference.value * sign > 0 else "contradicted"
    if percent is None or difference.lower is None:
        return "not decided"
    most = difference.percent(difference.upper if sign > 0 else difference.lower)
    return "paper's figure ruled out" if most * sign < percent * sign else "not decided"


def goal_table(content: Mapping, results: Results, comparisons: Mapping[str, Comparisons]) -> str:
    """Which systems have multi-task learning without its price."""
    rows = []
    singles = {"mAP": "classifier", "keyword_f1": "keyword"}
    for name in content["goal"]:
        for test_set in TEST_SETS:
            runs, plain = results.get(name, {}), results.get("mtl", {})
            found = {
                metric: comparisons[test_set].difference(name, single, metric) for metric, single in singles.items()
            }
            head = [content["variants"][name]["title"], TITLES[test_set]]
            if None in found.values() or not plain:
                rows.append([*head, "", "", "", NOT_RUN])
                continue
            growth = next(iter(runs.values()))["parameters"] / next(iter(plain.values()))["parameters"]
            rows.append([*head, f"{growth:.2f}", *map(describe, found.values()), reached(growth, **found)])
    return table(["System", "Test set", "Params / MTL", "mAP", "F1", "Reached"], rows, 2)


def reached(growth: float, mAP: Difference, keyword_f1: Difference) -> str:
    """Whether a system is small enough, its keywords enough better and its labels no worse; "perhaps" where the means
    say so, and the intervals leave a doubt."""
    if growth > MAX_GROWTH or mAP.value < 0 or keyword_f1.percent(keyword_f1.value) < MIN_GAIN:
        return "no"
    if None in (mAP.lower, keyword_f1.lower):
        return "perhaps"
    return "yes" if mAP.lower >= 0 and keyword_f1.percent(keyword_f1.lower) >= MIN_GAIN else "perhaps"


def tuning_table(content: Mapping, results: Results) -> str:
    """What tuning measured on the validation split."""
    rows = []
    for name in content["tuning"]["variants"]:
        run = results.get(name, {}).get(content["tuning"]["seed"])
        cells = (
            [NOT_RUN] * 3 if run is None else [f"{run['validation'][m]:.1f}" for m in ("mAP", "keyword_f1", "quality")]
        )
        rows.append([content["variants"][name]["title"], *cells])
    return table(["Learning rates", "mAP", "F1", "Mean of both"], rows)


def missing_runs(content: Mapping, results: Results) -> list[str]:
    """What has not run, as "title (seeds 1, 2)"."""
    seeds: dict[str, list[int]] = {name: [content["tuning"]["seed"]] for name in content["tuning"]["variants"]}
    for step in content["order"]:
        for name in step["variants"]:
            seeds.setdefault(name, []).extend(step["seeds"])
    lines = []
    for name, planned in seeds.items():
        if absent := [str(seed) for seed in sorted(planned) if seed not in results.get(name, {})]:
            lines.append(
                f"{content['variants'][name]['title']} ({'seeds' if absent[1:] else 'seed'} {', '.join(absent)})"
            )
    return lines


def facts(results: Results) -> dict[str, Any]:
    """What the runs have in common.

    Raises:
        ValueError: if two were made with different data, or start from different weights in one folder: they cannot
            be compared.
    """
    runs = [run for seeds in results.values() for run in seeds.values()]
    known: dict[str, tuple[dict, str]] = {}
    for run in runs:
        hashes = {**run["data_sha256"], run["arguments"]["model_name_or_path"]: run["start_sha256"]}
        for name, value in hashes.items():
            first, before = known.setdefault(name, (run, value))
            if value != before:
                names = [f"{one['run']}-seed{one['seed']}" for one in (first, run)]
                raise ValueError(f"{' and '.join(names)} were made with different {name}: remove the results of one.")
    minutes = [run["seconds"]["all"] / 60 for run in runs if run["seconds"]["all"] is not None]
    return {
        "minutes": float(np.mean(minutes)) if minutes else None,
        "processors": sorted({run["processor"] for run in runs}),
    }


def figures(content: Mapping, results: Results) -> list[str]:
    """The files of the figures that can be drawn."""
    names = []
    if any(has_both(run) for seeds in results.values() for run in seeds.values()):
        names.append(SYSTEMS_FIGURE)
    if lambda_seeds(content, results):
        names.append(LAMBDA_FIGURE)
    return names


def lambda_seeds(content: Mapping, results: Results) -> list[int]:
    """With which every λ has run."""
    return sorted(set.intersection(*(set(results.get(name, {})) for name in content["lambdas"].values())))


def has_both(run: Mapping) -> bool:
    """Whether a run is of both tasks."""
    return {"mAP", "keyword_f1"} <= run["balanced"].keys()


def draw_systems(content: Mapping, results: Results, path: Path) -> None:
    """mAP and keyword F1 of the systems that have both, with standard deviations; dashed lines are the single
    tasks."""
    from matplotlib.figure import Figure  # not pyplot, which looks for a screen

    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, test_set in zip(figure.subplots(1, 2), TEST_SETS, strict=True):
        for name in content["figure"]:
            runs = list(results.get(name, {}).values())
            if not runs or not has_both(runs[0]):
                continue
            points = np.array([[run[test_set][metric] for metric in NAMES] for run in runs])
            error = points.std(0, ddof=1) if len(runs) > 1 else (None, None)
            axes.errorbar(*points.mean(0), *error[::-1], fmt="o", label=content["variants"][name]["title"])
        for name, metric, line in (("classifier", "mAP", axes.axvline), ("keyword", "keyword_f1", axes.axhline)):
            if single := [run[test_set][metric] for run in results.get(name, {}).values()]:
                line(np.mean(single), color="grey", linestyle="--", linewidth=1)
        axes.set(title=TITLES[test_set], xlabel="mAP, %", ylabel="keyword F1, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, format="png", dpi=90)


def draw_lambda(content: Mapping, results: Results, path: Path) -> None:
    """mAP and keyword F1 by λ, over the seeds that all of them have, with standard deviations if these are
    several."""
    from matplotlib.figure import Figure

    found = {float(x): results[name] for x, name in content["lambdas"].items()}
    seeds = lambda_seeds(content, results)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, test_set in zip(figure.subplots(1, 2), TEST_SETS, strict=True):
        for metric, title in NAMES.items():
            values = np.array([[runs[seed][test_set][metric] for seed in seeds] for runs in found.values()])
            error = values.std(1, ddof=1) if len(seeds) > 1 else None
            axes.errorbar(list(found), values.mean(1), error, marker="o", label=title)
        axes.set(title=f"{TITLES[test_set]}, {'seeds' if seeds[1:] else 'seed'} {', '.join(map(str, seeds))}",
                 xlabel="λ", ylabel="%")  # fmt: skip
        axes.legend()
    figure.savefig(path, format="png", dpi=90)
