"""The maps of a class over photographs, and the masks and boxes that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..canvas.figures import Drawing
from ..canvas.overlays import FIRST
from ..canvas.sheets import image_grid, titles_of
from .boxes import Box
from .scored_maps import Judged

SIDE = 236  # px of an image on the sheet
MASK, BOX, TRUE = (214, 39, 140), FIRST[6], (40, 220, 90)  # colours that few photographs hold
PAPER = 255
LINE = 2  # px
_STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Shown:
    """One image uint8 (H, W, 3) with its scaled map and the mask of it, both (h, w), and its box in pixels of these.

    ``target`` is the class whose map it is, ``true_hw`` where the objects are, where that is known, and ``judged`` what
    mask and box are worth.
    """

    pixels: np.ndarray
    values_hw: np.ndarray
    mask_hw: np.ndarray
    box: Box | None
    target: int
    true_hw: np.ndarray | None = None
    judged: Judged | None = None


def overlays(shown: Sequence[Shown], class_names: Sequence[str], heading: str) -> Drawing:
    """A pair for each image: its map in colours, and the mask with its box, beside the truth where that is known."""
    cells, titles = [], []
    names, note = titles_of(class_names, {one.target for one in shown}, SIDE)
    for one in shown:
        cells += [_placed(heat(one)), _placed(outlined(one))]
        told = "" if one.judged is None else f"mask {100 * one.judged.mask:.0f} %, box {100 * one.judged.box:.0f} %"
        titles += [names[one.target], told or "mask and box"]
    words = "Magenta: the map, and the mask that comes of it; yellow: the box"
    words += (
        "; green: the true objects; %: the overlap with them (IoU)."
        if any(one.true_hw is not None for one in shown)
        else "."
    )
    return image_grid(np.stack(cells), titles, 4, heading, note=" ".join(filter(None, [words, note])), cell=SIDE)


def heat(one: Shown) -> np.ndarray:
    """The image in grey with its map over it, stronger where that is higher; darker where nobody looked."""
    size = _size(one)
    photo = np.asarray(Image.fromarray(one.pixels).resize(size, Image.Resampling.LANCZOS), np.float32)
    values = _resized(one.values_hw, size)[..., None]
    grey = 0.6 * photo.mean(2, keepdims=True) + 80
    opacity = 0.85 * np.clip(values, 0, 1) ** 1.5
    painted = (1 - opacity) * grey + opacity * np.array(MASK, np.float32)
    return np.where(values < 0, 0.4 * photo, painted).clip(0, 255).astype(np.uint8)


def outlined(one: Shown) -> np.ndarray:
    """The image with its mask in a colour, the box, and the line around the true objects."""
    size = _size(one)
    photo = np.asarray(Image.fromarray(one.pixels).resize(size, Image.Resampling.LANCZOS), np.float32)
    mask = _resized(one.mask_hw.astype(np.float32), size) >= 0.5
    photo[mask] = 0.6 * photo[mask] + 0.4 * np.array(MASK, np.float32)
    if one.true_hw is not None:
        true = _resized(one.true_hw.astype(np.float32), size) >= 0.5
        photo[_border(true)] = TRUE
    drawn = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    if one.box is not None:
        high, wide = one.values_hw.shape
        top, left, bottom, right = one.box
        corners = [left * size[0] / wide, top * size[1] / high, right * size[0] / wide - 1, bottom * size[1] / high - 1]
        ImageDraw.Draw(drawn).rectangle([round(value) for value in corners], outline=BOX, width=LINE)
    return np.asarray(drawn)


def _border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that touch what is not, and one beyond it: a line that is seen."""
    padded = np.pad(mask, 1, mode="edge")
    around = [padded[1 + y : 1 + y + mask.shape[0], 1 + x : 1 + x + mask.shape[1]] for y, x in _STEPS]
    return np.any([one != mask for one in around], axis=0)


def _resized(values_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values_hw.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _size(one: Shown) -> tuple[int, int]:
    """Width and height of an image in its cell."""
    height, width = one.pixels.shape[:2]
    share = SIDE / max(height, width)
    return max(1, round(share * width)), max(1, round(share * height))


def _placed(image: np.ndarray) -> np.ndarray:
    """An image in the middle of a square of white."""
    square = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    height, width = image.shape[:2]
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = image
    return square
