"""One pass over all masks: which cannot be used and why, how many pixels each class has, how two masks overlap."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..datasets.mask_coding import VOID
from ..datasets.masks import SAME_SHAPE, Masks, shape_error
from ..datasets.packing import THREADS
from ..datasets.polygons import Outlines, has_background
from ..errors import DataError, ImageError
from ..images.decoding import read_header
from ..images.headers import Header
from ..progress import Progress
from .copies import POSITIONS

SMALL = 64  # pixels of the side at which masks are compared


@dataclass(frozen=True)
class MaskSurvey:
    """What is known of N masks of K classes: ``pixels`` int64 (N, K + 1), the last of none; 0 of those with a fault.

    ``faults`` holds kind and words by index, ``resized`` those whose images have another size, and ``small`` uint8
    (N, 64, 64) the masks squashed, by which copies are compared.
    """

    masks: Masks
    pixels: np.ndarray
    small: np.ndarray
    faults: dict[int, tuple[str, str]]
    resized: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.masks.names

    @property
    def present(self) -> np.ndarray:
        """Which classes have pixels in which mask, bool (N, K)."""
        return self.pixels[:, :-1] > 0

    @property
    def good(self) -> np.ndarray:
        """The masks that were read, bool (N,)."""
        return self.pixels.sum(1) > 0

    @property
    def has_background(self) -> bool:
        """Whether the first class is what is behind objects."""
        return has_background(self.names)

    def overlap(self, one: int, other: int, exact: bool) -> float:
        """The IoU of all objects in two masks, in the best of the eight positions unless images are the same bytes.

        All classes together: of frames of a video the small things are elsewhere in the next one.
        """
        if not (self.good[one] and self.good[other]):
            return 1.0  # nothing is said of one of them
        first = self.small[one]
        kinds = [self.small[other]] if exact else [_placed(self.small[other], k) for k in range(len(POSITIONS))]
        return max(_iou(first, second, len(self.names), int(self.has_background)) for second in kinds)


def _placed(small_HW: np.ndarray, position: int) -> np.ndarray:
    turned, mirrored = POSITIONS[position]
    found = small_HW.T if turned else small_HW
    for axis in mirrored:
        found = np.flip(found, axis - 1)
    return found


def _iou(one: np.ndarray, other: np.ndarray, classes: int, begin: int) -> float:
    known = (one != VOID) & (other != VOID)
    same = either = 0
    for k in range(begin, classes):
        mine, theirs = (one == k) & known, (other == k) & known
        same, either = same + int((mine & theirs).sum()), either + int((mine | theirs).sum())
    return same / either if either else 1.0


def survey_masks(masks: Masks, progress: Progress | None = None) -> MaskSurvey:
    """Read every mask once."""
    count = len(masks)
    pixels = np.zeros((count, len(masks.names) + 1), np.int64)
    small = np.full((count, SMALL, SMALL), VOID, np.uint8)
    faults: dict[int, tuple[str, str]] = {}
    resized = []
    with ThreadPoolExecutor(THREADS) as pool:
        for i, found in enumerate(pool.map(lambda i: _read(masks, i), range(count))):
            if len(found) == 2:
                faults[i] = found
            else:
                size, pixels[i], small[i] = found
                resized += [i] if size else []
            if progress:
                progress("masks", i + 1, count)
    present = pixels[:, :-1] > 0
    return MaskSurvey(replace(masks, present=present), pixels, small, faults, tuple(resized))


def _read(masks: Masks, i: int) -> tuple:
    """A fault's kind and words; or whether the size is another than the image's, pixels of classes, and it small."""
    source = str(masks.sources[i])
    try:
        image = read_header(masks.images[i])
    except ImageError:
        return "", "its image cannot be read"  # which is told of the image
    try:
        mask = masks.read(i)
    except ImageError as error:
        return "unreadable-masks", f"{source}: {error.reason}"
    except DataError as error:
        return "mask-shape" if _has_other_shape(masks.sources[i], image) else "mask-values", str(error).rstrip(".")
    high, wide = mask.shape
    counts = np.bincount(mask.ravel(), minlength=256)
    found = np.append(counts[: len(masks.names)], counts[VOID])
    if not found[:-1].any():
        return "void-masks", source
    rows, columns = ((np.arange(SMALL) * 2 + 1) * side // (2 * SMALL) for side in (high, wide))
    return (wide, high) != image.upright_size, found, mask[np.ix_(rows, columns)]


def _has_other_shape(source: Path | Outlines, image: Header) -> bool:
    size = source.size if isinstance(source, Outlines) else read_header(source).upright_size
    return min(shape_error(size, shape) for shape in (image.upright_size, (image.width, image.height))) > SAME_SHAPE
