"""Whether the weights of a file fit a network, found out before anything is allocated or computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from ..errors import ConvscopeError, UsageError
from .registry import build

LARGEST_OPTION = 100_000  # of a network that a file describes: no width or depth comes near
MOST_TENSORS = 20_000  # of a network that nothing but its description is known of
MORE_TENSORS = 1_000  # may be made while a network is built than it has in the end
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}  # fmt: skip
Described = Mapping[str, tuple[torch.dtype | None, tuple[int, ...]]]  # dtype and shape by a tensor's name


class _Unfilled(TorchFunctionMode):
    """A with-block in which no tensor is filled: there is nothing to fill on meta, where the first try takes a second.

    For ``normal_`` torch imports all that its compiler needs.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if in_place and args and isinstance(args[0], torch.Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


class _TooMany(Exception):
    """A network in the making has more tensors than the file it is made for."""


def misfits_unbuilt(
    name: str, num_classes: int, image_size: int, options: Mapping[str, Any], tensors: Described
) -> list[str]:
    """What of a file's tensors does not fit the network that the file describes, in words; nothing where all does.

    The network is made on torch's meta device, where tensors have a shape and no memory, and only as far as it has no
    more tensors than the file: a depth of a million costs no more than the file's own.
    """
    try:
        network = _unbuilt(name, num_classes, image_size, options, 4 * len(tensors) + MORE_TENSORS)
    except _TooMany:
        return [f"the network has more tensors than the {len(tensors)} of the file"]
    except ConvscopeError as error:
        return [str(error).rstrip(".")]
    except Exception as error:  # whatever absurd options make a network's code raise
        return [" ".join(str(error).split())[:200] or type(error).__name__]
    return misfits(network, tensors)


def size_unbuilt(name: str, num_classes: int, image_size: int, options: Mapping[str, Any]) -> int:
    """The parameters of a network that a record describes, counted on torch's meta device: nothing is allocated.

    UsageError for one with more than MOST_TENSORS tensors, or with an absurd option.
    """
    return sum(p.numel() for p in unbuilt(name, num_classes, image_size, options).parameters())


def unbuilt(name: str, num_classes: int, image_size: int, options: Mapping[str, Any]) -> nn.Module:
    """A network on torch's meta device, where nothing is allocated; UsageError as of ``size_unbuilt``."""
    try:
        return _unbuilt(name, num_classes, image_size, options, MOST_TENSORS)
    except _TooMany:
        raise UsageError(f"{name} is not built: it would have more than {MOST_TENSORS:,} tensors.") from None


def _unbuilt(name: str, num_classes: int, image_size: int, options: Mapping[str, Any], most: int) -> nn.Module:
    """The network on the meta device; _TooMany for more tensors than ``most``, UsageError for an absurd option."""
    for option, value in options.items():
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST_OPTION:
            raise UsageError(f"{name} is not built with {option} {value:g}.")
    with _at_most(most), _Unfilled():
        return build(name, num_classes, image_size, options, device="meta")


def misfits(network: nn.Module, tensors: Described) -> list[str]:
    """What of tensors does not fit a network, in words: names, shapes, numbers where there are none."""
    wanted = network.state_dict()
    wrong = [f"{n} is missing" for n in wanted if n not in tensors and not is_counter(n)]
    wrong += [f"{n} is not in the network" for n in sorted(tensors) if n not in wanted]
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: item[0]):
        like = wanted.get(name)
        if like is None:
            continue
        if tuple(like.shape) != shape:
            wrong.append(f"{name} is {shape} and should be {tuple(like.shape)}")
        elif dtype is None or dtype.is_floating_point != like.dtype.is_floating_point or dtype.is_complex:
            wrong.append(f"{name} holds {_words(dtype)} and should hold {_words(like.dtype)}")
    return wrong


def is_counter(name: str) -> bool:
    """Tell whether a tensor only counts batches: older files have none of these."""
    return name.endswith("num_batches_tracked")


def unusable(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The first tensor with numbers no network can compute with, in words; None where there is none."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor.to(torch.float32)).all()):
            return f"{name} holds values that are infinite or no numbers"
        if name.endswith("running_var") and bool((tensor < 0).any()):
            return f"{name} holds variances below 0"
    return None


def _words(dtype: torch.dtype | None) -> str:
    return "an unknown kind of number" if dtype is None else str(dtype).removeprefix("torch.")


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """A with-block in which at most so many parameters and buffers are registered in this process."""
    left = [count]

    def register(module: nn.Module, name: str, value: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _TooMany

    hooks = [register_module_parameter_registration_hook(register), register_module_buffer_registration_hook(register)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
