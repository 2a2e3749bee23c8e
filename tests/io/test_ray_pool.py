"""Work on Ray: answers, errors, killed workers."""

import os
import signal
from pathlib import Path

import pytest


@pytest.mark.slow
def test_answers_errors_and_a_killed_worker(cluster, tmp_path, monkeypatch):
    """Workers stand in the folder of the command; what one was doing when it was killed is done by another."""
    from modeling_toxmtl.io.ray_pool import map_on_ray, num_processors

    def doubler():
        def double(number: int) -> int:
            if number == 3 and not Path("died").exists():
                Path("died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 5:
                raise OSError("the disk is full")
            return 2 * number

        return double

    monkeypatch.chdir(tmp_path)
    assert num_processors("CPU") == 2 and num_processors("GPU") == 0
    assert sorted(map_on_ray(doubler, [1, 2, 3, 4], 2, uses_gpu=False)) == [2, 4, 6, 8]
    assert (tmp_path / "died").exists()
    with pytest.raises(RuntimeError, match="^the disk is full$"):
        list(map_on_ray(doubler, [5], 2, uses_gpu=False))
    assert list(map_on_ray(doubler, [], 2, uses_gpu=False)) == []
