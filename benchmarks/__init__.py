"""Benchmarks, a command each; what they measured is in `results/`."""

import json
from pathlib import Path
from typing import Any


def write_results(args: Any, results: dict, table: str, **about: Any) -> None:
    """Writes a benchmark's arguments and results to the JSON file `args.results_file`, the table beside it as .md, and
    prints the table.

    Args:
        args: dataclass of the command's arguments.
        results: what was measured.
        table: the same for the reader, as Markdown.
        about: what else the reader should know, such as versions.
    """
    path = Path(args.results_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"arguments": vars(args), **about, "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    print(table)
