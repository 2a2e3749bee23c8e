"""How much there is of what in a data set: the paper's Table 1 and Figure 3.

A clip with several labels counts for each of them, and once in the total.
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike

from matplotlib.figure import Figure  # not pyplot, which looks for a screen

from ..labels import LABELS


LONGEST_BIN = 60.0  # seconds, of the figure


def hours_by_label(clips: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """Hours of each label, and "Total", of clips given as (labels, seconds)."""
    hours = dict.fromkeys((*LABELS, "Total"), 0.0)
    for labels, seconds in clips:
        for name in (*labels, "Total"):
            hours[name] += seconds / 3600
    return hours


def render_hours(statistics: Mapping[str, dict]) -> str:
    """Hours by split and label as Markdown, the paper's Table 1; `statistics` has `clips` and `hours` of each."""
    names = (*LABELS, "Total")
    lines = [f"| Split | Clips | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for split, figures in statistics.items():
        hours = " | ".join(f"{figures['hours'][name]:.3f}" for name in names)
        lines.append(f"| {split} | {figures['clips']} | {hours} |")
    return "\n".join(lines)


def plot_durations(durations: Mapping[str, Sequence[float]], path: str | PathLike) -> None:
    """Draws the distribution of durations in seconds by split as PNG, the paper's Figure 3."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    longest = min(LONGEST_BIN, max((max(values) for values in durations.values() if values), default=1.0))
    bins = [longest * edge / 30 for edge in range(31)]
    for split, values in durations.items():
        clipped = [min(value, longest) for value in values]
        weights = [1 / len(values)] * len(values)
        axes.hist(clipped, bins=bins, weights=weights, histtype="step", label=f"{split} ({len(values)} clips)")
    axes.set_xlabel("duration in seconds")
    axes.set_ylabel("share of the clips")
    axes.legend()
    figure.savefig(path, format="png", dpi=150)
