"""Tick labels of every drawing: plain numbers, none over another."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from convscope.canvas.figures import Drawing, axes_at, finished, in_style, new_figure
from convscope.diagnosis.drawing import watched
from convscope.training.drawing import curves, rate_range
from convscope.transfer_learning.drawing import learning_curve, path
from test_drawing import EVERY, log_of


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *given: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return drawn


def labels(figure: Figure) -> list[list]:
    """The labels that are drawn, for each axis."""
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = [*zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=False)]
            ticks += [*zip(axis.get_minor_ticks(), axis.get_minorticklocs(), strict=False)]
            inside = [tick.label1 for tick, place in ticks if low <= place <= high]
            found.append([text for text in inside if text.get_visible() and text.get_text()])
    return found


def on_log(places: list[float], ends: tuple[float, float]) -> Callable[[], Drawing]:
    @in_style()
    def draw() -> Drawing:
        figure = new_figure(500, 300)
        axes = axes_at(figure, 60, 60, 400, 200)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        if places:
            axes.set_xticks(places, [f"{place:g}" for place in places])
        return finished(figure)

    return draw


MANY: dict[str, Callable[[], Drawing]] = {
    **EVERY,
    "a head's strengths": lambda: path([1e-4, 1e-3, 1e-2, 1e3], [0.5] * 4, [1.0] * 4, 1e-3),
    "strengths in one decade": lambda: path([0.2, 0.4, 0.7], [0.5] * 3, [1.0] * 3, 0.4),
    "strengths within a factor of two": lambda: path([0.4, 0.5, 0.6], [0.5] * 3, [1.0] * 3, 0.5),
    "rates in one decade": lambda: rate_range([2e-4, 5e-4, 8e-4], [2.3, 1.0, 4.0], 3e-4),
    "rates of many decades": lambda: rate_range([1e-9, 1e-2, 1e6], [2.3, 1.0, 4.0], 3e-4),
    "a learning curve whose ends meet": lambda: learning_curve(
        [(n, 0.5, 0.4, 0.6) for n in (2, 5, 10, 30, 100, 300)], [(n, 0.5, 0.4, 0.6) for n in (2, 100, 306)]
    ),
    "a learning curve of close points": lambda: learning_curve(
        [(n, 0.5, 0.4, 0.6) for n in (298, 299, 300, 301)], [(n, 0.5, 0.4, 0.6) for n in (2, 306)]
    ),
    "306 epochs": lambda: curves(log_of(306)),
    "100,000 steps": lambda: watched(
        list(range(0, 100_007, 10_000)), {"scale": ["a"]}, {"scale": np.geomspace(1e-4, 1e4, 11)[:, None]}
    ),
    "tiny numbers": on_log([], (1e-12, 1e-3)),
    "one decade": on_log([], (1.0, 9.0)),
    "half a decade": on_log([], (2.0, 5.0)),
    "given ticks": on_log([1, 2, 290, 300, 306, 307], (1, 400)),
    "ticks with exponents": on_log([1e-5, 1.1e-5, 1.2e-5, 1.3e-5], (1e-5, 1)),
}


@pytest.mark.parametrize("name", MANY)
def test_tick_labels_are_plain_and_do_not_overprint(name: str, figures: list[Figure]):
    MANY[name]()
    for figure in figures:
        assert isinstance(figure.canvas, FigureCanvasAgg)
        renderer = figure.canvas.get_renderer()
        for axis in labels(figure):
            assert not [text.get_text() for text in axis if set(text.get_text()) & set("\\{}^")]
            level = [
                text
                for text in axis
                if text.get_rotation() == 0 and text.get_text().strip("0123456789.e\u2212-+%") == ""
            ]
            boxes = [text.get_window_extent(renderer) for text in level]
            over = [
                (level[i].get_text(), level[j].get_text())
                for i in range(len(boxes))
                for j in range(i)
                if boxes[i].overlaps(boxes[j].shrunk(0.9, 0.7))
            ]
            assert not over


def test_an_axis_keeps_its_last_number_and_two_numbers_at_least(figures: list[Figure]):
    MANY["a learning curve whose ends meet"]()
    shown = [text.get_text() for text in labels(figures[-1])[0]]
    assert "306" in shown
    assert "300" not in shown
    MANY["strengths within a factor of two"]()
    assert len(labels(figures[-1])[0]) >= 2
    assert all(math.isfinite(float(text.get_text())) for text in labels(figures[-1])[0])
