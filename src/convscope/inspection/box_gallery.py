"""Crops of images around boxes that one should look at, as a page shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..datasets.boxes import Boxes
from ..errors import ImageError
from ..images.decoding import decoded
from .survey import Survey
from .wrong_boxes import BoxCheck

AROUND = 0.6  # of a box's longer side that is shown on each side of it
LEAST = 24  # pixels of an image that are shown on each side of a box at least
COLOUR = (0, 190, 90)


@dataclass(frozen=True)
class BoxShown:
    """A crop ``rgb`` with the box drawn in it, the image's name, what it is labelled, and what a network says.

    ``label`` is empty where nobody has drawn the box.
    """

    rgb: Image.Image
    name: str
    label: str
    likeliest: str
    chance: str


def boxes_shown(survey: Survey, check: BoxCheck, most: int, side: int) -> tuple[list[BoxShown], list[BoxShown]]:
    """The boxes that are likely missing, and those likely of another class, the surest first; at most so many of each.

    ``side`` is that of a crop in pixels.
    """
    boxes = survey.unsplit.targets
    assert isinstance(boxes, Boxes)
    missing, wrong = [], []
    alone, drawn = check.alone, check.drawn
    for k in check.missing[:most].tolist():
        words = "", boxes.names[alone.label[k]], f"{alone.score[k]:.2f}"
        missing += _shown(survey, int(alone.image[k]), alone.corners[k], side, words)
    for k in check.wrong[:most].tolist():
        words = boxes.names[drawn.label[k]], boxes.names[drawn.likeliest[k]], f"{drawn.chance[k]:.2f}"
        i = int(drawn.image[k])
        wrong += _shown(survey, i, boxes.boxes[i].corners[drawn.box[k]], side, words)
    return missing, wrong


def _shown(survey: Survey, i: int, corners_4: np.ndarray, side: int, words: tuple[str, str, str]) -> Iterator[BoxShown]:
    """One, or none where the image can no longer be read."""
    try:
        with decoded(survey.unsplit.files[i]) as rgb:
            yield BoxShown(cropped(rgb, corners_4, side), survey.unsplit.origin(i), *words)
    except ImageError:
        return


def cropped(rgb: Image.Image, corners_4: np.ndarray, side: int) -> Image.Image:
    """A box (left, top, right, bottom in pixels) with what is around it, its longer side ``side`` pixels, outlined."""
    left, top, right, bottom = corners_4.tolist()
    around = max(LEAST, AROUND * max(right - left, bottom - top))
    begin = max(0, int(left - around)), max(0, int(top - around))
    end = min(rgb.width, int(np.ceil(right + around))), min(rgb.height, int(np.ceil(bottom + around)))
    shown = rgb.crop((*begin, *end))
    scale = side / max(shown.size)
    wide, high = (max(1, round(s * scale)) for s in shown.size)
    shown = shown.resize((wide, high), Image.Resampling.BILINEAR)
    outline = [(corner - start) * scale for corner, start in zip((left, top, right, bottom), begin * 2, strict=True)]
    ImageDraw.Draw(shown).rectangle(outline, outline=COLOUR, width=2)
    return shown
