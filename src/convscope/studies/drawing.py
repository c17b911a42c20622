"""The images of a claim: its arms while they trained, and the numbers that its verdict rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Affine2D, Transform

from ..canvas.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    Drawing,
    axes_at,
    finished,
    in_style,
    new_figure,
    plain,
    shorten,
)

WIDTH = 900
LEFT, CURVES, GAP = 62, 360, 60  # px
ROW = 96  # px of a quantity
LEAST = 300  # px of the image's height
AXIS = 62  # px below the curves for their axis
LEGEND = 22  # px of an arm's line below the curves
NAME, LONG = 48, 56  # characters of an arm, of a quantity
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", INK, GREY)
STYLES = ("-", "--", ":")
VERDICTS = {"holds": ("#00704F", "o"), "does not hold": (ORANGE, "X"), "inconclusive": (GREY, "D")}


@dataclass(frozen=True)
class Quantity:
    """A number with its interval (infinite ends: there is none), ``told`` in words, and the ``limits`` that it has to
    lie between (None: no limit on that side); ``tick`` a value of its axis in words."""

    name: str
    told: str
    verdict: str
    value: float
    low: float
    high: float
    limits: tuple[float | None, float | None]
    tick: Callable[[float], str] = "{:.3g}".format


_POWER = FuncFormatter(lambda value, _: f"{value:.0e}")
Curve = Sequence[tuple[int, float]]  # updates, training loss


@in_style()
def claim(curves: Mapping[str, Curve], quantities: Sequence[Quantity]) -> Drawing:
    """The training loss of each arm by update, and each quantity with its interval against its limits."""
    shown = {name: curve for name, curve in curves.items() if curve}
    below = AXIS + LEGEND * len(shown) if shown else 0
    height = max(LEAST, 270 + below, 20 + ROW * len(quantities))
    figure = new_figure(WIDTH, height)
    left = 20
    if shown:
        _curves(axes_at(figure, LEFT, below + 4, CURVES, height - below - 36), shown)
        left = LEFT + CURVES + GAP
    for number, quantity in enumerate(quantities):
        top = height - 8 - ROW * number
        _quantity(axes_at(figure, left, top - 64, WIDTH - left - 20, 22), quantity)
    return finished(figure)


@in_style()
def profiles(panels: Mapping[str, Mapping[str, Sequence[float]]], along: str) -> Drawing:
    """Vectors by place: a panel for each title, a line for each arm, one log scale; ``along`` names the places."""
    figure = new_figure(WIDTH, 380)
    values = [v for arms in panels.values() for line in arms.values() for v in line if v > 0]
    low, high = min(values, default=1e-3), max(values, default=1.0)
    wide = (WIDTH - 80 - 24 * len(panels)) / max(1, len(panels))
    for number, (title, arms) in enumerate(panels.items()):
        axes = axes_at(figure, 80 + number * (wide + 24), 84, wide, 260)
        for count, (name, line) in enumerate(arms.items()):
            places = range(1, len(line) + 1)
            style = STYLES[count % len(STYLES)]
            axes.plot(places, line, style, color=COLOURS[count % len(COLOURS)], label=shorten(plain(name), NAME))
        axes.set_yscale("log")
        axes.set_ylim(low / 3, high * 3)
        axes.yaxis.set_major_formatter(_POWER)
        axes.tick_params(labelleft=number == 0)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(plain(title), fontsize=9.5)
        axes.set_xlabel(along)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=8.5)
    return finished(figure)


def _curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    for number, (name, curve) in enumerate(curves.items()):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
        axes.plot(*zip(*curve, strict=True), style, color=colour, label=shorten(plain(name), NAME))
    axes.set_title("Training loss (nats), mean over seeds")
    axes.set_xlabel("updates")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, 0.0),
        bbox_transform=_moved(axes, 12 - AXIS),
        fontsize=8.5,
        borderaxespad=0,
    )


def _moved(axes: Axes, pixels: float) -> Transform:
    """The axes' own coordinates, so many pixels higher."""
    return axes.transAxes + Affine2D().translate(0, pixels)


def _quantity(axes: Axes, quantity: Quantity) -> None:
    colour, marker = VERDICTS[quantity.verdict]
    ends = [e for e in (quantity.low, quantity.high) if math.isfinite(e)]
    limits = [limit for limit in quantity.limits if limit is not None]
    points = [*ends, quantity.value, 0.0, *limits]
    room = 0.08 * (max(points) - min(points) or 1.0)
    axes.set_xlim(min(points) - room, max(points) + room)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    left, right = axes.get_xlim()
    wanted = [end if limit is None else limit for limit, end in zip(quantity.limits, (left, right), strict=True)]
    axes.axvspan(*wanted, color=PALE, zorder=0)
    for limit in limits:
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
    axes.hlines(0, max(quantity.low, left), min(quantity.high, right), color=colour, linewidth=4, alpha=0.5)
    axes.plot([quantity.value], [0], marker, color=colour, markersize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity.tick(value)))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(f"{shorten(plain(quantity.name), LONG)}\n{quantity.told}: {quantity.verdict}", fontsize=9, color=INK)
