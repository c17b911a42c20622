"""The networks convscope can build, by name: one file and one line of the table each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ..errors import UnknownName, UsageError
from .alexnet import alexnet
from .own import is_own, load_own
from .vgg import vgg

# Each takes (num_classes, image_size) and, by name, options of its own that all have a default.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "vgg": vgg,
}


def build(
    name: str, num_classes: int, image_size: int, options: Mapping[str, Any] | None = None, *, seed: int | None = None
) -> nn.Module:
    """A new network, on the CPU: (B, 3, s, s) pictures of ``image_size`` s pixels to (B, K) logits.

    ``name`` is in ``MODELS``, or is ``module.py:function`` for a network of the user's own. An option that is None is
    left to the network's default. With a ``seed`` the weights are a function of it and the arguments, and torch's
    global generator is left as it was; without, they are drawn from that generator.
    Raises UnknownName for a name, and UsageError for an option, that does not exist.
    """
    chosen = {option: value for option, value in (options or {}).items() if value is not None}
    _check_options(name, chosen)
    forked = nullcontext() if seed is None else torch.random.fork_rng(devices=[])
    with forked, torch.device("cpu"):
        if seed is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators too
        if is_own(name):
            return load_own(name, num_classes, image_size)
        return MODELS[name](num_classes, image_size, **chosen)


def options_of(name: str) -> tuple[str, ...]:
    """The options that a network takes; none for one of the user's own. Raises UnknownName("model", ...)."""
    if is_own(name):
        return ()
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def _check_options(name: str, chosen: Mapping[str, Any]) -> None:
    taken = options_of(name)
    for option in chosen:
        if option not in taken:
            raise UsageError(f"{name} has no option {option!r}; it takes {', '.join(taken) or 'none'}.")
