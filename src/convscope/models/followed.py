"""Hooks of a training step: each leaf's output and the gradient at it, gradients of weights, and the network's ends.

Nothing is replaced, so a step that is followed computes the same bits; every hook is gone at the end of its block. A
network can be copied and saved within a block: in the copy they do nothing, and hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .taps import first_tensor, hooks, leaves, logits_in

OnGradient = Callable[[Tensor], None]
# name, how many calls of it came before in this pass, module, input, output; what is told of the gradient there
OnOutput = Callable[[str, int, nn.Module, Tensor | None, Tensor], OnGradient | None]


class _Kept:
    """A hook that stays with the network it was put on.

    A copy, pickled or not, is a function of the standard library's that does nothing, whatever it is given: a network
    that was saved within a block is then loaded where there is no convscope.
    """

    def __init__(self, hook: Callable[..., None]) -> None:
        self._hook = hook

    def __call__(self, *given: Any) -> None:
        self._hook(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


@contextmanager
def following(network: nn.Module, on_begin: Callable[[], None], on_output: OnOutput) -> Iterator[None]:
    """Follow a training step: where a pass begins, each leaf's output as it is made, and, for those with a weight, the
    loss's gradient at it, which ``on_output`` gives a function for.

    Nothing is replaced, so a step that is followed computes the same bits. Calls during the backward pass (activations
    that are computed again) and passes without gradients are passed over, and so are the layers of a compiled network.
    """
    counts: dict[str, int] = {}
    backward = False

    def before(_module: nn.Module, _args: tuple[Any, ...]) -> None:
        nonlocal backward
        counts.clear()
        backward = False
        on_begin()

    def after(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tensor = first_tensor(output)
        if backward or tensor is None or not torch.is_grad_enabled():
            return
        call = counts.get(name, 0)
        counts[name] = call + 1
        on_gradient = on_output(name, call, module, first_tensor((args, kwargs)), tensor)
        if on_gradient is None or not tensor.requires_grad:
            return
        if any(p.ndim > 1 for p in module.parameters(recurse=False)):
            tensor.register_hook(partial(gradient, on_gradient))

    def gradient(on_gradient: OnGradient, tensor: Tensor) -> None:
        nonlocal backward
        backward = True
        on_gradient(tensor)

    with hooks() as handles:
        handles.append(network.register_forward_pre_hook(_Kept(before)))
        for name, module in ({} if is_compiled(network) else leaves(network)).items():
            handles.append(module.register_forward_hook(_Kept(partial(after, name)), with_kwargs=True))
        yield


@contextmanager
def accumulating(parameters: Mapping[str, nn.Parameter], callback: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``callback(name, gradient)`` when a parameter's gradient has been added up, before it is clipped."""

    def accumulated(name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            callback(name, parameter.grad)

    with hooks() as handles:
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                handles.append(parameter.register_post_accumulate_grad_hook(partial(accumulated, name)))
        yield


@contextmanager
def before_adding(parameters: Mapping[str, nn.Parameter], callback: Callable[[str], None]) -> Iterator[None]:
    """Call ``callback(name)`` when a gradient has come to a parameter and is not yet added to its ``grad``."""

    def coming(name: str, _gradient: Tensor) -> None:
        callback(name)

    with hooks() as handles:
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                handles.append(parameter.register_hook(partial(coming, name)))
        yield


def is_compiled(network: nn.Module) -> bool:
    """Say whether torch.compile made it: its layers are then one, and are not seen from outside."""
    return hasattr(network, "_orig_mod") or getattr(network, "_compiled_call_impl", None) is not None


def uncompiled(network: nn.Module) -> nn.Module:
    """The network as it was written, with the same weights."""
    return getattr(network, "_orig_mod", network)


@contextmanager
def passing_by(network: nn.Module, on_pass: Callable[[Tensor, Tensor], OnGradient]) -> Iterator[None]:
    """Call ``on_pass(images, outputs)`` after each pass that keeps a graph; what it returns is told of the gradient as
    soon as a backward pass comes to the outputs of this very pass. Of several tensors given the first of real numbers
    counts, of several output the logits.
    """

    @torch.compiler.disable
    def after(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = [*args, *kwargs.values()]
        images = first_tensor([x for x in given if isinstance(x, Tensor) and x.is_floating_point()] or given)
        outputs = logits_in(output)
        if images is None or outputs is None or not torch.is_grad_enabled():
            return
        on_gradient = on_pass(images, outputs)
        if outputs.requires_grad:
            outputs.register_hook(on_gradient)

    with hooks() as handles:
        handles.append(network.register_forward_hook(_Kept(after), with_kwargs=True))
        yield
