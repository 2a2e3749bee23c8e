"""The page of the study is what the results say, and every number has its file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.study import Plan, left
from experiments.study_page import describe, facts, missing_runs, reached, render_page, spread, verdict
from experiments.study_results import TEST_SETS, Difference, measure, read_clips


ROOT = Path(__file__).parents[2]
METRICS = ("mAP", "keyword_f1")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def render(plan, results):
    minutes = sum(minutes for _, minutes in left(plan))
    return render_page(plan.content, results, plan.folder, plan.tuned, minutes)


def test_the_page_is_that_of_the_results():
    plan = Plan()
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert page == render(plan, plan.results()), "run `python -m experiments.study table`"


def test_every_results_file_belongs_to_the_plan_and_its_clips_give_its_metrics():
    plan = Plan()
    names = {run.name for run in plan.runs() if plan.read(run)}
    files = sorted(plan.folder.glob("*"))
    assert {path.name for path in files} == {f"{name}{suffix}" for name in names for suffix in (".json", ".parquet")}
    for path in plan.folder.glob("*.parquet"):
        assert path.stat().st_size <= 60_000
        results = json.loads(path.with_suffix(".json").read_text())
        for test_set in TEST_SETS:
            clips = read_clips(path, test_set)
            for metric in METRICS:
                value = measure(clips, metric, np.ones((1, len(clips.ids))))
                assert (value is None) == (metric not in results[test_set])
                assert value is None or value == pytest.approx(results[test_set][metric], abs=0.1)


def test_what_has_not_run_is_said_to_be_so():
    plan = Plan()
    page = render(plan, {})
    assert "No run has finished; " in page and "MTL + Task Adapter (seeds 0, 1, 2)" in page
    assert page.count("Not run yet.") == len(plan.content["sections"])
    assert all(
        re.search(rf"\| {re.escape(claim['text'])} \|.*\| not run \| not run \|", page)
        for claim in plan.content["claims"]
    )
    assert len(missing_runs(plan.content, {})) == len({run.variant for run in plan.runs()})


def test_runs_on_different_data_or_from_different_weights_are_not_compared():
    arguments = {"model_name_or_path": "start"}
    one = {"run": "mtl", "seed": 0, "arguments": arguments, "data_sha256": {"train": "a"}, "start_sha256": "b"}
    for change, name in (({"data_sha256": {"train": "c"}}, "train"), ({"start_sha256": "c"}, "start")):
        with pytest.raises(ValueError, match=f"mtl-seed0 and keyword-seed0 were made with different {name}"):
            facts({"mtl": {0: one}, "keyword": {0: {**one, "run": "keyword", **change}}})
    runs = {seed: {**one, "seed": seed, "seconds": {"all": 60 * seed}, "processor": "one"} for seed in (1, 3)}
    assert facts({"mtl": runs}) == {"minutes": 2.0, "processors": ["one"]}


def test_means_deviations_and_verdicts():
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0" and spread([1.25]) == "1.2" and spread([None, None]) == "-"
    sure, unsure = Difference(2.0, 25.0, 1.0, 3.0), Difference(2.0, 25.0, -1.0, 5.0)
    assert describe(sure) == "**+2.0 (+8.0 %), +1.0 to +3.0**" and describe(unsure).startswith("+2.0 (+8.0 %), -1.0")
    assert describe(Difference(2.0, 25.0, None, None)) == "+2.0 (+8.0 %), no second seed"
    assert describe(Difference(0.0, 25.0, 0.0, 0.0)) == "the same"
    assert describe(Difference(2.0, 0.0, 1.0, 3.0)) == "**+2.0 (+nan %), +1.0 to +3.0**"  # of nothing
    assert [verdict(sure, sign, 4.0) for sign in (1, -1)] == ["reproduced", "contradicted"]
    # -4 % to +20 %
    assert [verdict(unsure, 1, percent) for percent in (19, 21, None)] == [
        "not decided", "paper's figure ruled out", "not decided"]  # fmt: skip
    assert [verdict(unsure, -1, percent) for percent in (-3, -5)] == ["not decided", "paper's figure ruled out"]
    assert verdict(Difference(2.0, 25.0, None, None), 1, 99.0) == "not decided"
    much = Difference(2.0, 12.5, 1.0, 3.0)  # 8 % at least
    assert [reached(1.0, sure, much), reached(1.0, unsure, much), reached(1.2, sure, much)] == ["yes", "perhaps", "no"]
    assert reached(1.0, sure, sure) == "perhaps"  # 4 % at least
    assert reached(1.0, sure, Difference(2.0, 12.5, None, None)) == "perhaps"
    assert reached(1.0, Difference(-0.1, 10, -1, 1), sure) == reached(1.0, sure, Difference(1, 17, 0.5, 2)) == "no"
