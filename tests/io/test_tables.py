import pytest

from modeling_toxmtl.io.tables import read_labels, read_table


TABLES = {
    "another encoding": ("a.csv", b"a,b\nol\xe9,2\n", "a.csv is not in UTF-8"),
    "no JSON": ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"a.jsonl, line 3: this is not JSON"),
    "no object": ("a.jsonl", b"[1]\n", r"a.jsonl, line 1: a line must be a JSON object"),
    "a tab in a text": ("a.tsv", b"a\tb\n1\t2\t3\n", r"a.tsv, line 2: more cells than columns; a text holds tabs"),
    "a missing value": ("a.csv", b"a,b\n1,2\n,2\n", r"a.csv, line 3: no 'a'"),
    "a missing column": ("a.tsv", b"b\n2\n", r"a.tsv, line 2: no 'a'"),
}


@pytest.mark.parametrize("name, content, message", TABLES.values(), ids=TABLES)
def test_tables_that_cannot_be_read(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, required=["a"])


def test_tables(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b'\xef\xbb\xbfa\tb\n"1, 2\t\n')
    assert read_table(tmp_path / "a.tsv", required=["a"]) == [{"a": '"1, 2', "b": None}]
    (tmp_path / "a.csv").write_bytes(b'a,b\n"1, 2",\n')
    assert read_table(tmp_path / "a.csv") == [{"a": "1, 2", "b": None}]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, None),
        (float("nan"), None),
        ("", None),
        (" | ", None),
        ([], []),
        ("Other", ["Other"]),
        ("Other | Racist", ["Other", "Racist"]),
        (["Other", "Racist"], ["Other", "Racist"]),
    ],
)
def test_read_labels(value, names):
    assert read_labels(value) == names
