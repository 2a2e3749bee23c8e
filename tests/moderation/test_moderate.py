"""`toxmtl moderate` and `toxmtl replay`: every input, every output, interruptions, and the promise of records."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from helpers import RATE, save_tiny_model, tiny_processor, tiny_speech_model, tone, wav
from pyarrow import parquet

from modeling_toxmtl import LABELS, ToxicityDetectionPipeline, cli
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.moderation import moderate
from modeling_toxmtl.moderation.formats import format_verdict
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.inputs import Clip, Inputs
from modeling_toxmtl.moderation.moderate import ModerateArguments, main
from modeling_toxmtl.moderation.record import describe_judge, differences
from modeling_toxmtl.moderation.records import SCHEMA_FILE, read_records
from modeling_toxmtl.moderation.replay import DECIDED, replay


VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
NEW_THRESHOLDS, NEW_ENTRY = dict.fromkeys(LABELS, 0.41), KeywordEntry("damn", ("Profanity",))
SECONDS = (1.0, 0.4, 2.5, 0.7, 1.3, 0.2, 3.1, 0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of clips of several lengths."""
    path = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate(SECONDS):
        (path / f"{number}.wav").write_bytes(wav(tone(round(seconds * RATE), 200.0 + 50 * number, number)))
    return path


def run(*argv: str) -> int:
    """The exit status of `toxmtl ARGV`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(argv))
    return stop.value.code


def listener(window_seconds: float = 1.0, batch_size: int = 1) -> Listener:
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    return Listener(
        pipe, describe_judge(pipe, window_seconds=window_seconds, stride_seconds=window_seconds), batch_size
    )


def save_with_decoding(folder):
    processor = tiny_processor()
    processor.decoding = replace(processor.decoding, beam_width=3)
    processor.save_pretrained(folder)


def heard(listener: Listener, clips) -> dict[str, dict]:
    return {item.clip: item.record for group in listener.hear(clips) for item in group}


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
    parquet.write_table(pa.table({"id": ["x", None, None], "audio": rows}), tmp_path / "t.parquet")
    inputs = Inputs([str(tmp_path / "t.parquet")])
    assert len(inputs) == 3 and list(inputs) == [
        Clip("x", content),
        Clip("b.wav", str(tmp_path / "b.wav")),
        Clip(f"{tmp_path}/t.parquet:3", content),
    ]
    parquet.write_table(pa.table({"file": ["c.wav", None]}), tmp_path / "u.parquet")
    inputs = Inputs([str(tmp_path / "u.parquet")])
    assert list(inputs) == [Clip("c.wav", str(tmp_path / "c.wav")), Clip(f"{tmp_path}/u.parquet:2", b"")]
    assert [item.error for group in listener().hear(list(inputs)[1:]) for item in group] != [None]


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
    own, most = listener(window_seconds=0.1, batch_size=2), []
    run_round = Listener._run

    def spy(self):
        most.append(len(self._round))
        run_round(self)

    monkeypatch.setattr(Listener, "_run", spy)
    path = str(clips / "6.wav")
    assert len(heard(own, [Clip(path, path)])[path]["windows"]) == 31
    assert max(most) == 8 and len(most) == 4


def test_windows_are_batched_by_length(clips):
    """Of clips of several lengths, the batches hold those of like length."""
    own, widths = listener(window_seconds=10.0, batch_size=4), []
    forward = own.pipe.forward

    def spy(batch):
        widths.append(batch["attention_mask"].sum(1).tolist())
        return forward(batch)

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
    clip.write_bytes(wav(tone(RATE)))
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
        (["--format", "parquet"], "--format parquet needs --output FILE"),
        (["--window", "0"], "--window is 0.0: give seconds above 0"),
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


# --- interruptions


def test_interrupted_at_any_moment_and_resumed(folder, clips, tmp_path, monkeypatch):
    """Twenty times, while it hears, reads or writes: the output is byte for byte that of an undisturbed run."""
    (tmp_path / "text.wav").write_text("no audio")
    inputs = [str(clips), str(tmp_path / "text.wav"), *([str(clips)] * 3)]
    options = {"format": "jsonl", "window": 0.5, "batch_size": 1}
    whole, output = tmp_path / "whole.jsonl", tmp_path / "verdicts.jsonl"
    with pytest.raises(SystemExit):
        main(ModerateArguments(str(folder), inputs, output=str(whole), **options))
    pipe = moderate.load_judge(str(folder))
    monkeypatch.setattr(moderate, "load_judge", lambda model: pipe)
    choose, left = random.Random(1), [0]

    def interrupted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(pipe, "forward", interrupted(pipe.forward))
    for name in ("write_json", "write_json_lines", "write_verdicts"):
        monkeypatch.setattr(moderate, name, interrupted(getattr(moderate, name)))
    interruptions = 0
    while True:
        left[0] = choose.randint(1, 12) if interruptions < 20 else 10**9
        try:
            main(ModerateArguments(str(folder), inputs, output=str(output), resume=True, **options))
        except KeyboardInterrupt:
            interruptions += 1
        except SystemExit:
            break
    assert interruptions == 20 and output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.slow
def test_killed_and_resumed(folder, clips, tmp_path):
    """By the system, which asks nobody."""
    output = tmp_path / "verdicts.jsonl"
    command = [sys.executable, "-m", "modeling_toxmtl.cli", "moderate", str(folder), *[str(clips)] * 30]
    command += ["--format", "jsonl", "--window", "0.5", "--batch-size", "2", "--resume", "--output"]
    process = subprocess.Popen([*command, str(output)], stderr=subprocess.DEVNULL)
    parts = output.with_name("verdicts.jsonl.parts")
    while process.poll() is None and len(list(parts.glob("0*.jsonl"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not output.exists()
    subprocess.run([*command, str(output)], check=True)
    subprocess.run([*command, str(tmp_path / "whole.jsonl")], check=True)
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_goes_on_only_with_what_it_began_with(folder, clips, tmp_path, monkeypatch):
    output = tmp_path / "v.jsonl"
    arguments = {"output": str(output), "format": "jsonl"}
    monkeypatch.setattr(moderate, "write_verdicts", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(ModerateArguments(str(folder), [str(clips)], **arguments))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="v.jsonl.parts holds an unfinished run: go on with --resume"):
        main(ModerateArguments(str(folder), [str(clips)], **arguments))
    with pytest.raises(ValueError, match="was begun with another hearing: go on with the same"):
        main(ModerateArguments(str(folder), [str(clips)], resume=True, window=2.0, **arguments))
    with pytest.raises(ValueError, match="was begun with another inputs"):
        main(ModerateArguments(str(folder), [str(clips / "0.wav")], resume=True, **arguments))
    main(ModerateArguments(str(folder), [str(clips)], resume=True, **arguments))
    with pytest.raises(ValueError, match="v.jsonl is already there"):
        main(ModerateArguments(str(folder), [str(clips)], **arguments))


def test_a_finished_run_is_left_as_it_is(folder, clips, tmp_path, capsys, monkeypatch):
    """A loop that restarts a run until it ends well comes to an end; another run's output is not taken for it."""
    output, options = tmp_path / "v.jsonl", ("--format", "jsonl", "--output", str(tmp_path / "v.jsonl"))
    command = ("moderate", str(folder), str(clips / "0.wav"), str(clips / "gone.wav"), *options)
    assert run(*command, "--resume") == 1  # a clip cannot be judged
    written = output.read_bytes()
    monkeypatch.setattr(Listener, "hear", None)
    assert run(*command, "--resume") == 0
    assert f"{output} is finished: there is nothing to resume" in capsys.readouterr().err
    others = (command, (*command, "--resume", "--window", "2"), (*command, "--resume", "--format", "table"))
    for other in (*others, ("moderate", str(folder), str(clips / "1.wav"), *options, "--resume")):
        assert run(*other) == 1
        assert "v.jsonl is already there, and no finished output" in capsys.readouterr().err
    output.write_bytes(written + b"x")
    assert run(*command, "--resume") == 1 and "already there" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["finish", "remove"])
def test_killed_when_all_is_written(folder, clips, tmp_path, monkeypatch, step):
    """Before the run is stated, or before its parts are gone."""
    output = tmp_path / "v.jsonl"
    arguments = ModerateArguments(str(folder), [str(clips / "0.wav")], output=str(output), format="jsonl", resume=True)
    monkeypatch.setattr(moderate.Parts, step, lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    monkeypatch.undo()
    written = output.read_bytes()
    main(arguments)
    assert output.read_bytes() == written and not list(tmp_path.glob("*.parts"))


# --- replay


def test_replay(folder, clips, tmp_path, capsys):
    output = tmp_path / "v.jsonl"
    main(ModerateArguments(str(folder), [str(clips)], output=str(output), format="jsonl", window=1.0, batch_size=3))
    capsys.readouterr()
    assert run("replay", str(output), str(clips / "6.wav")) == 0
    assert capsys.readouterr().out == "the same\n"
    (tmp_path / "moved").symlink_to(folder)
    assert run("replay", str(output), str(clips / "2.wav"), "--model", str(tmp_path / "moved")) == 0
    (tmp_path / "unknown.wav").write_bytes(wav(tone(5000)))
    assert run("replay", str(output), str(tmp_path / "unknown.wav")) == 1
    assert "no record of audio with the SHA-256" in capsys.readouterr().err


def test_replay_names_each_difference(folder, clips, tmp_path, capsys):
    """Other audio, another list, another model."""
    output = tmp_path / "v.jsonl"
    main(ModerateArguments(str(folder), [str(clips / "2.wav")], output=str(output), format="jsonl", window=1.0))
    capsys.readouterr()
    assert run("replay", str(output), str(clips / "3.wav")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("audio.sha256: ") and lines[-1] == "the verdict is another"
    (record,) = read_records(output)
    changed = {**record, "keyword_list": {**record["keyword_list"], "sha256": "0" * 64}}
    found = replay(changed, str(clips / "2.wav"))
    assert [line.partition(":")[0] for line in found] == ["keyword_list.sha256"]
    (tmp_path / "changed.jsonl").write_text(json.dumps(changed))
    assert run("replay", str(tmp_path / "changed.jsonl"), str(clips / "2.wav")) == 1
    assert capsys.readouterr().out.endswith("the verdict is the same, but not what it depends on\n")
    scores = np.array([item["score"] for item in record["labels"]])
    raised = [{**item, "score": round(min(item["score"] + 0.01, 1.0), 6)} for item in record["labels"]]
    found = replay({**record, "labels": raised}, str(clips / "2.wav"))
    assert len(found) == np.sum(scores + 1e-4 < 1) and all(".score: " in line for line in found)


@pytest.mark.parametrize(
    ("part", "save"),
    [
        ("thresholds", lambda folder: tiny_speech_model(label_thresholds=NEW_THRESHOLDS).save_pretrained(folder)),
        ("model", lambda folder: tiny_speech_model(seed=1).save_pretrained(folder)),
        ("keyword_list", lambda folder: tiny_processor(KeywordList([NEW_ENTRY])).save_pretrained(folder)),
        ("decoding", lambda folder: save_with_decoding(folder)),
    ],
)
def test_replay_names_what_changed_in_the_model_folder(folder, clips, tmp_path, part, save):
    """And nothing else of what the verdict depends on; the record is enough, wherever the folder is now."""
    path = str(clips / "2.wav")
    pipe = moderate.load_judge(str(folder))
    judge = describe_judge(pipe, window_seconds=1.0, stride_seconds=1.0)
    ((item,),) = Listener(pipe, judge).hear([Clip(path, path)])
    record = json.loads(json.dumps(item.record))
    assert replay(record, path) == []
    save(shutil.copytree(folder, tmp_path / "changed"))
    found = replay(record, path, str(tmp_path / "changed"))
    assert {line.partition(".")[0] for line in found if not line.startswith(DECIDED)} == {part}
