"""Work on many images that may be done elsewhere: what is done with a block of them, and who does it.

A command says what its work is, once, as a `Work` that can be sent; `Workers` do it on a cluster, and give the results
in the order of the blocks. Without them a command works in this process, as it always has. The results are the same
bytes: a block is what this process would take at a time, and is computed with as many threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import numpy as np

from .errors import UsageError
from .options import Cluster
from .progress import Progress

R = TypeVar("R", covariant=True)

# Who does the work, by the name that a user gives. Looked up when it is asked for: a library takes a second to
# import, and its room stands above those whose work it does.
ENGINES = {"ray": "convscope.scale.cluster"}
BLOCKS_EACH = 8  # blocks a worker, at least, where there are enough images


class Work(Protocol[R]):
    """What is done with blocks of image numbers. It is sent to each worker, so it holds what can be pickled."""

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker needs a GPU of its own."""
        ...

    def begin(self) -> Callable[[np.ndarray], R]:
        """Make ready in a worker, once; what is returned does one block, and a block alone decides what it returns."""
        ...

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files, absolute, that a worker opens for a block."""
        ...


class Workers(Protocol):
    """Who does the work of `Work`, on a cluster."""

    count: int

    def each(self, work: Work[R], blocks: Sequence[np.ndarray]) -> Iterator[R]:
        """The results of the blocks, in their order. An error that the work raises is raised here."""
        ...


def hired(engine: str, cluster: Cluster, progress: Progress | None = None) -> AbstractContextManager[Workers | None]:
    """A with-block that has the workers of this engine which are asked for; None where this process does the work.

    UsageError where they cannot be had as asked, UnreachableError where a cluster does not answer.
    """
    check_asked(engine, cluster)
    where = engine.partition("-")[0]
    if where not in ENGINES:
        return nullcontext()
    return importlib.import_module(ENGINES[where]).hire(cluster.workers, cluster.address, progress)


def check_asked(engine: str, cluster: Cluster) -> None:
    """UsageError where workers are asked for that this engine has not, or none."""
    if engine.partition("-")[0] not in ENGINES:
        for name in ("workers", "address"):
            if getattr(cluster, name) is not None:
                raise UsageError(f"--{name} is for a cluster: say --engine {' or '.join(ENGINES)} with it.")
    elif cluster.workers is not None and cluster.workers < 1:
        raise UsageError(f"--workers {cluster.workers} can do nothing: it must be 1 or more.")


def blocks_of(count: int, size: int) -> list[np.ndarray]:
    """The numbers 0 to ``count`` in blocks of ``size``, the last one smaller."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def shares_of(numbers: np.ndarray, workers: int, most: int, step: int = 1) -> list[np.ndarray]:
    """Numbers in blocks of ``most``, or of fewer where each worker would else get few: a lost worker costs its block.

    A block's size is a multiple of ``step``, the numbers that are worked on together.
    """
    size = min(most, -(-len(numbers) // (BLOCKS_EACH * workers)))
    size = step * max(1, -(-size // step))
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
