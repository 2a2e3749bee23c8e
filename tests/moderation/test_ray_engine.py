"""`toxmtl moderate --engine ray`: the same records, on Ray."""

import sys
from pathlib import Path

import pytest
from moderation_helpers import run

from modeling_toxmtl.moderation import moderate, parts
from modeling_toxmtl.moderation.moderate import ModerateArguments, main
from modeling_toxmtl.moderation.parts import Parts, tasks_left
from modeling_toxmtl.moderation.progress import Progress
from modeling_toxmtl.moderation.record import describe_judge


def test_what_is_left_of_a_run():
    """Of 150 clips in blocks of 64: groups of 10 and 54 of the first block are kept, and 4 of the last."""
    assert list(tasks_left(150, {})) == [(0, 64), (64, 128), (128, 150)]
    assert list(tasks_left(150, {0: 10, 10: 54, 128: 4})) == [(64, 128), (132, 150)]
    assert list(tasks_left(150, {0: 10, 128: 22})) == [(10, 64), (64, 128)]
    assert list(tasks_left(64, {0: 64})) == []


def interrupted(times: int, function):
    """The function, until it is called for the last time."""
    left = [times]

    def call(*args):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return function(*args)

    return call


@pytest.mark.slow
def test_ray_gives_the_same_bytes(cluster, folder, clips, tmp_path, monkeypatch, capfd):
    """As one process, and goes on with what that began; a clip that cannot be judged is a line, and the status 1."""
    monkeypatch.setattr(parts, "CLIPS_PER_BLOCK", 3)
    (gone := tmp_path / "gone.wav").write_text("no audio")
    options = {"format": "jsonl", "window": 0.5, "batch_size": 2, "resume": True}
    inputs = [str(clips), str(gone), str(clips)]
    local, ray = (
        ModerateArguments(str(folder), inputs, output=str(tmp_path / f"{name}.jsonl"), engine=name, **options)
        for name in moderate.ENGINES
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parts, "add", interrupted(2, Parts.add))
        main(ModerateArguments(**vars(ray) | {"engine": "local"}))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "add", interrupted(2, Progress.add))
        main(ray)
    kept = len(list((tmp_path / "ray.jsonl.parts").glob("0*.jsonl")))
    assert kept >= 2 and not (tmp_path / "ray.jsonl").exists()
    for arguments in (local, ray):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        error = capfd.readouterr().err
        assert stop.value.code == 1 and error.count(f"{gone}: ") == 1 and "17 clips" in error
        assert "Running Dataset" not in error
    written = Path(local.output).read_bytes()
    assert written == Path(ray.output).read_bytes() and written.count(b"\n") == 16


@pytest.mark.slow
def test_machines_that_differ_end_the_run(cluster, folder, clips, tmp_path, monkeypatch, capfd):
    """In one line, and not in the pages that Ray prints about errors."""
    monkeypatch.setattr(
        moderate, "describe_judge", lambda *args, **how: describe_judge(*args, **how) | {"versions": {"numpy": "0.1"}}
    )
    command = ("moderate", str(folder), str(clips / "0.wav"), "--engine", "ray", "--format", "jsonl")
    assert run(*command, "--output", str(tmp_path / "v.jsonl")) == 1
    error = capfd.readouterr().err
    assert "toxmtl: the machines of the cluster differ: versions" in error and "Traceback" not in error


def test_without_ray(folder, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("moderation.ray_engine", "io.ray_pool"):
        monkeypatch.delitem(sys.modules, f"modeling_toxmtl.{name}", raising=False)
    command = ("moderate", str(folder), str(clips / "0.wav"), "--engine", "ray", "--format", "jsonl")
    assert run(*command, "--output", str(tmp_path / "v.jsonl")) == 1
    assert "pip install 'modeling-toxmtl[ray]'" in capsys.readouterr().err
