import math

import pytest
from helpers import needs_kenlm, write_arpa

from modeling_toxmtl import language_model
from modeling_toxmtl.language_model import (
    WordLanguageModel,
    load_common_words,
    load_language_model,
    usable_common_words,
    usable_language_model,
)


@needs_kenlm
def test_scores_by_hand(tmp_path):
    path = write_arpa(tmp_path / "m.arpa", {"good": -0.2, "damn": -2.0}, {"<s> good": -0.5, "good damn": -1.5})
    model = WordLanguageModel(load_language_model(*usable_language_model(path)), ["good", "damn", "new"])
    log10, after_good = model.score(model.start, "good")
    assert log10 / math.log(10) == pytest.approx(-0.5)
    damn, after_damn = model.score(after_good, "damn")
    assert damn / math.log(10) == pytest.approx(-1.5)
    assert model.score(after_damn, "good")[0] / math.log(10) == pytest.approx(-0.30103 - 0.2)  # backs off
    assert model.end_score(after_good) / math.log(10) == pytest.approx(-0.30103 - 1.0)
    assert model.score(after_good, "new") == model.score(after_good, "damn")  # as the rarest known word
    assert model.score(model.start, "good")[1] == after_good  # contexts are interned


def test_no_model():
    assert usable_language_model(None) is None


def test_without_kenlm_there_is_one_warning_and_no_model(tmp_path, monkeypatch, caplog):
    path = write_arpa(tmp_path / "m.arpa", {"good": -0.2})
    monkeypatch.setattr(language_model, "kenlm", None)
    assert usable_language_model(path) is usable_language_model(path) is None
    (warning,) = caplog.messages
    assert "pip install kenlm" in warning


@needs_kenlm
def test_nothing_is_printed(tmp_path, capfd):
    path = write_arpa(tmp_path / "m.arpa", {"good": -0.2})
    load_language_model(*usable_language_model(path))
    assert capfd.readouterr() == ("", "")


@needs_kenlm
def test_a_replaced_file_is_read_again(tmp_path):
    path = write_arpa(tmp_path / "m.arpa", {"good": -0.2})
    first = usable_language_model(path)
    assert load_language_model(*first) is load_language_model(*first)
    write_arpa(path, {"good": -0.2, "damn": -1.0})
    assert "damn" in load_language_model(str(path), first[1] + 1)


def test_common_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the\nand\ndon't\naño\nλόγος\nταΐζω\n", encoding="utf-8-sig")
    assert load_common_words(*usable_common_words(path)) == ("the", "and", "don't", "año", "λόγος", "ταΐζω")
    assert usable_common_words(None) is None
    with pytest.raises(FileNotFoundError, match="gone.txt.*processor.common_words"):
        usable_common_words(tmp_path / "gone.txt")


@pytest.mark.parametrize("line", ["", "The", "two words", "straße"])
def test_lines_that_are_no_words(tmp_path, line):
    path = tmp_path / "words.txt"
    path.write_text(f"the\n{line}\nand\n")
    with pytest.raises(ValueError, match=f"words.txt, line 2: {line!r} is no word"):
        load_common_words(str(path), 0)
