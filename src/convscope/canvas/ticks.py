"""Tick labels that can be read: powers of ten without markup, and no number over another."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.axis import Axis, XAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import Formatter, LogFormatter

APART = 3  # pixels between two numbers
_NUMBER = re.compile("[-+\u2212]?[0-9.,]+(e[-+\u2212]?[0-9]+)?[ ]?%?")  # with a hyphen or a minus sign


class PlainPowers(Formatter):
    """A log axis's labels where matplotlib has them, as plain numbers: its own are markup, which we never draw."""

    def __init__(self, inner: Formatter) -> None:
        self.inner = inner

    def set_axis(self, axis: Any) -> None:
        """Pass the axis on."""
        super().set_axis(axis)
        self.inner.set_axis(axis)

    def set_locs(self, locs: list[float]) -> None:
        """Pass the places on: which minor ones get a label depends on all."""
        super().set_locs(locs)
        self.inner.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.3g}" if self.inner(x, pos) else ""


def make_legible(figure: Figure) -> None:
    """Mend the tick labels of a figure that is about to be drawn."""
    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if axes.axison and axis.get_visible()]
    for axis in axes:
        for get, put in (
            (axis.get_major_formatter, axis.set_major_formatter),
            (axis.get_minor_formatter, axis.set_minor_formatter),
        ):
            if isinstance(get(), LogFormatter):
                put(PlainPowers(get()))
    ticked = [axis for axis in axes if len(axis.get_majorticklocs()) + len(axis.get_minorticklocs()) > 1]
    if ticked:
        figure.draw_without_rendering()
        for axis in ticked:
            _thin(figure, axis)


def _thin(figure: Figure, axis: Axis) -> None:
    """Hide level numbers that run into the next one that is shown, from the end on, which stays."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer, level = figure.canvas.get_renderer(), isinstance(axis, XAxis)
    kept = None
    for label in sorted(_numbers(axis), key=lambda text: text.get_window_extent(renderer).bounds[not level])[::-1]:
        box = label.get_window_extent(renderer)
        if kept is not None and box.overlaps(kept.padded(APART if level else 0)):
            label.set_visible(False)
        else:
            kept = box


def _numbers(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    labels = [
        (place, tick.label1)
        for ticks, places in (
            (axis.get_major_ticks(), axis.get_majorticklocs()),
            (axis.get_minor_ticks(), axis.get_minorticklocs()),
        )
        for tick, place in zip(ticks, places, strict=False)
    ]
    shown = [label for place, label in labels if low <= place <= high and label.get_visible()]
    return [t for t in shown if _NUMBER.fullmatch(t.get_text()) and t.get_rotation() == 0]
