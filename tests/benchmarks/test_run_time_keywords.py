"""The benchmark of words that join the list at run time: which words, what is counted for whom, and that it runs."""

import json

import pytest
from helpers import keyword_list, save_tiny_model, write_corpus

from benchmarks.run_time_keywords import (
    RunTimeKeywordsArguments,
    choose_words,
    flagged,
    longer_list,
    main,
    markdown,
)


TEXTS = [
    "the ladder was dammit high",
    "a ladder and a shutter",
    "no ladder, no lantern",
    "my lantern is crap",
    "the the",
]


def test_words_are_content_words_that_are_no_keyword_and_no_sound_alike():
    """By hand: of "ladder" (3), "lantern" (2) and "high" (common), with keywords and the sound-alike "shutter"."""
    assert choose_words(TEXTS, keyword_list(), 5) == ["ladder", "lantern"]
    assert choose_words(TEXTS, keyword_list(), 1) == ["ladder"]


def test_the_longer_list_leaves_the_models_own_alone():
    own = keyword_list()
    longer = longer_list(own, ["ladder"])
    assert longer.keywords == [*own.keywords, "ladder"] and "ladder" not in own


def test_a_sound_alike_is_flagged_where_a_keyword_stands_in_its_place():
    said = [["the", "dam", "broke"], ["damn", "the", "van", "dyke"], ["shut up", "madam"]]
    heard = [["good", "damn", "good"], ["damn", "good", "good"], ["shut up", "good"]]
    assert flagged(said, heard, keyword_list()) == {"said": 3, "flagged": 1}


def test_it_runs(tmp_path, capsys):
    model, corpus = save_tiny_model(tmp_path / "model"), write_corpus(tmp_path / "corpus")
    file = tmp_path / "results.json"
    args = RunTimeKeywordsArguments([str(model)], str(corpus), words=["friend", "game"], results_file=str(file))
    results = main(args)[str(model)]
    said = {group: results[group]["num_keywords"] for group in ("trained", "added", "trained, longer list")}
    assert said == {"trained": 3, "added": 2, "trained, longer list": 3}  # "oh damn it", "shut up you crap player"
    written = json.loads(file.read_text())
    assert written["results"] == {str(model): results} and written["words"] == {str(model): ["friend", "game"]}
    assert markdown({str(model): results}) in capsys.readouterr().out


def test_words_of_the_list_are_refused(tmp_path):
    model, corpus = save_tiny_model(tmp_path / "model"), write_corpus(tmp_path / "corpus")
    with pytest.raises(ValueError, match="dammit in the list"):
        main(RunTimeKeywordsArguments([str(model)], str(corpus), words=["dammit"]))


def test_table_by_hand():
    figures = {"num_keywords": 4, "f1": 66.66, "precision": 100.0, "recall": 50.0}
    nothing = dict.fromkeys(figures, None) | {"num_keywords": 0}
    groups = {"trained": figures, "added": figures, "trained, longer list": nothing}
    lines = markdown({"ours": groups | {"sound_alikes": {"said": 9, "flagged": 1}}}).splitlines()
    assert lines[2] == "| ours | trained | 4 | 66.7 | 100.0 | 50.0 |"
    assert lines[4] == "| ours | trained, longer list | 0 | - | - | - |"
    assert lines[5] == "| ours | sound-alikes | 9 | 1 reported as a keyword | | |"
    assert len({line.count("|") for line in lines}) == 1
