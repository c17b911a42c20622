"""Which fit suits images: ``--fit auto``, decided by what a crop, a border or a squash would cost them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from ..images.decoding import examined
from .remote import contents
from .unsplit import Unsplit

AUTO = "auto"
LOOKED_AT = 200  # images, evenly spread
SMALL = 64  # pixels of the shorter side, at which edges are looked at
LITTLE = 0.1  # of an image's edges, at the median, that a crop may leave out
ALIKE = 1.25  # the most that the shapes of nine tenths of the images differ by, so that a squash does the same to all
SLIM = 1.6  # times longer than wide, beyond which a squash makes other things of things


@dataclass(frozen=True)
class FitCosts:
    """What each fit costs of some images: shares at their median, and ``stretch`` how far a squash distorts them."""

    crop_area: float  # and what a border fills of the square
    crop_edges: float
    stretch: float
    shapes: float  # the ratio between wide and narrow shapes: the 95th over the 5th percentile of width over height

    def choice(self) -> str:
        """The fit that costs least: a crop where little is cut off, a squash where all are alike, else a border."""
        if self.crop_edges <= LITTLE:
            return "crop"
        return "squash" if self.shapes <= ALIKE and self.stretch <= SLIM else "pad"

    def sentence(self) -> str:
        """The choice, and why."""
        fit = self.choice()
        cut = f"a centre crop leaves out {self.crop_area:.0%} of an image and {self.crop_edges:.0%} of its edges"
        if fit == "crop":
            return f"--fit auto takes crop: {cut}, at the median."
        if fit == "squash":
            shape = f"all have nearly one shape, {self.stretch:.2f} to 1"
            return f"--fit auto takes squash: {cut}, at the median, and {shape}."
        return f"--fit auto takes pad: {cut}, at the median, and their shapes differ {self.shapes:.1f} times."


def fit_costs(sizes_N2: np.ndarray, edges_N: np.ndarray) -> FitCosts:
    """What each fit costs: ``sizes`` are widths and heights, ``edges`` the share of edges that a crop keeps."""
    longer, shorter = sizes_N2.max(1), sizes_N2.min(1)
    lost = 1 - shorter / longer
    wide = sizes_N2[:, 0] / sizes_N2[:, 1]
    shapes = float(np.quantile(wide, 0.95) / np.quantile(wide, 0.05))
    area = float(np.median(lost))
    return FitCosts(area, 1 - float(np.median(edges_N)), float(np.median(longer / shorter)), shapes)


def choose_fit(unsplit: Unsplit) -> tuple[str, str]:
    """The fit for these images and a sentence that says why. Images of one square size need none: crop."""
    sizes, edges = [], []
    for source in _some(unsplit):
        try:
            with examined(contents(source), at_least=SMALL) as (header, image):
                sizes.append(header.upright_size)
                edges.append(1.0 if sizes[-1][0] == sizes[-1][1] else edges_kept(_grey(image)))
        except ImageError:
            continue
    if not sizes:
        return "crop", ""
    costs = fit_costs(np.array(sizes, np.float64), np.array(edges))
    return costs.choice(), costs.sentence()


def _some(unsplit: Unsplit) -> Iterable[Path | Image.Image]:
    index = range(0, len(unsplit.labels), max(1, len(unsplit.labels) // LOOKED_AT))
    if unsplit.arrays is None:
        return (unsplit.files[i] for i in index)
    return (Image.fromarray(unsplit.arrays[i]) for i in index)


def _grey(image: Image.Image) -> np.ndarray:
    scale = SMALL / min(image.size)
    small = image if scale >= 1 else image.reduce(max(1, int(1 / scale)))
    return np.asarray(small.convert("L"), np.float32)


def edges_kept(grey_hw: np.ndarray) -> float:
    """The share of all edges, by the sum of steps between neighbours, that lies within the middle square."""
    height, width = grey_hw.shape
    side = min(height, width)
    if max(height, width) == side:
        return 1.0
    steps = np.zeros(grey_hw.shape, np.float32)
    steps[:, 1:] += np.abs(np.diff(grey_hw, axis=1))
    steps[1:] += np.abs(np.diff(grey_hw, axis=0))
    top, left = (height - side) // 2, (width - side) // 2
    total = float(steps.sum())
    return float(steps[top : top + side, left : left + side].sum()) / total if total else 1.0
