"""The table of ours and the baselines: what is compared, and that one run makes it."""

import json
from functools import partial

import numpy as np
import pytest
from helpers import RATE, SaysAlways, keyword_list, record, save_tiny_model, tiny_classifier, tone, write_corpus

from benchmarks import baselines
from benchmarks.baselines import (
    BASE_PLUS,
    BaselineArguments,
    clip_of_15s,
    main,
    markdown,
    peak_memory,
    quality,
    systems,
    time_systems,
)
from benchmarks.judges import SequenceClassifier, verdict
from modeling_toxmtl.data.label import KeywordArguments, LabelArguments
from modeling_toxmtl.labels import LABELS


def test_quality_by_hand():
    """One keyword of three is heard, and one that was not said; the labels are ranked without error."""
    rows = [
        record("a", labels=["Profanity"], transcript="oh damn it damn"),
        record("b", labels=["Bullying"], transcript="shut up"),
        record("c", labels=["NoViolation"], transcript="hello there"),
    ]
    scores = [
        {"Profanity": 0.9, "Bullying": 0.1},
        {"Profanity": 0.2, "Bullying": 0.8},
        {"Profanity": 0, "Bullying": 0},
    ]
    heard = [["damn"], ["crap"], []]
    verdicts = [
        verdict(clip | {"NoViolation": 1 - max(clip.values())}, [], [{"keyword": word} for word in words])
        for clip, words in zip(scores, heard, strict=True)
    ]
    found = quality(rows, verdicts, keyword_list())
    assert found["mAP"] == found["AP_NoViolation"] == 100 and "AP_Racist" not in found
    assert (found["tp"], found["fp"], found["fn"]) == (1, 1, 2) and found["false_accept_rate"] == 100 * 1 / 5
    labels_only = quality(rows, [clip | {"keywords": None} for clip in verdicts], keyword_list())
    assert labels_only["mAP"] == 100 and "f1" not in labels_only


def test_systems_take_turns_and_the_first_round_does_not_count():
    calls = []
    judges = {name: lambda clip, return_keywords, name=name: calls.append((name, len(clip))) for name in "ab"}
    seconds = time_systems(judges, [tone(10), tone(20)], rounds=1)
    assert calls == [("a", 10), ("b", 10), ("a", 20), ("b", 20)] * 2
    assert set(seconds) == {"a", "b"} and all(value >= 0 for value in seconds.values())


def test_the_long_clip_is_the_clips_in_turn():
    clips = [tone(RATE), tone(2 * RATE, seed=1)]
    long = clip_of_15s(clips)
    np.testing.assert_array_equal(long, np.concatenate(clips * 5))


def test_the_long_clip_has_no_silence():
    """Of a second of sound and one of silence, the frames of 1,024 samples with sound in them stay."""
    sound = tone(RATE)
    heard = np.append(sound, np.zeros(-RATE % 1024, np.float32))
    long = clip_of_15s([np.append(sound, np.zeros(RATE, np.float32))])
    np.testing.assert_array_equal(long, np.resize(heard, 15 * RATE))


def test_systems_of_the_table():
    args = BaselineArguments(recognizer="tiny.en", classifier=["me/theirs"])
    assert list(systems(args, LabelArguments(), KeywordArguments())) == [
        "ours",
        "cascade, float32",
        "cascade, int8",
        "me/theirs",
        BASE_PLUS,
    ]


def test_it_runs(tmp_path, monkeypatch, capsys):
    class FasterWhisper(SaysAlways):
        def __init__(self, name, language, compute_type, cpu_threads):
            assert (name, language, cpu_threads) == ("tiny.en", "en", 1) and compute_type in ("float32", "int8")
            super().__init__("oh damn it")

    theirs = tmp_path / "theirs"
    tiny_classifier(LABELS).save_pretrained(theirs)
    monkeypatch.setattr(baselines, "FasterWhisperRecognizer", FasterWhisper)
    monkeypatch.setattr(baselines, "load_base_plus", partial(SequenceClassifier.from_pretrained, str(theirs)))
    monkeypatch.setattr(baselines, "peak_memory", lambda load, clips, threads: 5_000_000)
    monkeypatch.setattr(baselines, "version", lambda package: "1.0")
    model, corpus = save_tiny_model(tmp_path / "model"), write_corpus(tmp_path / "corpus")
    args = BaselineArguments(
        str(model), [str(theirs)], recognizer="tiny.en", dataset=str(corpus), timed_clips=2, rounds=1,
        results_file=str(tmp_path / "results.json"),
    )  # fmt: skip
    results = main(args, LabelArguments(), KeywordArguments())
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["results"] == results and written["clips"] == 4 and written["text_filter"]["combine"] == "any"
    # "oh damn it" is said in one clip of four, and "shut up" and "crap" are not heard in another
    for kind in ("float32", "int8"):
        cascade = results[f"cascade, {kind}"]
        assert (cascade["tp"], cascade["fp"]) == (1, 3) and cascade["AP_Profanity"] == pytest.approx(50)
    assert results["ours"]["num_keywords"] == cascade["num_keywords"]  # the same list for all
    assert results[str(theirs)].keys() & {"f1", "mAP"} == {"mAP"} and "mAP" not in results[BASE_PLUS]
    assert markdown(results) in capsys.readouterr().out


def test_table_by_hand():
    cost = {"real_time_factor": 0.00456, "seconds_of_15s": 0.0321, "peak_memory": 512_400_000}
    full = cost | {"mAP": 75.94, "f1": 88.89, "false_accept_rate": 0.773, "false_reject_rate": 10.89}
    lines = markdown({"ours": full, "labels only": cost | {"mAP": 50.0}}).splitlines()
    assert lines[0].startswith("| System | mAP | Keyword F1 | FAR | FRR |")
    assert lines[2] == "| ours | 75.9 | 88.9 | 0.77 | 10.9 | 0.0046 | 0.032 | 512 |"
    assert lines[3] == "| labels only | 50.0 | - | - | - | 0.0046 | 0.032 | 512 |"


@pytest.mark.slow
def test_peak_memory_is_that_of_the_system_alone(tmp_path):
    tiny_classifier(LABELS).save_pretrained(tmp_path)
    load = partial(SequenceClassifier.from_pretrained, str(tmp_path))
    small, large = (peak_memory(load, [tone(size)], 1) for size in (3000, 3_000_000))
    assert 100e6 < small < large
