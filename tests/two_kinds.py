"""Photos of two classes that a network can tell apart by their colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, each: int) -> Path:
    """So many PNG files of 16 x 16 pixels of each class, in one folder a class."""
    random = np.random.default_rng(0)
    for k, name in enumerate(("ant", "bee")):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            colour = np.array([(200, 30, 30), (30, 200, 30)][k]) + random.integers(-30, 30, (16, 16, 3))
            Image.fromarray(colour.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder
