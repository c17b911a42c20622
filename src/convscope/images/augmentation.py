"""Augmentation: pure, batched, and stateless.

``augment(images, recipe, seed, epoch, keys)`` varies each image as a function of (seed, epoch, its key) alone: the
same bits for an image by itself, in any batch, at any batch size. Everything geometric becomes one map from each
output pixel to a place in the input, so an image is sampled once however many variations are on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ..randomness import mix, uniforms
from ..recipes import Augment

# The columns of an image's random numbers. Appending keeps old runs reproducible; reordering does not.
SHIFT_X, SHIFT_Y, ZOOM, ZOOM_X, ZOOM_Y, ROTATE, BRIGHTNESS, CONTRAST, CUT_X, CUT_Y = range(10)
SLOTS = 10
_EVERY_EPOCH = -1  # the epoch of coins that are thrown once a run


def augment(images_BCHW: torch.Tensor, recipe: Augment, seed: int, epoch: int, keys_B: np.ndarray) -> torch.Tensor:
    """Vary images: uint8 (B, 3, H, W) -> uint8 of the same shape, memory format and device.

    ``keys_B`` (uint64) names the images. With nothing switched on the input itself is returned.
    """
    u = uniforms(seed, epoch, keys_B, SLOTS)
    images_BCHW = _place(images_BCHW, recipe, u, _flips(recipe.flip, seed, epoch, keys_B))
    for operations, change in CHANGES.items():
        if any(recipe.amount(operation) for operation in operations):
            images_BCHW = change(images_BCHW, recipe, u)
    return images_BCHW


def _place(images_BCHW: torch.Tensor, recipe: Augment, u: np.ndarray, flips: np.ndarray) -> torch.Tensor:
    """Move pixels: mirrored and translated whole, or sampled where a zoom or a rotation puts them between two."""
    if recipe.amount("zoom") or recipe.amount("rotate"):
        return _warp(images_BCHW, recipe, u, flips)
    if flips.any() or recipe.amount("translate"):
        return _shift(images_BCHW, recipe, u, flips)
    return images_BCHW


def _flips(kind: str, seed: int, epoch: int, keys_B: np.ndarray) -> np.ndarray:
    """Tell which images are mirrored: bool (B,). Alternating flip: Jordan 2024, arXiv:2404.00498."""
    if kind == "none":
        return np.zeros(len(keys_B), bool)
    if kind == "random":
        return (mix(seed, epoch, keys_B, 0x666C6970) & np.uint64(1)).astype(bool)
    first = (mix(seed, _EVERY_EPOCH, keys_B, 0x666C6970) & np.uint64(1)).astype(bool)
    return first ^ (epoch % 2 == 1)


def _reflect(place: np.ndarray, size: int) -> np.ndarray:
    """Fold integer places outside [0, size) back in by reflection that repeats no border pixel."""
    if size == 1:
        return np.zeros_like(place)
    period = 2 * (size - 1)
    place = np.abs(place) % period
    return np.where(place >= size, period - place, place)


def _offsets(recipe: Augment, u: np.ndarray, size: int, slot: int) -> np.ndarray:
    """Whole-pixel shifts, uniform over [-reach, reach]: int64 (B,)."""
    reach = round(recipe.amount("translate") * size)
    return np.floor(u[:, slot] * (2 * reach + 1)).astype(np.int64) - reach


def _shift(images_BCHW: torch.Tensor, recipe: Augment, u: np.ndarray, flips: np.ndarray) -> torch.Tensor:
    """Mirror and translate by whole pixels: each output pixel is a copy of one input pixel."""
    _, _, height, width = images_BCHW.shape
    columns = np.broadcast_to(np.arange(width), (len(u), width))
    columns = np.where(flips[:, None], width - 1 - columns, columns)
    x = _reflect(columns + _offsets(recipe, u, width, SHIFT_X)[:, None], width)
    y = _reflect(np.arange(height) + _offsets(recipe, u, height, SHIFT_Y)[:, None], height)
    flat = torch.from_numpy((y[:, :, None] * width + x[:, None, :]).reshape(len(u), -1))
    return _gather(images_BCHW, flat.to(images_BCHW.device))


def _gather(images_BCHW: torch.Tensor, places_BP: torch.Tensor) -> torch.Tensor:
    """Copy pixels: ``places_BP`` holds row-major places; whole pixels move, as channels-last memory has them."""
    batch, channels, height, width = images_BCHW.shape
    pixels = images_BCHW.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    start = torch.arange(batch, device=places_BP.device)[:, None] * (height * width)
    picked = pixels.index_select(0, (places_BP + start).reshape(-1))
    return picked.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _warp(images_BCHW: torch.Tensor, recipe: Augment, u: np.ndarray, flips: np.ndarray) -> torch.Tensor:
    """Mirror, translate, zoom and rotate by bilinear sampling with reflection at the borders."""
    _, _, height, width = images_BCHW.shape
    scale = 1.0 / (1.0 + recipe.amount("zoom") * u[:, ZOOM])
    angle = np.deg2rad(recipe.amount("rotate")) * (2 * u[:, ROTATE] - 1)
    cos, sin, mirror = np.cos(angle) * scale, np.sin(angle) * scale, np.where(flips, -1.0, 1.0)
    # A zoomed window has room inside the image: it is placed there at random, then translated. Places are in units
    # of half a side, from -1 at the first pixel's centre to 1 at the last one's.
    move_x = (2 * u[:, ZOOM_X] - 1) * (1 - scale) + _offsets(recipe, u, width, SHIFT_X) * _unit(width)
    move_y = (2 * u[:, ZOOM_Y] - 1) * (1 - scale) + _offsets(recipe, u, height, SHIFT_Y) * _unit(height)
    across, down = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)[:, None]
    # The sides of an image that is not square differ in their units; a rotation turns pixels.
    tall, wide = _unit(width) / (_unit(height) or math.inf), _unit(height) / (_unit(width) or math.inf)
    # Products and sums are separate operations: a fused one could round an image differently in another batch.
    x = _column(cos * mirror) * across + (_column(-sin * tall) * down + _column(move_x))
    y = _column(sin * mirror * wide) * across + (_column(cos) * down + _column(move_y))
    grid = torch.stack([x, y], dim=-1).to(images_BCHW.device)
    sampled = F.grid_sample(images_BCHW.float(), grid, padding_mode="reflection", align_corners=True)
    return _to_bytes(sampled)


def _unit(size: int) -> float:
    """One pixel in units of half a side."""
    return 2 / (size - 1) if size > 1 else 0.0


def _column(values_B: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values_B.astype(np.float32))[:, None, None]


def _to_bytes(images_BCHW: torch.Tensor) -> torch.Tensor:
    rounded = images_BCHW.round_().clamp_(0, 255).to(torch.uint8)
    return rounded.contiguous(memory_format=torch.channels_last)


def _light(images_BCHW: torch.Tensor, recipe: Augment, u: np.ndarray) -> torch.Tensor:
    """Brightness and contrast: value -> (value - 128) * contrast + 128 + brightness."""
    contrast = 1 + recipe.amount("contrast") * (2 * u[:, CONTRAST] - 1)
    brightness = 255 * recipe.amount("brightness") * (2 * u[:, BRIGHTNESS] - 1)
    factor = _column(contrast)[..., None].to(images_BCHW.device)
    constant = _column(128 - 128 * contrast + brightness)[..., None].to(images_BCHW.device)
    return _to_bytes((images_BCHW * factor).add_(constant))


def _cut(images_BCHW: torch.Tensor, recipe: Augment, u: np.ndarray) -> torch.Tensor:
    """Cutout (DeVries and Taylor 2017, arXiv:1708.04552): a square of mid-grey, wholly inside the image."""
    _, _, height, width = images_BCHW.shape
    side_x, side_y = round(recipe.amount("cutout") * width), round(recipe.amount("cutout") * height)
    left = np.floor(u[:, CUT_X] * (width - side_x + 1)).astype(int)[:, None]
    top = np.floor(u[:, CUT_Y] * (height - side_y + 1)).astype(int)[:, None]
    across = (np.arange(width) >= left) & (np.arange(width) < left + side_x)
    down = (np.arange(height) >= top) & (np.arange(height) < top + side_y)
    mask = torch.from_numpy(down[:, None, :, None] & across[:, None, None, :]).to(images_BCHW.device)
    return images_BCHW.masked_fill(mask, 128).contiguous(memory_format=torch.channels_last)


# The operations that move pixels are one map: an image is sampled once. Those that change what a pixel shows follow in
# this order, a function for those that are worked out together: (images, recipe, u (B, SLOTS)) -> images.
PLACES = ("translate", "zoom", "rotate")
CHANGES: dict[tuple[str, ...], Callable[[torch.Tensor, Augment, np.ndarray], torch.Tensor]] = {
    ("brightness", "contrast"): _light,
    ("cutout",): _cut,
}
