import pytest

from modeling_toxmtl.io.tables import read_labels, read_table


TABLES = {
    "another encoding": ("a.csv", b"a,b\nol\xe9,2\n", "a.csv is not in UTF-8"),
    "no JSON": ("a.jsonl", b'{"a": 1}\n\n{"a": \n', r"a.jsonl, line 3: this is not JSON"),
    "a key twice": ("a.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', r"a.jsonl, line 2: .*'a' occurs twice"),
    "a label twice": ("a.jsonl", b'{"a": {"b": 0, "b": 1}}\n', r"a.jsonl, line 1: .*'b' occurs twice"),
    "half a character": ("a.jsonl", b'{"a": "\\ud83d"}\n', r"a.jsonl, line 1: .*surrogates not allowed"),
    "too deep": ("a.jsonl", b"[" * 100_000 + b"\n", r"a.jsonl, line 1: this is not JSON"),
    "no object": ("a.jsonl", b"[1]\n", r"a.jsonl, line 1: a line must be a JSON object"),
    "a tab in a text": ("a.tsv", b"a\tb\n1\t2\t3\n", r"a.tsv, line 2: more cells than columns; a text holds tabs"),
    "an open quote": ("a.csv", b'a,b\n1,"2\n3,4\n', r"a.csv, line 2: unexpected end of data; is a quote not closed"),
    "a quote that another closes": ("a.csv", b'a,b\n1,2\n3,"4\n5,"6"\n', r"a.csv, line 3: .* a quote not closed"),
    "a quote that ends a cell": ("a.csv", b'a,b\n1,"2\n3,4\n5,6"\n', r"a.csv, line 2: a quote .* only in line 4"),
    "a quote within quotes": ("a.csv", b'a,b\n1,"say "2" now"\n', r"a.csv, line 2: .* is a quote not closed"),
    "a long cell": ("a.csv", b'a,b\n1,"2\n' + b"3,4\n" * 40_000, r"a.csv, line 2: .* is a quote not closed"),
    "a column twice": ("a.csv", b"a,b,a\n1,2,3\n", r"a.csv, line 1: a column occurs twice in a, b, a"),
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


@pytest.mark.parametrize("separator", [",", ", ", ";", "\t", "|"])
def test_separators_of_spreadsheets(tmp_path, separator):
    lines = [["a", "b"], ["1", '"x, y; z"'], ["2", '"two\r\nlines and ""quotes"""'], ["3", ""]]
    (tmp_path / "a.csv").write_bytes("".join(separator.join(line) + "\r\n" for line in lines).encode("utf-8-sig"))
    texts = ["x, y; z", 'two\r\nlines and "quotes"', None]
    assert read_table(tmp_path / "a.csv") == [{"a": str(number), "b": text} for number, text in enumerate(texts, 1)]


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\na;b, c\r\n1;x\r\n",
        '"sep=\t"\n"a"\t"b, c"\n1\tx\n',
        '"a";"b, c"\r\n1;x\r\n',
        "a\tb, c\r1\tx\r",
        "\n\r\na;b, c\n\n1;x\n",
    ],
)
def test_headers_of_spreadsheets(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content.encode("utf-8-sig"))
    assert read_table(tmp_path / "a.csv", required=["a"]) == [{"a": "1", "b, c": "x"}]


def test_a_table_of_one_column(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n2;3\n")
    assert read_table(tmp_path / "a.csv") == [{"a": "1"}, {"a": "2;3"}]
    with pytest.raises(ValueError, match="line 2: no 'file_name'; the columns are 'a'"):
        read_table(tmp_path / "a.csv", required=["file_name"])


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
        ({"Other": 0, "Racist": 1, "Bullying": True, "Profanity": None}, ["Racist", "Bullying"]),
        ({"Other": 0.0, "Racist": 0.0}, []),
    ],
)
def test_read_labels(value, names):
    assert read_labels(value) == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2, "a label is 2, not a name"),
        (1.0, "a label is 1.0, not a name"),
        ([{"label": "Other"}], "a label is {'label': 'Other'}, not a name"),
        ([None], "a label is None"),
        ({"Other": 0.2, "Racist": 1}, r"the labels are scores, {'Other': 0.2}: give the names"),
        ("Other|NoViolation", "Other, NoViolation contradict each other"),
        (["NoViolation", "Other"], "NoViolation stands alone"),
        ({"NoViolation": 1, "Other": 1}, "NoViolation stands alone"),
    ],
)
def test_labels_that_cannot_be_meant(value, message):
    with pytest.raises(ValueError, match=message):
        read_labels(value)
