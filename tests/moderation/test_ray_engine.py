"""`toxmtl moderate --engine ray`: the same records, on Ray."""

import sys

import pytest
from moderation_helpers import run

from modeling_toxmtl.moderation import moderate, parts
from modeling_toxmtl.moderation.moderate import ModerateArguments, main
from modeling_toxmtl.moderation.parts import Parts, tasks_left


def test_what_is_left_of_a_run():
    """Of 150 clips in blocks of 64: groups of 10 and 54 of the first block are kept, and 4 of the last."""
    assert list(tasks_left(150, {})) == [(0, 64), (64, 128), (128, 150)]
    assert list(tasks_left(150, {0: 10, 10: 54, 128: 4})) == [(64, 128), (132, 150)]
    assert list(tasks_left(150, {0: 10, 128: 22})) == [(10, 64), (64, 128)]
    assert list(tasks_left(64, {0: 64})) == []


@pytest.mark.slow
def test_ray_gives_the_same_bytes(folder, clips, tmp_path, monkeypatch):
    """As one process; and goes on with what that began."""
    pytest.importorskip("ray")
    monkeypatch.setattr(parts, "CLIPS_PER_BLOCK", 3)
    options = {"format": "jsonl", "window": 0.5, "batch_size": 2, "resume": True}
    arguments = [
        ModerateArguments(
            str(folder), [str(clips)] * 2, output=str(tmp_path / f"{name}.jsonl"), engine=name, **options
        )
        for name in moderate.ENGINES
    ]
    add, left = Parts.add, [2]

    def interrupted(self, first, group):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        add(self, first, group)

    monkeypatch.setattr(Parts, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(ModerateArguments(**vars(arguments[1]) | {"engine": "local"}))
    monkeypatch.setattr(Parts, "add", add)
    for each in arguments:
        main(each)
    local, ray = ((tmp_path / f"{name}.jsonl").read_bytes() for name in moderate.ENGINES)
    assert local == ray and local.count(b"\n") == 16


def test_without_ray(folder, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "modeling_toxmtl.moderation.ray_engine", raising=False)
    command = ("moderate", str(folder), str(clips / "0.wav"), "--engine", "ray", "--format", "jsonl")
    assert run(*command, "--output", str(tmp_path / "v.jsonl")) == 1
    assert "pip install 'modeling-toxmtl[ray]'" in capsys.readouterr().err
