"""What is raised where the loss runs away."""

from __future__ import annotations

import numpy as np

from ..errors import DivergedError


class Diverged(DivergedError):
    """The loss is not a number, or ran away: at which step, rate, and on which images (indices of the dataset)."""

    def __init__(self, epoch: int, step: int, lr: float, loss: float, index: np.ndarray) -> None:
        self.epoch, self.step, self.lr, self.loss, self.index = epoch, step, lr, loss, index
        super().__init__(f"the loss became {loss:.4g} at epoch {epoch}, step {step}, learning rate {lr:.4g}")
