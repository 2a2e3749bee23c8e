"""Runs of `toxmtl moderate` that are interrupted, and go on."""

import random
import signal
import subprocess
import sys
import time

import pytest
from moderation_helpers import run

from modeling_toxmtl.moderation import moderate
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.moderate import ModerateArguments, main


@pytest.mark.slow
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
