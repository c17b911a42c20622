"""A look into a network between two updates: feature maps of a layer, the loss's gradients on them, its last change.

It works on a copy of the network and leaves torch's random generators as they were, so the training does not notice.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.dataset import Dataset
from ..errors import UsageError
from ..images.preprocess import to_tensor
from ..models.taps import leaves, logits_in, named, record
from ..randomness import mix

Mode = Literal["train", "eval"]
MODES: tuple[Mode, ...] = ("train", "eval")
PROBES = 8  # images
FILTERS = 12  # shown of a layer
LARGEST_MAP = 64  # pixels; larger ones are averaged down
LEVELS = 127  # of a signed scale on each side of 0
CONTENT_ORDER = 0x70726F6265  # mixed into the hashes of images, which decide their part already


@dataclass(frozen=True)
class Probes:
    """The images of a look: ``index`` (B,) into the dataset, ``images`` float32 (B, 3, H, W) normalised, ``labels``
    int64 (B,), and ``pixels`` uint8 (B, H, W, 3), the images before they are normalised."""

    index: np.ndarray
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    pixels: np.ndarray

    def shown(self) -> dict[str, Any]:
        """The images and their labels as JSON values."""
        pixels = self.pixels
        every = -(-pixels.shape[1] // LARGEST_MAP)
        small = np.ascontiguousarray(pixels[:, ::every, ::every])
        return {
            "shape": list(small.shape),
            "pixels": base64.b64encode(small.tobytes()).decode(),
            "labels": [self.classes[int(label)] for label in self.labels],
        }


@dataclass(frozen=True)
class Look:
    """What was seen of a layer: int8 maps and gradients (filters, images, H, W), each with what 127 stands for."""

    layer: str
    mode: Mode
    filters: tuple[int, ...]
    of: int
    maps: np.ndarray
    largest_map: float
    gradients: np.ndarray
    largest_gradient: float
    loss: float
    answers: tuple[tuple[str, float], ...]  # of each image the likeliest class, and its probability
    change: float | None  # of the layer's weights in the last update, over their norm; None: not seen

    def shown(self) -> dict[str, Any]:
        """All of it as JSON values."""
        grids = {"maps": self.maps, "gradients": self.gradients}
        told = {key: value for key, value in vars(self).items() if key not in grids}
        coded = {key: base64.b64encode(np.ascontiguousarray(grid).tobytes()).decode() for key, grid in grids.items()}
        return {**told, "shape": list(self.maps.shape), **coded}


def choose_probes(dataset: Dataset, device: torch.device) -> Probes:
    """The first validation images in the order of their content, of different classes as far as there are some."""
    part = dataset.subset("val")
    ordered = part[np.argsort(mix(dataset.keys[part], CONTENT_ORDER), kind="stable")]
    labels = dataset.labels[ordered]
    turn = np.array([np.count_nonzero(labels[:place] == label) for place, label in enumerate(labels[:1000])])
    chosen = ordered[np.argsort(turn, kind="stable")[:PROBES]]  # the first of each class, then the second of each
    pixels = np.stack([dataset.images[int(i)] for i in chosen])
    images = dataset.preprocess.normalise(to_tensor(pixels).to(device))
    return Probes(chosen, images, torch.from_numpy(dataset.labels[chosen]).to(device), dataset.class_names, pixels)


def layers_with_filters(network: nn.Module) -> list[str]:
    """The layers that can be looked at: those whose weights are filters."""
    return [name for name, module in leaves(network).items() if _is_filters(getattr(module, "weight", None))]


def weights_of(network: nn.Module, layer: str) -> Tensor:
    """The filters of a layer. UnknownName for no layer, UsageError for one without filters."""
    weights = getattr(named(network, [layer])[layer], "weight", None)
    if not isinstance(weights, Tensor) or not _is_filters(weights):
        raise UsageError(f"the layer {layer!r} has no filters: {', '.join(layers_with_filters(network)[:12])} have.")
    return weights.detach()


def look(network: nn.Module, layer: str, probes: Probes, mode: Mode, before: Tensor | None) -> Look:
    """Look at a layer; ``before`` are its filters as they were before the last update, or None.

    The loss is the mean cross-entropy of the probe images, in float32.
    """
    weights = weights_of(network, layer)
    change = None
    if before is not None:
        change = float((weights - before).norm() / before.norm().clamp_min(torch.finfo(before.dtype).tiny))
    copied = copy.deepcopy(network).train(mode == "train")
    devices = [probes.images.device] if probes.images.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), record(copied, [layer], clone=True) as seen:
        torch.manual_seed(0)  # of dropout: the same places in each look
        logits_BK = logits_in(copied(probes.images.clone().requires_grad_()))
        if logits_BK is None or layer not in seen.outputs:
            raise UsageError(f"a pass of this network does not come to the layer {layer!r}.")
        loss = F.cross_entropy(logits_BK.float(), probes.labels)
        maps_BFHW = seen.outputs[layer]
        (gradients_BFHW,) = torch.autograd.grad(loss, maps_BFHW)
    maps_BFHW = maps_BFHW.detach()
    activity_F = maps_BFHW.abs().mean((0, 2, 3))
    filters = sorted(activity_F.argsort(descending=True, stable=True)[:FILTERS].tolist())
    probabilities_B, guesses_B = logits_BK.detach().float().softmax(1).max(1)
    maps, largest_map = signed(maps_BFHW, filters)
    gradients, largest_gradient = signed(gradients_BFHW, filters)
    guesses = zip(guesses_B.tolist(), probabilities_B.tolist(), strict=True)
    return Look(
        layer=layer,
        mode=mode,
        filters=tuple(filters),
        of=maps_BFHW.shape[1],
        maps=maps,
        largest_map=largest_map,
        gradients=gradients,
        largest_gradient=largest_gradient,
        loss=float(loss.detach()),
        answers=tuple((probes.classes[guess], probability) for guess, probability in guesses),
        change=change,
    )


def _is_filters(weights: Any) -> bool:
    return isinstance(weights, Tensor) and weights.ndim == 4


def signed(values_BFHW: Tensor, filters: Sequence[int]) -> tuple[np.ndarray, float]:
    """Int8 (filters, B, H, W) on a scale through 0, and the value that its 127 stands for."""
    chosen = values_BFHW[:, list(filters)].float()
    size = (min(chosen.shape[2], LARGEST_MAP), min(chosen.shape[3], LARGEST_MAP))
    if size != chosen.shape[2:]:
        chosen = F.adaptive_avg_pool2d(chosen, size)
    largest = float(chosen.abs().max())
    scaled = chosen * (LEVELS / largest) if largest > 0 else torch.zeros_like(chosen)
    return scaled.round().to(torch.int8).transpose(0, 1).contiguous().cpu().numpy(), largest
