"""Sheets of small images."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from .figures import (
    DPI,
    GREY,
    Drawing,
    cut_apart,
    finished,
    in_style,
    new_figure,
    numbered,
    plain,
    text_width,
    two_lines,
    wrapped,
)

NUMBERED = "Numbered: names that no installed font has, by their place among the classes."
TITLED, UNTITLED = 128, 96  # px of an image's side, about
LABEL = 180  # px of a row's label at most
LEAST = 320  # px of a sheet's width, where there is a heading


@in_style()
def titles_of(names: Sequence[str], used: Collection[int], width: int = TITLED) -> tuple[list[str], str]:
    """The names of the ``used`` classes as they stand over images ``width`` pixels wide, and a note below the sheet."""
    figure = new_figure(100, 100)
    drawn, numbers = _used(names, used)
    room = width - text_width(figure, " 100 %", 8.5)
    return cut_apart(figure, drawn, room, 8.5, others=False), NUMBERED if numbers else ""


@in_style()
def labels_of(names: Sequence[str], used: Collection[int], width: int = LABEL) -> tuple[list[str], str]:
    """The names of the ``used`` classes before rows, ``width`` pixels wide at most, and a note below the sheet."""
    drawn, numbers = _used(names, used)
    return cut_apart(new_figure(100, 100), drawn, width, 9), NUMBERED if numbers else ""


def _used(names: Sequence[str], used: Collection[int]) -> tuple[list[str], str]:
    """Do what `numbered` does, for some of the classes: to measure a thousand takes seconds."""
    return numbered([name if i in used else "" for i, name in enumerate(names)])


@in_style()
def image_grid(  # noqa: PLR0913 - what stands around the images, each by its name
    images_NHWC: np.ndarray,
    titles: Sequence[str],
    columns: int,
    heading: str | None = None,
    row_labels: Sequence[str] | None = None,
    note: str = "",
    cell: int | None = None,
) -> Drawing:
    """A sheet of images (N, H, W, 1 or 3) uint8, row by row, each under its title (N of them, or none at all).

    Small images are enlarged a whole number of times without smoothing. A title takes two lines at most and is
    broken after an arrow or a space; a row without titles leaves no room for them. A ``note`` stands below all. An
    image's longer side is about ``cell`` pixels, by default TITLED or UNTITLED.
    ValueError: shapes that do not fit.
    """
    images = np.asarray(images_NHWC)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"images must be uint8 (N, H, W, 1 or 3), not {images.dtype} {images.shape}")
    n, columns = len(images), max(1, min(columns, len(images)))
    rows = -(-n // columns)
    if len(titles) not in (0, n) or len(row_labels or ()) not in (0, rows):
        raise ValueError(f"{len(titles)} titles, {len(row_labels or ())} row labels, {n} images, {rows} rows")
    figure, margin, gap, line = new_figure(100, 100), 12, 10, 18
    cells = [_enlarge(image, cell or (TITLED if any(titles) else UNTITLED)) for image in images]
    high, wide = cells[0].shape[:2]
    texts = [two_lines(figure, plain(title), wide) for title in titles] or [""] * n
    label_texts = [plain(label) for label in row_labels or ()]
    left = margin + max((int(text_width(figure, t, 9)) + 10 for t in label_texts), default=0)
    counts = [max(t.count("\n") + bool(t) for t in texts[r * columns : (r + 1) * columns]) for r in range(rows)]
    above = [line * count + 6 * bool(count) for count in counts]
    inner = max(left + columns * (wide + gap) - gap - margin, LEAST if heading or note else 0)
    headings = wrapped(figure, plain(heading), inner, 11.5, "bold") if heading else []
    notes = wrapped(figure, plain(note), inner, 8) if note else []
    top = margin + 23 * len(headings) + 9 * bool(headings)
    width = inner + 2 * margin
    height = top + sum(high + gap + room for room in above) - gap + margin + 16 * len(notes)
    figure.set_size_inches(width / DPI, height / DPI)
    for down, words in enumerate(headings):
        figure.text(margin / width, 1 - (margin + 23 * down) / height, words, size=11.5, weight="bold", va="top")
    for up, words in enumerate(reversed(notes)):
        figure.text(margin / width, (8 + 16 * up) / height, words, size=8, color=GREY)
    y = top
    for row in range(rows):
        y += above[row]
        if label_texts:
            spot = ((left - 10) / width, 1 - (y + high / 2) / height)
            figure.text(*spot, label_texts[row], size=9, ha="right", va="center")
        for i in range(row * columns, min((row + 1) * columns, n)):
            x = left + (i % columns) * (wide + gap)
            figure.figimage(cells[i], x, height - y - high, origin="upper")
            for up, part in enumerate(reversed(texts[i].split("\n"))):  # each on its baseline, so that a row is level
                spot = ((x + wide / 2) / width, 1 - (y - 8 - up * 17) / height)
                figure.text(*spot, part, size=8.5, ha="center", va="baseline")
        y += high + gap
    return finished(figure)


def _enlarge(image_HWC: np.ndarray, target: int) -> np.ndarray:
    """The image about ``target`` pixels on its longer side, within a thin line: white on white would have no edge."""
    image = np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3))
    longer = max(image.shape[:2])
    if longer <= target:
        scale = max(1, target // longer)
        image = image.repeat(scale, axis=0).repeat(scale, axis=1)
    else:
        size = [max(1, round(side * target / longer)) for side in image.shape[1::-1]]
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))
    return np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=0xD0)
