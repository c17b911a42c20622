"""One pass over all images: each is read, hashed and decoded once, and what the checks need of it is kept.

Kept are some 600 bytes an image: a row of numbers and one or two tiny grey thumbnails, never the image itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.choosing_fit import edges_kept
from ..datasets.near_copies import LUMA
from ..datasets.packing import BLOCK, THREADS, file_digest
from ..datasets.shipped import Shipped
from ..datasets.unsplit import Unsplit
from ..errors import ImageError
from ..images.decoding import examined, has_frames
from ..images.members import Member
from ..progress import Progress
from ..workers import Workers, blocks_of, shares_of
from .borders import without_border
from .thumbnails import SIDE, Thumbnails, thumbnail

WORKING = 128  # pixels of the longer side at most, at which borders and tones are looked at
READ_WHOLE = 64 << 20  # bytes; larger files are hashed in pieces and read again
SAMPLED = 4096  # pixels whose distinct values are counted
NEAR = 8  # grey levels that compression blurs a level of a mask by

# What is kept of an image. Sides are those of the upright image, in pixels; ``size`` in bytes. ``darkest`` to
# ``colour`` are values 0..255: the least grey, the most of any channel, means of the channels, how far these are apart;
# ``span`` is that of the widest channel. ``levels`` counts distinct grey values, ``in_two`` is the share of pixels near
# one of the two commonest, ``kept`` that of all edges that lies within the middle square; ``coarseness`` the sum of a
# JPEG's quantisation table, 0 of others.
ROW = np.dtype(
    [
        ("readable", "?"),
        ("format", "U4"),
        ("mode", "U6"),
        ("width", "i4"),
        ("height", "i4"),
        ("size", "i8"),
        ("orientation", "i1"),
        ("alpha", "?"),
        ("deep", "?"),
        ("frames", "?"),
        ("coarseness", "i4"),
        ("darkest", "f4"),
        ("brightest", "f4"),
        ("red", "f4"),
        ("green", "f4"),
        ("blue", "f4"),
        ("colour", "f4"),
        ("span", "i2"),
        ("levels", "i2"),
        ("in_two", "f4"),
        ("kept", "f4"),
        ("bordered", "?"),
    ]
)


@dataclass(frozen=True)
class Survey:
    """What a pass has kept of every image of ``unsplit``: ``rows`` (N,) of `ROW`, ``digests`` uint8 (N, 32).

    ``reasons`` says why images cannot be read, by index.
    """

    unsplit: Unsplit
    rows: np.ndarray
    digests: np.ndarray
    thumbnails: Thumbnails
    reasons: dict[int, str]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def good(self) -> np.ndarray:
        """The indices of those that can be read."""
        return np.flatnonzero(self.rows["readable"])

    def names(self, index: Iterable[int]) -> list[str]:
        """Where the images at ``index`` came from."""
        return [self.unsplit.origin(int(i)) for i in index]

    def is_gone(self, i: int) -> bool:
        """Whether there is no such file, nor a link of its name: a table may name what is not there."""
        if i not in self.reasons or not self.unsplit.files:
            return False
        path = self.unsplit.files[i]
        return not isinstance(path, Member) and not os.path.lexists(path)

    def label(self, i: int) -> str:
        """The class of image ``i``, by name, or what else is asked of it."""
        targets = self.unsplit.targets
        return targets.told(i) if targets is not None else self.unsplit.class_names[self.unsplit.labels[i]]


Found = tuple[bytes, tuple | str, list[np.ndarray]]  # digest, row or reason, thumbnails


def survey(unsplit: Unsplit, progress: Progress | None = None, workers: Workers | None = None) -> Survey:
    """Read every image once; ``workers`` do it on a cluster, None: this process does."""
    count = len(unsplit.labels)
    rows, digests = np.zeros(count, ROW), np.zeros((count, 32), np.uint8)
    reasons: dict[int, str] = {}
    kept = Thumbnails()
    for start, block in _in_blocks(SurveyWork(Shipped.of(unsplit)), count, workers):
        thumbs: list[np.ndarray] = []
        owners: list[int] = []
        for i, (digest, row, drawn) in enumerate(block, start):
            digests[i] = np.frombuffer(digest, np.uint8)
            if isinstance(row, str):
                reasons[i] = row
                continue
            rows[i] = row
            thumbs += drawn
            owners += [i] * len(drawn)
        kept.add(thumbs, owners)
        if progress:
            progress("reading images", start + len(block), count)
    return Survey(unsplit, rows, digests, kept, reasons)


@dataclass(frozen=True)
class SurveyWork:
    """The reading of images as a `Work`: files are decoded by threads, which arrays would only hold up."""

    images: Shipped
    on_accelerator: bool = False

    def begin(self) -> Callable[[np.ndarray], list[Found]]:
        """Read a block of images; nothing has to be made ready."""
        return self.read

    def read(self, block: np.ndarray) -> list[Found]:
        """What is found in each image."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(self.read_by(pool, block))

    def read_by(self, pool: ThreadPoolExecutor, block: np.ndarray) -> Iterable[Found]:
        """The same by threads that are there."""
        work = pool.map if self.images.arrays is None else map
        return work(lambda i: _look(self.images, i), block.tolist())

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files of a block."""
        return self.images.files(block)


def _in_blocks(work: SurveyWork, count: int, workers: Workers | None) -> Iterator[tuple[int, list[Found]]]:
    """Blocks of what was found, in order, with the number of the first image."""
    blocks = blocks_of(count, BLOCK)
    if workers is not None:
        shares = shares_of(np.arange(count), workers.count, BLOCK)
        yield from zip((int(share[0]) for share in shares), workers.each(work, shares), strict=True)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for block in blocks:
            yield int(block[0]), list(work.read_by(pool, block))


def _look(images: Shipped, i: int) -> Found:
    if images.arrays is not None:
        pixels = np.ascontiguousarray(images.arrays[i])
        digest = hashlib.sha256(pixels.data).digest()
        return digest, *look_at(Image.fromarray(pixels), pixels.nbytes, "image")
    path = images.path(i)
    content: Path | bytes = path
    size = 0
    try:
        size = path.stat().st_size if path.is_file() else 0
        content = path.read_bytes() if 0 < size <= READ_WHOLE else path
        digest = hashlib.sha256(content).digest() if isinstance(content, bytes) else file_digest(path, images.paths[i])
    except OSError:
        digest = file_digest(path, images.paths[i])
    return digest, *look_at(content, size, "image")


def look_at(source: Path | bytes | Image.Image, size: int, where: str) -> tuple[tuple | str, list[np.ndarray]]:
    """The row of an image of ``size`` bytes and its thumbnails, or why it cannot be read and none."""
    try:
        with examined(source, where=where, at_least=SIDE) as (header, image):
            levels, in_two = _levels(image)
            working = _working(image)
    except ImageError as error:
        return error.reason, []
    grey = working.astype(np.float32) @ np.array(LUMA, np.float32)
    inner = without_border(working)
    drawn = [thumbnail(grey)] if inner is None else [thumbnail(grey), thumbnail(grey[inner])]
    red, green, blue = (np.ascontiguousarray(working[:, :, channel]) for channel in range(3))
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    row = (
        True,
        header.format,
        header.mode,
        *header.upright_size,
        size,
        header.orientation,
        header.alpha,
        header.deep,
        not isinstance(source, Image.Image) and has_frames(source),
        header.coarseness,
        float(grey.min()),
        float(high.max()),
        *(float(channel.mean(dtype=np.float32)) for channel in (red, green, blue)),
        float((high - low).mean(dtype=np.float32)),
        max(int(np.ptp(channel)) for channel in (red, green, blue)),
        levels,
        in_two,
        edges_kept(grey),
        inner is not None,
    )
    return row, drawn


def _working(image: Image.Image) -> np.ndarray:
    """The image with a longer side of `WORKING`, or up to twice that, at most, uint8 (h, w, 3): means of pixels."""
    factor = max(image.size) // WORKING
    if factor > 1:
        image = image.reduce((min(factor, image.width), min(factor, image.height)))
    return np.asarray(image)


def _levels(image: Image.Image) -> tuple[int, float]:
    """How many grey values some of the pixels have, and the share of them near one of the two commonest."""
    step = max(1, int((image.width * image.height / SAMPLED) ** 0.5))
    if step > 1:
        image = Image.fromarray(np.ascontiguousarray(np.asarray(image)[step // 2 :: step, step // 2 :: step]))
    counts = np.bincount(np.frombuffer(image.convert("L").tobytes(), np.uint8), minlength=256)
    left, share = counts.copy(), 0
    for _ in range(2):
        at = int(left.argmax())
        near = slice(max(0, at - NEAR), at + NEAR + 1)
        share += int(left[near].sum())
        left[near] = 0
    return int((counts > 0).sum()), share / max(1, int(counts.sum()))
