"""Work on blocks of tiles or rows, shared among as many threads as torch computes with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch

ALONE = 1 << 18  # numbers that are too few to be shared among threads

Blocks = Sequence[tuple[int, int]]  # the first and last of each
T = TypeVar("T")


class _Pool:
    """As many threads as torch computes with, each computing in one; made anew in a process that was forked."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.made_for = (0, 0)

    def map(self, work: Callable[[Blocks], T], shares: Sequence[Blocks]) -> list[T]:
        threads = torch.get_num_threads()
        if self.pool is None or self.made_for != (os.getpid(), threads):
            self.pool = ThreadPoolExecutor(threads, "convolution", initializer=_alone, initargs=(threads,))
            self.made_for = (os.getpid(), threads)
            list(self.pool.map(int, range(threads)))
            torch.set_num_threads(threads)  # what a thread of its own is set to, torch takes for the others to come
        return list(self.pool.map(work, shares))


def _alone(threads: int) -> None:
    """Make this thread compute by itself, after it has computed once with helpers.

    With more helpers about than processors, libgomp lets all that wait fall asleep at once. Else those that wait for
    the next operation of torch's spin for milliseconds, on the processors that this pool needs (docs/log.md).
    """
    torch.set_num_threads(threads)
    torch.zeros(1 << 18).add_(1)
    torch.set_num_threads(1)


_pool = _Pool()


def shared(work: Callable[[Blocks], T], blocks: Blocks) -> list[T]:
    """Do the work, in equal runs of neighbouring blocks, with as many threads as torch computes with."""
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1:
        return [work(blocks)]
    cuts = [round(i * len(blocks) / threads) for i in range(threads + 1)]
    return _pool.map(work, [blocks[a:b] for a, b in pairwise(cuts)])


def over(loop: Callable[..., None], arrays: Sequence[Any], count: int, alone: int = ALONE) -> None:
    """Run a compiled loop over so many rows, which it is told the first and last of: a part of them in each thread.

    One thread does what is of ``alone`` numbers or fewer.
    """
    numbers = max(array.size for array in arrays if isinstance(array, np.ndarray))
    threads = max(1, min(torch.get_num_threads(), count)) if numbers > alone else 1
    cuts = [round(i * count / threads) for i in range(threads + 1)]
    shared(lambda parts: [loop(*arrays, first, last) for first, last in parts], list(pairwise(cuts)))
