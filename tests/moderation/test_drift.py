"""`toxmtl drift`: figures by hand, what chance makes, and what is no comparison."""

import json

import numpy as np
import pytest
from moderation_helpers import EMPTY_RECORD
from scipy import stats

from modeling_toxmtl import LABELS, cli
from modeling_toxmtl.moderation.drift import Period, compare, drift_table, gap_of_chance, largest_gap


JUDGE = {
    "model": {"name": "m", "revision": None, "weights_sha256": "0" * 64, "dtype": "float32", "device": "cpu"},
    "thresholds": dict.fromkeys(LABELS, 0.5),
    "keyword_list": {"sha256": "1" * 64},
    "keyword_evidence": None,
    "decoding": {},
    "hearing": {"window_seconds": 15.0, "stride_seconds": 10.0},
}


def record(scores: dict[str, float], *keywords: str, seconds: float = 36.0, **judge) -> dict:
    scores = dict.fromkeys(LABELS, 0.1) | scores
    labels = [{"label": label, "score": score, "fires": score >= 0.5} for label, score in scores.items()]
    words = [{"keyword": keyword} for keyword in keywords]
    audio = {"sha256": "2" * 64, "seconds": seconds}
    about = EMPTY_RECORD | {"clip": "a.ogg", "audio": audio, "windows": [{}, {}]}
    return {**about, "labels": labels, "keywords": words, **JUDGE, **judge}


def period(clips: int, toxic: int, *keywords: str, score: float = 0.9) -> Period:
    """So many clips, some of which have Profanity and the keywords."""
    heard = [record({"Profanity": score}, *keywords, *keywords)] * toxic
    return Period([*heard, *[record({})] * (clips - toxic)], "week.jsonl")


def test_rates_by_hand():
    result = compare(period(1000, 100, "damn"), period(500, 10))
    assert result["now"] == {"clips": 1000, "hours": 10.0, "windows": 2000}
    exact = stats.binomtest(100, 1000).proportion_ci(0.95, "exact")
    now = {"clips": 100, "rate": 0.1, "low": round(exact.low, 5), "high": round(exact.high, 5)}
    assert result["labels"]["Profanity"]["now"] == now and result["labels"]["Profanity"]["before"]["rate"] == 0.02
    assert result["labels"]["Profanity"]["rate"] == "higher" and result["labels"]["Racist"]["rate"] == "as before"
    assert result["keywords"]["damn"]["now"]["clips"] == 100  # a clip that has it twice is one
    assert result["keywords"]["damn"]["rate"] == "higher" and result["judge_changed"] == []
    assert compare(period(500, 10), period(1000, 100))["labels"]["Profanity"]["rate"] == "lower"


def test_few_clips_prove_nothing():
    assert compare(period(10, 3), period(10, 0))["labels"]["Profanity"]["rate"] == "as before"


def test_gap_is_that_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    for num_one, num_other, shift in ((50, 80, 0.0), (200, 100, 0.2), (30, 30, -0.5)):
        one, other = np.sort(rng.random(num_one) + shift).round(1), np.sort(rng.random(num_other)).round(1)
        expected = stats.ks_2samp(one, other)
        assert abs(largest_gap(one, other)) == pytest.approx(expected.statistic)
        assert largest_gap(one, other) * shift >= 0
    one, other = np.arange(200) / 200, np.arange(300) / 300 + 0.4
    gap = gap_of_chance(200, 300, stats.ks_2samp(one, other, method="asymp").pvalue)
    assert gap == pytest.approx(abs(largest_gap(one, other)), rel=0.05)


def test_scores_that_moved_below_the_threshold_are_seen():
    """No label fires more often, but its scores crept up."""
    result = compare(period(400, 200, score=0.45), period(400, 200, score=0.3))
    assert result["labels"]["Profanity"]["scores"] == "higher" and result["labels"]["Profanity"]["rate"] == "as before"
    assert result["labels"]["Profanity"]["score_gap"] == 0.5 and result["labels"]["Racist"]["scores"] == "as before"


def test_chance_is_seldom_called_a_change():
    """In 60 comparisons of clips of one kind, all labels of each together."""
    rng, alarms = np.random.default_rng(0), 0

    def drawn():
        scores = rng.beta(1, 2, (60, len(LABELS)))
        words = rng.random(60) < 0.3
        rows = zip(scores, words, strict=True)
        return Period(
            [record(dict(zip(LABELS, row, strict=True)), *(["damn"] if word else [])) for row, word in rows], "p"
        )

    for _ in range(60):
        result = compare(drawn(), drawn())
        items = [*result["labels"].values(), *result["keywords"].values()]
        alarms += any(item[name] != "as before" for item in items for name in ("rate", "scores") if name in item)
    assert alarms <= stats.binom.ppf(0.999, 60, 0.05)


def test_another_judge_is_named_and_two_at_once_are_refused():
    raised = record({}, thresholds=dict.fromkeys(LABELS, 0.7))
    moved = record({}, model=JUDGE["model"] | {"name": "elsewhere", "device": "cuda"})
    assert compare(Period([moved], "now"), period(1, 0))["judge_changed"] == []
    result = compare(Period([raised], "now"), period(1, 0))
    assert result["judge_changed"] == ["thresholds"]
    assert "not the same judge: another thresholds" in drift_table(result)
    with pytest.raises(ValueError, match="week.jsonl, a.ogg: another thresholds than before"):
        Period([record({}), raised], "week.jsonl")
    with pytest.raises(ValueError, match="week.jsonl has no records"):
        Period([], "week.jsonl")


def test_command(tmp_path, capsys):
    now, before = tmp_path / "now.jsonl", tmp_path / "before.jsonl"
    before.write_text("".join(json.dumps(record({})) + "\n" for _ in range(300)))
    now.write_text("".join(json.dumps(record({"Profanity": 0.9}, "damn")) + "\n" for _ in range(100)))
    with pytest.raises(SystemExit):
        cli.main(["drift", str(now), str(before)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "before  300 clips, 3.00 h, 600 windows" and lines[1].startswith("now     100 clips, 1.00 h")
    assert "| Profanity | 0.0% (0.0%–1.2%) | 100.0% (96.4%–100.0%) | higher | higher | +100.0% |" in lines
    assert "| damn | 0.0% (0.0%–1.2%) | 100.0% (96.4%–100.0%) | higher |" in lines
    with pytest.raises(SystemExit):
        cli.main(["drift", str(now), str(before), "--format", "json"])
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"now", "before", "labels", "keywords", "judge_changed"}
    assert set(result["labels"]) == set(LABELS)
