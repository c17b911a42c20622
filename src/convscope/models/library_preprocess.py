"""How the weights that a library offers take images: timm's configuration, torchvision's transforms."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import UnknownName
from .pretrained import find_pretrained


def library_preprocess(full_name: str) -> dict[str, Any] | None:
    """The keyword arguments of ``Preprocess`` for a name of ``registry.full_name``; None where none is known."""
    source, _, name = full_name.partition(":")
    if source == "timm":
        try:
            return find_pretrained(full_name).preprocess
        except UnknownName:
            return None
    return _torchvision(name) if source == "torchvision" else None


def _torchvision(name: str) -> dict[str, Any] | None:
    """Those of the first weights that torchvision offers."""
    models = importlib.import_module("torchvision.models")
    weights = next(iter(models.get_model_weights(name)), None)
    if weights is None:
        return None
    seen = weights.transforms()
    if len(seen.crop_size) != 1 or len(seen.resize_size) != 1:
        return None
    crop, resize = seen.crop_size[0], seen.resize_size[0]
    return {
        "size": crop,
        "fit": "crop",
        "mean": tuple(seen.mean),
        "std": tuple(seen.std),
        "interpolation": "bicubic" if "bicubic" in str(seen.interpolation).lower() else "bilinear",
        "centre": min(1.0, crop / resize),
    }
