"""Losses that are read when the next update is under way, so that a GPU never waits for the host to ask for a number.

A value on its way keeps what it needs to be told later: of which update it is, and from which on it has run away. Until
it is read an update may have been made with a loss that is no number; nothing is saved before all are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .diverging import Diverged


@dataclass(frozen=True)
class Late:
    """The loss of an update and how many images were right (2,), on their way to the host; ``limit`` is a runaway loss.

    ``epoch`` and ``step`` count from 1; ``index`` are the images of the batch.
    """

    values: torch.Tensor
    arrived: torch.cuda.Event | None
    epoch: int
    step: int
    lr: float
    index: np.ndarray
    limit: float

    @classmethod
    def sent(  # noqa: PLR0913 - a loss, what was right, and all that is told of a loss that ran away
        cls, values: torch.Tensor, epoch: int, step: int, lr: float, index: np.ndarray, limit: float
    ) -> Late:
        """Send the values; nothing waits for them."""
        if not values.is_cuda:
            return cls(values, None, epoch, step, lr, index, limit)
        there = torch.empty_like(values, device="cpu", pin_memory=True)
        there.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return cls(there, arrived, epoch, step, lr, index, limit)

    def read(self) -> tuple[float, int]:
        """The loss and how many were right, waited for. Raises Diverged."""
        if self.arrived is not None:
            self.arrived.synchronize()
        loss, right = self.values.tolist()
        if not loss <= self.limit:
            raise Diverged(self.epoch, self.step, self.lr, loss, self.index)
        return loss, int(right)
