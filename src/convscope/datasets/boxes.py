"""Boxes of images: a rectangle and a class for each object, in pixels of the upright image."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..images.placing import Place, place_of
from ..images.preprocess import Preprocess


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image of ``size`` (width, height), upright, in pixels.

    ``corners`` is float64 (n, 4): left, top, right, bottom, with 0 <= left < right <= width and 0 <= top < bottom <=
    height. ``labels`` int64 (n,) are places among the names; ``crowd`` bool (n,) are boxes that are neither right nor
    wrong to find: COCO's ``iscrowd``, VOC's ``difficult``.
    """

    size: tuple[int, int]
    corners: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counted(self) -> np.ndarray:
        """The labels of the boxes that are no crowd, int64."""
        return self.labels[~self.crowd]


@dataclass(frozen=True)
class Boxes:
    """The boxes of N images, of classes with these ``names``; an image may have none."""

    names: tuple[str, ...]
    boxes: tuple[ImageBoxes, ...]
    task: ClassVar[str] = "detection"

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: np.ndarray) -> Boxes:
        """Those of some of the images."""
        return replace(self, boxes=tuple(self.boxes[i] for i in np.arange(len(self))[index].tolist()))

    def digests(self) -> np.ndarray:
        """A hash of each image's boxes, by the names of their classes, in whatever order they stand."""
        raw = b"".join(hashlib.sha256(self._said(one).encode(errors="surrogatepass")).digest() for one in self.boxes)
        return np.frombuffer(raw, np.uint8).reshape(-1, 32)

    def _said(self, one: ImageBoxes) -> str:
        rows = zip(one.labels.tolist(), one.corners.tolist(), one.crowd.tolist(), strict=True)
        return "\n".join(sorted(repr((self.names[label], corners, crowd)) for label, corners, crowd in rows))

    def counts(self, index: np.ndarray) -> dict[str, int]:
        """In how many of the images each class has a box that is no crowd."""
        places = np.arange(len(self))[index].tolist()
        found = Counter(label for i in places for label in np.unique(self.boxes[i].counted).tolist())
        return {name: found[label] for label, name in enumerate(self.names)}

    def told(self, i: int) -> str:
        """How many boxes of which classes an image has, those of most first, and crowds: "3 RBC, 1 WBC, 1 crowd"."""
        one = self.boxes[i]
        many = Counter(one.counted.tolist())
        told = sorted(many.items(), key=lambda pair: (-pair[1], pair[0]))
        said = [f"{count} {self.names[label]}" for label, count in told] or ["no box"]
        crowds = len(one) - len(one.counted)
        return ", ".join([*said, f"{crowds} crowd{'' if crowds == 1 else 's'}"] if crowds else said)

    def fitted(self, i: int, preprocess: Preprocess) -> np.ndarray:
        """The corners of image ``i`` in the square that the network sees, float64 (n, 4). UsageError for a crop."""
        one = self.boxes[i]
        scale, shift = _scale_and_shift(place_of(preprocess, one.size), one.size)
        return one.corners * scale + shift

    def named(self, names: tuple[str, ...]) -> Boxes:
        """The same boxes by other ``names``, among which are all of their own that occur. KeyError otherwise."""
        place = {name: k for k, name in enumerate(names)}
        used = {int(label) for one in self.boxes for label in one.labels}
        number = np.array(
            [place[name] if k in used else place.get(name, 0) for k, name in enumerate(self.names)], np.int64
        )
        return Boxes(names, tuple(replace(one, labels=number[one.labels]) for one in self.boxes))


def back(corners: np.ndarray, size: tuple[int, int], preprocess: Preprocess) -> np.ndarray:
    """Corners (n, 4) in the network's square as pixels of the upright image of ``size`` (width, height), clipped.

    What lies on the border of a padded image comes to the image's edge.
    """
    scale, shift = _scale_and_shift(place_of(preprocess, size), size)
    found = (np.asarray(corners, np.float64).reshape(-1, 4) - shift) / scale
    return np.clip(found, 0.0, np.array([*size, *size], np.float64))


def _scale_and_shift(place: Place, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What corners in pixels of an image are multiplied by, and then moved by, in its place; both float64 (4,)."""
    scale = np.array([place.width / size[0], place.height / size[1]] * 2)
    return scale, np.array([place.left, place.top] * 2, np.float64)
