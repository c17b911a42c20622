"""What a filter is for: how many answers change when it is silent.

A network is run again from the middle for each filter. What comes before the layer is computed once; behind it, as long
as channels stay apart (activations, pools), only the silenced one is computed anew, and the next convolution or matrix
takes the difference of that one channel. So all filters of a layer cost a few evaluations, in any ``nn.Module``: calls
of modules are answered from what they output before, and nothing is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from ..images.preprocess import Preprocess, to_tensor
from ..kept_memory import keeping_memory
from ..machine import device_of
from ..models.taps import computing_by, evaluating
from ..models.tracing import Call, tracing
from ..progress import Counted
from .layers import Layer

IMAGES = 1_000  # of the validation images
BLOCK_BYTES = 16 * 2**20  # of the layer's output for the images of one block
MOST_IN_BLOCK = 250
LARGEST_BYTES = 128 * 2**20  # of the largest output of a module, for the images of one block
# Each channel of what these output is made of the same channel of what they are given.
_BY_CHANNEL = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Identity,
    nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


_KNOWN = (nn.Flatten, nn.Linear, nn.Conv2d, _BatchNorm, *_BY_CHANNEL)


@dataclass(frozen=True)
class Ablated:
    """What a layer's C filters are for, on ``images`` images of which the whole network got ``accuracy`` right.

    ``broken`` and ``mended`` int64 (C,) count the images whose answer became wrong, or right, when the filter was
    silenced (its value before the activation set to 0); ``recall_lost`` float64 (C, K) is the share of each class's
    images lost, NaN for a class without images; ``logit_lost`` float32 (C, K) is how much each logit falls on the
    mean: what the filter feeds it.
    """

    layer: Layer
    images: int
    accuracy: float
    broken: Tensor
    mended: Tensor
    recall_lost: Tensor
    logit_lost: Tensor

    @property
    def accuracy_lost(self) -> Tensor:
        """The share of all images lost, float64 (C,)."""
        return (self.broken - self.mended).double() / self.images


@keeping_memory()
def ablate(  # noqa: PLR0913 - what a pass over labelled images needs
    network: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    preprocess: Preprocess,
    layer: Layer,
    index: np.ndarray,
    filters: Sequence[int] | None = None,
    progress: Counted | None = None,
) -> Ablated:
    """Silence each filter of a layer in turn, on uint8 images (M, H, W, 3) with labels (M,), those at ``index``."""
    chosen = list(range(layer.filters)) if filters is None else list(filters)
    truth_N = torch.from_numpy(np.asarray(labels)[index])
    device = device_of(network)

    def normalised(places: np.ndarray) -> Tensor:
        return preprocess.normalise(to_tensor(images[places]).to(device))

    wrong_before, wrong_after, fallen = [], [], []
    with evaluating(network), torch.inference_mode(False), torch.no_grad():  # inference tensors have no version
        with _Replay(network, layer, normalised(index[:1])) as trial:
            block, needed = trial.most_images(), trial
        for start in range(0, len(index), block):
            truth = truth_N[start : start + block]
            with _Replay(network, layer, normalised(index[start : start + block]), needed) as replay:
                whole = replay.logits.float().cpu()
                rows = [replay.without(k).float().cpu() for k in chosen]
            without_CBK = torch.stack(rows)
            wrong_before.append(whole.argmax(1) != truth)
            wrong_after.append(without_CBK.argmax(2) != truth)
            fallen.append((whole - without_CBK).sum(1))
            if progress:
                progress(min(start + block, len(index)), len(index))
    before_N, after_CN = torch.cat(wrong_before), torch.cat(wrong_after, 1)
    classes = fallen[0].shape[1]
    per_class = F.one_hot(truth_N, classes).double()
    lost_CN = after_CN.double() - before_N.double()
    return Ablated(
        layer=layer,
        images=len(index),
        accuracy=1 - float(before_N.double().mean()),
        broken=(after_CN & ~before_N).sum(1),
        mended=(~after_CN & before_N).sum(1),
        recall_lost=lost_CN @ per_class / per_class.sum(0),
        logit_lost=torch.stack(fallen).sum(0) / len(index),
    )


@dataclass
class _Mark:
    """A tensor that differs from what it was only in the channels ``low`` to ``high`` of dimension 1."""

    tensor: Tensor
    before: Tensor
    low: int
    high: int
    version: int = 0


class _Replay:
    """A with-block in which a network answers the same images again and again, each time without one filter.

    Only what a ``trial`` of other images was found to need is kept of the calls, unless these are other calls.
    """

    def __init__(self, network: nn.Module, layer: Layer, images_BCHW: Tensor, trial: _Replay | None = None) -> None:
        self.network, self.layer, self.images = network, layer, images_BCHW
        calls = self._traced(None if trial is None else trial.needed())
        if trial is not None and self.sequence != trial.sequence:
            calls = self._traced(None)
        self._target = [call for call in calls if call.name == layer.tap.module][layer.tap.call]
        self._met = self._plan(calls)
        self._largest = max(sum(t.nbytes for t in _tensors(call.output)) for call in calls)
        self._used = {self._target.number}
        self._marks: dict[int, _Mark] = {}
        # By the number of a call: its output, or (False) what it was given, to be changed and changed back.
        self._work: dict[tuple[int, bool], _Mark] = {}
        self._fragile: set[int] = set()  # calls whose output is worked on in place: those are lent as copies
        self._lent: list[tuple[int, Any]] | None = []

    def _traced(self, outputs: frozenset[int] | None) -> list[Call]:
        """All calls of a pass, with those outputs, or all."""
        given_of = self.layer.tap.module if self.layer.tap.at_input else ""
        with tracing(self.network, given_of, outputs) as calls:
            self.logits = self.network(self.images)
        self.sequence = [(call.name, call.parent) for call in calls]
        return calls

    def needed(self) -> frozenset[int]:
        """The numbers of the calls whose outputs a replay has asked for."""
        at_once = {call.number for calls in self._met.values() for call, finished in calls if finished}
        return frozenset(at_once | self._used)

    def most_images(self) -> int:
        """How many images, of the size of these, one replay takes."""
        of_layer = 4 * self.layer.filters * self.layer.places[0] * self.layer.places[1]
        one = max(1, self._largest // len(self.images))
        return max(1, min(MOST_IN_BLOCK, BLOCK_BYTES // of_layer, LARGEST_BYTES // one))

    def _plan(self, calls: list[Call]) -> dict[nn.Module, list[tuple[Call, bool]]]:
        """Tell which calls a replay meets, module by module in order: those not within one that is answered at once."""
        finished = {
            c.number
            for c in calls
            if c.left < self._target.entered or (c is self._target and not self.layer.tap.at_input)
        }
        met: dict[nn.Module, list[tuple[Call, bool]]] = {}
        hidden: set[int] = set()
        for call in calls:  # in the order in which they were entered: a parent comes before its parts
            if call.parent in hidden or call.parent in finished:
                hidden.add(call.number)
            else:
                met.setdefault(call.module, []).append((call, call.number in finished))
        return met

    def __enter__(self) -> _Replay:
        self._own = {module for module in self._met if "forward" in vars(module)}
        forwards = {module: partial(self._forward, module, module.forward) for module in self._met}
        with ExitStack() as stack:
            stack.enter_context(computing_by(forwards))
            self.without(0)  # a trial, on copies of everything: what changed in it is fragile
            self._leave = stack.pop_all()
        self._fragile = {n for n, lent in self._lent or () if any(t._version for t in _tensors(lent))}
        self._lent = None
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def without(self, k: int) -> Tensor:
        """The logits (B, K) with filter ``k`` at 0."""
        self._next = dict.fromkeys(self._met, 0)
        self._marks.clear()
        self._k = k
        try:
            return self.network(self.images).clone()  # it may be one of those that are changed back
        finally:
            for mark in self._marks.values():
                self._restore(mark)

    def _restore(self, mark: _Mark) -> None:
        if mark.tensor._version == mark.version:
            mark.tensor[:, mark.low : mark.high] = mark.before[:, mark.low : mark.high]
        else:  # something worked on it in place
            mark.tensor.copy_(mark.before)

    def _forward(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call, finished = self._met[module][self._next[module]]
        self._next[module] += 1
        if call is self._target:
            silenced = self._changed(call, call.given if self.layer.tap.at_input else call.output, self._k, self._k + 1)
            silenced.tensor[:, self._k] = 0
            silenced.version = silenced.tensor._version
            if not self.layer.tap.at_input:
                return silenced.tensor
            args = (silenced.tensor, *args[1:])
        elif finished:
            return self._lend(call)
        mark = self._marks.get(id(args[0])) if len(args) == 1 and not kwargs else None
        if mark is not None and mark.tensor is args[0] and mark.tensor._version == mark.version:
            answer = self._one_channel(module, forward, call, mark)
            if answer is not None:
                return answer
        return forward(*args, **kwargs)

    def _lend(self, call: Call) -> Any:
        if self._lent is None and call.number not in self._fragile:
            return call.output
        copy = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, call.output)
        if self._lent is not None:
            self._lent.append((call.number, copy))
        return copy

    def _changed(self, call: Call, before: Tensor, low: int, high: int) -> _Mark:
        """A copy of what a call output (or was given), made once, in which some channels are about to change."""
        place = (call.number, before is call.output)
        mark = self._work.get(place)
        if mark is None:
            mark = self._work[place] = _Mark(before.clone(), before, low, high)
        mark.low, mark.high = low, high
        self._marks[id(mark.tensor)] = mark
        return mark

    def _one_channel(self, module: nn.Module, forward: Callable[..., Any], call: Call, mark: _Mark) -> Tensor | None:
        """Tell what a module outputs when only some channels of its input changed; None where it has to be run."""
        known = next((kind for kind in _KNOWN if isinstance(module, kind)), None)
        if known is None or type(module).forward is not known.forward or module in self._own:
            return None  # a class, or an object, with a forward of its own
        if not isinstance(call.output, Tensor):
            return None
        self._used.add(call.number)
        given, low, high = mark.tensor, mark.low, mark.high
        part = given[:, low:high]
        if isinstance(module, nn.Flatten) and module.start_dim == 1 and module.end_dim == -1 and given.dim() == 4:
            width = given.shape[2] * given.shape[3]
            changed = self._changed(call, call.output, low * width, high * width)
            changed.tensor[:, changed.low : changed.high] = part.flatten(1)
        elif isinstance(module, _BY_CHANNEL):
            changed = self._changed(call, call.output, low, high)
            changed.tensor[:, low:high] = forward(part.clone())
        elif isinstance(module, _BatchNorm) and not list(module.children()) and module.running_mean is not None:
            changed = self._changed(call, call.output, low, high)
            changed.tensor[:, low:high] = _norm_part(module, part, low, high)
        elif isinstance(module, nn.Linear) and given.dim() == 2:
            return call.output + (part - mark.before[:, low:high]) @ module.weight[:, low:high].T
        elif isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
            difference = (part - mark.before[:, low:high]).contiguous(memory_format=torch.channels_last)
            weight = module.weight[:, low:high]
            return call.output + F.conv2d(difference, weight, None, module.stride, module.padding, module.dilation)
        else:
            return None
        changed.version = changed.tensor._version
        return changed.tensor


def _norm_part(norm: _BatchNorm, part: Tensor, low: int, high: int) -> Tensor:
    mean, variance, weight, bias = (
        None if values is None else values[low:high]
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return F.batch_norm(part, mean, variance, weight, bias, False, 0.0, norm.eps)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
