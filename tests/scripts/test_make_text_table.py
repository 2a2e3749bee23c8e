from helpers import tone, wav

from datasets_scripts.make_text_table import TextTableArguments, main
from modeling_toxmtl.data.schema import Row, write_split
from modeling_toxmtl.data.text_filter import read_texts


def test_the_text_table_is_what_the_text_filter_trains_on(tmp_path, capsys):
    """Normalised words with their labels; clips that say nothing are left out."""
    audio = wav(tone(1600))
    said = {"a": "Oh, SHUT up: 2 times!", "b": "", "c": "nice round"}
    labels = {"a": ("Bullying", "Other"), "b": ("NoViolation",), "c": ("NoViolation",)}
    rows = [Row(id, audio, 0.1, labels[id], text, "me", id, "train") for id, text in said.items()]
    write_split(rows, tmp_path / "data", "train")
    main(TextTableArguments(str(tmp_path / "out" / "texts.jsonl"), str(tmp_path / "data")))
    assert read_texts(str(tmp_path / "out" / "texts.jsonl")) == [
        {"text": "oh shut up two times", "labels": ["Bullying", "Other"]},
        {"text": "nice round", "labels": ["NoViolation"]},
    ]
    assert "2 texts of 3 clips" in capsys.readouterr().out
