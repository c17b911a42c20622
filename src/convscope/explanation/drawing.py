"""What a network learned, as images: sheets of filters, rows of cards, maps, where it looks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from ..canvas.figures import (
    BLUE,
    DPI,
    GREY,
    INK,
    PALE,
    Drawing,
    axes_at,
    cut,
    cut_apart,
    finished,
    in_style,
    new_figure,
    numbered,
    plain,
    shorten,
    text_width,
    wrapped,
)
from ..canvas.sprites import fitted, sprite

LINE, GAP, MARGIN = 17, 6, 12  # px
WORDS, TITLE, NAME = 400, 150, 160  # px of a line beside images, of a row's title and of a class's name, at most
ACROSS = 16  # maps in a row of a grid


@dataclass(frozen=True)
class CardRow:
    """A row of a sheet: its title, images uint8 (h, w, 3) in groups with a space between, and lines of text."""

    title: str
    groups: Sequence[Sequence[np.ndarray]]
    lines: Sequence[str] = ()


def stacked(sheets: Sequence[bytes]) -> Drawing:
    """PNG files below each other on white."""
    images = [Image.open(io.BytesIO(sheet)).convert("RGB") for sheet in sheets]
    whole = Image.new("RGB", (max(p.width for p in images), sum(p.height for p in images)), "white")
    y = 0
    for image in images:
        whole.paste(image, (0, y))
        y += image.height
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return Drawing(buffer.getvalue())


def outlined(image_HWC: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A copy of an image with a thin frame along the inside of a box (top, left, bottom, right); none around all."""
    image = image_HWC.copy()
    top, left = max(0, box[0]), max(0, box[1])
    bottom, right = min(image.shape[0], box[2]), min(image.shape[1], box[3])
    if (bottom - top, right - left) == image.shape[:2]:
        return image
    for edge in (
        np.s_[top, left:right],
        np.s_[bottom - 1, left:right],
        np.s_[top:bottom, left],
        np.s_[top:bottom, right - 1],
    ):
        image[edge] = (230, 30, 60)
    return image


@in_style()
def card_rows(rows: Sequence[CardRow], heading: str | None = None, cell: int = 64, note: str = "") -> Drawing:
    """Cards, or other rows of images with words, below each other; all rows have as many images. A ``note`` ends it."""
    figure = new_figure(100, 100)
    texts = [[part for line in row.lines for part in wrapped(figure, plain(line), WORDS, 8.5)] for row in rows]
    titles = [cut(figure, plain(row.title), TITLE, 9) for row in rows]
    left = MARGIN + max(int(text_width(figure, title, 9, "bold")) for title in titles) + 10
    images = max(sum(len(g) * (cell + GAP) + 2 * GAP for g in row.groups) for row in rows)
    words = max((int(text_width(figure, line, 8.5)) for lines in texts for line in lines), default=0)
    heights = [max(cell, LINE * len(lines)) + 2 * GAP for lines in texts]
    inner = max(left + images + words - MARGIN, 400)
    headings = wrapped(figure, plain(heading), inner, 11.5, "bold") if heading else []
    notes = wrapped(figure, plain(note), inner, 8) if note else []
    top = MARGIN + 22 * len(headings) + 12 * bool(headings)
    width, height = inner + 2 * MARGIN, top + sum(heights) + MARGIN + LINE * len(notes)
    figure.set_size_inches(width / DPI, height / DPI)
    for down, line in enumerate(headings):
        figure.text(MARGIN / width, 1 - (MARGIN + 22 * down) / height, line, size=11.5, weight="bold", va="top")
    for up, line in enumerate(reversed(notes)):
        figure.text(MARGIN / width, (8 + LINE * up) / height, line, size=8, color=GREY)
    y = top
    for row, title, lines, high in zip(rows, titles, texts, heights, strict=True):
        spot = (MARGIN / width, 1 - (y + 13) / height)
        figure.text(*spot, title, size=9, weight="bold", va="baseline")
        x = left
        for group in row.groups:
            for image in group:
                figure.figimage(fitted(image, cell), x, height - y - cell, origin="upper")
                x += cell + GAP
            x += 2 * GAP
        for number, line in enumerate(lines):
            figure.text(x / width, 1 - (y + 11 + number * LINE) / height, line, size=8.5, va="baseline")
        y += high
    return finished(figure)


# --- probes ------------------------------------------------------------------------------------------------------


@in_style()
def probes(
    layers: Sequence[str], accuracy: Sequence[tuple[float, float, float]], recall_LK: np.ndarray, names: Sequence[str]
) -> Drawing:
    """At which depth classes become readable: accuracy (value, low, high) of each layer's probe, recall by class."""
    many = len(layers) > 40
    shown, size = len(names) <= 40, 9.5
    measure = new_figure(100, 100)
    drawn = cut_apart(measure, numbered(names)[0], NAME, size) if shown else []
    places = [cut(measure, plain(name), NAME, size) for name in layers]
    wide, deep = (max((text_width(measure, t, size) for t in texts), default=0) for texts in (drawn, places))
    width = max(560, int(46 * len(layers) + wide) + 80)
    rows, below, title = 22 * len(drawn), int(0.75 * deep) + 24, wrapped(measure, PROBED, width - 40, 10.5, "bold")
    head = 20 * len(title) + 24
    height = 206 + head + rows + below
    figure, left = new_figure(width, height), max(60, int(wide) + 20)
    for down, line in enumerate(title):
        spot = (MARGIN / width, 1 - (MARGIN + 20 * down) / height)
        figure.text(*spot, line, size=10.5, weight="bold", va="top")
    upper = axes_at(figure, left, below + rows + 12, width - left - 24, height - below - rows - 12 - head)
    rest = [axes_at(figure, left, below, width - left - 24, rows)] if shown else []
    x = np.arange(len(layers))
    value, low, high = (100 * np.array(column) for column in zip(*accuracy, strict=True))
    upper.errorbar(x, value, [list(value - low), list(high - value)], color=BLUE, marker="o", markersize=4, capsize=3)
    upper.set_ylim(0, 100)
    upper.set_xticks([])
    for axes in rest:
        _recall_table(axes, 100 * recall_LK.T, drawn)
    last = (upper, *rest)[-1]
    step = max(1, len(layers) // 40) if many else 1
    last.set_xticks(x[::step], places[::step], rotation=45, ha="right", rotation_mode="anchor")
    for axes in (upper, *rest):
        axes.set_xlim(-0.5, len(layers) - 0.5)
    return finished(figure)


PROBED = "Held-out images that a linear probe has right, %: in all, and by class"


def _recall_table(axes: Axes, recall_KL: np.ndarray, names: Sequence[str]) -> None:
    axes.imshow(np.nan_to_num(recall_KL), aspect="auto", cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set_yticks(range(len(names)), list(names))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color=PALE)
    if recall_KL.shape[1] > 30:
        return
    for row, column in np.ndindex(recall_KL.shape):
        value = recall_KL[row, column]
        text = "-" if np.isnan(value) else f"{value:.0f}"
        axes.text(column, row, text, ha="center", va="center", size=8, color="white" if value > 60 else INK)


# --- maps --------------------------------------------------------------------------------------------------------


def _shaded(map_HW: np.ndarray, largest: float) -> np.ndarray:
    """A map as an image uint8 (h, w, 3): white is 0, dark blue the most above it, orange below."""
    scaled = np.clip(map_HW / (largest or 1.0), -1, 1)[..., None]
    above, below = np.array([0, 60, 120]), np.array([213, 94, 0])
    colour = np.where(scaled > 0, 255 + scaled * (above - 255), 255 - scaled * (below - 255))
    return colour.round().astype(np.uint8)


def map_summary(image: np.ndarray, rows: Sequence[tuple[str, Sequence[int], np.ndarray, float]]) -> Drawing:
    """The way of one image through a network: each layer's strongest maps: name, filters, maps (n, h, w), firing."""
    shown = [CardRow("image", [[image]])]
    for name, filters, maps, firing in rows:
        images = [_shaded(m, float(np.abs(m).max())) for m in maps]
        numbers = ", ".join(str(k) for k in filters)
        lines = [f"{maps.shape[1]} x {maps.shape[2]} places, {100 * firing:.0f} % above 0", f"filters {numbers}"]
        shown.append(CardRow(shorten(name, 24), [images], lines))
    return card_rows(shown, "Strongest maps of each layer: blue is above 0, orange below")


def map_grid(maps_CHW: np.ndarray) -> bytes:
    """All maps of a layer side by side, in the order of the filters, 16 in a row, as a JPEG: the raw image."""
    cell = max(32, min(96, 2 * max(maps_CHW.shape[1:])))
    images = [_shaded(m, float(np.abs(maps_CHW).max())) for m in maps_CHW]
    return sprite([images[i : i + ACROSS] for i in range(0, len(images), ACROSS)], cell, min(len(images), ACROSS))


# --- where it looks ----------------------------------------------------------------------------------------------


@in_style()
def attributions(image: np.ndarray, maps: Sequence[tuple[str, np.ndarray]], heading: str) -> Drawing:
    """Tell where a network looks: the image, and each method's map over it: blue for the class, orange against."""
    side, columns = 220, 1 + len(maps)
    width = columns * (side + 10) + 2 * MARGIN - 10
    headings = wrapped(new_figure(100, 100), plain(heading), width - 2 * MARGIN, 11.5, "bold")
    height = side + 62 + 22 * len(headings)
    figure = new_figure(width, height)
    for down, line in enumerate(headings):
        figure.text(MARGIN / width, 1 - (MARGIN + 22 * down) / height, line, size=11.5, weight="bold", va="top")
    grey = np.repeat(fitted(image, side).mean(2, keepdims=True), 3, 2)
    for number, (name, values) in enumerate([("image", None), *maps]):
        x = MARGIN + number * (side + 10)
        shown = fitted(image, side)
        if values is not None:
            largest = float(np.abs(values).max()) or 1.0
            strength = np.asarray(Image.fromarray((values / largest).astype(np.float32)).resize((side, side)))[
                ..., None
            ]
            colour = np.where(strength > 0, [[[0, 90, 200]]], [[[213, 94, 0]]])
            opacity = 0.85 * np.abs(strength) ** 0.7
            shown = ((1 - opacity) * (0.5 * grey + 110) + opacity * colour).clip(0, 255)
        figure.figimage(shown.astype(np.uint8), x, 18, origin="upper")
        figure.text((x + side / 2) / width, (side + 26) / height, plain(name), size=9, ha="center", va="baseline")
    return finished(figure)
