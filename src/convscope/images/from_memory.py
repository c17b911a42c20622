"""Images that a program holds already, as it is used to hold them: Pillow's, arrays, tensors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import UsageError
from ..storage import expanded

Held = Image.Image | np.ndarray | torch.Tensor


def held_images(images: Held) -> list[Image.Image]:
    """The image, or those of a batch. UsageError for what is none: a normalised tensor, for one.

    An array is (H, W), (H, W, 1, 3 or 4), with N before it for a batch; a tensor has its channels first. Both hold
    uint8, or floats from 0 to 1.
    """
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, torch.Tensor):
        pixels = images.detach().cpu()
        values = pixels.movedim(-3, -1).numpy() if pixels.ndim >= 3 else pixels.numpy()
    else:
        values = images
    return [_one(block, str(images.dtype), tuple(images.shape)) for block in (values if values.ndim == 4 else [values])]


def named_image(image: str | Path | Held) -> tuple[str, Path | Image.Image]:
    """One image and what it is called: a file, or one in memory. UsageError for a batch of several."""
    if isinstance(image, str | Path):
        return str(image), expanded(image)
    held = held_images(image)
    if len(held) != 1:
        raise UsageError(f"one image is asked about, and a batch of {len(held)} is given.")
    return os.fsdecode(getattr(held[0], "filename", "") or "image"), held[0]


def _one(values: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Image.Image:
    """One image of an array (H, W) or (H, W, C)."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    floats = values.dtype.kind == "f" and values.size > 0 and values.min() >= 0 and values.max() <= 1
    shaped = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not (floats or values.dtype == np.uint8) or not shaped or not values.size:
        raise UsageError(
            "an image in memory is uint8, or floats from 0 to 1, as an array (H, W, 3) or a tensor (3, H, W), and not "
            f"{dtype.removeprefix('torch.')} {shape}: give it as it was before it was normalised, or its file."
        )
    return Image.fromarray(np.rint(values * 255.0).astype(np.uint8) if floats else np.ascontiguousarray(values))
