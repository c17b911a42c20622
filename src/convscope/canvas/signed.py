"""A map of values above and below 0 as an image: orange above, blue below, and the paper shows through at 0."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

ABOVE, BELOW = (214, 98, 12), (30, 122, 214)  # seen on light and on dark paper


def signed_png(values_HW: np.ndarray) -> bytes:
    """The PNG file of an int8 map: the colour grows with the root of the value, 127 being the strongest."""
    values = values_HW.astype(np.float32)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] < 0, np.array(BELOW), np.array(ABOVE))
    pixels[..., 3] = np.round(255 * np.sqrt(np.minimum(np.abs(values) / 127, 1.0)))
    return png(pixels)


def png(pixels: np.ndarray) -> bytes:
    """The PNG file of uint8 pixels (H, W), (H, W, 3) or, with opacity, (H, W, 4)."""
    box = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(box, "PNG", compress_level=1)
    return box.getvalue()
