"""Work for workers that is done at once, or goes wrong; it imports little, for each worker imports it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convscope.errors import ImageError, UsageError


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; ``trouble`` is what happens at number 7."""

    trouble: str = ""
    place: str = ""
    on_accelerator: bool = False

    def begin(self) -> Callable[[np.ndarray], list[int]]:
        if self.trouble == "at the start":
            raise UsageError("no start today.")
        return self.double

    def double(self, block: np.ndarray) -> list[int]:
        if 7 in block and self.trouble == "an image":
            raise ImageError("seven.png", "not an image")
        if 7 in block and self.trouble == "always killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if 7 in block and self.trouble == "no memory":
            raise MemoryError
        return [2 * int(i) for i in block]

    def files(self, block: np.ndarray) -> Sequence[str]:
        return [self.place] if self.place else []
