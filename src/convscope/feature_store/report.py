"""What a search for similar images writes: JSON and a sheet. Computes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing
from ..canvas.sheets import image_grid, titles_of
from ..folders import fresh_folder
from ..noted import Noted
from ..storage import commit_json, write_derived

ANSWER = "similar.json"


@dataclass(frozen=True)
class SimilarReport(Noted):
    """The nearest images of one, uint8 (n, S, S, 3), and the summary that is printed; written to ``folder``."""

    TOLD = ("image", "data", "searched")
    folder: Path
    image: np.ndarray
    images: np.ndarray
    summary: dict[str, Any]
    classes: tuple[str, ...] = ()  # of all that was searched, in their order

    @cached_property
    def sheet(self) -> Drawing:
        """The image and those nearest to it."""
        near = self.summary["nearest"]
        names = self.classes or tuple(sorted({row["label"] for row in near}))
        shown, note = titles_of(names, {names.index(row["label"]) for row in near})
        drawn = dict(zip(names, shown, strict=True))
        titles = ["the image"] + [f"{drawn[row['label']]} {row['cosine']:.3f}" for row in near]
        heading = "The nearest images, by the cosine of their features"
        return image_grid(np.concatenate([self.image[None], self.images]), titles, 5, heading, note=note)

    def _repr_png_(self) -> bytes:
        return self.sheet.png


def write_similar(report: SimilarReport) -> SimilarReport:
    """Write ``similar.json`` and ``similar.png``."""
    with fresh_folder(report.folder) as place:
        commit_json(place / ANSWER, report.summary)
        write_derived(place / "similar.png", report.sheet.png)
    return report
