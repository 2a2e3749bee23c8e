import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_toxmtl.keywords import KeywordEntry, KeywordList


def test_save_and_load_round_trip(small, tmp_path):
    small.add("coño", ["Profanity"])
    small.save(tmp_path / "list.json")
    loaded = KeywordList.from_file(tmp_path / "list.json")
    assert loaded.to_dict() == small.to_dict() == KeywordList.from_dict(small.to_dict()).to_dict()
    assert list(loaded) == list(small) and loaded.substitute("dammit") == "damn"
    text = (tmp_path / "list.json").read_text(encoding="utf-8")
    assert "coño" in text
    assert len(text.splitlines()) == len(small) + 6  # one entry per line, so that a diff shows one keyword at a time


def test_other_filler_and_language_survive(tmp_path):
    KeywordList([KeywordEntry("good", ("Other",))], filler="uh", language="x-test").save(tmp_path / "list.json")
    loaded = KeywordList.from_file(tmp_path / "list.json")
    assert (loaded.filler, loaded.language) == ("uh", "x-test")
    assert loaded.substitute("a good one") == "uh good uh"


def test_variants_may_be_left_out_and_byte_order_marks_are_read(tmp_path):
    data = {"filler": "good", "language": "en", "keywords": [{"keyword": "damn", "labels": ["My own label"]}]}
    (tmp_path / "list.json").write_text(json.dumps(data), encoding="utf-8-sig")
    assert list(KeywordList.from_file(tmp_path / "list.json")) == [KeywordEntry("damn", ("My own label",))]


def _entry(keyword="shit", labels=("Profanity",), **fields):
    return {"keyword": keyword, "labels": labels, **fields}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keywords": []}, "`keywords` is empty"),
        ({"keywords": {"damn": "Profanity"}}, "`keywords` must be a list"),
        ({"keywords": ["damn"]}, "entry 1 must be an object .* not 'damn'"),
        ({"words": []}, "the list: unknown field 'words'; it may have"),
        ({"filler": ""}, "`filler` is ''"),
        ({"filler": "so good"}, "`filler` is 'so good'"),
        ({"filler": 3}, "`filler` is 3"),
        ({"language": " "}, "`language` is ' '"),
        ({"extra": [{"keyword": "shit"}]}, "entry 2: missing field 'labels'"),
        ({"extra": [_entry(variant="x")]}, "entry 2: unknown field 'variant'; it may have .*variants"),
        ({"extra": [_entry("damn")]}, r"entry 2 \('damn'\): 'damn' already is a spelling of 'damn'"),
        ({"extra": [_entry(variants=["dammit"])]}, r"entry 2 \('shit'\): 'dammit' already is a spelling of 'damn'"),
        ({"extra": [_entry("")]}, r"entry 2 \(''\): '' is not a word or phrase"),
        ({"extra": [_entry("  ")]}, "'  ' is not a word or phrase"),
        ({"extra": [_entry(None)]}, "None is not a word or phrase"),
        ({"extra": [_entry("Shit")]}, "'Shit' can never match a normalised word; write 'shit'"),
        ({"extra": [_entry("bull-shit")]}, "write 'bull shit'"),
        ({"extra": [_entry("bull  shit")]}, "write 'bull shit'"),
        ({"extra": [_entry("420")]}, "write 'four hundred twenty'"),
        ({"extra": [_entry("good")]}, "'good' contains the filler 'good'"),
        ({"extra": [_entry(variants=["good shit"])]}, "'good shit' contains the filler 'good'; remove it or change"),
        ({"extra": [_entry(labels=[])]}, "`labels` is empty"),
        ({"extra": [_entry(labels="Profanity")]}, "`labels` must be a list of non-empty strings, not 'Profanity'"),
        ({"extra": [_entry(labels=["Profanity", 1])]}, "`labels` must be a list of non-empty strings"),
        ({"extra": [_entry(labels=[" "])]}, "`labels` must be a list of non-empty strings"),
        ({"extra": [_entry(variants="shits")]}, "`variants` must be a list of non-empty strings"),
        ({"extra": [_entry(variants=["$$$"])]}, r"'\$\$\$' is not a word or phrase"),
        ({"extra": [_entry(labels=["a", "\ud83d"])]}, r"entry 2 \('shit'\): `labels` has '\\ud83d', with half"),
        ({"extra": [_entry(variants=["a\udc00"])]}, r"entry 2 \('shit'\): `variants` has 'a\\udc00', with half"),
        ({"language": "e\ud83d"}, r"`language` has 'e\\ud83d', with half a character: write the whole one"),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    data = {"filler": "good", "language": "en", "keywords": [_entry("damn", variants=["dammit"])]}
    if "extra" in changes:
        data["keywords"] += changes["extra"]
    else:
        data |= changes
    path = tmp_path / "list.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=f"list.json: .*{message}"):
        KeywordList.from_file(path)


@pytest.mark.parametrize("field", ["filler", "language", "keywords"])
def test_missing_fields_are_refused(tmp_path, field):
    data = {"filler": "good", "language": "en", "keywords": [_entry()]}
    del data[field]
    (tmp_path / "list.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=f"list.json: the list: missing field '{field}'"):
        KeywordList.from_file(tmp_path / "list.json")


def test_a_field_twice_is_refused(tmp_path):
    """JSON would keep the last one, without a word."""
    entry = '{"keyword": "damn", "keyword": "crap", "labels": ["Other"]}'
    text = f'{{"filler": "good", "language": "en", "keywords": [{entry}]}}'
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match="list.json: the key 'keyword' occurs twice"):
        KeywordList.from_file(tmp_path / "list.json")


@pytest.mark.parametrize("content", [b"", b'{"filler": "good",}', b"[]", b'{"filler": "\xff"}'])
def test_files_that_are_no_json_object_are_refused(tmp_path, content):
    (tmp_path / "list.json").write_bytes(content)
    with pytest.raises(ValueError, match="list.json: "):
        KeywordList.from_file(tmp_path / "list.json")


def test_a_missing_file_names_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.json"):
        KeywordList.from_file(tmp_path / "absent.json")


def test_pickles_equally_in_every_process(small):
    """Set order depends on the process's hash seed; it must not reach what `datasets` fingerprints."""
    script = (
        "import hashlib, pickle; from modeling_toxmtl.keywords import KeywordList; k = KeywordList.default();"
        "k.substitute('f*ck'); print(hashlib.sha256(pickle.dumps(k)).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.check_output([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root)
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert pickle.loads(pickle.dumps(small)).substitute("dammit shut up") == "damn shut up"
