"""A pass over some of the images that exemplars are sought among, as work that may be done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..classifying.prediction import logits
from ..datasets.shipped import ShippedPixels
from ..images.preprocess import Preprocess
from ..kept_memory import keeping_memory
from ..machine import device_of
from ..models.taps import computing_by, evaluating
from .exemplars import Stream
from .layers import Layer


@dataclass(frozen=True)
class Search:
    """What is sought: the ``count`` images that excite each filter of these layers most, and ``least``."""

    layers: tuple[Layer, ...]
    count: int
    least: bool


@dataclass(frozen=True)
class ExemplarWork:
    """The exemplars of some images as a `Work`; its results are states that ``Stream.add`` takes.

    A worker computes with ``threads`` threads, as many as this process: with another number a convolution may add in
    another order. ``classifier`` knows what computes for layers instead; None: nothing does.
    """

    network: nn.Module
    preprocess: Preprocess
    search: Search
    images: ShippedPixels
    threads: int
    classifier: Classifier | None = None

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker needs a GPU of its own."""
        return device_of(self.network).type != "cpu"

    def begin(self) -> Callable[[np.ndarray], dict[str, Tensor]]:
        """Make ready what computes for layers."""
        torch.set_num_threads(self.threads)
        images: Any = self.images  # an array as far as a pass looks at it
        faster = {} if self.classifier is None else self.classifier.faster()

        def seen(index: np.ndarray) -> dict[str, Tensor]:
            stream = Stream(self.search.layers, self.search.count, self.search.least)
            with keeping_memory(), evaluating(self.network), computing_by(faster), stream.watching(self.network, index):
                logits(self.network, images, self.preprocess, index)
            return stream.state()

        return seen

    def files(self, block: np.ndarray) -> Sequence[str]:
        """The files that a worker opens for these images."""
        return self.images.files(block)
