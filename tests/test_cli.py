"""The command `toxmtl`."""

import dataclasses
import importlib
import sys
from typing import Literal

import pytest

from modeling_toxmtl import cli
from modeling_toxmtl.cli import DATA_COMMANDS, MODEL_COMMANDS, MODERATION_COMMANDS, main


COMMANDS = [(name,) for name in (*MODERATION_COMMANDS, *MODEL_COMMANDS)] + [("data", name) for name in DATA_COMMANDS]


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
    assert all(name in output for name in ("data", *MODERATION_COMMANDS, *MODEL_COMMANDS))
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
    assert run("tune") == 2 and "source" in capsys.readouterr().err.lower()
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
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("moderate", "model", "a.ogg", "--format", "parquet", "--output", "verdicts.parquet") == 1
    assert "pip install 'modeling-toxmtl[serve]'" in capsys.readouterr().err


def test_choices_are_completed():
    """Options are known to the shell's completion too, which never runs a command."""
    parameter = cli._parameter(dataclasses.fields(Arguments)[3], Arguments)
    assert parameter.annotation.__origin__ is Literal["local", "ray"]
