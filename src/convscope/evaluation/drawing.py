"""How good a classifier is: which class is taken for which, and how far a probability can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..canvas.figures import (
    BLUE,
    DPI,
    GREY,
    INK,
    ORANGE,
    PALE,
    Drawing,
    axes_at,
    cut_apart,
    finished,
    in_style,
    new_figure,
    numbered,
    text_width,
)
from ..canvas.sheets import NUMBERED, image_grid, titles_of

if TYPE_CHECKING:  # metrics imports torch, which drawing can do without
    from ..classifying.metrics import Calibration, Mistake

NAME = 170  # px of a class's name beside a matrix
MOST, WORST = 100, 40  # classes that one matrix shows; of more those with the most mistakes


@in_style()
def confusion(matrix_KK: np.ndarray | Sequence[Sequence[int]], names: Sequence[str]) -> Drawing:
    """Tell which class is taken for which: counts (K, K), rows the truth, columns the guess, ``names`` in their order.

    Colour is the share of a row's images. The diagonal has its own colour, and the mistakes have their own scale,
    of the root of the share, so that a few in a hundred show. A class without images is a grey row. Counts are
    written up to 15 classes. Of more than 100 classes the 40 with the most mistakes are shown, each of whose rows may
    not add up then. ValueError: not K by K counts for K names.
    """
    matrix = np.asarray(matrix_KK, dtype=np.int64)
    if not len(names) or matrix.shape != (len(names), len(names)):
        raise ValueError(f"a confusion of shape {matrix.shape} does not fit {len(names)} names")
    n, right_ones, total = int(matrix.sum()), int(np.trace(matrix)), matrix.sum(axis=1, keepdims=True)
    headline = f"{n:,} images, {100 * right_ones / n:.1f} % right" if n else "no images"
    if len(names) > MOST:
        worst = most_mistaken(matrix, WORST)
        headline += f"; the {WORST} of {len(names):,} classes with the most mistakes"
        matrix, total, names = matrix[np.ix_(worst, worst)], total[worst], [names[i] for i in worst]
    k, cell = len(names), _cell_pixels(len(names))
    shares = matrix / np.maximum(total, 1)
    mistakes = np.where(np.eye(k, dtype=bool), 0, shares)
    right = (_fade(BLUE), Normalize(0, 1))
    wrong = (_fade(ORANGE), PowerNorm(0.5, 0, _round_up(mistakes.max())))
    colours = np.where(np.eye(k, dtype=bool)[..., None], right[0](right[1](shares)), wrong[0](wrong[1](mistakes)))
    colours[total[:, 0] == 0] = matplotlib.colors.to_rgba("#EEEEEE")

    size = min(9.5, 0.8 * cell * 72 / DPI)
    drawn, numbers = numbered(names)
    figure = new_figure(100, 100)
    labels = cut_apart(figure, drawn, NAME, size)
    widest = max(text_width(figure, label, size) for label in labels)
    turn = 0 if widest < 0.9 * cell else 45 if k <= 30 else 90  # the names of columns, as level as there is room
    depth = {0: 14, 45: 0.71 * widest + 14, 90: widest}[turn]
    note = 20 if numbers else 0
    left, below, side = int(widest) + 52, int(depth) + 46 + note, k * cell
    width, height = max(left + side + 150, 420), below + side + 48
    figure.set_size_inches(width / DPI, height / DPI)
    axes = axes_at(figure, left, below, side, side)
    axes.imshow(colours, interpolation="nearest", aspect="auto")
    _confusion_names(axes, labels, size, turn)
    if k <= 15:
        _confusion_counts(axes, matrix, colours)
    figure.text(12 / width, 1 - 14 / height, headline, size=11, weight="bold", va="top")
    if note:
        figure.text(12 / width, 7 / height, NUMBERED, size=8, color=GREY)
    bar, gap = min(150, (side - 84) // 2), 56
    for i, ((colour, norm), title) in enumerate([(right, "right, %"), (wrong, "mistaken, %")]):
        box = (left + side + 26, below + side - 28 - bar - i * (bar + gap), 14, bar)
        _colour_bar(axes_at(figure, *box), colour, norm, title)
    return finished(figure)


def mistakes(images_NHWC: np.ndarray, found: Sequence[Mistake], names: Sequence[str]) -> Drawing:
    """The images that were mistaken most confidently: what each is, what it was taken for, and how surely."""
    shown, note = titles_of(names, {k for m in found for k in (m.truth, m.guess)})
    titles = [f"{shown[m.truth]} \u2192 {shown[m.guess]} {100 * m.probability:.0f} %" for m in found]
    heading = "The most confident mistakes: truth \u2192 guess, probability"
    return image_grid(images_NHWC, titles, 5, heading, note=note)


def _cell_pixels(k: int) -> int:
    if k <= 4:
        return 100
    return 64 if k <= 15 else max(960 // k, 15)


def most_mistaken(matrix: np.ndarray, count: int) -> np.ndarray:
    """The classes that are in the most mistakes, as the truth or as the answer, in their own order."""
    wrong = matrix - np.diag(np.diag(matrix))
    return np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:count])


def _round_up(share: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 and 100 %."""
    return next(top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if share <= top + 1e-9)


def _fade(colour: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("fade", ["white", colour])


def _confusion_names(axes: Axes, labels: list[str], size: float, turn: int) -> None:
    k = len(labels)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=size, pad=4)
    axes.set(xlabel="taken for", ylabel="true class")
    axes.spines[:].set(visible=True, color=PALE)
    axes.set(xticks=[], yticks=[])
    if k <= 100:
        side, mode = ("right", "anchor") if turn == 45 else ("center", "default")
        axes.set_xticks(range(k), labels, rotation=turn, ha=side, rotation_mode=mode)
        axes.set_yticks(range(k), labels)
    step = 1 if k <= 30 else 5 if k <= 100 else k  # lines to follow a row by, without filling the image
    for edge in np.arange(step, k, step) - 0.5:
        axes.axhline(edge, color=PALE, linewidth=0.7)
        axes.axvline(edge, color=PALE, linewidth=0.7)


def _confusion_counts(axes: Axes, matrix: np.ndarray, colours: np.ndarray) -> None:
    for row, column in np.argwhere(matrix > 0):
        text = str(matrix[row, column])
        light = colours[row, column, :3] @ (0.2126, 0.7152, 0.0722) > 0.6
        size = 9.5 if len(text) <= 5 else 8
        axes.text(column, row, text, ha="center", va="center", size=size, color=INK if light else "white")


def _colour_bar(axes: Axes, colour: LinearSegmentedColormap, norm: Normalize, title: str) -> None:
    bar = axes.figure.colorbar(ScalarMappable(norm, colour), cax=axes)
    assert norm.vmax is not None  # both scales are made with their ends
    ticks = [0, norm.vmax / 2, norm.vmax] if title.startswith("right") else [0, norm.vmax / 5, norm.vmax]
    bar.set_ticks(ticks, labels=[f"{100 * tick:g}" for tick in ticks])
    bar.outline.set_edgecolor(PALE)
    axes.tick_params(length=0)
    axes.set_title(title, size=9.5, pad=9)


@in_style()
def calibration(cal: Calibration, temperature: float | None = None) -> Drawing:
    """The reliability diagram: how often guesses of each confidence are right, with Wilson's intervals.

    ``temperature`` is what the logits were divided by, for its title. The bars show how far a bin is from honest; the
    strip below shows how many images it rests on.
    """
    filled = [b for b in cal.bins if b.count]
    confidence, accuracy, low, high = (
        np.array([100 * getattr(b, key) for b in filled]) for key in ("confidence", "accuracy", "low", "high")
    )
    figure = new_figure(620, 740, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[5, 1])
    upper.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1.2, label="honest")
    step = 100 / len(cal.bins)
    upper.bar(confidence, accuracy - confidence, 0.55 * step, confidence, color=ORANGE, alpha=0.35, label="gap")
    reach = [accuracy - low, high - accuracy]
    upper.errorbar(confidence, accuracy, reach, fmt="o", color=BLUE, elinewidth=1.3, label="accuracy, 95 %")
    upper.set(xlim=(-1, 101), ylim=(-1, 101), ylabel="right, %", xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    count = np.array([b.count for b in filled])
    leaning = float(np.sum(count * (confidence - accuracy)) / count.sum())
    verdict = f"{abs(leaning):.1f} points too {'sure' if leaning > 0 else 'modest'}"
    which = "Calibration error" if temperature is None else f"At temperature {temperature:.2f}:"
    upper.set_title(f"{which} {100 * cal.ece:.1f} %", weight="bold")
    upper.set_title(verdict if abs(leaning) >= 0.05 else "neither too sure nor too modest", loc="right", size=9.5)
    upper.legend(loc="upper left")
    centres = (np.arange(len(cal.bins)) + 0.5) * step
    lower.bar(centres, [b.count for b in cal.bins], 0.88 * step, color=BLUE, alpha=0.6)
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    lower.set(xlabel="confidence, %", ylabel="images")
    return finished(figure)
