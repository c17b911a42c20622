"""A device called "pretend": it computes on the CPU, and refuses, as a GPU does, what mixes devices.

``python tests/pretend_device.py DEVICE`` runs the commands that it reads on that device, this one or a real one. A
process that has called ``set_up`` never loses it, so tests run it in a child. ``waits`` counts how often the host
waited for a number from the device.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections import Counter
from functools import partial
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
# These ask the device for a value, or for a shape that depends on values.
WAITING = frozenset({"aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select"})
MAY_MIX = frozenset({"aten::copy_", "aten::_to_copy", "aten::to"})
INDEXING = frozenset({"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"})
RESIZING = ("eye", "arange", "linspace", "logspace", "range", "randperm")
waits: Counter[str] = Counter()
_kept: list[Any] = []  # a library is undone when nobody holds it


class There(torch.Tensor):
    """A tensor on the device; ``inner`` holds its values on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        with torch.inference_mode(False):  # a view of a tensor from outside has to be one of outside
            return torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=torch.device(NAME, 0),
            )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        """The values as Python's numbers, for which the host waits."""
        waits["tolist"] += 1
        return self.inner.detach().tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"There({self.inner})"


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    leaves = tree_leaves((args, kwargs))
    if name in INDEXING and isinstance(args[0], There):  # which takes its indices from the CPU, too
        leaves = tree_leaves((args[0], args[2:], kwargs))
    here = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, There) and x.ndim]
    there = [x for x in leaves if isinstance(x, There)]
    devices = [x for x in leaves if isinstance(x, torch.device)]
    if name in WAITING and there:
        waits[name] += 1
    if name in ("aten::_to_copy", "aten::to") and there and devices and devices[0].type == "cpu":
        waits["cpu"] += 1
    if there and here and name not in MAY_MIX:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {NAME}:0 and cpu")
    plain_args, plain_kwargs = tree_map(_inner, (args, kwargs))
    found = func(*plain_args, **plain_kwargs)
    if name == "aten::copy_":
        return args[0]
    stays = devices[0].type == NAME if devices else bool(there)
    wrapped = tree_map(lambda x: There(x) if stays and isinstance(x, torch.Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there and stays else wrapped


def _run_flat(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(func, args, kwargs)


def _made_here(make: Any, data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
    requires_grad = kwargs.pop("requires_grad", False)
    if isinstance(data, torch.Tensor):
        return data.to(device or data.device, **kwargs)
    return make(data, **kwargs).to(device or "cpu").requires_grad_(requires_grad)


def _inner(value: Any) -> Any:
    if isinstance(value, There):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of ``torch.pretend``. Its random numbers are the CPU's own, so results are the CPU's."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def synchronize(self, device: Any = None) -> None:
        waits["synchronize"] += 1

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


def set_up() -> None:
    """Make the device known to torch in this process, once and for all."""
    module = _Module()
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    library = torch.library.Library("_", "IMPL")
    library.fallback(_run_flat, "PrivateUse1")
    factories = torch.library.Library("aten", "IMPL")  # which else make an empty tensor and resize it, as none can here
    for name in RESIZING:
        for overload in getattr(torch.ops.aten, name).overloads():
            func = getattr(getattr(torch.ops.aten, name), overload)
            if not overload.endswith("out") and torch._C._dispatch_has_kernel_for_dispatch_key(
                func.name(), "CompositeExplicitAutograd"
            ):
                factories.impl(func, partial(_run_flat, func), "PrivateUse1")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # so bfloat16 is not tried
    _kept.extend((library, factories))
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.accelerator.synchronize = module.synchronize
    for name in ("tensor", "as_tensor"):  # which torch cannot make on a device that Python keeps
        setattr(torch, name, partial(_made_here, getattr(torch, name)))


def main(device: str) -> None:
    """Run the commands that stand on the standard input, a line of JSON each, on a device; answer each by a line."""
    if device == NAME:
        set_up()
    from convscope import machine
    from convscope.cli import run
    from convscope.convolution import timing

    machine.PEAK_SIDE = 256
    timing.timed, timing.timed_row = lambda shape: timing.DIRECT, lambda shape: False
    for line in sys.stdin:
        waits.clear()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*json.loads(line), "--device", device])
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "waits": dict(waits)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
