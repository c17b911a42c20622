"""Batches of a training: seeded order, augmentation, device transfer. No state, so any epoch can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .augment import augment
from .datasets import Dataset
from .images import to_tensor
from .randomness import distinct, order
from .recipes import Augment


@dataclass(frozen=True)
class Batch:
    """``images`` float32 (B, 3, H, W) normalised, channels last; ``labels`` int64 (B,); ``index`` into the dataset."""

    images: torch.Tensor
    labels: torch.Tensor
    index: np.ndarray


@dataclass(frozen=True)
class Batches:
    """The training pictures ``index`` of a dataset, shuffled and varied anew each epoch.

    An epoch's batches differ in size by one picture at most, so that none is too small for batch norm.
    """

    dataset: Dataset
    index: np.ndarray
    batch_size: int
    seed: int
    recipe: Augment
    device: torch.device

    @cached_property
    def _keys(self) -> np.ndarray:
        """A key a picture of the dataset: copies of one picture differ, or they would always stand side by side."""
        return distinct(self.dataset.keys)

    def __len__(self) -> int:
        """Updates an epoch."""
        return -(-len(self.index) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        shuffled = self.index[order(self.seed, epoch, self._keys[self.index])]
        for chosen in np.array_split(shuffled, len(self))[start:]:
            yield self._batch(chosen, epoch)

    def _batch(self, chosen: np.ndarray, epoch: int) -> Batch:
        pictures = to_tensor(self.dataset.pictures[chosen]).to(self.device)
        varied = augment(pictures, self.recipe, self.seed, epoch, self._keys[chosen])
        labels = torch.from_numpy(self.dataset.labels[chosen]).to(self.device)
        return Batch(self.dataset.preprocess.normalise(varied), labels, chosen)
