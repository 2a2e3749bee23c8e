"""The seen-against-added benchmark: which words are new, what is counted for whom, and that it runs."""

import json

from helpers import keyword_list, save_tiny_model, write_corpus

from benchmarks import new_keywords
from benchmarks.new_keywords import NEW_KEYWORDS, NewKeywordsArguments, extended_list, figures, main, markdown_table
from datasets_scripts.demo_grammar import generate_corpus
from datasets_scripts.grammar_en import ENGLISH
from modeling_toxmtl import KeywordList
from modeling_toxmtl.text import normalize_text


def test_new_keywords_are_words_of_the_demo_that_the_list_lacks():
    words = {word for new in NEW_KEYWORDS.values() for word in new}
    sizes = {"train": 3200, "validation": 1, "test": 400}
    corpus = generate_corpus(sizes, 0, KeywordList.default(), ENGLISH)
    for split in ("train", "test"):
        assert words <= {word for clip in corpus[split] for word in normalize_text(clip.transcript)}
    longer = extended_list(KeywordList.default())
    assert len(longer) == 81 + len(words)
    assert longer.labels_of("kiss") == ("DatingAndSexting",)


def test_groups_are_counted_apart(monkeypatch):
    monkeypatch.setattr(new_keywords, "NEW_KEYWORDS", {"Other": ("pills", "weed")})
    transcripts = {"a": "damn those pills", "b": "weed and crap", "c": "nice"}
    predictions = [
        {"id": "a", "words": ["damn", "good", "pills"]},
        {"id": "b", "words": ["good", "good", "damn"]},
        {"id": "c", "words": ["good"]},
    ]
    groups = figures(predictions, transcripts, extended_list(keyword_list()))
    assert {name: (m["tp"], m["fp"], m["fn"]) for name, m in groups.items()} == {
        "trained": (1, 1, 1),  # "damn" is right once and wrong for "crap"
        "new": (1, 0, 1),  # "weed" is missed
    }
    table = markdown_table({"before": groups})
    assert "| before | new | 2 | 100.0 | 50.0 | 66.7 |" in table


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(new_keywords, "NEW_KEYWORDS", {"Other": ("friend", "game")})
    save_tiny_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    results_file = tmp_path / "results.json"
    args = NewKeywordsArguments(
        str(tmp_path / "model"), str(tmp_path / "corpus"), str(tmp_path / "out"), str(results_file), max_steps=1
    )
    results = main(args)
    assert list(results) == ["before", "after 1 steps"]
    assert json.loads(results_file.read_text())["results"] == results
    assert results["before"]["new"]["num_keywords"] == 2  # "hello my friend" and "a nice game", of four test clips
    assert "| before | new |" in capsys.readouterr().out
