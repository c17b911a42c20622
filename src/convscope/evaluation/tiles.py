"""A large image in overlapping tiles of the size that a network takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from ..classifying.classifier import Classifier
from ..images.preprocess import PAD_COLOUR, to_tensor
from ..machine import device_of

OVERLAP = 0.25  # of a tile that the next one sees too


def tiles_of(rgb: Image.Image, side: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Left and upper edge and pixels uint8 (side, side, 3) of each tile; beyond the image it is grey."""
    pixels = np.asarray(rgb)
    height, width = pixels.shape[:2]
    padded = np.full((max(height, side), max(width, side), 3), PAD_COLOUR, np.uint8)
    padded[:height, :width] = pixels
    for top in _starts(padded.shape[0], side):
        for left in _starts(padded.shape[1], side):
            yield left, top, padded[top : top + side, left : left + side]


def view_of(classifier: Classifier, pixels_SS3: np.ndarray) -> torch.Tensor:
    """The network's outputs float32 (1, ...) for one image as it sees it, on the CPU."""
    inputs = classifier.preprocess.normalise(to_tensor(pixels_SS3[None]).to(device_of(classifier.network)))
    return classifier.network(inputs).float().cpu()


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin, so that they cover a length and overlap by OVERLAP at least."""
    count = 1 + max(0, -(-(length - side) // max(1, int(side * (1 - OVERLAP)))))
    return sorted({round(i * (length - side) / max(1, count - 1)) for i in range(count)})
