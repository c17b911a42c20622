"""`convscope similar`: the nearest images."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .options import Engines, Flag
from .terminal import progress_bar

if TYPE_CHECKING:
    from ..transferred import SimilarReport


def similar(
    run: str,
    image: Path,
    data: str | None = None,
    /,
    *,
    count: int = 9,
    engine: Engines = "auto",
    model: str | None = None,
    weights: Path | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Find the images of RUN's data, or of DATA, that are nearest to IMAGE by what the network makes of them.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    image
        An image.
    data
        Where to search (default: what it was trained on).
    count
        How many.
    engine
        auto, torch or onnxruntime.
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from .. import commands

    with progress_bar(json) as progress:
        result = commands.similar(
            run, image, data, count=count, engine=engine, model=model, weights=weights, data_root=data_root,
            runs=runs, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_similar(result)


def print_similar(result: SimilarReport) -> None:
    """The nearest images."""
    s = result.summary
    table = Table("image", "class", "cosine", box=None, header_style="bold")
    for row in s["nearest"]:
        table.add_row(Text(row["origin"]), Text(row["label"]), f"{row['cosine']:.3f}")
    Console(soft_wrap=True).print(table)
    print(f"of {s['searched']:,} images; written: {result.folder / 'similar.png'}")
