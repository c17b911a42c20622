"""What cards are made of: a network, how it takes images, its classes, and a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..datasets.dataset import Dataset
from ..datasets.shipped import ShippedPixels
from ..evaluation.subject import Subject
from ..images.preprocess import Preprocess, to_tensor
from ..machine import device_of
from ..models.fast_norms import Forwards
from .layers import Layer
from .passes import ExemplarWork, Search


@dataclass(frozen=True)
class CardMaterial:
    """A network that is explained, how it takes images, its classes, and the dataset with its own classes.

    ``labels`` are the dataset's in the order of the network's classes, None where the two do not fit.
    ``faster`` are layers that compute otherwise (see ``Classifier.faster``), of the ``classifier`` if there is one.
    """

    network: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    dataset: Dataset
    labels: np.ndarray | None
    faster: Forwards = field(default_factory=dict)
    classifier: Classifier | None = None

    @classmethod
    def of(cls, subject: Subject) -> CardMaterial:
        """Take what is needed of what a command is asked about."""
        c = subject.classifier
        return cls(c.network, c.preprocess, c.class_names, subject.dataset, subject.labels, c.faster(), c)

    def images(self, index: np.ndarray) -> Tensor:
        """Normalised images (B, 3, S, S), on the network's device."""
        block = to_tensor(np.ascontiguousarray(self.dataset.images[index]))
        return self.preprocess.normalise(block.to(device_of(self.network)))

    def exemplar_work(self, layers: tuple[Layer, ...], count: int, least: bool) -> ExemplarWork:
        """The search for exemplars of these layers, as it may be done elsewhere."""
        images = ShippedPixels.of(self.dataset.images)
        search = Search(layers, count, least)
        return ExemplarWork(self.network, self.preprocess, search, images, torch.get_num_threads(), self.classifier)
