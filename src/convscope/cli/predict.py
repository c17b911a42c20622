"""`convscope predict`: what is on images, as a table, JSON or CSV."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import ImageError
from .options import STANDARD_INPUT, Flag, Views


def predict(
    run: str,
    /,
    *images: str,
    top: int = 5,
    views: Views = "none",
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
    csv: Flag = False,
) -> int:
    """Ask RUN what is on each IMAGE: files, folders, globs, or - for an image on standard input.

    An image that cannot be read is named with its reason, the rest go on, and the exit code is 65.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    images
        Files, folders, globs, or -.
    top
        How many answers an image.
    views
        none, flip, shift or flip-shift: answer by the mean over mirrored and shifted copies.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    runs
        The folder of runs.
    json
        Print one JSON list.
    csv
        Print comma-separated values.
    """
    from .. import commands

    given = ["-" if p == STANDARD_INPUT else p for p in images or (STANDARD_INPUT,)]
    data = sys.stdin.buffer.read() if "-" in given else None
    results = commands.predict(
        run, given, top=top, views=views, model=model, weights=weights, runs=runs, standard_input=data
    )
    rows = [r.to_json() for r in results]
    if json:
        print(json_module.dumps(rows, ensure_ascii=False))
    elif csv:
        print_csv(rows)
    else:
        print_predictions(rows)
    return ImageError.exit_code if any("error" in row for row in rows) else 0


def print_csv(rows: list[dict[str, Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "error"])
    for row in rows:
        writer.writerow([row["path"], row.get("label", ""), row.get("probability", ""), row.get("error", "")])


def print_predictions(rows: list[dict[str, Any]]) -> None:
    table = Table("image", "label", "probability", "then", box=None, header_style="bold")
    for row in rows:
        if "error" in row:
            table.add_row(Text(row["path"]), Text(f"cannot be read: {row['error']}", "red"), "", "")
            continue
        one = row["one_view"]
        seen = f"{100 * row['probability']:.1f} %"
        if one is not None:
            seen += f" (one view: {one['label']} {100 * one['probability']:.1f} %)"
        then = ", ".join(f"{t['label']} {100 * t['probability']:.1f} %" for t in row["top"][1:3])
        table.add_row(Text(row["path"]), Text(row["label"], "bold"), Text(seen), Text(then))
    Console(soft_wrap=True).print(table)
