"""Small images side by side in one JPEG file, out of which a page cuts them again."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

QUALITY = 90


def sprite(rows: Sequence[Sequence[np.ndarray | None]], cell: int, columns: int) -> bytes:
    """Rows of up to ``columns`` images uint8 (h, w, 3), each fitted to ``cell`` x ``cell`` px, as one JPEG's bytes.

    Images lie without borders, so that a page can cut them out again; None leaves a place empty.
    """
    sheet = np.full((len(rows) * cell, columns * cell, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            if image is not None:
                sheet[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell] = fitted(image, cell)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def fitted(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """An image as ``side`` x ``side`` pixels: enlarged without smoothing, made smaller with."""
    if image_HWC.shape[:2] == (side, side):
        return image_HWC
    image = Image.fromarray(np.ascontiguousarray(image_HWC))
    method = Image.Resampling.NEAREST if max(image_HWC.shape[:2]) <= side else Image.Resampling.LANCZOS
    return np.asarray(image.resize((side, side), method))
