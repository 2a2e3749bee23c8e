"""The timing benchmark: which keywords are compared, and by how much they are off."""

import numpy as np
import pytest
from helpers import Speller, keyword_list, tiny_processor, tiny_speech_model

from benchmarks import timing
from benchmarks.timing import TimingArguments, errors, main, markdown, spoken_keywords, summarize
from datasets_scripts.espeak import SpokenWord
from modeling_toxmtl import KeywordList
from modeling_toxmtl.decoding import DetectedKeyword


def test_true_times_of_words_and_phrases():
    words = [SpokenWord(text, float(i), i + 1.0) for i, text in enumerate(["oh", "damn", "you", "shut", "up"])]
    found = spoken_keywords(words, keyword_list())
    assert [(k.keyword, k.start, k.end) for k in found] == [("damn", 1, 2), ("shut up", 3, 5)]


def heard(keyword, start, end):
    return DetectedKeyword(keyword, (), start, end, 1.0)


def test_errors_are_of_keywords_both_said_and_heard():
    truth = [heard("damn", 1.0, 1.5), heard("crap", 2.0, 2.5), heard("damn", 3.0, 3.5)]
    reported = [heard("damn", 1.1, 1.4), heard("damn", 2.9, 3.6)]
    np.testing.assert_allclose(errors(truth, reported, keyword_list()), [(0.1, -0.1), (-0.1, 0.1)])


def test_summary_by_hand():
    figures = summarize(np.array([-0.1, 0.02, 0.04]))
    assert figures["median_error_ms"] == pytest.approx(40)
    assert figures["median_bias_ms"] == pytest.approx(20)


def test_it_runs(tmp_path, monkeypatch, capsys):
    class Model:
        @staticmethod
        def from_pretrained(_):
            model = tiny_speech_model().eval()
            model.lm_head = Speller("go_od idiot go_od")  # the demo's most frequent keyword
            return model

    monkeypatch.setattr(timing, "AutoModelForAudioClassification", Model)
    tiny_processor(KeywordList.default()).save_pretrained(tmp_path)
    results = main(TimingArguments(str(tmp_path), num_clips=40, results_file=str(tmp_path / "results.json")))
    assert 0 < results["heard"] <= results["said"]
    assert markdown(results) in capsys.readouterr().out


def test_table_by_hand():
    side = {"median_error_ms": 29.3, "p90_error_ms": 53.2, "median_bias_ms": -12.6}
    lines = markdown({"said": 9, "heard": 7, "start": side, "end": side}).splitlines()
    assert lines[0].startswith("| ms, of 7 of 9 keywords |") and lines[2] == "| start | 29 | 53 | -13 |"
