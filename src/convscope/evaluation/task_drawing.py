"""What a score says, drawn: a figure a class with its interval, and the images that are answered worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..canvas.figures import BLUE, GREY, INK, Drawing, cut_apart, finished, in_style, new_figure, numbered
from ..canvas.overlays import colours_of, overlaid
from ..canvas.sheets import NUMBERED, image_grid

if TYPE_CHECKING:
    from ..classifying.classifier import Classifier

WIDTH = 760
MOST_ROWS = 60
SHOWN = 8  # of the worst images


@in_style()
def class_bars(rows: Sequence[tuple[str, float | None, float | None, float | None]], label: str) -> Drawing:
    """A figure of each class with its interval, as fractions (name, value, low, high); None where there is none."""
    rows = rows[:MOST_ROWS]
    height = 90 + 26 * len(rows)
    figure = new_figure(WIDTH, height)
    drawn, numbers = numbered([name for name, *_ in rows])
    axes = figure.add_axes((0.24, 55 / height, 0.62, 1 - 70 / height))
    for row, (_, value, low, high) in enumerate(rows):
        if value is None:
            axes.text(0.5, row, "neither there nor answered", color=GREY, va="center", size=8)
            continue
        axes.barh(row, 100 * value, color=BLUE, alpha=0.75, height=0.62)
        if low is not None and high is not None:
            axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1.4)
        place = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right"}
        axes.text(1.16, row, f"{100 * value:.1f} %", **place)
    axes.set_yticks(range(len(rows)), cut_apart(figure, drawn, 0.22 * WIDTH, 9.5))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(label)
    if numbers:
        figure.text(12 / WIDTH, 7 / height, NUMBERED, size=8, color=GREY)
    return finished(figure)


def worst_masks(
    classifier: Classifier, images: np.ndarray, truths: Sequence[np.ndarray], answers: Sequence[np.ndarray], each: Any
) -> Drawing:
    """Rows of three: the image, what was answered and what is true, as the network sees them, the worst first."""
    colours, background = colours_of(classifier.class_names)
    cells, titles = [], []
    for image, truth, answer, value in zip(images, truths, answers, each, strict=True):
        cells += [image, overlaid(image, answer, colours, background), overlaid(image, truth, colours, background)]
        titles += ["image", f"answer: {100 * value:.0f} %", "the mask"]
    heading = "The images answered worst: image, answer (overlap with the mask), mask"
    return image_grid(np.stack(cells), titles, 6, heading)


def worst_answers(images: np.ndarray, titles: Sequence[str]) -> Drawing:
    """The images that are answered worst, under what is true and what was answered."""
    return image_grid(images, titles, 4, "The images answered worst: truth \u2192 answer")


@in_style()
def predicted_numbers(tallies_N2: np.ndarray, name: str, half_width: float | None) -> Drawing:
    """Answers against the truth, with the band that is to hold the truth."""
    figure = new_figure(520, 480)
    axes = figure.add_axes((0.15, 0.13, 0.8, 0.82))
    guess, truth = tallies_N2[:, 0], tallies_N2[:, 1]
    low, high = float(min(guess.min(), truth.min())), float(max(guess.max(), truth.max()))
    room = 0.04 * (high - low or 1.0)
    ends = np.array([low - room, high + room])
    if half_width is not None:
        axes.fill_between(ends, ends - half_width, ends + half_width, color=GREY, alpha=0.15, linewidth=0)
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.plot(truth, guess, "o", color=BLUE, markersize=4, alpha=0.6)
    axes.set(xlim=ends, ylim=ends, xlabel=f"true {name}", ylabel=f"answered {name}")
    return finished(figure)
