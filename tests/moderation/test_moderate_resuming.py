"""Runs of `toxmtl moderate` that are interrupted, and go on."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
from helpers import RATE, tone, wav
from moderation_helpers import run

from modeling_toxmtl.moderation import moderate, parts
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
    for module, name in ((parts, "write_json"), (parts, "write_json_lines"), (moderate, "write_verdicts")):
        monkeypatch.setattr(module, name, interrupted(getattr(module, name)))
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
def test_a_thousand_clips_killed_twenty_times(folder, tmp_path):
    """By the system, which asks nobody: as the run starts, or in the midst of any clip."""
    rng, clips = random.Random(0), tmp_path / "clips"
    clips.mkdir()
    for number in range(1000):
        samples = tone(round(rng.uniform(0.03, 0.3) * RATE), rng.uniform(100, 1000), number)
        (clips / f"{number:04}.wav").write_bytes(wav(samples))
    whole, output = tmp_path / "whole.jsonl", tmp_path / "verdicts.jsonl"
    processes = multiprocessing.get_context("forkserver")  # each is a process of its own, but torch is imported once
    processes.set_forkserver_preload(["modeling_toxmtl.moderation.moderate"])

    def started(path):
        arguments = ModerateArguments(str(folder), [str(clips)], output=str(path), format="jsonl", resume=True)
        process = processes.Process(target=main, args=(arguments,))
        process.start()
        return process

    for target in sorted(rng.sample(range(900), 20)):
        process = started(output)
        while process.is_alive() and num_kept(output) < target:
            time.sleep(0.002)
        process.join(rng.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not output.exists()
    for path in (output, whole):
        process = started(path)
        process.join()
        assert process.exitcode == 0
    assert output.read_bytes() == whole.read_bytes() and output.read_bytes().count(b"\n") == 1000


def num_kept(output: Path) -> int:
    """Clips that an unfinished run has judged at least."""
    numbers = [int(path.stem) for path in output.with_name(f"{output.name}.parts").glob("0*.jsonl")]
    return max(numbers, default=0)


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


def test_a_run_that_could_not_begin_begins(folder, clips, tmp_path):
    """The disk was full when it would have said what it is."""
    output = tmp_path / "verdicts.jsonl"
    (tmp_path / "verdicts.jsonl.parts").mkdir()
    main(ModerateArguments(str(folder), [str(clips)], output=str(output), format="jsonl"))
    assert output.exists() and not list(tmp_path.glob("*.parts"))


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
    monkeypatch.setattr(parts.Parts, step, lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(arguments)
    monkeypatch.undo()
    written = output.read_bytes()
    main(arguments)
    assert output.read_bytes() == written and not list(tmp_path.glob("*.parts"))


def test_parts_that_vanish_are_not_passed_over(folder, clips, tmp_path, monkeypatch, capsys):
    """As on a disk that is not the same for all machines: nothing is written, and what is missing is judged again."""
    add, command = parts.Parts.add, ["moderate", str(folder), str(clips), "--format", "jsonl", "--batch-size", "1"]
    monkeypatch.setattr(parts.Parts, "add", lambda self, first, group: first and add(self, first, group))
    output = tmp_path / "v.jsonl"
    assert run(*command, "--output", str(output)) == 1
    assert "v.jsonl.parts lacks clips that were judged" in capsys.readouterr().err and not output.exists()
    monkeypatch.undo()
    assert run(*command, "--output", str(output), "--resume") == 0 and output.read_bytes().count(b"\n") == 8
