"""How a network takes its images, as other libraries write it beside the weights: Hugging Face's and timm's JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading import open_regular, parse_bounded
from .preprocess import INTERPOLATIONS, Preprocess

MAX_BYTES = 1 << 20
# For these one number is the shorter side, as transformers' default_to_square=False has it; for all others both sides.
_SHORT_SIDE = re.compile("Bit|ChineseCLIP|CLIP|ConvNext|Levit|MobileNetV|MobileViT|PoolFormer|VideoMAE|Vilt")
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers


def read_preprocess(path: Path) -> Preprocess:
    """The preprocessing in a ``preprocessor_config.json`` of Hugging Face's or a ``config.json`` of timm's.

    DataError for another kind of file, and for a step that has no counterpart here, which it names.
    """
    box = _json(path)
    inner = box.get("pretrained_cfg")
    if isinstance(inner, Mapping):  # timm's, as on the hub
        return _timm(path, inner)
    if "input_size" in box and "mean" in box:
        return _timm(path, box)
    if not any(key in box for key in ("image_mean", "do_normalize", "do_rescale", "image_processor_type")):
        kind = box.get("feature_extractor_type") or box.get("tokenizer_class") or box.get("architectures")
        of = f" It is of {kind if isinstance(kind, str) else kind[0]}." if kind else ""
        raise DataError(
            f"{path} does not say how images are prepared.{of} Give Hugging Face's preprocessor_config.json, timm's "
            "config.json, or --input-size, --mean and --std."
        )
    return _hugging_face(path, box)


def _json(path: Path) -> dict[str, Any]:
    with open_regular(path) as handle:
        data = handle.read(MAX_BYTES + 1)
    try:
        box = parse_bounded(data.decode("utf-8-sig")) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        box = None
    if not isinstance(box, dict):
        raise DataError(f"{path} is no JSON object, as a preprocessor_config.json is.")
    return box


def _hugging_face(path: Path, box: Mapping[str, Any]) -> Preprocess:
    if box.get("do_flip_channel_order"):
        raise DataError(f"{path} asks for blue before red, which a network is not given here.")
    if box.get("do_pad"):
        raise DataError(f"{path} asks for images that are padded in a batch, which a classifier is not given here.")
    kind = str(box.get("image_processor_type") or box.get("feature_extractor_type") or "")
    alone = "short" if _SHORT_SIDE.match(kind) or (not kind and box.get("do_center_crop")) else "both"
    resized = _sides(path, box.get("size"), alone) if box.get("do_resize", True) else None
    cropped = _sides(path, box.get("crop_size"), "both") if box.get("do_center_crop") else None
    size, fit, centre = _geometry(path, resized, cropped, box.get("crop_pct"))
    rescale = float(box.get("rescale_factor", 1 / 255)) if box.get("do_rescale", True) else 1.0
    offset = 1.0 if box.get("rescale_offset") else 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if box.get("do_normalize", "image_mean" in box):
        mean, std = _three(path, "image_mean", box), _three(path, "image_std", box)
    if not math.isfinite(rescale) or rescale <= 0:
        raise DataError(f"{path} asks for a rescale_factor of {rescale}.")
    # (x * rescale - offset - mean) / std, as (x / 255 - mean') / std'
    unit = 255 * rescale
    return Preprocess(
        size=size,
        fit=fit,
        mean=tuple((offset + m) / unit for m in mean),  # type: ignore[arg-type]
        std=tuple(s / unit for s in std),  # type: ignore[arg-type]
        interpolation=_interpolation(path, box.get("resample"), "bilinear"),
        centre=centre,
    )


def _sides(path: Path, size: Any, alone: str) -> tuple[str, int]:
    """What a size is of ("both" sides or the "short" one), and pixels; ``alone`` is what one number means."""
    if isinstance(size, int):
        return alone, size
    if isinstance(size, Sequence) and len(size) == 2:
        size = dict(zip(("height", "width"), size, strict=True))
    if isinstance(size, Mapping) and isinstance(size.get("shortest_edge"), int):
        return "short", size["shortest_edge"]
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        if size["height"] != size["width"] or not isinstance(size["width"], int):
            raise DataError(f"{path} asks for images of {size['width']} x {size['height']}; here they are square.")
        return "both", size["width"]
    raise DataError(f"{path} asks for a size of {json.dumps(size)[:80]}, which is none of a square image.")


def _geometry(
    path: Path, resized: tuple[str, int] | None, cropped: tuple[str, int] | None, crop_share: Any
) -> tuple[int, str, float]:
    """Size, fit and centre of resizing and then cropping."""
    if cropped is not None:
        pixels = cropped[1]
        if resized is None or resized[0] == "both" or resized[1] < pixels:
            raise DataError(f"{path} crops {pixels} pixels out of images that are not resized by their shorter side.")
        return pixels, "crop", pixels / resized[1]
    if resized is None:
        raise DataError(f"{path} does not resize images, and a network here is given one size.")
    kind, pixels = resized
    if kind == "both":
        return pixels, "squash", 1.0
    share = float(crop_share) if isinstance(crop_share, int | float) and pixels < 384 else 1.0  # as ConvNeXt's has it
    return pixels, "crop", min(1.0, share)


def _interpolation(path: Path, asked: Any, usual: str) -> str:
    """The way of resampling by its name or Pillow's number, ``usual`` where none is given; DataError for another."""
    numbered = isinstance(asked, int) and 0 <= asked < len(_RESAMPLE)
    name = usual if asked is None or asked == "" else _RESAMPLE[asked] if numbered else asked
    if not isinstance(name, str) or name not in INTERPOLATIONS:
        told = name if numbered else json.dumps(asked)[:80]
        ways = " or ".join(INTERPOLATIONS)
        raise DataError(f"{path} asks for {told} resampling, and images are resized by {ways} here.")
    return name


def _three(path: Path, key: str, box: Mapping[str, Any]) -> tuple[float, float, float]:
    values = box.get(key)
    if isinstance(values, int | float):
        values = [values] * 3
    if not isinstance(values, Sequence) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise DataError(f"{path} has {key} {json.dumps(values)[:80]}, and a network here takes three channels.")
    return float(values[0]), float(values[1]), float(values[2])


def _timm(path: Path, box: Mapping[str, Any]) -> Preprocess:
    size = box.get("input_size")
    if not isinstance(size, Sequence) or len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise DataError(f"{path} asks for an input of {json.dumps(size)[:80]}; here it is three channels and a square.")
    fit = {"squash": "squash", "border": "pad"}.get(str(box.get("crop_mode")), "crop")
    share = box.get("crop_pct")
    return Preprocess(
        size=size[1],
        fit=fit,
        mean=_three(path, "mean", box),
        std=_three(path, "std", box),
        interpolation=_interpolation(path, box.get("interpolation"), "bicubic"),
        centre=min(1.0, float(share)) if fit == "crop" and isinstance(share, int | float) else 1.0,
    )
