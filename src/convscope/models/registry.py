"""The networks convscope can build, by name: one file and one line of the table each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import UnknownName, UsageError
from .alexnet import alexnet
from .box_network import BOX_HEADS, BOX_OPTIONS, make_box_network
from .heads import HEAD_OPTIONS, put_head
from .library_networks import build_foreign, resolve
from .onednn_fault import without_the_fault
from .pixel_network import PIXEL_HEADS, PIXEL_OPTIONS, make_pixel_network
from .resnet import cifar_plain, cifar_resnet, resnet
from .speednet import speednet
from .user_network import is_own, load_own
from .vgg import vgg

# Each takes (num_classes, image_size) and, by name, options of its own that all have a default.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "vgg": vgg,
    "resnet": resnet,
    "speednet": speednet,
    "resnet20": partial(cifar_resnet, 20),
    "resnet32": partial(cifar_resnet, 32),
    "resnet44": partial(cifar_resnet, 44),
    "resnet56": partial(cifar_resnet, 56),
    "resnet110": partial(cifar_resnet, 110),
    "plain20": partial(cifar_plain, 20),
    "plain32": partial(cifar_plain, 32),
    "plain44": partial(cifar_plain, 44),
    "plain56": partial(cifar_plain, 56),
    "plain110": partial(cifar_plain, 110),
}


def build(  # noqa: PLR0913 - what a network is made of, how and where
    name: str,
    num_classes: int,
    image_size: int,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    device: str = "cpu",
) -> nn.Module:
    """A new network: (B, 3, s, s) images of ``image_size`` s pixels to (B, K) logits.

    On the CPU, or on torch's device "meta", where it has no weights.

    ``name`` is in ``MODELS``, or torchvision's or timm's, which may be given a ``head`` of HEADS with its options, or
    ``module.py:function`` for a network of the user's own. An option that is None is left to the network's default.
    With a ``seed`` the weights are a function of it and the arguments, and torch's global generator is left as it was;
    without, they are drawn from that generator.
    Raises UnknownName for a name, and UsageError for an option, that does not exist.
    """
    chosen = {option: value for option, value in (options or {}).items() if value is not None}
    _check_options(name, chosen)
    forked = nullcontext() if seed is None else torch.random.fork_rng(devices=[])
    with forked, torch.device(device):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators too
        return without_the_fault(_make(name, num_classes, image_size, chosen))


def _make(name: str, num_classes: int, image_size: int, chosen: dict[str, Any]) -> nn.Module:
    if name in MODELS:
        return MODELS[name](num_classes, image_size, **chosen)
    if is_own(name):
        return load_own(name, num_classes, image_size)
    if chosen.get("head") in PIXEL_HEADS:
        return make_pixel_network(full_name(name), num_classes, chosen)
    if chosen.get("head") in BOX_HEADS:
        return make_box_network(full_name(name), num_classes, chosen)
    network = build_foreign(full_name(name), num_classes, image_size)
    if "head" in chosen:
        put_head(network, chosen.pop("head"), num_classes, chosen)
    return network


def options_of(name: str) -> tuple[str, ...]:
    """The options that a network takes; none for one that is not ours. Raises UnknownName("model", ...)."""
    if full_name(name) not in MODELS:
        return ()
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def full_name(name: str) -> str:
    """The name under which a network is always found again: ``resnet50`` is ``torchvision:resnet50``.

    Ours come first, then torchvision's, then timm's. Raises UnknownName("model", ...).
    """
    if name in MODELS or is_own(name):
        return name
    foreign = resolve(name)
    if foreign is None:
        raise UnknownName("model", name, MODELS)
    return foreign


def _check_options(name: str, chosen: Mapping[str, Any]) -> None:
    taken = options_of(name)
    if "head" in chosen and name not in MODELS and not is_own(name):
        by_place = BOX_OPTIONS if chosen["head"] in BOX_HEADS else PIXEL_OPTIONS
        taken = by_place if chosen["head"] in PIXEL_HEADS | BOX_HEADS else HEAD_OPTIONS
    for option in chosen:
        if option not in taken:
            raise UsageError(f"{name} has no option {option!r}; it takes {', '.join(taken) or 'none'}.")
