"""The evidence for one prediction: which filters pushed the answer up, which pulled it down, and by how much.

Where a network ends in a pool over all places and one linear layer, a logit is exactly the sum over filters of weight
times pooled value, plus the bias. For any other head the terms are value times gradient, which is approximate
(Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034): what they leave unexplained is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.prediction import BATCH, logits
from ..errors import UsageError
from ..images.preprocess import Preprocess
from ..models.heads import head_place
from ..models.taps import Tap, evaluating, logits_in, reach, record, tapping
from ..progress import Progress
from .layers import find_layers, owners

_POOLS = {"mean": lambda maps: maps.mean((2, 3)), "max": lambda maps: maps.amax((2, 3))}


@dataclass(frozen=True)
class LinearEnd:
    """How a network ends: maps (N, C, h, w) at ``features``, pooled by "mean" or "max", times weights of ``linear``.

    The logits are ``factor`` times what ``linear`` outputs. ``owner`` is the layer whose filters the maps are, None
    where they are a sum of several, as behind a skip.
    """

    features: Tap
    pool: str
    linear: str
    factor: float
    owner: str | None


def find_head(network: nn.Module, image_1CHW: Tensor) -> LinearEnd | None:
    """The pooled linear head of a network, found by what passes in one pass of an image; None where there is none.

    The image must be one with something in it: on a constant map mean and max are the same.
    """
    with evaluating(network), torch.no_grad(), record(network, None, clone=True) as seen:
        output_1K = logits_in(network(image_1CHW))
    modules = dict(network.named_modules())
    linears = [name for name in seen.outputs if isinstance(modules[name], nn.Linear)]
    if not linears or output_1K is None or seen.outputs[linears[-1]].shape != output_1K.shape:
        return None
    pooled_1C, outputs_1K = seen.inputs[linears[-1]], seen.outputs[linears[-1]]
    factor = float((output_1K * outputs_1K).sum() / outputs_1K.square().sum().clamp(min=1e-30))
    if not torch.allclose(factor * outputs_1K, output_1K, rtol=1e-4, atol=1e-5 * float(output_1K.abs().max())):
        return None
    for name, maps in reversed(seen.outputs.items()):
        if maps.dim() != 4 or maps.shape[1:2] != pooled_1C.shape[1:] or maps.shape[2:].numel() == 1:
            continue
        for pool, function in _POOLS.items():
            if torch.allclose(function(maps), pooled_1C, rtol=1e-4, atol=1e-5 * float(pooled_1C.abs().max())):
                tap = Tap(name, call=len(seen.every_output[name]) - 1)
                owner = owners(network, image_1CHW).get(name)
                return LinearEnd(tap, pool, linears[-1], factor, owner)
    return None


@dataclass(frozen=True)
class FilterEvidence:
    """Why a network answers as it does, for one image, by the C filters of one layer.

    ``terms`` float64 (K, C) and ``rest`` float64 (K,), the bias, add up to ``logits`` float64 (K,) where ``exact``;
    else ``rest`` is what the terms leave unexplained. ``target`` is the class in question and ``against`` the one it is
    compared with: the runner-up, or the answer where the target is another class. ``layer`` names the filters.
    """

    layer: str
    exact: bool
    target: int
    against: int
    logits: Tensor
    terms: Tensor
    rest: Tensor

    @property
    def margin(self) -> Tensor:
        """Tell what each filter adds to the lead of ``target`` over ``against``, float64 (C,)."""
        return self.terms[self.target] - self.terms[self.against]

    @property
    def lead(self) -> float:
        """The logit of ``target`` minus that of ``against``."""
        return float(self.logits[self.target] - self.logits[self.against])

    def strongest(self, count: int) -> Sequence[int]:
        """The filters that add or take the most of the lead, in order."""
        return self.margin.abs().argsort(descending=True)[:count].tolist()


def evidence(network: nn.Module, image_1CHW: Tensor, target: int | None = None) -> FilterEvidence:
    """The evidence for class ``target``, or for the answer, on a normalised image (1, 3, S, S).

    Raises UsageError for a class that does not exist, and for a network without a layer of filters.
    """
    head = find_head(network, image_1CHW)
    with evaluating(network), torch.no_grad():
        scores = network(image_1CHW)[0].cpu().double()
    classes = len(scores)
    if target is not None and not 0 <= target < classes:
        raise UsageError(f"there is no class numbered {target}: they go from 0 to {classes - 1}.")
    order = scores.argsort(descending=True).tolist()
    chosen = order[0] if target is None else target
    against = next((k for k in order if k != chosen), chosen)
    if head is None:
        layer, terms = _by_gradient(network, image_1CHW)
        rest = scores - terms.sum(1)
    else:
        layer = head.owner or head.features.module
        linear = dict(network.named_modules())[head.linear]
        assert isinstance(linear, nn.Linear)  # find_head says so
        with evaluating(network), torch.no_grad():
            maps = reach(network, image_1CHW, [head.features])[0].double()
        pooled_C = _POOLS[head.pool](maps)[0].cpu()
        terms = head.factor * linear.weight.detach().cpu().double() * pooled_C
        bias = linear.bias
        rest = torch.zeros(classes).double() if bias is None else head.factor * bias.detach().cpu().double()
    return FilterEvidence(layer, head is not None, chosen, against, scores, terms, rest)


def _by_gradient(network: nn.Module, image_1CHW: Tensor) -> tuple[str, Tensor]:
    """Value times gradient at the last layer, summed over places: (its name, float64 (K, C))."""
    layer = find_layers(network, image_1CHW)[-1]
    kept: list[Tensor] = []

    def branch(_number: int, maps: Tensor) -> Tensor:
        kept.append(maps.detach().clone().requires_grad_(True))
        return kept[0].clone()  # what follows may work in place

    with evaluating(network), torch.inference_mode(False), torch.enable_grad(), tapping(network, [layer.tap], branch):
        scores_K = network(image_1CHW.clone())[0]
        rows = []
        for k in range(len(scores_K)):
            (gradient,) = torch.autograd.grad(scores_K[k], kept[0], retain_graph=k < len(scores_K) - 1)
            rows.append((gradient * kept[0].detach()).double().sum((0, 2, 3)).cpu())
    return layer.name, torch.stack(rows)


def head_input(network: nn.Module, image_1CHW: Tensor) -> tuple[Tap, np.ndarray]:
    """What a network's head is given for an image, float32 (D,), and where. UsageError for a network without one."""
    place, _ = head_place(network)
    tap = Tap(place, at_input=True)
    with evaluating(network), torch.no_grad():
        given = reach(network, image_1CHW, [tap])[0]
    return tap, given.float().flatten().cpu().numpy()


def head_inputs(  # noqa: PLR0913 - as a pass over images
    network: nn.Module,
    images: np.ndarray,
    preprocess: Preprocess,
    index: np.ndarray,
    tap: Tap,
    progress: Progress | None = None,
) -> np.ndarray:
    """The same for the uint8 images (M, H, W, 3) at ``index`` (N,), float32 (N, D): one pass."""
    kept: list[Tensor] = []
    with tapping(network, [tap], lambda _number, given: kept.append(given.float().flatten(1).cpu())):
        for start in range(0, len(index), BATCH):
            if progress:
                progress("looking for alike images", start, len(index))
            logits(network, images, preprocess, index[start : start + BATCH])
    return torch.cat(kept).numpy()
