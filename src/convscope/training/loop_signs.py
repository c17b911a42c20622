"""What a loop does at each of its steps, whatever its layers are: the images, the loss's gradient, the weights' moves.

Most of it is looked at only at steps that are watched, and where a loss jumps; the rest costs some comparisons of a few
weights a step. Nothing is changed. A step may have several passes, of adversarial images or for its accuracy: the one
that is looked at is the last to which a gradient came.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..models.followed import OnGradient, before_adding, passing_by

SIGNS = {
    "moved": "1 where the weights looked at are not, to the last bit, those of the step before",
    "left_over": "1 where weights that moved had a gradient before every backward pass since they moved before",
    "arrived": "1 where the gradient came back to what the network had output, 0 where it did not",
    "batch": "images in the batch",
    "low": "least value of the images as the network is given them",
    "high": "greatest value of these images",
    "deviation": "standard deviation of these images' values",
    "variety": "standard deviation over the images of a batch, on average over places, over that of a channel's values",
    "not_numbers": "images of the batch that hold what is no number",
    "bad_place": "place in the batch of the first image that holds what is no number",
    "probabilities": "1 where each row of outputs is nowhere negative and adds up to 1",
    "second_softmax": "how far the gradient at the outputs is from that of a softmax before the cross-entropy, of 1",
    "negated": "how far this gradient is from that of a cross-entropy with its sign turned around, of 1",
    "crossed": "how far its rows are from adding up to 0, as those of a cross-entropy of logits do, of 1",
    "nats": "cross-entropy of the outputs for the labels that the gradient pulls up",
    "right": "share of outputs that are largest at the label which the gradient pulls up",
    "dropouts_on": "share of the dropouts that were in training mode",
}
TRACKED = 8  # weights, evenly over the network, of which a part is compared at each step
ROWS = 64  # outputs that are compared with what losses would give
CLASSES = 200  # with more, no softmax before the loss is searched for
PIXELS = 2**20  # values of a batch that are looked at, whole images of them
NEAR = 20  # losses before a step, among which it jumps
JUMP = 4.0  # in standard deviations of these losses
SCALES = (1.0, 0.2, 5.0)  # of a loss, from which its own is searched for
PRODUCTS = 2**18  # rows times classes squared
SURE = 0.25  # a gradient of an image's outputs under this is of a right answer
FITS = 0.05  # the loss is known whose gradient is off by less
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass
class _Pass:
    """A pass of a step: what the network was given and output (at a version), and the loss's gradient at that."""

    images: Tensor
    outputs: Tensor
    version: int
    gradient: Tensor | None = None


class LoopSigns:
    """Collects the signs of a loop from ``begin`` to ``close``, by hooks; ``told`` ends a step.

    ``rows`` maps the names of SIGNS to one value a step, NaN where it was not looked at. ``before`` and ``losses`` are
    those of the steps before, where a training goes on.
    """

    def __init__(
        self,
        network: nn.Module,
        scale: Callable[[], float],
        before: Mapping[str, np.ndarray],
        losses: Sequence[float],
    ) -> None:
        self.rows: dict[str, list[float]] = {name: before[name].tolist() if before else [] for name in SIGNS}
        self._network, self._scale = network, scale
        self._near: deque[float] = deque(filter(math.isfinite, losses), maxlen=NEAR)
        self._ends, self._weights_hooks = ExitStack(), ExitStack()
        self._open = self._waiting = False  # and whether some weights do not exist yet
        self._latest: _Pass | None = None
        self._arrived: _Pass | None = None  # the latest to which a gradient came
        self._left: dict[
            str, Tensor | bool
        ] = {}  # weights to which gradients came, and whether none found its place empty
        self._weights: dict[str, nn.Parameter] = {}
        self._old: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Put the hooks in place that are there at every step."""
        self._open = True
        self._ends.enter_context(passing_by(self._network, self._on_pass))
        self.track()

    def close(self) -> None:
        """Remove them, and let go of the latest pass."""
        self._open = False
        self._ends.close()
        self._weights_hooks.close()
        self._latest = self._arrived = None

    def track(self) -> None:
        """Choose the weights that are compared: anew, for a network may have got other ones."""
        wanted = {n: p for n, p in self._network.named_parameters() if p.requires_grad}
        every = {n: p for n, p in wanted.items() if not is_lazy(p) and p.numel()}
        self._waiting = any(is_lazy(p) for p in wanted.values())
        names = [
            list(every)[i] for i in np.unique(np.linspace(0, len(every) - 1, min(TRACKED, len(every))).astype(int))
        ]
        self._old = {name: _part(every[name]).detach().clone() for name in names}
        if [*self._weights] == names and all(self._weights[name] is every[name] for name in names):
            return
        self._weights = {name: every[name] for name in names}
        self._left = {name: found for name, found in self._left.items() if name in self._weights}
        self._weights_hooks.close()
        if self._open:
            self._weights_hooks.enter_context(before_adding(self._weights, self._on_weight))

    def _on_pass(self, images: Tensor, outputs: Tensor) -> OnGradient:
        """A pass that keeps a graph is done."""
        if self._waiting:
            self.track()
        self._latest = _Pass(images.detach(), outputs.detach(), outputs._version)
        return partial(self._on_gradient, self._latest)

    def _on_gradient(self, seen: _Pass, gradient: Tensor) -> None:
        """A backward pass has come to the outputs of a pass."""
        if self._open:
            seen.gradient = gradient.detach()
            self._arrived = seen

    def _on_weight(self, name: str) -> None:
        """A gradient is about to be added to what a weight has. That is left over only where it is never taken away in
        between: an attack or a penalty may have its own backward pass, before or after gradients are zeroed."""
        if self._left.get(name) is not False:
            grad = self._weights[name].grad
            found = grad is not None and (grad._nnz() > 0 if grad.is_sparse else (_part(grad) != 0).any())
            self._left[name] = found & self._left.get(name, True)

    def told(self, loss: float | None, look: bool) -> bool:
        """End a step; says whether the weights moved. ``look`` where the step is one that is watched."""
        signs = dict.fromkeys(SIGNS, math.nan)
        moved = _where({n: (_part(p).detach(), self._old[n]) for n, p in self._weights.items()})
        for name in moved:
            self._old[name] = _part(self._weights[name]).detach().clone()
        signs["moved"] = float(bool(moved))
        seen = self._arrived or self._latest
        if seen is not None:
            signs["arrived"] = float(self._arrived is not None)
            if look or self._jumps(loss):
                signs |= self._seen(seen)
        left = [self._left.pop(name) for name in moved & self._left.keys()]
        if left:
            signs["left_over"] = float(_any(left))
        if loss is not None and math.isfinite(loss):
            self._near.append(loss)
        for name, value in signs.items():
            self.rows[name].append(value)
        self._latest = self._arrived = None
        return bool(moved)

    def _jumps(self, loss: float | None) -> bool:
        if loss is None:
            return False
        if not math.isfinite(loss):
            return True
        near = np.array(self._near)
        return len(near) >= NEAR // 2 and loss > max(near.max(), float(near.mean() + JUMP * near.std()))

    def _seen(self, seen: _Pass) -> dict[str, float]:
        """Look at the images, and at the gradient that came back to the outputs."""
        found = _images(seen.images) | {"batch": float(len(seen.images)) if seen.images.ndim else 1.0}
        dropouts = [m.training for m in self._network.modules() if isinstance(m, DROPOUTS) and m.p > 0]
        if dropouts:
            found["dropouts_on"] = float(np.mean(dropouts))
        outputs = seen.outputs
        if seen.outputs._version != seen.version:  # the loop has worked on them in place
            return found
        if outputs.ndim == 2 and len(outputs) and outputs.shape[1] > 1 and outputs.is_floating_point():
            rows = outputs[:ROWS].float().cpu()
            found["probabilities"] = float(bool((rows >= 0).all()) and float((rows.sum(1) - 1).abs().max()) < 1e-3)
            if seen.gradient is not None:
                found |= _losses(rows, seen.gradient[:ROWS].float().cpu() * (len(outputs) / self._scale()))
        return found


def _part(parameter: Tensor) -> Tensor:
    """A part of a weight that is quickly compared: its first filter or row, or all of a bias."""
    return parameter[:1] if parameter.ndim > 1 else parameter


def _where(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> set[str]:
    """The names whose two tensors differ, in a value, in shape or in place. One answer is waited for."""
    same = {n: (a, b) for n, (a, b) in pairs.items() if a.shape == b.shape and a.device == b.device}
    if not same:
        return {*pairs}
    answers = [(a != b).any() for a, b in same.values()]
    differ = torch.stack([answer.to(answers[0].device) for answer in answers]).tolist()
    return {name for name, found in zip(same, differ, strict=True) if found} | (pairs.keys() - same.keys())


def _any(found: Iterable[Tensor | bool]) -> bool:
    """Whether one of them is true. One answer is waited for, wherever they lie."""
    known = [answer for answer in found if isinstance(answer, Tensor)]
    if any(answer is True for answer in found):
        return True
    return bool(known) and bool(torch.stack([answer.to(known[0].device) for answer in known]).any())


def _images(images: Tensor) -> dict[str, float]:
    """Range, deviation and variety of a batch (B, ...), and how many of it hold what is no number."""
    if not images.ndim or not images.numel():
        return {}
    good = torch.isfinite(images.flatten(1) if images.ndim > 1 else images[:, None]).all(1)
    found = {"not_numbers": float((~good).sum())}
    if found["not_numbers"]:
        found["bad_place"] = float((~good).nonzero()[0])
    images = images[good][: max(16, PIXELS // images[0].numel())].float()
    if len(images):
        deviation = float(images.std(correction=0))
        found |= {"low": float(images.min()), "high": float(images.max()), "deviation": deviation}
        if len(images) > 1:
            found["variety"] = variety_of(images)
    return found


def variety_of(images: Tensor) -> float:
    """The deviation over images (B, C, ...), on average over places, over that of each channel's values; 0 for none."""
    images = images.float()
    places = [d for d in range(images.ndim) if d != 1]
    whole = images.std(places, correction=0).mean() if images.ndim > 1 else images.std(correction=0)
    return float(images.std(0, correction=0).mean() / whole) if whole > 0 else 0.0


def _losses(outputs_BK: Tensor, gradient_BK: Tensor) -> dict[str, float]:
    """Compare the gradient for each image's outputs with what losses would give."""
    if not (torch.isfinite(outputs_BK).all() and torch.isfinite(gradient_BK).all()):
        return {}
    largest = gradient_BK.abs().amax(1)
    most = float(largest.max())
    right = (gradient_BK.argmin(1) == outputs_BK.argmax(1)) | (largest < SURE)
    found = {"right": float(right.float().mean())}
    if most > 0:
        settled = largest < SURE * min(1.0, most)  # smoothed labels may pull nothing up any more
        pulled = torch.where(settled, outputs_BK.argmax(1), gradient_BK.argmin(1))
        found["nats"] = float(F.cross_entropy(outputs_BK, pulled))
        found["crossed"] = float(gradient_BK.sum(1).abs().sum() / gradient_BK.abs().sum())
        if outputs_BK.shape[1] <= CLASSES:
            some = max(8, PRODUCTS // outputs_BK.shape[1] ** 2)
            found |= _fitted(outputs_BK[:some], gradient_BK[:some], found["crossed"])
    return found


def _fitted(outputs_BK: Tensor, gradient_BK: Tensor, crossed: float) -> dict[str, float]:
    """Which loss fits: cross-entropy, it behind a softmax or a minus, or, of what is bounded, a loss for probabilities.

    At outputs p these pull by p - 1 (squares), and by 1 / sum(p) - 1 / p (the logarithm of p over its sum).
    """
    share = F.softmax(outputs_BK, 1)
    labels = torch.eye(outputs_BK.shape[1])
    plain = share[:, None] - labels  # images, labels that it may have, outputs
    again = F.softmax(share, 1)[:, None] - labels
    through = share[:, None] * (again - (share[:, None] * again).sum(2, keepdim=True))
    once, twice, negated = (
        _off(g, offered) for g, offered in ((gradient_BK, plain), (gradient_BK, through), (-gradient_BK, plain))
    )
    others = [outputs_BK[:, None] - labels] if float(outputs_BK.abs().max()) <= 1 + 1e-3 else []
    if others and bool((outputs_BK >= 0).all()):
        whole = outputs_BK.sum(1).clamp_min(1e-7)[:, None, None]
        others.append(1 / whole - labels / outputs_BK.clamp_min(1e-7)[:, None])
    fit = min((_off(gradient_BK, offered) for offered in others), default=1.0)
    return {
        "second_softmax": twice if twice < once else 1.0,
        "negated": negated if negated < once else 1.0,
        "crossed": 1.0 if fit < min(FITS, once) else crossed,
    }


def _off(gradient_BK: Tensor, offered_BLK: Tensor) -> float:
    """The relative distance of a gradient from the best of what is offered for each image, at one scale for all.

    Which label fits depends on the scale, and the other way round: it is begun from several.
    """
    best = 1.0
    for scale in SCALES:
        for _ in range(3):
            labels = (gradient_BK[:, None] - scale * offered_BLK).square().sum(2).argmin(1)
            chosen = offered_BLK[torch.arange(len(labels)), labels]
            scale = float((chosen * gradient_BK).sum() / chosen.square().sum().clamp_min(1e-20))
        if scale > 0:
            best = min(best, float((gradient_BK - scale * chosen).norm() / gradient_BK.norm()))
    return best
