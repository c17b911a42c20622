"""What transfer found: the ladder of ways, the learning curve, and the images that a head's filters answer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

from ..canvas.figures import BLUE, GREY, INK, ORANGE, Drawing, cut_apart, finished, in_style, new_figure, plain
from ..canvas.sheets import image_grid
from ..evaluation.drawing import mistakes

if TYPE_CHECKING:  # which import torch
    from ..classifying.metrics import Evaluation
    from ..datasets.dataset import Dataset

WIDTH = 760
MISTAKES = 20  # images on the sheet of mistakes
DARK = 0.2  # of an image's light, where a filter does not fire
COLUMNS = (1.2, 1.38, 1.62)  # right ends, in widths of the axes


@dataclass(frozen=True)
class RungBar:
    """One rung: accuracy with its interval (fractions), seconds, trained parameters, whether it was kept."""

    name: str
    value: float
    low: float
    high: float
    seconds: float
    parameters: int
    kept: bool = False


@in_style()
def ladder(steps: Sequence[RungBar]) -> Drawing:
    """Accuracy with its interval for each rung, the cheapest on top; seconds and trained parameters stand beside."""
    height = max(300, 130 + 46 * len(steps))
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0.14, 70 / height, 0.52, 1 - 125 / height))
    for row, step in enumerate(steps):
        colour = BLUE if step.kept else GREY
        axes.plot([100 * step.low, 100 * step.high], [row, row], color=colour, linewidth=5, alpha=0.35)
        axes.plot([100 * step.value], [row], "o", color=colour, markersize=8)
        said = (f"{100 * step.value:.1f} %", _seconds(step.seconds), f"{step.parameters:,}")
        for place, words in zip(COLUMNS, said, strict=True):
            axes.text(place, row, words, transform=axes.get_yaxis_transform(), va="center", ha="right", color=INK)
    for place, words in zip(COLUMNS, ("accuracy", "time", "trained"), strict=True):
        axes.text(place, -0.6, words, transform=axes.get_yaxis_transform(), ha="right", color=GREY)
    axes.set_yticks(range(len(steps)), [plain(s.name) for s in steps])
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_xlabel("accuracy on images held out, % (bar: 95 % interval; blue: kept)")
    return finished(figure)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@in_style()
def learning_curve(
    points: Sequence[tuple[int, float, float, float]],
    fitted: Sequence[tuple[int, float, float, float]],
    images: str = "training images a class",
    figure_of: str = "accuracy of a head, %",
) -> Drawing:
    """A figure by images, each (images, value, low, high) as fractions: measured, and as fitted."""
    figure = new_figure(WIDTH, 400)
    axes = figure.add_axes((0.1, 0.15, 0.86, 0.73))
    x, value, low, high = (np.array(column) for column in zip(*fitted, strict=True))
    axes.fill_between(x, 100 * low, 100 * high, color=ORANGE, alpha=0.18, linewidth=0, label="90 % interval")
    axes.plot(x, 100 * value, color=ORANGE, linestyle="--", label="fitted and continued")
    for n, _, lo, hi in points:
        axes.plot([n, n], [100 * lo, 100 * hi], color=BLUE, alpha=0.5)
    axes.plot([p[0] for p in points], [100 * p[1] for p in points], "o", color=BLUE, label="measured")
    axes.set_xscale("log")
    ticks = sorted({*(p[0] for p in points), int(x[-1])})
    axes.set_xticks(ticks[:: max(1, len(ticks) // 10)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_xlabel(images)
    axes.set_ylabel(figure_of)
    axes.legend(loc="lower right")
    return finished(figure)


@in_style()
def path(strengths: Sequence[float], top1: Sequence[float], loss: Sequence[float], chosen: float) -> Drawing:
    """Cross-validated accuracy and cross-entropy of a head by its strength C, and the one chosen."""
    figure = new_figure(WIDTH, 330)
    axes = figure.add_axes((0.1, 0.17, 0.8, 0.7))
    axes.plot(strengths, [100 * v for v in top1], "o-", color=BLUE, label="accuracy, %")
    axes.set_xscale("log")
    axes.set_xlabel("C: to the right less regularised")
    axes.set_ylabel("accuracy on held-out folds, %", color=BLUE)
    other = axes.twinx()
    other.grid(False)
    other.plot(strengths, loss, "s--", color=ORANGE, label="cross-entropy")
    other.set_ylabel("cross-entropy, nats", color=ORANGE)
    axes.axvline(chosen, color=GREY, linewidth=1)
    axes.set_title(f"C = {chosen:.2g} has the least cross-entropy")
    return finished(figure)


@dataclass(frozen=True)
class FilterRow:
    """A class and one filter that its answers rest on: what it adds to the logit, its best images uint8 (n, S, S, 3)
    and whether each is of the class."""

    name: str
    filter: int
    share: float
    images: np.ndarray
    own: Sequence[bool]


@in_style()
def used_filters(rows: Sequence[FilterRow]) -> Drawing:
    """The images that excite the filters a head uses most: one row a class; a blue line is under its own images."""
    count, side, left = max(len(r.images) for r in rows), 64, 190
    width, height = max(400, left + count * (side + 6) + 10), max(300, 16 + len(rows) * (side + 12))
    figure = new_figure(width, height)
    names = cut_apart(figure, [plain(row.name) for row in rows], left - 16, 9.5)
    for number, row in enumerate(rows):
        top = 10 + number * (side + 12)
        for words, down, colour in (
            (names[number], 24, INK),
            (f"filter {row.filter}: {row.share:+.2f}", 42, GREY),
        ):
            figure.text(8 / width, 1 - (top + down) / height, words, va="center", color=colour)
        for place, image in enumerate(row.images):
            x = left + place * (side + 6)
            axes = figure.add_axes((x / width, 1 - (top + side) / height, side / width, side / height))
            axes.imshow(image, interpolation="bilinear")
            axes.set_axis_off()
            colour = BLUE if row.own[place] else ORANGE
            under = figure.add_axes((x / width, 1 - (top + side + 4) / height, side / width, 3 / height))
            under.set_facecolor(colour)
            under.set_xticks([])
            under.set_yticks([])
            under.spines[:].set_visible(False)
    return finished(figure)


def mistaken(test: Evaluation, dataset: Dataset) -> Drawing:
    """The test images that were mistaken most confidently, as an evaluation shows them."""
    found = test.mistakes[:MISTAKES]
    index = dataset.parts["test"][[m.index for m in found]]
    return mistakes(np.asarray(dataset.images[index]), found, test.classes)


@dataclass(frozen=True)
class FiringRow:
    """A filter and what it adds to a class's logit; the images in which it fires most, uint8 (n, S, S, 3), where it
    does, from 0 to 1 (n, h, w), and the images under their masks."""

    name: str
    adds: float
    images: np.ndarray
    maps: np.ndarray
    masks: np.ndarray


def firing(name: str, rows: Sequence[FiringRow], truth: str = "the mask") -> Drawing:
    """The filters that speak for a class: a row each, pairs of the image, lit where it fires, and its mask or boxes."""
    cells, titles = [], []
    for row in rows:
        for image, fired, mask in zip(row.images, row.maps, row.masks, strict=True):
            cells += [_lit(image, fired), mask]
            titles += ["where it fires", truth] if row is rows[0] else ["", ""]
    labels = [f"{row.name}: {row.adds:+.2f}" for row in rows]
    return image_grid(np.stack(cells), titles, 2 * len(rows[0].images), f"Filters that speak for {name}", labels)


def _lit(image_SS3: np.ndarray, fired_HW: np.ndarray) -> np.ndarray:
    """The image, dark where a filter does not fire."""
    size = (image_SS3.shape[1], image_SS3.shape[0])
    light = Image.fromarray(fired_HW.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return (image_SS3 * (DARK + (1 - DARK) * np.asarray(light)[..., None])).round().astype(np.uint8)
