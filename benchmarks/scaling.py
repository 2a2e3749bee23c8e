"""How the cost of judging goes with the batch, a clip's length, threads and processes, and what a neighbour on one
core does to it: the second half of `inference.py`.

Times here are of the clock, and so of a machine that does nothing else.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure  # not pyplot, which looks for a screen

from benchmarks.systems import System, Worker


BATCHES = (1, 2, 4, 8)
LENGTHS = (1, 5, 15, 30)  # seconds; the longest is heard in windows
AXES = {
    "batch": "clips of 15 s at once",
    "length": "seconds of a clip",
    "threads": "threads",
    "processes": "processes",
}
BURNER = "while True: pass"


def powers_of_two() -> list[int]:
    """Up to the number of cores."""
    return [2**power for power in range((os.cpu_count() or 1).bit_length())]


def rounds_of(measure: Callable[[], dict], rounds: int, seconds: float) -> tuple[dict, int]:
    """The median of each of its figures over so many rounds, or those begun within some seconds, and how many there
    were; what is measured first fills caches and does not count."""
    start = time.perf_counter()
    measure()
    found = [measure()]
    while len(found) < rounds and time.perf_counter() - start < seconds:
        found.append(measure())
    return {name: statistics.median(figures[name] for figures in found) for name in found[0]}, len(found)


@contextmanager
def workers(systems: dict[str, System], clips: Path) -> Iterator[dict[str, Worker]]:
    """A process for each system."""
    started = {name: Worker(system, clips) for name, system in systems.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def scaling(rows: dict[str, System], clips: Path, rounds: int, seconds: float) -> dict[str, dict]:
    """Seconds of sound in a second of the clock, by system, by what varies, and by its value; all but what varies is
    one. The file of clips has one for each of the `LENGTHS`, named by it."""
    counts = powers_of_two() if all(system.device == "cpu" for system in rows.values()) else [1]
    wide = {(name, count): replace(row, threads=count) for name, row in rows.items() for count in counts}
    more = {(name, -count): replace(row, threads=1) for name, row in rows.items() for count in range(1, counts[-1])}
    with workers(wide | more, clips) as started:

        def measure():
            speeds = {}
            for name, row in rows.items():
                alone = started[name, 1]
                for batch in BATCHES:
                    how = (
                        f"return_keywords=True, batch_size={batch}" if row.kind == "torch" else "return_keywords=True"
                    )
                    work = f"judge([clips['15']] * {batch}, {how})"
                    speeds[name, "batch", batch] = _speed([alone], work, 15 * batch)
                for length in LENGTHS:
                    speeds[name, "length", length] = _speed([alone], _judging(length), length)
                for count in counts:
                    together = [alone, *(started[name, -other] for other in range(1, count))]
                    speeds[name, "threads", count] = _speed([started[name, count]], _judging(15), 15)
                    speeds[name, "processes", count] = _speed(together, _judging(15), 15)
            return speeds

        results: dict[str, dict] = {name: {axis: {} for axis in AXES} for name in rows}
        for (name, axis, value), speed in rounds_of(measure, rounds, seconds)[0].items():
            results[name][axis][str(value)] = speed
    return results


def _judging(length):
    return f"judge(clips['{length}'], return_keywords=True)"


def _speed(together, work, sound):
    """Of processes that each do the same work at once, on so many seconds of sound."""
    for worker in together:
        worker.begin(work)
    return sum(sound / worker.end()[1] for worker in together)


def neighbours(rows: dict[str, System], clips: Path, rounds: int, seconds: float) -> dict[str, dict]:
    """Seconds for a clip of 15 s, by system and threads: `alone`, and `beside` a process that keeps one core busy."""
    counts = powers_of_two()[:2]
    cases = {(name, count): replace(row, threads=count) for name, row in rows.items() for count in counts}
    with workers(cases, clips) as started:

        def times(where):
            found = {}
            for case, worker in started.items():
                worker.begin(_judging(15))
                found[(*case, where)] = worker.end()[1]
            return found

        def measure():
            alone = times("alone")
            burner = subprocess.Popen([sys.executable, "-c", BURNER])
            try:
                return alone | times("beside")
            finally:
                burner.kill()
                burner.wait()

        results: dict[str, dict] = {name: {str(count): {} for count in counts} for name in rows}
        for (name, count, where), value in rounds_of(measure, rounds, seconds)[0].items():
            results[name][str(count)][where] = value
    return results


def scaling_table(results: dict[str, dict]) -> str:
    """A row per system and what varies."""
    lines = ["| System | Varied | Seconds of sound in a second |", "|---|---|---|"]
    for name, axes in results.items():
        for axis, speeds in axes.items():
            cells = " · ".join(f"{value}: {speed:.0f}" for value, speed in speeds.items())
            lines.append(f"| {name} | {AXES[axis]} | {cells} |")
    return "\n".join(lines)


def neighbours_table(results: dict[str, dict]) -> str:
    """A row per system: seconds for a clip of 15 s."""
    counts = list(next(iter(results.values())))
    titles = [f"{count} thread{'s' * (count != '1')}{where}" for count in counts for where in ("", ", busy core")]
    lines = ["| System | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name, row in results.items():
        cells = [f"{row[count][where]:.3f}" for count in counts for where in ("alone", "beside")]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def draw(results: dict[str, dict], path: Path) -> None:
    """The table of scaling as PNG, a panel for each of what varies."""
    figure = Figure(figsize=(9, 2.6), layout="constrained", dpi=120)
    for panel, (axis, title) in zip(figure.subplots(1, len(AXES), sharey=True), AXES.items(), strict=True):
        for name, axes in results.items():
            panel.plot(list(axes[axis]), list(axes[axis].values()), marker="o", label=name.rpartition(", ")[2])
        panel.set_xlabel(title)
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylim(bottom=0)  # of all panels, and not before the last has its points
    figure.axes[0].set_ylabel("seconds of sound\nin a second")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)
