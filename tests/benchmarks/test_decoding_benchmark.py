"""The decoding benchmark: what is compared, and that it runs."""

import json

import pytest
from helpers import keyword_list, tiny_processor, tiny_speech_model, write_arpa, write_corpus

from benchmarks import decoding as benchmark


def test_each_decoder_has_its_own_settings(tmp_path, capsys):
    tiny_speech_model().save_pretrained(tmp_path / "model")
    tiny_processor(keyword_list()).save_pretrained(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    pytest.importorskip("pyctcdecode")
    arpa = write_arpa(tmp_path / "words.arpa", {"good": -0.2, "damn": -1.0})
    args = benchmark.DecodingArguments(
        str(tmp_path / "model"),
        str(tmp_path / "corpus"),
        language_model=str(arpa),
        timed_clips=1,
        rounds=1,
        settings='{"pyctcdecode": {"beam_width": 2}, "lexicon": {"beam_width": 3}}',
        results_file=str(tmp_path / "out" / "decoding.json"),
    )
    rows = benchmark.main(args)
    assert list(rows) == ["lexicon + LM", "lexicon", "pyctcdecode + LM", "pyctcdecode", "greedy"]
    assert [row["settings"]["beam_width"] for row in rows.values()] == [3, 3, 2, 2, 32]
    assert rows["lexicon"]["settings"]["alpha"] == 0.0
    assert all(row["real_time_factor"] > 0 and row["flat_ms_per_15s"] > 0 for row in rows.values())
    assert json.loads((tmp_path / "out" / "decoding.json").read_text())["results"] == rows
    assert (tmp_path / "out" / "decoding.md").read_text() == benchmark.markdown(rows) + "\n"
    assert "| greedy |" in capsys.readouterr().out
