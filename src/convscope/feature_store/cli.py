"""`convscope features`: what was recorded, and how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..terminal import cell, console, keeping, new_table, print_json, print_notes, progress_bar
from ..visible import visible
from .options import FeaturesOptions, SimilarOptions

if TYPE_CHECKING:
    from .command import FeaturesReport
    from .report import SimilarReport


def features(
    data: str,
    /,
    *,
    options: Flat[FeaturesOptions] = FeaturesOptions(),
    json: Flag = False,
) -> None:
    """Record what a pretrained network makes of every image of DATA, once: only what changed is computed again.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, a table, or shards.
    json
        Print one JSON object.
    """
    from . import command

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = command.features(data, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_features(result)


def print_features(result: FeaturesReport) -> None:
    """Tell what was recorded, how fast, and where."""
    print_notes(result.summary["notes"])
    print(f"{result.extraction.roofline()}\n{visible(result.summary['folder'])}")


def similar(
    run: str,
    image: Path,
    data: str | None = None,
    /,
    *,
    options: Flat[SimilarOptions] = SimilarOptions(),
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
    json
        Print one JSON object.
    """
    from . import command

    with progress_bar(json) as progress:
        result = command.similar(run, image, data, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_similar(result)


def print_similar(result: SimilarReport) -> None:
    """The nearest images."""
    s = result.summary
    print_notes(s["notes"])
    table = new_table("image", "class", "cosine")
    for row in s["nearest"]:
        table.add_row(cell(row["origin"]), cell(row["label"]), f"{row['cosine']:.3f}")
    console().print(table)
    print(f"of {s['searched']:,} images; written: {visible(str(result.folder / 'similar.png'))}")
