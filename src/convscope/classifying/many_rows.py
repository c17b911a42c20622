"""Rows that come block by block: kept in memory while they are few, and on the disk where they would fill it.

A network of 21,000 classes gives 84 kB an image, and a validation of 50,000 images so 4 GB.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
import torch

from ..cache import cache_folder

IN_MEMORY = 256 * 2**20  # bytes


class ManyRows:
    """``count`` rows of one shape: ``add`` blocks of them, then take the ``whole``.

    On the disk they lie in a file of the cache that has no name, and is gone with the tensor; where there is no room
    for it they stay in memory.
    """

    def __init__(self, count: int) -> None:
        self._count, self._done = count, 0
        self._blocks: list[torch.Tensor] = []
        self._mapped: np.ndarray | None = None

    def add(self, block: torch.Tensor) -> None:
        """Take the next rows, a tensor on the CPU."""
        if not self._done and self._count * block[0].numel() * block.element_size() > IN_MEMORY:
            self._mapped = _mapped((self._count, *block.shape[1:]), block.numpy().dtype)
        if self._mapped is None:
            self._blocks.append(block)
        else:
            self._mapped[self._done : self._done + len(block)] = block.numpy()
        self._done += len(block)

    def whole(self) -> torch.Tensor:
        """All rows."""
        return torch.cat(self._blocks) if self._mapped is None else torch.from_numpy(self._mapped)


def _mapped(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """An array in a file without a name; None where the disk cannot promise its bytes."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()) as file:
            size = int(np.prod(shape)) * dtype.itemsize
            os.posix_fallocate(file.fileno(), 0, size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)
    except (OSError, AttributeError, ValueError):
        return None
