"""How familiar an image is to a classifier, so that it may answer "none of these".

A softmax must choose a class, and is often sure of images that are of none. Two signs are taken together, each as a
rank among validation images: the energy of the logits (Liu and others 2020, arXiv:2010.03759), low where no class
answers; and the Mahalanobis distance of the first convolution's feature maps, their mean and standard deviation over
the places of the image, from those of training images (after Lee and others 2018, arXiv:1807.03888, who take deeper
layers), large for noise and for images of another kind. The worse of the two ranks counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..models.heads import head_place, unit
from ..models.taps import Tap, evaluating, observe, tapping

NEAREST = 3  # training images that are named


@dataclass
class Looks:
    """What a network made of images in one pass after another: lists with a tensor a pass.

    ``energies`` (B,); ``edges`` (B, 2 C) of the C feature maps of the first convolution, nothing where there is none;
    ``features`` (B, F) that the last linear layer was given, or the logits.
    """

    energies: list[Tensor] = field(default_factory=list)
    edges: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)

    def every(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (N,), edges (N, 2 C) and features (N, F), float64 and float32, of each ``count``-th pass."""
        energies, features = (torch.cat(rows[::count]).cpu() for rows in (self.energies, self.features))
        edges = torch.cat(self.edges[::count]).cpu() if self.edges else torch.zeros(len(energies), 0)
        return energies.double().numpy(), edges.double().numpy(), features.numpy()

    def forget(self) -> None:
        """Drop what was gathered."""
        for rows in (self.energies, self.edges, self.features):
            rows.clear()


@contextmanager
def looking(network: nn.Module, size: int) -> Iterator[Looks]:
    """A with-block in which ``Looks`` gathers what the network makes of the images, of side ``size``, it is given."""
    looks = Looks()
    taps, kinds = [Tap("")], ["energies"]
    if (first := _first_convolution(network, size)) is not None:
        taps.append(Tap(first))
        kinds.append("edges")
    try:
        taps.append(Tap(head_place(network)[0], at_input=True))
    except UsageError:
        taps.append(Tap(""))
    kinds.append("features")

    def keep(number: int, tensor: Tensor) -> None:
        tensor = tensor.detach().float()
        if kinds[number] == "energies":
            looks.energies.append(torch.logsumexp(tensor.cpu().double(), dim=1))
        elif kinds[number] == "edges":
            maps = tensor.flatten(2)
            looks.edges.append(torch.cat([maps.mean(2), maps.std(2, unbiased=False)], dim=1))
        else:
            looks.features.append(unit(tensor.flatten(1)))

    with tapping(network, taps, keep):
        yield looks


def _first_convolution(network: nn.Module, size: int) -> str | None:
    """The name of the convolution that comes first in a pass; None in a network without any."""
    found: list[str] = []

    def note(name: str, module: nn.Module, _inputs: tuple[object, ...], _output: object) -> None:
        if isinstance(module, nn.Conv2d):
            found.append(name)

    parameter = next(network.parameters(), torch.zeros(()))
    with evaluating(network), torch.inference_mode(), observe(network, note, leaves_only=True):
        network(torch.zeros(1, 3, size, size, device=parameter.device))
    return found[0] if found else None


@dataclass(frozen=True)
class Known:
    """What a classifier knows, by T training and V validation images.

    ``energies`` and ``distances`` (V,) float64 of the validation images; ``centre`` (E,) and ``precision`` (E, E) of
    the training images' edges, empty in a network without convolution; ``features`` (T, F) float32 of length 1, and
    ``origins`` and ``labels``, where the training images came from and their class names.
    """

    ARRAYS = ("energies", "distances", "centre", "precision", "features")
    energies: np.ndarray
    distances: np.ndarray
    centre: np.ndarray
    precision: np.ndarray
    features: np.ndarray
    origins: tuple[str, ...]
    labels: tuple[str, ...]

    def familiarity(self, energies_N: np.ndarray, edges_NE: np.ndarray) -> np.ndarray:
        """(N,): the share of validation images that are no more familiar than each image; 0 for the strangest."""
        own = np.sort(self._worse_ranks(self.energies, self.distances))
        ranks = self._worse_ranks(energies_N, distances(edges_NE, self.centre, self.precision))
        return np.searchsorted(own, ranks, side="right") / len(own)

    def is_consistent(self) -> bool:
        """Whether the shapes of the arrays are those that are written."""
        edge, number = self.centre.shape, len(self.energies)
        return (
            self.energies.shape == self.distances.shape == (number,)
            and number > 0
            and self.precision.shape == edge * 2
            and self.features.ndim == 2
            and len(self.features) == len(self.origins) == len(self.labels)
            and len(edge) == 1
        )

    def _worse_ranks(self, energies_N: np.ndarray, distances_N: np.ndarray) -> np.ndarray:
        """The smaller of both shares of validation images that an image is as familiar as; 0 for what is no number."""
        by_energy = np.searchsorted(np.sort(self.energies), energies_N, side="right")
        by_distance = np.searchsorted(np.sort(-self.distances), -distances_N, side="right")
        sound = np.isfinite(energies_N) & np.isfinite(distances_N)
        return np.where(sound, np.minimum(by_energy, by_distance) / len(self.energies), 0.0)

    def nearest(self, features_F: np.ndarray, count: int) -> list[tuple[str, str, float]]:
        """(where it came from, class name, cosine) of the training images with the nearest features, nearest first."""
        cosines = self.features @ features_F
        best = np.argsort(-cosines, kind="stable")[:count]
        return [(self.origins[i], self.labels[i], float(cosines[i])) for i in best]


@dataclass(frozen=True)
class Familiar:
    """How familiar an image is, as ``Known.familiarity`` has it, and the nearest training images.

    ``nearest`` holds (where it came from, class name, cosine of the features), the nearest first.
    """

    familiarity: float
    nearest: tuple[tuple[str, str, float], ...]


@dataclass
class Judge:
    """Tells of images that pass a network how familiar they are; ``views`` passes are made of the same images."""

    known: Known
    looks: Looks
    views: int

    def judged(self) -> list[Familiar]:
        """Of each image that has passed since this was last asked."""
        energies, edges, features = self.looks.every(self.views)
        self.looks.forget()
        shares = self.known.familiarity(energies, edges)
        return [
            Familiar(float(share), tuple(self.known.nearest(row, NEAREST)))
            for share, row in zip(shares, features, strict=True)
        ]


@contextmanager
def judging(known: Known, network: nn.Module, size: int, views: int) -> Iterator[Judge]:
    """A with-block in which a Judge watches what passes the network; images have side ``size``."""
    with looking(network, size) as looks:
        yield Judge(known, looks, views)


def refuses(familiarity: float, coverage: float) -> bool:
    """Whether an image is refused, where a share ``coverage`` of validation images is kept."""
    return familiarity <= 1 - coverage + 1e-12


def distances(edges_NE: np.ndarray, centre_E: np.ndarray, precision_EE: np.ndarray) -> np.ndarray:
    """(N,): the squared Mahalanobis distances; 0 where there are no edges."""
    if not len(centre_E):
        return np.zeros(len(edges_NE))
    off = edges_NE - centre_E
    return np.einsum("ne,ef,nf->n", off, precision_EE, off)


def centre_and_precision(edges_TE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (E,) and the inverse of the shrunken covariance (E, E) (Ledoit and Wolf 2004)."""
    if not edges_TE.shape[1]:
        return np.zeros(0), np.zeros((0, 0))
    from sklearn.covariance import LedoitWolf  # slow to import

    fitted = LedoitWolf().fit(edges_TE)
    return fitted.location_, fitted.get_precision()
