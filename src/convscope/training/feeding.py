"""The order of an epoch, and its images a batch ahead: from memory, from a packed file, or decoded anew from shards.

Packed images lie on this machine in the size that is trained on, and any of them is one read away: they are shuffled
freely. Images that stream from shards are shuffled in blocks: a seek for each photograph costs a disk or a store of
objects most of its rate, and 32 blocks of 8 MB, drawn anew each epoch from all over the data, mix 2,500 photographs.
Either way the order is a function of seed and epoch, so that a run goes on in the middle of an epoch at its exact step,
and no number of threads or processes changes it: a process takes its share of each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..datasets.streamed import TOGETHER, Streamed
from ..randomness import order, order_in_blocks

Images = np.ndarray | Streamed  # uint8 (N, S, S, 3), or what stands for it


def epoch_order(images: Images, index: np.ndarray, keys_N: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The images at ``index`` in the order of an epoch; ``keys`` are those of all images."""
    if isinstance(images, Streamed) and images.blocks is not None:
        return index[order_in_blocks(seed, epoch, keys_N[index], images.blocks[index], TOGETHER)]
    return index[order(seed, epoch, keys_N[index])]


def in_advance(images: Images, batches: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each batch's indices with its images, uint8 (B, S, S, 3); streamed ones are decoded while others are used."""
    if isinstance(images, Streamed):
        yield from zip(batches, images.in_advance(batches), strict=True)
        return
    for batch in batches:
        yield batch, images[batch]
