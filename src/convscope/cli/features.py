"""`convscope features`: what was recorded, and how fast."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .options import Engines, Flag
from .terminal import keeping, print_notes, progress_bar

if TYPE_CHECKING:
    from ..commands import FeaturesReport


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
    from .. import commands

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = commands.features(
            data, backbone=backbone, weights=weights, layer=layer, maps=maps, augment=augment, level=level, dtype=dtype,
            engine=engine, image_size=image_size, fit=fit, limit=limit, bad_images=bad_images, seed=seed,
            device=device, data_root=data_root, progress=progress,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_features(result)


def print_features(result: FeaturesReport) -> None:
    """What was recorded, how fast, and where."""
    print_notes(result.summary["notes"])
    print(f"{result.extraction.roofline()}\n{result.summary['folder']}")
