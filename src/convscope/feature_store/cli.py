"""`convscope features`: what was recorded, and how fast."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..options import Engines, Flag
from ..terminal import keeping, print_notes, progress_bar

if TYPE_CHECKING:
    from .report import SimilarReport

if TYPE_CHECKING:
    from .command import FeaturesReport


def features(
    data: str,
    /,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    layer: str | None = None,
    maps: Flag = False,
    augment: int = 0,
    level: str = "standard",
    dtype: Literal["float32", "float16"] = "float32",
    engine: Engines = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_images: str = "error",
    seed: int = 0,
    device: str = "auto",
    data_root: Path | None = None,
    json: Flag = False,
) -> None:
    """Record what a pretrained network makes of every image of DATA, once: only what changed is computed again.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, or a CSV table.
    backbone
        A name of `convscope models --pretrained`: lite0 needs no network.
    weights
        A safetensors file to take the backbone's weights from.
    layer
        Record this layer instead of what the last linear layer is given: the mean of its map over places.
    maps
        Keep whole feature maps: of the layer, or the last one.
    augment
        So many varied copies of each image beside it.
    level
        How they are varied: light, standard or strong.
    dtype
        float32 or float16, which halves the disk.
    engine
        auto, torch or onnxruntime.
    image_size
        Side of the images in pixels (default: the backbone's).
    fit
        crop, pad or squash (default: the backbone's).
    limit
        Use so many images, stratified.
    bad_images
        error, or skip those that cannot be read.
    seed
        Of the varied copies.
    device
        auto, cpu, cuda, cuda:1, mps.
    data_root
        Where cifar10 lies.
    json
        Print one JSON object.
    """
    from . import command

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = command.features(
            data, backbone=backbone, weights=weights, layer=layer, maps=maps, augment=augment, level=level, dtype=dtype,
            engine=engine, image_size=image_size, fit=fit, limit=limit, bad_images=bad_images, seed=seed,
            device=device, data_root=data_root, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_features(result)


def print_features(result: FeaturesReport) -> None:
    """What was recorded, how fast, and where."""
    print_notes(result.summary["notes"])
    print(f"{result.extraction.roofline()}\n{result.summary['folder']}")


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
    from . import command

    with progress_bar(json) as progress:
        result = command.similar(
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
