import io
import json
import sys

import datasets
import pytest
from helpers import keyword_list, tone, wav
from transformers import HfArgumentParser

from datasets_scripts import build_language_model
from datasets_scripts.build_language_model import LanguageModelArguments, main
from modeling_toxmtl.data.schema import Row, write_split
from modeling_toxmtl.training.ngram import count_ngrams, estimate, write_arpa


TEXT = ["damn good", "good good damn", "", "good shut up"]
# stands in for lmplz: writes down its arguments and its input, and copies the latter to the model
FAKE_LMPLZ = f"""#!{sys.executable}
import json, os, sys
text = sys.stdin.read()
json.dump([sys.argv[1:], text], open(os.environ["LMPLZ_CALL"], "w"))
open(sys.argv[sys.argv.index("--arpa") + 1], "w").write(text)
"""
FAILING_LMPLZ = f"""#!{sys.executable}
import sys
sys.stdin.close()
sys.exit("Special word <s> is not allowed in the corpus")
"""


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXT), encoding="utf-8")
    return str(path)


@pytest.fixture
def lmplz(tmp_path, monkeypatch):
    """Puts a program called lmplz on the PATH, alone, and returns a function that reads how it was called."""

    def install(script=FAKE_LMPLZ):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "lmplz").write_text(script)
        (folder / "lmplz").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("LMPLZ_CALL", str(tmp_path / "call.json"))
        return lambda: json.loads((tmp_path / "call.json").read_text())

    return install


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No lmplz but that of the test, and a cache of its own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def parse(*argv):
    return HfArgumentParser(LanguageModelArguments).parse_args_into_dataclasses(list(argv))[0]


def arpa_of(lines, order, path):
    write_arpa(estimate(count_ngrams(lines, order)), path)
    return path.read_bytes()


def write_dataset(folder, transcripts, split="train"):
    audio = wav(tone(400))
    rows = [
        Row(f"{split}-{i}", audio, 0.025, ("NoViolation",), text, "x", f"{i}", split)
        for i, text in enumerate(transcripts)
    ]
    write_split(rows, folder, split)
    return str(folder)


def test_text_is_used_as_it_is(text_file, tmp_path, capsys):
    main(parse("--text", text_file, text_file, "--output", str(tmp_path / "new" / "lm.arpa"), "--order", "3"))
    assert (tmp_path / "new" / "lm.arpa").read_bytes() == arpa_of(TEXT * 2, 3, tmp_path / "expected.arpa")
    assert "Wrote the 3-gram" in capsys.readouterr().err


def test_standard_input(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXT).encode())))
    main(parse("--text", "-", "--output", str(tmp_path / "lm.arpa")))
    assert (tmp_path / "lm.arpa").read_bytes() == arpa_of(TEXT, 4, tmp_path / "expected.arpa")


def test_dataset_is_substituted(tmp_path):
    folder = write_dataset(tmp_path / "data", ["Oh dammit, no!", "SHUT UP", "", None, "hello"])
    write_dataset(tmp_path / "data", ["crap"], split="test")
    keyword_list().save(tmp_path / "mine.json")
    main(parse("--dataset", folder, "--output", str(tmp_path / "packaged.arpa")))
    main(
        parse("--dataset", folder, "--output", str(tmp_path / "mine.arpa"), "--keywords", str(tmp_path / "mine.json"))
    )
    mine = arpa_of(["good damn good", "shut up", "", "good"], 4, tmp_path / "expected.arpa")
    assert (tmp_path / "mine.arpa").read_bytes() == mine
    packaged = (tmp_path / "packaged.arpa").read_text()
    assert "\tdamn\t" in packaged and "dammit" not in packaged and "crap" not in packaged


def test_text_is_substituted_where_keywords_are_given(tmp_path):
    keyword_list().save(tmp_path / "mine.json")
    (tmp_path / "raw.txt").write_text("Oh dammit, no!\n")
    arguments = ["--text", str(tmp_path / "raw.txt"), "--keywords", str(tmp_path / "mine.json")]
    main(parse(*arguments, "--output", str(tmp_path / "lm.arpa")))
    assert (tmp_path / "lm.arpa").read_bytes() == arpa_of(["good damn good"], 4, tmp_path / "expected.arpa")


# --- lmplz


def test_lmplz_gets_the_same_options_and_text(text_file, tmp_path, lmplz):
    call = lmplz()
    output = tmp_path / "lm.arpa"
    main(parse("--text", text_file, "--output", str(output), "--order", "3", "--estimator", "lmplz"))
    arguments, text = call()
    assert arguments[:2] == ["--order", "3"] and arguments[-1] == "--discount_fallback"
    assert text == output.read_text() == "".join(f"{line}\n" for line in TEXT)
    main(parse("--text", text_file, "--output", str(output), "--estimator", "lmplz", "--no_discount_fallback"))
    assert "--discount_fallback" not in call()[0]


@pytest.mark.parametrize(
    ("large", "estimator", "installed", "used"),
    [
        (True, "auto", True, True),
        (True, "auto", False, False),
        (False, "auto", True, False),
        (True, "python", True, False),
        (False, "lmplz", True, True),
    ],
)
def test_who_estimates(text_file, tmp_path, lmplz, monkeypatch, large, estimator, installed, used):
    if installed:
        lmplz()
    monkeypatch.setattr(build_language_model, "LARGE_TEXT", 10 if large else 1000)
    main(parse("--text", text_file, "--output", str(tmp_path / "lm.arpa"), "--estimator", estimator))
    assert (tmp_path / "call.json").exists() == used


def test_what_lmplz_says_is_shown(text_file, tmp_path, lmplz):
    lmplz(FAILING_LMPLZ)
    output = tmp_path / "lm.arpa"
    output.write_text("old")
    with pytest.raises(RuntimeError, match="exit status 1:\nSpecial word <s>"):
        main(parse("--text", text_file, "--output", str(output), "--estimator", "lmplz"))
    assert output.read_text() == "old"


def test_lmplz_that_stops_reading(tmp_path, lmplz):
    lmplz(FAILING_LMPLZ)
    with pytest.raises(RuntimeError, match="Special word"):
        build_language_model.run_lmplz(["many words " * 100] * 20_000, 3, True, tmp_path / "lm.arpa")


# --- faults


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--order", "0"], ValueError, "--order is 0"),
        (["--output", "lm.bin"], ValueError, "--output is lm.bin"),
        (["--dataset", "demo_data"], ValueError, "either --dataset or --text"),
        (["--text", "missing.txt"], FileNotFoundError, "missing.txt"),
        (["--keywords", "missing.json"], FileNotFoundError, "missing.json"),
        (["--estimator", "lmplz"], FileNotFoundError, "--estimator python"),
        (["--no_discount_fallback"], ValueError, "--discount_fallback"),
    ],
)
def test_faults_are_named(text_file, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        main(parse("--text", text_file, "--output", str(tmp_path / "lm.arpa"), *arguments))
    assert not (tmp_path / "lm.arpa").exists()


def test_neither_dataset_nor_text():
    with pytest.raises(ValueError, match="either --dataset or --text"):
        main(parse("--output", "lm.arpa"))


@pytest.mark.parametrize("estimator", ["python", "lmplz"])
def test_text_without_words(tmp_path, lmplz, estimator):
    lmplz()
    (tmp_path / "empty.txt").write_text("\n \n")
    arguments = ["--text", str(tmp_path / "empty.txt"), "--output", str(tmp_path / "lm.arpa")]
    with pytest.raises(ValueError, match="no word"):
        main(parse(*arguments, "--estimator", estimator))
    assert not (tmp_path / "lm.arpa").exists()


def test_text_in_another_encoding(tmp_path):
    (tmp_path / "latin.txt").write_bytes("a\naño".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.txt, line 2: not UTF-8"):
        main(parse("--text", str(tmp_path / "latin.txt"), "--output", str(tmp_path / "lm.arpa")))


def test_dataset_without_train_split(tmp_path):
    folder = write_dataset(tmp_path / "data", ["hello"], split="test")
    with pytest.raises(ValueError, match="test, and no train split"):
        main(parse("--dataset", folder, "--output", str(tmp_path / "lm.arpa")))


def test_estimator_choices(capsys):
    with pytest.raises(SystemExit):
        parse("--output", "lm.arpa", "--estimator", "srilm")
    assert "invalid choice" in capsys.readouterr().err
