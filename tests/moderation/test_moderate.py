"""`toxmtl moderate`: every input and every output."""

import io
import json
import os
import random
import sys

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import RATE, tone, wav
from moderation_helpers import SECONDS, heard, listener, run
from pyarrow import parquet

from modeling_toxmtl.moderation.formats import format_verdict
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.inputs import Clip, Inputs
from modeling_toxmtl.moderation.moderate import ModerateArguments, main
from modeling_toxmtl.moderation.record import differences
from modeling_toxmtl.moderation.records import SCHEMA_FILE, audio_hash, read_records


VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


# --- inputs


def test_inputs_in_order(clips, tmp_path, monkeypatch):
    paths = sorted(map(str, clips.glob("*.wav")))
    (clips / ".hidden").write_text("")
    assert [clip.audio for clip in Inputs([str(clips), paths[2]])] == [*paths, paths[2]]
    (tmp_path / "list.csv").write_text(f"path,who\n{paths[1]},me\nclip.ogg,you\n")
    (tmp_path / "list.jsonl").write_text(json.dumps({"sound": paths[0]}) + "\n")
    assert [clip.name for clip in Inputs([str(tmp_path / "list.csv")])] == [paths[1], str(tmp_path / "clip.ogg")]
    assert [clip.name for clip in Inputs([str(tmp_path / "list.jsonl")], column="sound")] == paths[:1]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{paths[3]}\n\n{paths[0]}\n"))
    assert [clip.name for clip in Inputs(["-"])] == [paths[3], paths[0]]


def test_parquet_inputs(clips, tmp_path):
    """Audio as `datasets` stores it, plain bytes, or paths; a row without any is a clip that cannot be heard."""
    content = (clips / "0.wav").read_bytes()
    rows = [{"bytes": content, "path": "a.wav"}, {"bytes": None, "path": "b.wav"}, {"bytes": content, "path": None}]
    parquet.write_table(pa.table({"id": ["x", None, None], "audio": rows}), tmp_path / "t.parquet", row_group_size=2)
    inputs = Inputs([str(tmp_path / "t.parquet")])
    assert len(inputs) == 3 and list(inputs) == [
        Clip("x", content),
        Clip("b.wav", str(tmp_path / "b.wav")),
        Clip(f"{tmp_path}/t.parquet:3", content),
    ]
    parquet.write_table(pa.table({"file": ["c.wav", None]}), tmp_path / "u.parquet")
    both = Inputs([str(clips / "1.wav"), str(tmp_path / "t.parquet"), str(clips / "0.wav")])
    assert all(list(both.clips(i, j)) == list(both)[i:j] for i in range(6) for j in range(i, 6)) and len(both) == 5
    inputs = Inputs([str(tmp_path / "u.parquet")])
    assert list(inputs) == [Clip("c.wav", str(tmp_path / "c.wav")), Clip(f"{tmp_path}/u.parquet:2", b"")]
    assert [item.error for group in listener().hear(list(inputs)[1:]) for item in group] != [None]


@pytest.mark.parametrize("row_group_size", [300, 70])
def test_clips_of_a_parquet_file_from_any_row_on(tmp_path, row_group_size):
    """A run reads them in blocks, of which each begins where the one before ended."""
    names = [f"{number}.wav" for number in range(300)]
    parquet.write_table(pa.table({"file": names}), tmp_path / "t.parquet", row_group_size=row_group_size)
    inputs = Inputs([str(tmp_path / "t.parquet")])
    for first in (0, 1, 63, 64, 65, 127, 128, 200, 299):
        assert [clip.name for clip in inputs.clips(first, 300)] == names[first:]
        assert [clip.name for clip in inputs.clips(first, first + 1)] == names[first : first + 1]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1, but no more")
    with pytest.raises(ValueError, match="broken.parquet is no Parquet file: "):
        Inputs([str(tmp_path / "broken.parquet")])


def test_inputs_that_name_no_clips(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no clips in .*empty"):
        Inputs([str(tmp_path / "empty")])
    (tmp_path / "list.csv").write_text("sound,who\na.ogg,me\n")
    with pytest.raises(ValueError, match="list.csv has no column 'audio' or 'path' or .*: name it with --column"):
        Inputs([str(tmp_path / "list.csv")])
    (tmp_path / "list.csv").write_text("path,who\na.ogg,me\n,you\n")
    with pytest.raises(ValueError, match="list.csv, row 2: no 'path'"):
        Inputs([str(tmp_path / "list.csv")])


# --- hearing


def test_the_same_record_alone_in_batches_in_any_order_and_in_the_middle(clips):
    """What replay relies on: the batch decides nothing."""
    paths = sorted(map(str, clips.glob("*.wav")))
    alone = {path: heard(listener(), [Clip(path, path)])[path] for path in paths}
    orders = [paths, paths[::-1], random.Random(0).sample(paths, len(paths)), paths[3:6]]
    for size in (1, 3, 8):
        for order in orders:
            for path, record in heard(listener(batch_size=size), [Clip(path, path) for path in order]).items():
                assert differences(alone[path], record) == [], (size, order)
    for record in alone.values():
        VALIDATOR.validate(record)
    assert len(alone[paths[6]]["windows"]) == 4  # 3.1 s


def test_verdicts_are_those_of_the_pipeline(clips):
    own = listener(batch_size=4)
    path = str(clips / "2.wav")
    record = heard(own, [Clip(path, path)])[path]
    verdict = own.pipe(path, **own.judge["hearing"], return_keywords=True, return_windows=True)
    scores = {item["label"]: item["score"] for item in verdict["labels"]}
    assert {item["label"]: item["score"] for item in record["labels"]} == pytest.approx(scores, abs=1e-5)
    assert record["violations"] == [label for label in scores if label in verdict["violations"]] or set(
        record["violations"]
    ) == set(verdict["violations"])
    assert [word["keyword"] for word in record["keywords"]] == [word["keyword"] for word in verdict["keywords"]]
    assert record["audio"]["seconds"] == 2.5


def test_a_long_recording_never_waits_for_its_end(clips, monkeypatch):
    """No more windows are held than a round has."""
    own, most, positions = listener(window_seconds=0.1, batch_size=2), [], []
    run_round = Listener._run

    def spy(self):
        most.append(len(self._round))
        run_round(self)

    monkeypatch.setattr(Listener, "_run", spy)
    path = str(clips / "6.wav")
    own.on_part = lambda clip, seconds: positions.append((clip.name, seconds))
    assert len(heard(own, [Clip(path, path)])[path]["windows"]) == 31
    assert max(most) == 8 and len(most) == 4
    assert positions == [(path, 0.8), (path, 1.6), (path, 2.4)]


def test_of_a_long_recording_only_scores_and_words_are_kept(clips):
    """What the keyword head makes of each frame is read round by round."""
    own, kept = listener(window_seconds=0.5, batch_size=8), []
    postprocess = own.pipe.postprocess
    own.pipe.postprocess = lambda outputs, **options: kept.extend(outputs) or postprocess(outputs, **options)
    heard(own, [Clip(path, path) for path in map(str, clips.glob("*.wav"))])
    assert len(kept) >= 20
    tensors = [value for output in kept for value in output.values() if isinstance(value, torch.Tensor)]
    assert max(tensor.untyped_storage().nbytes() for tensor in tensors) <= 500  # rows of a batch of 8 windows


def test_windows_are_batched_by_length(clips):
    """Of clips of several lengths, the batches hold those of like length."""
    own, widths = listener(window_seconds=10.0, batch_size=4), []
    forward = own.pipe.forward

    def spy(batch, **options):
        widths.append(batch["attention_mask"].sum(1).tolist())
        return forward(batch, **options)

    own.pipe.forward = spy
    heard(own, [Clip(path, path) for path in sorted(map(str, clips.glob("*.wav")))])
    lengths = [length for batch in widths for length in batch]
    assert lengths == sorted(round(seconds * RATE) for seconds in SECONDS)


# --- outputs


def test_table(folder, clips, capsys):
    path = str(clips / "0.wav")
    assert run("moderate", str(folder), path, path) == 0
    record = heard(listener(window_seconds=15.0), [Clip(path, path)])[path]  # a single window, whatever the stride
    assert capsys.readouterr().out == (format_verdict(record) + "\n") * 2


def test_one_bad_file_is_one_line(folder, clips, tmp_path, capsys):
    """And the others are judged."""
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "short.wav").write_bytes(wav(tone(10)))
    (tmp_path / "broken.wav").write_bytes(wav(tone(RATE))[:30])
    bad = [str(tmp_path / name) for name in ("text.wav", "gone.wav", "short.wav", "broken.wav")]
    good = str(clips / "0.wav")
    assert run("moderate", str(folder), *bad, good, "--format", "jsonl") == 1
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    VALIDATOR.validate(json.loads(line))
    lines = [line for line in captured.err.splitlines() if "clip" not in line.split(":")[0]]
    assert [line.split(": ")[0] for line in lines if line.startswith(str(tmp_path))] == bad
    output = tmp_path / "verdicts.jsonl"
    assert run("moderate", str(folder), *bad, good, "--format", "jsonl", "--output", str(output)) == 1
    assert output.read_text() == captured.out
    assert "5 clips" in (error := capsys.readouterr().err) and "4 not judged" in error


def test_names_that_are_no_lines_or_no_text(folder, clips, tmp_path, capsys):
    """Line ends of Unicode in names, and bytes that are not UTF-8 in names that messages hold."""
    names = ["one\u2028two.wav", "three\x85four.wav", os.fsdecode(b"bad\xff.wav"), "z.wav"]
    for name in names[:2] + names[3:]:
        (tmp_path / name).write_bytes((clips / "0.wav").read_bytes())
    (tmp_path / names[2]).write_text("no audio")
    paths, output = [str(tmp_path / name) for name in names], tmp_path / "verdicts.jsonl"
    assert run("moderate", str(folder), *paths, "--format", "jsonl", "--output", str(output)) == 1
    assert [record["clip"] for record in map(json.loads, output.read_text().rstrip("\n").split("\n"))] == [
        path for number, path in enumerate(paths) if number != 2
    ]
    assert "bad\\udcff.wav cannot be read as audio" in capsys.readouterr().err


def test_what_can_be_read_but_once_is_one_line(folder, clips, tmp_path, capsys):
    """It would be hashed when nothing is left of it. And what goes away while it is heard ends no run."""
    os.mkfifo(tmp_path / "pipe")
    good = str(clips / "0.wav")
    assert (
        run("moderate", str(folder), str(tmp_path / "pipe"), "http://localhost/a.wav", good, "--format", "jsonl") == 1
    )
    captured = capsys.readouterr()
    assert (
        json.loads(captured.out)["clip"] == good
        and f"{tmp_path}/pipe is no file: write what it holds to one" in captured.err
    )
    assert "No such file or directory: 'http://localhost/a.wav'" in captured.err

    class Vanishing(Listener):
        def _run(self):
            super()._run()
            path.unlink(missing_ok=True)

    path = tmp_path / "gone.wav"
    path.write_bytes((clips / "0.wav").read_bytes())
    vanishing = Vanishing(*(getattr(listener(), name) for name in ("pipe", "judge", "batch_size")))
    (group,) = vanishing.hear([Clip("gone", str(path))])
    assert group[0].record["audio"]["sha256"] == audio_hash(good) and not path.exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_lines_are_json_in_any_encoding(monkeypatch, folder, clips, tmp_path, encoding):
    clip = tmp_path / "é😀….wav"
    clip.write_bytes((clips / "0.wav").read_bytes())
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    assert run("moderate", str(folder), str(clip), "--format", "jsonl") == 0
    output.flush()
    assert json.loads(output.buffer.getvalue().decode(encoding))["clip"] == str(clip)


def test_formats_hold_the_same_records(folder, clips, tmp_path):
    lines, table = tmp_path / "v.jsonl", tmp_path / "v.parquet"
    main(ModerateArguments(str(folder), [str(clips)], output=str(lines), format="jsonl", window=1.0))
    main(ModerateArguments(str(folder), [str(clips)], output=str(table), format="parquet", window=1.0))
    records = list(read_records(lines))
    assert len(records) == len(SECONDS) and records == list(read_records(table))
    rows = parquet.read_table(table).to_pylist()
    assert [row["clip"] for row in rows] == sorted(map(str, clips.glob("*.wav")))
    assert [row["violations"] for row in rows] == [record["violations"] for record in records]
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp866", "utf-8"])
def test_verdicts_are_written_in_any_encoding(monkeypatch, folder, tmp_path, encoding):
    """With a keyword of another script, and a file's name that is no text."""
    clip = tmp_path / os.fsdecode(b"\xd0\xb4\xff.wav")  # in UTF-8, д and a byte that is none
    clip.write_bytes(wav(np.zeros(RATE)))
    outputs = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", outputs[0]), monkeypatch.setattr(sys, "stderr", outputs[1])
    assert run("moderate", str(folder), str(clip), str(tmp_path / "нет.wav")) == 1
    for output in outputs:
        output.flush()
    written, complaint = (output.buffer.getvalue().decode(encoding) for output in outputs)
    name = str(clip).encode(encoding, "backslashreplace").decode(encoding)
    assert written.startswith(f"{name}: ") and "no toxic keyword heard" in written
    bars = [line.count("█") + line.count("#") for line in written.splitlines() if "%" in line]
    assert len(bars) == 6 and sum(bars) > 0 and "?" not in written
    assert "No such file" in complaint


def test_options_that_do_not_fit(folder, clips, tmp_path, capsys):
    assert run("moderate", str(tmp_path / "none"), str(clips)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / "none") in error
    for options, message in (
        (["--resume"], "--resume needs --output FILE"),
        (["--engine", "ray"], "--engine ray needs --output FILE"),
        (["--format", "parquet"], "--format parquet needs --output FILE"),
        (["--window", "0"], "--window is 0.0: give seconds above 0"),
        (["--window", "inf"], "--window is inf: give seconds above 0"),
        (["--stride", "20"], "--stride is 20.0: give more than 0, and no more than --window, 15.0"),
        (["--batch-size", "0"], "--batch-size is 0: give at least 1"),
    ):
        assert run("moderate", str(folder), str(clips), *options) == 1
        assert message in capsys.readouterr().err


RECORD = {
    "clip": "clip.ogg",
    "violations": ["Profanity"],
    "labels": [
        {
            "label": "Profanity",
            "score": 0.5,
            "evidence": {"reason": "keywords said", "keywords": [{"keyword": "damn"}, {"keyword": "damn"}]},
        },
        {"label": "Racist", "score": 0.7, "evidence": {"reason": "no keyword: by context or tone", "keywords": []}},
        {"label": "NoViolation", "score": 0.042, "evidence": None},
    ],
    "keywords": [
        {
            "keyword": "damn",
            "labels": ["Profanity", "Other"],
            "start": 1.2,
            "end": 1.284,
            "score": 0.9,
            "benign": False,
            "track": 0,
            "channel": 0,
        }
    ],
}


def test_verdict_in_words():
    lines = format_verdict(RECORD).split("\n")
    assert lines[0] == "clip.ogg: Profanity"
    assert lines[1].split(maxsplit=3) == ["Racist", "70.0%", "█" * 14, "no keyword: by context or tone"]
    assert lines[2].split() == ["Profanity", "50.0%", "█" * 10, "'damn'"]
    assert lines[3].split() == ["NoViolation", "4.2%", "█"]
    assert lines[4].split() == ["1.20–1.28", "s", "'damn'", "(Profanity,", "Other),", "score", "0.90"]
    benign = {**RECORD["keywords"][0], "benign": True}
    assert format_verdict({**RECORD, "keywords": [benign]}).endswith("score 0.90, judged benign")
    elsewhere = {**RECORD["keywords"][0], "track": 1}
    assert format_verdict({**RECORD, "keywords": [elsewhere]}).endswith("score 0.90, track 1, channel 0")
    assert format_verdict({**RECORD, "keywords": []}).endswith("no toxic keyword heard")
    assert format_verdict({**RECORD, "violations": []}).startswith("clip.ogg: no violation\n")
    assert format_verdict({**RECORD, "labels": None, "violations": None}).split("\n")[0] == "clip.ogg"
    assert "no toxic" not in format_verdict({**RECORD, "keywords": None})
