"""Batches of a training: seeded order, augmentation, device transfer. No state, so any epoch can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from ..datasets.dataset import Dataset
from ..images.augmentation import augment
from ..images.mixing import is_on, mix, partners
from ..images.preprocess import to_tensor
from ..randomness import distinct, order
from ..recipes import Augment, Labels
from .feeding import epoch_order, in_advance

_BEFORE = -2  # the epoch of what is drawn before the first


@dataclass(frozen=True)
class Batch:
    """``images`` float32 (B, 3, H, W) normalised, channels last; ``labels`` int64 (B,); ``index`` into the dataset.

    Where images are mixed, ``others`` are the partners' labels, and ``share`` float32 (B,) is that of the own label.
    Where processes share a batch this is one share of it, and ``whole`` the index of all of it.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: np.ndarray
    others: torch.Tensor | None = None
    share: torch.Tensor | None = None
    whole: np.ndarray | None = None

    @property
    def whole_index(self) -> np.ndarray:
        """The images of the whole batch, also where this is a share of it."""
        return self.index if self.whole is None else self.whole

    @property
    def main_labels(self) -> torch.Tensor:
        """The label with the larger share: int64 (B,). A mixed image has no other hard label."""
        if self.others is None or self.share is None:
            return self.labels
        return torch.where(self.share >= 0.5, self.labels, self.others)


class Feed(Protocol):
    """The feed of a training: batches of images, or of features recorded from them."""

    def __len__(self) -> int: ...

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def class_weights(self) -> torch.Tensor:
        """Float32 (K,)."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        ...


@dataclass(frozen=True)
class Batches:
    """The training images ``index`` of a dataset, shuffled and varied anew each epoch.

    An epoch's batches differ in size by one image at most, so that none is too small for batch norm. ``share`` (r, n)
    yields the r-th of n shares of each: images and batches are the same, whatever the number of shares.
    """

    dataset: Dataset
    index: np.ndarray
    batch_size: int
    seed: int
    recipe: Augment
    device: torch.device
    mixed: Labels = field(default_factory=Labels)
    share: tuple[int, int] = (0, 1)

    @cached_property
    def _keys(self) -> np.ndarray:
        """A key an image of the dataset: copies of one image differ, or they would always stand side by side."""
        return distinct(self.dataset.keys)

    def __len__(self) -> int:
        """Updates an epoch."""
        return -(-len(self.index) // self.batch_size)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.dataset.class_names)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on."""
        images, (own, shares) = self.dataset.images, self.share
        ordered = epoch_order(images, self.index, self._keys, self.seed, epoch)
        wholes = np.array_split(ordered, len(self))[start:]
        chosen = [np.array_split(whole, shares)[own] for whole in wholes]
        for whole, (index, pixels) in zip(wholes, in_advance(images, chosen), strict=True):
            yield self._batch(index, pixels, epoch, whole if shares > 1 else None)

    def some(self, count: int) -> torch.Tensor:
        """So many of the images, or all, as they are: float32 (B, 3, H, W) normalised; the choice is the seed's."""
        shuffled = self.index[order(self.seed, _BEFORE, self._keys[self.index])]
        images = to_tensor(self.dataset.images[np.sort(shuffled[:count])]).to(self.device)
        return self.dataset.preprocess.normalise(images)

    @cached_property
    def class_weights(self) -> torch.Tensor:
        """Float32 (K,): weights that give every class the same say; over the training images their mean is 1."""
        return balanced(self.dataset.labels[self.index], self.classes).to(self.device)

    def _batch(self, chosen: np.ndarray, pixels: np.ndarray, epoch: int, whole: np.ndarray | None) -> Batch:
        images, labels = self._varied(chosen, pixels, epoch)
        if not is_on(self.mixed):
            return Batch(images, labels, chosen, whole=whole)
        keys = self._keys[chosen]
        chosen_too = self.index[partners(self.seed, epoch, keys, len(self.index))]
        others, other_labels = self._varied(chosen_too, self.dataset.images[chosen_too], epoch)
        mixed, share = mix(images, others, self.mixed, self.seed, epoch, keys)
        return Batch(mixed, labels, chosen, other_labels, share, whole)

    def _varied(self, chosen: np.ndarray, pixels: np.ndarray, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = to_tensor(pixels).to(self.device)
        varied = augment(images, self.recipe, self.seed, epoch, self._keys[chosen])
        labels = torch.from_numpy(self.dataset.labels[chosen]).to(self.device)
        return self.dataset.preprocess.normalise(varied), labels


def balanced(labels_N: np.ndarray, classes: int) -> torch.Tensor:
    """Float32 (K,): weights that give every class the same say; over these labels their mean is 1."""
    counts = np.bincount(labels_N, minlength=classes)
    present = np.count_nonzero(counts)
    weights = np.where(counts > 0, len(labels_N) / (present * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights.astype(np.float32))
