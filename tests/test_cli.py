"""The command `toxmtl`."""

import dataclasses
import importlib
import io
import os
import sys
from typing import Literal

import pytest
from helpers import RATE, save_tiny_model, tiny_processor, tiny_speech_model, tone, wav

from modeling_toxmtl import ToxicityDetectionPipeline, cli
from modeling_toxmtl.cli import DATA_COMMANDS, MODEL_COMMANDS, format_verdict, main


COMMANDS = [(name,) for name in MODEL_COMMANDS] + [("data", name) for name in DATA_COMMANDS]


def run(*argv: str) -> int:
    """The exit status of `toxmtl ARGV`."""
    with pytest.raises(SystemExit) as stop:
        main(list(argv))
    return stop.value.code


@dataclasses.dataclass
class Arguments:
    """Of a command that a test makes."""

    source: str = dataclasses.field(metadata={"help": "Where from."})
    num_clips: int = dataclasses.field(default=3, metadata={"help": "How many."})
    weights: list[float] = dataclasses.field(default_factory=lambda: [0.5], metadata={"help": "Which."})
    engine: str = dataclasses.field(default="local", metadata={"help": "Who.", "choices": ("local", "ray")})
    fast: bool = dataclasses.field(default=False, metadata={"help": "How."})
    name: str | None = dataclasses.field(default=None, metadata={"help": "Of what."})


@pytest.fixture
def command(monkeypatch):
    """`toxmtl tune` with the arguments above; the list gets what its main function gets."""
    received = []

    def fake(args: Arguments) -> None:
        received.append(args)
        if args.source == "nowhere":
            raise FileNotFoundError("There is no nowhere: give another.")
        if args.source == "dear":
            raise ModuleNotFoundError("No module named 'faster_whisper.audio'", name="faster_whisper.audio")

    module = importlib.import_module("modeling_toxmtl.training.tuning")
    monkeypatch.setattr(module, "main", fake)
    return received


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("moderate", "data", *MODEL_COMMANDS))
    assert "..." not in output.partition("Commands:")[2]  # each fits its line
    assert run("data", "--help") == 0
    output = capsys.readouterr().out
    assert all(name in output for name in DATA_COMMANDS) and "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_takes_and_gives_an_example(command, capsys):
    assert run(*command, "--help") == 0
    output = capsys.readouterr().out
    assert f"    toxmtl {' '.join(command)} " in output, "the module's docstring has an example"
    assert "python -m" not in output


def test_fields_are_arguments_and_options(command):
    assert run("tune", "here") == 0
    assert run("tune", "--num_clips", "4", "here", "--fast", "--weights", "1", "--weights", "2", "--engine=ray") == 0
    assert command == [Arguments("here"), Arguments("here", 4, [1.0, 2.0], "ray", True)]


def test_wrong_options_are_refused_by_name(command, capsys):
    assert run("tune") == 2 and "source" in capsys.readouterr().err
    assert run("tune", "here", "--engine", "spark") == 2 and "'local', 'ray'" in capsys.readouterr().err
    assert run("tune", "here", "--num-clip", "4") == 2 and "--num-clips" in capsys.readouterr().err
    assert not command


def test_errors_are_one_line(command, capsys):
    assert run("tune", "nowhere") == 1
    assert capsys.readouterr().err == "toxmtl: There is no nowhere: give another.\n"


def test_missing_extras_are_named(command, monkeypatch, capsys):
    assert run("tune", "dear") == 1
    assert (
        capsys.readouterr().err == "toxmtl: this needs faster_whisper: pip install 'modeling-toxmtl[faster-whisper]'\n"
    )
    monkeypatch.delitem(sys.modules, "modeling_toxmtl.data.chunk", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    assert run("data", "chunk", "here") == 1
    assert capsys.readouterr().err == "toxmtl: this needs datasets: pip install 'modeling-toxmtl[data]'\n"


def test_choices_are_completed():
    """Options are known to the shell's completion too, which never runs a command."""
    parameter = cli._parameter(dataclasses.fields(Arguments)[3], Arguments)
    assert parameter.annotation.__origin__ is Literal["local", "ray"]


# --- moderate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def test_moderate(folder, tmp_path, capsys):
    (tmp_path / "clip.wav").write_bytes(wav(tone(RATE)))
    (tmp_path / "text.wav").write_text("no audio")
    clip = str(tmp_path / "clip.wav")
    assert run("moderate", str(folder), clip, clip) == 0
    output = capsys.readouterr().out
    pipe = ToxicityDetectionPipeline(tiny_speech_model(), tiny_processor())
    assert output == (format_verdict(clip, pipe(clip, return_keywords=True)) + "\n") * 2

    gone = str(tmp_path / "gone.wav")
    assert run("moderate", str(folder), str(tmp_path / "text.wav"), gone, clip) == 1
    captured = capsys.readouterr()
    assert captured.out == output[: len(output) // 2]  # the good clip is judged nevertheless
    assert "text.wav" in captured.err and "gone.wav" in captured.err


def test_moderate_without_a_model(tmp_path, capsys):
    assert run("moderate", str(tmp_path / "none"), "clip.wav") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / "none") in error


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


def test_verdict_in_words():
    verdict = {
        "violations": ["Profanity"],
        "labels": [{"label": "Profanity", "score": 0.5}, {"label": "NoViolation", "score": 0.042}],
        "keywords": [
            {
                **{"keyword": "damn", "labels": ("Profanity", "Other"), "start": 1.2, "end": 1.284, "score": 0.9},
                **{"track": 0, "channel": 0},
            }
        ],
    }
    lines = format_verdict("clip.ogg", verdict).split("\n")
    assert lines[0] == "clip.ogg: Profanity"
    assert lines[1].split() == ["Profanity", "50.0%", "█" * 10]
    assert lines[2].split() == ["NoViolation", "4.2%", "█"]
    assert lines[3].split() == ["1.20–1.28", "s", "'damn'", "(Profanity,", "Other),", "score", "0.90"]
    elsewhere = {**verdict, "keywords": [{**verdict["keywords"][0], "track": 1}]}
    assert format_verdict("clip.ogg", elsewhere).endswith("score 0.90, track 1, channel 0")
    assert format_verdict("clip.ogg", {**verdict, "keywords": []}).endswith("no toxic keyword heard")
    assert format_verdict("clip.ogg", {**verdict, "violations": []}).startswith("clip.ogg: no violation\n")
    without_classifier = {**verdict, "labels": None, "violations": None}
    assert format_verdict("clip.ogg", without_classifier).split("\n")[0] == "clip.ogg"
    without_keyword_head = {**verdict, "keywords": None}
    assert "keyword" not in format_verdict("clip.ogg", without_keyword_head)
