"""Training in less memory: activations are computed again in the backward pass instead of being kept.

After Chen et al. 2016 (arXiv:1604.06174), by torch's own checkpointing. Any network with an ``nn.Sequential`` in it can
be cut: a block of a residual network is a group, and so is a convolution with the norm, activation and pool behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain, groupby

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakIdKeyDictionary

from ..errors import UsageError
from .taps import computing_by

WITHIN = 4  # times a residual block's input: what it keeps while its gradient is computed
Group = list[nn.Module]


@contextmanager
def recomputing(network: nn.Module, enabled: bool = True) -> Iterator[None]:
    """A with-block for the forward pass: each group of layers keeps its input only, until its gradient is due.

    Gradients are the same to the last bit, and batch norms count a batch once. UsageError for a network without any
    ``nn.Sequential``, which cannot be cut.
    """
    sequences = _sequences(network) if enabled else []
    if enabled and not sequences:
        raise UsageError(
            f"{type(network).__name__} has no nn.Sequential, so its activations cannot be computed again in parts."
        )
    runs = {sequence: partial(_run, _groups(sequence), sequence is sequences[-1]) for sequence in sequences}
    with computing_by(runs):
        yield


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _sequences(module: nn.Module) -> list[nn.Module]:
    """The outermost sequences of more than one layer."""
    if _is_sequence(module) and len(_flat(module)) > 1:
        return [module]
    return [found for child in module.children() for found in _sequences(child)]


def _flat(sequence: nn.Module) -> list[nn.Module]:
    """The layers of a sequence in order, those of sequences within it among them."""
    layers = list(sequence) if isinstance(sequence, nn.Sequential) else list(sequence.children())  # one may stand twice
    return [unit for c in layers for unit in (_flat(c) if _is_sequence(c) else [c])]


def _groups(sequence: nn.Module) -> list[Group]:
    """A block of layers is a group; so is a layer with filters or a matrix, with the simple ones that follow it."""
    groups: list[Group] = []
    for unit in _flat(sequence):
        begins = _is_block(unit) or any(p.ndim > 1 for p in unit.parameters(recurse=False))
        if begins or not groups:
            groups.append([unit])
        else:
            groups[-1].append(unit)
    return _joined(groups)


def _is_block(unit: nn.Module) -> bool:
    return next(unit.children(), None) is not None


def _joined(groups: list[Group]) -> list[Group]:
    """The same, with blocks of one kind that follow each other joined by as many as make the least to keep.

    Of n blocks, g to a group, n / g inputs are kept, and once what g blocks make within themselves, each some WITHIN
    times its input. Each block is computed again once, as before.
    """
    joined: list[Group] = []
    for kind, run in groupby(groups, lambda group: type(group[0]) if len(group) == 1 and _is_block(group[0]) else None):
        same = list(run)
        together = 1 if kind is None else max(1, math.isqrt(len(same) // WITHIN))
        joined += [list(chain.from_iterable(same[i : i + together])) for i in range(0, len(same), together)]
    return joined


def _run(groups: list[Group], ends: bool, x: torch.Tensor) -> torch.Tensor:
    """All groups; the last one of what ``ends`` a network without saving: the backward pass begins with it."""
    saving = groups[:-1] if ends else groups
    for group in saving:
        x = checkpoint(partial(_through, group), x, use_reentrant=False, context_fn=partial(_contexts, group))
    return _through(groups[-1], x) if ends else x


def _through(group: Group, x: torch.Tensor) -> torch.Tensor:
    for layer in group:
        x = layer(x)
    return x


def _contexts(group: Group) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    norms = [m for layer in group for m in layer.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    return nullcontext(), _still(norms)


@contextmanager
def _still(norms: list[_BatchNorm]) -> Iterator[None]:
    """A with-block in which the running statistics of batch norms stay as they are: the batch was counted before."""
    before = [(norm, norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(count)


def activation_bytes(
    network: nn.Module, images_BCHW: torch.Tensor, save_memory: bool = False, bfloat16: bool = False
) -> int:
    """Peak bytes of activations in one forward and backward pass of these images, parameters and gradients apart.

    Every tensor that torch makes is counted while it lives; what a kernel needs within itself is not seen. Gradients
    and running statistics of the network are changed: hand over a copy. On torch's device "meta" nothing is computed,
    and the same is counted.
    """
    network.zero_grad()
    with _Alive(network) as alive:
        autocast = torch.autocast(images_BCHW.device.type, torch.bfloat16) if bfloat16 else nullcontext()
        with autocast, recomputing(network, save_memory):
            outputs = network(images_BCHW)
        outputs.float().square().mean().backward()
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that were made inside it and are still alive, the network's gradients apart."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.peak = 0
        self._parameters = list(network.parameters())
        self._sizes: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):
            self._sizes.setdefault(storage, 0)  # not made here
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._sizes.setdefault(storage, storage.nbytes())
        gradients = sum(p.grad.untyped_storage().nbytes() for p in self._parameters if p.grad is not None)
        self.peak = max(self.peak, sum(self._sizes.values()) - gradients)
        return out


def _storages(tree: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
