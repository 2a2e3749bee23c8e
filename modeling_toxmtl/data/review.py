"""Finds label noise: where the text filter and a trained audio model disagree, and what a person says of it.

    python run_mtl.py --model_name_or_path runs/mine --dataset my_clips --do_predict --test_split train \\
        --output_dir runs/predicted
    toxmtl data review my_clips runs/predicted/predictions.jsonl --output-dir review

Writes `agreement.md`, a table by label, and `index.html`, a static page with the most doubtful clips: player,
transcript, scores, and a box for each label. Its button saves `corrections.jsonl`, which the annotate stage takes in:

    toxmtl data run ... --corrections corrections.jsonl
"""

import base64
import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..io.files import write_text
from ..io.tables import read_labels, read_table
from ..labels import LABELS
from .shards import read_rows


PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Clips to review</title>
<style>body {{ font: 16px sans-serif; max-width: 60em; margin: auto }}
article {{ border-top: 1px solid; padding: 1em }}
label {{ margin-right: 1em }}</style>
<h1>{count} clips to review</h1>
<p>Tick what the clip contains, then save; clips that you do not mark as reviewed are left out.
<button onclick="save()">Save corrections.jsonl</button></p>
{clips}
<script>
function save() {{
  const lines = [...document.querySelectorAll("article")].filter(clip => clip.querySelector(".done").checked)
    .map(clip => JSON.stringify({{id: clip.dataset.id,
      labels: [...clip.querySelectorAll(".label:checked")].map(box => box.value)}}) + "\\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines));
  link.download = "corrections.jsonl";
  link.click();
}}
</script></html>
"""
CLIP = """\
<article data-id="{id}"><p><audio controls preload="none" src="data:audio/{kind};base64,{audio}"></audio></p>
<p>{transcript}</p><p>Text filter: {given}. Model: {scores}.</p>
<p>{boxes}<label><input type="checkbox" class="done"> reviewed</label></p></article>"""


@dataclass
class ReviewArguments:
    """What to compare, and how much to review."""

    dataset: str = field(metadata={"help": "Folder of Parquet files, with labels by the text filter."})
    predictions: str = field(metadata={"help": "predictions.jsonl of run_mtl.py --do_predict, for these clips."})
    output_dir: str = field(default="review", metadata={"help": "Folder for the report and the page."})
    num_clips: int = field(default=50, metadata={"help": "Clips on the page."})
    threshold: float = field(default=0.5, metadata={"help": "Score from which the model is taken to give a label."})


def doubt(labels: Sequence[str], scores: dict[str, float]) -> float:
    """How much model and text filter differ: the largest distance, over the labels, of the model's score from 1 where
    the text filter gives the label and from 0 where it does not."""
    return max(abs((label in labels) - score) for label, score in scores.items())


def agreement(clips: Iterable[tuple[Sequence[str], dict[str, float]]], threshold: float) -> dict[str, dict]:
    """Counts by label over (labels of the text filter, scores of the model): `both`, `filter` and `model` alone,
    `neither`, and Cohen's kappa (None where chance agreement is complete)."""
    counts = {label: {"both": 0, "filter": 0, "model": 0, "neither": 0} for label in LABELS}
    names = {(True, True): "both", (True, False): "filter", (False, True): "model", (False, False): "neither"}
    for labels, scores in clips:
        for label, score in scores.items():
            counts[label][names[label in labels, score >= threshold]] += 1
    return {label: count | {"kappa": _kappa(**count)} for label, count in counts.items()}


def _kappa(both, filter, model, neither):
    total = both + filter + model + neither
    if not total:
        return None
    by_filter, by_model = (both + filter) / total, (both + model) / total
    chance = by_filter * by_model + (1 - by_filter) * (1 - by_model)
    return None if chance == 1 else ((both + neither) / total - chance) / (1 - chance)


def render_agreement(report: dict[str, dict]) -> str:
    """The counts as Markdown."""
    lines = ["| Label | Both | Text filter alone | Model alone | Neither | Kappa |", "|---" * 6 + "|"]
    for label, counts in report.items():
        kappa = "-" if counts["kappa"] is None else f"{counts['kappa']:.2f}"
        cells = (str(counts[name]) for name in ("both", "filter", "model", "neither"))
        lines.append(f"| {label} | {' | '.join(cells)} | {kappa} |")
    return "\n".join(lines)


def render_clip(row: dict, scores: dict[str, float]) -> str:
    """A clip of the page, with the text filter's labels ticked."""
    boxes = "".join(
        f'<label><input type="checkbox" class="label" value="{label}"{" checked" * (label in row["labels"])}> '
        f"{label}</label>"
        for label in LABELS
    )
    return CLIP.format(
        id=html.escape(row["id"], quote=True),
        kind=Path(row["audio"]["path"]).suffix[1:],
        audio=base64.b64encode(row["audio"]["bytes"]).decode(),
        transcript=html.escape(row["transcript"]),
        given=", ".join(row["labels"]),
        scores=", ".join(f"{label} {score:.2f}" for label, score in scores.items()),
        boxes=boxes,
    )


def read_clips(dataset: str, columns: list[str]) -> Iterator[dict]:
    """The rows of all splits."""
    for path in sorted(Path(dataset).rglob("*.parquet")):
        yield from read_rows(path, columns)


def read_corrections(path: str | None) -> dict[str, list[str]]:
    """Labels by id of a `corrections.jsonl`; none without a path.

    Raises:
        ValueError: if a line has labels that are none, or `NoViolation` beside a violation; the message names it.
    """
    corrections = {}
    lines = read_table(Path(path), required=["id", "labels"]) if path else []
    for number, correction in enumerate(lines, start=1):
        try:
            labels = read_labels(correction["labels"])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}.") from error
        if not labels or set(labels) - set(LABELS):
            raise ValueError(f"{path}, line {number}: `labels` are {labels}: violations of {LABELS}, or NoViolation.")
        corrections[correction["id"]] = [label for label in LABELS if label in labels]
    return corrections


def main(args: ReviewArguments) -> None:
    """Writes the report and the page, and prints the report."""
    clips = read_table(Path(args.predictions), required=["id"])
    scores = {clip["id"]: clip["scores"] for clip in clips if clip.get("scores")}
    labels = {row["id"]: row["labels"] for row in read_clips(args.dataset, ["id", "labels"]) if row["id"] in scores}
    if not labels:
        raise ValueError(f"--predictions: {args.predictions} has no scores for a clip of {args.dataset}.")
    report = render_agreement(agreement(((labels[id], scores[id]) for id in labels), args.threshold))
    doubtful = sorted(labels, key=lambda id: -doubt(labels[id], scores[id]))[: args.num_clips]
    columns = ["id", "audio", "labels", "transcript"]
    rows = {row["id"]: row for row in read_clips(args.dataset, columns) if row["id"] in set(doubtful)}
    clips = "\n".join(render_clip(rows[id], scores[id]) for id in doubtful)
    write_text(Path(args.output_dir, "agreement.md"), report + "\n")
    write_text(Path(args.output_dir, "index.html"), PAGE.format(count=len(doubtful), clips=clips))
    print(report)
