"""What is drawn of boxes: an image with the answer and the truth, and precision and recall against the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..canvas.figures import BLUE, GREY, ORANGE, Drawing, finished, in_style, new_figure
from ..canvas.sheets import image_grid
from .box_sheet import Compared, answer_and_truth


def worst_boxes(rows: Sequence[Compared], classes: int) -> Drawing:
    """Pairs: what was answered and what is true, the worst first."""
    cells, titles = [], []
    for row in rows:
        cells += answer_and_truth(row, classes)
        titles += [f"answer: {row.said()}", f"true: {row.true()}"]
    heading = "The images answered worst: answer (broken line: false or doubled), truth (broken line: missed)"
    return image_grid(np.stack(cells), titles, 4, heading)


@in_style()
def by_threshold(curve: Mapping[str, Any], threshold: float) -> Drawing:
    """Precision and recall, in percent, against the score from which on a box counts."""
    figure = new_figure(560, 380)
    axes = figure.add_axes((0.12, 0.15, 0.82, 0.72))
    for key, colour in (("precision", BLUE), ("recall", ORANGE)):
        known = [(t, 100 * v) for t, v in zip(curve["threshold"], curve[key], strict=True) if v is not None]
        axes.plot([t for t, _ in known], [v for _, v in known], color=colour, label=key)
    axes.axvline(threshold, color=GREY, linewidth=1, label=f"chosen: {threshold:.2f}")
    axes.set(xlim=(0, 1), ylim=(0, 102), xlabel="score from which on a box counts", ylabel="%")
    axes.legend(loc=8, bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return finished(figure)
