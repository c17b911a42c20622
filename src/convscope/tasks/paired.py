"""Two ways on the same images, by a figure of each image: is one better, and by how much?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..classifying.intervals import SURE
from .task import DRAWS, Score


@dataclass(frozen=True)
class PairedFigure:
    """The mean over ``n`` images, or groups of them, of the figure of a less that of b, with the bootstrap's interval.

    ``p`` is Wilcoxon's signed-rank test (Wilcoxon 1945), two-sided; 1 where no image differs.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    unit: str = "image"  # or "group": what is counted once

    @property
    def words(self) -> str:
        """How the two were compared."""
        return f"{self.unit} by {self.unit}"

    @property
    def sure(self) -> bool:
        """Whether the two differ."""
        return self.p < SURE

    def to_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        return asdict(self)


def paired_scores(a: Score, b: Score) -> PairedFigure:
    """Compare two ways on the same images, by their groups where there are some."""
    return paired_figure(a.each, b.each, a.groups)


def paired_figure(a_N: np.ndarray, b_N: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> PairedFigure:
    """Compare figures (N,) of the same images, larger better; a group of images counts once, by its mean."""
    from scipy.stats import wilcoxon  # slow to import

    change = a_N - b_N
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        change = np.bincount(place, change) / np.bincount(place)
    n = len(change)
    drawn = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    low, high = np.quantile(change[drawn].mean(1), [0.025, 0.975])
    p = float(wilcoxon(change).pvalue) if np.any(change) else 1.0
    return PairedFigure(n, float(change.mean()), float(low), float(high), p, "image" if groups is None else "group")
