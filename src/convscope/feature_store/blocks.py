"""The features of a block of images: decoded, varied where they are copies, and computed. Here, or by a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..classifying.classifier import Classifier
from ..datasets.shipped import Shipped
from ..errors import ImageError, UsageError
from ..images.augmentation import augment
from ..images.preprocess import Preprocess, to_tensor
from .engines import Engine, engine_identity, make_engine
from .store import FeatureOptions

BLOCK = 2  # images in a pass: more leave the processor's cache (docs/log.md)
BLOCK_ACCELERATOR = 64
SHARE = 64  # images that a worker on a cluster is given at a time


@dataclass(frozen=True)
class Block:
    """Features ``values`` (n, *shape) of those of ``rows`` whose image can be read, and why others cannot, by image."""

    rows: np.ndarray
    values: np.ndarray
    bad: dict[int, str]
    decode_seconds: float
    network_seconds: float


@dataclass(frozen=True)
class Blocks:
    """How rows become features: row i is image i, row c * ``count`` + i the c-th copy of it; ``size`` are in a pass.

    ``keys`` uint64 (count,) are the images' names, by which copies are varied.
    """

    images: Shipped
    keys: np.ndarray
    preprocess: Preprocess
    options: FeatureOptions
    size: int

    @property
    def count(self) -> int:
        return len(self.keys)

    def compute(self, rows: np.ndarray, engine: Engine) -> Block:
        """The features of ``size`` rows at most, in one pass."""
        start = time.perf_counter()
        images, kept, bad = [], [], {}
        for row in rows.tolist():
            try:
                images.append(self.preprocess.fit_image(self.images.source(row % self.count)))
                kept.append(row)
            except ImageError as error:
                bad[row % self.count] = error.reason
        if not kept:
            return Block(rows, np.zeros((0, *engine.shape), np.float32), bad, time.perf_counter() - start, 0.0)
        block = self._varied(np.stack(images), np.array(kept))
        middle = time.perf_counter()
        values = engine.run(_filled(block, self.size))[: len(kept)]
        return Block(rows, values, bad, middle - start, time.perf_counter() - middle)

    def _varied(self, images_BHWC: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The images, those of copies varied as the copy's number and the image's content say."""
        count, recipe = self.count, self.options.augment
        if self.options.mirrored:
            images_BHWC[rows >= count] = images_BHWC[rows >= count, :, ::-1]
            return images_BHWC
        if recipe is None or rows[-1] < count:
            return images_BHWC
        for n, row in enumerate(rows.tolist()):
            if row >= count:
                key = self.keys[[row % count]]
                varied = augment(to_tensor(images_BHWC[[n]]), recipe, self.options.seed, row // count, key)
                images_BHWC[n] = varied[0].permute(1, 2, 0).numpy()
        return images_BHWC


@dataclass(frozen=True)
class FeatureWork:
    """The same as a `Work` for workers elsewhere: they compute by the same engine, in the same passes."""

    blocks: Blocks
    classifier: Classifier
    identity: str
    device: str

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker needs a GPU of its own."""
        return self.device != "cpu"

    def begin(self) -> Callable[[np.ndarray], Block]:
        """Make the engine. UsageError where a worker's has another name: its features would not be these."""
        torch.set_num_threads(1)
        options, device = self.blocks.options, torch.device(self.device)
        found = engine_identity(options.engine, options.wanted, device)
        if found != self.identity:
            raise UsageError(
                f"a worker would compute these features with {found}, and this machine with {self.identity}: install "
                "the same versions on all, or choose one that they share with --engine ray-torch."
            )
        engine = make_engine(options.engine, self.classifier, options.wanted, device)
        return lambda rows: self._share(rows, engine)

    def _share(self, rows: np.ndarray, engine: Engine) -> Block:
        """The features of any number of rows, in passes of the same size as here."""
        size = self.blocks.size
        done = [self.blocks.compute(rows[i : i + size], engine) for i in range(0, len(rows), size)]
        return Block(
            rows,
            np.concatenate([block.values for block in done]),
            {i: reason for block in done for i, reason in block.bad.items()},
            sum(block.decode_seconds for block in done),
            sum(block.network_seconds for block in done),
        )

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files that a worker opens for these rows."""
        return self.blocks.images.files(block % self.blocks.count)


def _filled(images_BHWC: np.ndarray, size: int) -> np.ndarray:
    """The images, the last one repeated up to ``size``: a product of one row may take another way to its bits."""
    rest = size - len(images_BHWC)
    return np.concatenate([images_BHWC, np.repeat(images_BHWC[-1:], rest, 0)]) if rest else images_BHWC
