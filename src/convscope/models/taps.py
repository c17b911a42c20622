"""Looking at a network without disturbing it: what its modules are given and output, in evaluation mode if wanted.

With ``tracing`` the only module of the package that registers a hook or replaces a ``forward``. Every tap is a ``with``
block, and what it changed is as before afterwards, whether the block ended or raised. Any ``nn.Module`` works, whatever
its ``forward`` does, because only calls of its submodules are watched; a submodule whose ``forward`` is not called
through ``module(...)`` is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import UnknownName, UsageError

# name, module, inputs, output: "inputs" are the positional arguments and then the values of the named ones.
Callback = Callable[[str, nn.Module, tuple[Any, ...], Any], None]


@dataclass(frozen=True)
class Tap:
    """A place in a network where a tensor passes: what a module outputs, or is given, at its n-th call in a pass."""

    module: str
    at_input: bool = False
    call: int = 0


@dataclass
class Recording:
    """What the tapped modules were given and output, by name, in the order in which they were called.

    ``inputs`` and ``outputs`` hold the latest call; ``every_output`` all of them, because a module that is used in
    several places is called several times. Where a module takes or gives more than one tensor, the first is kept. A
    name in ``inputs`` that is not in ``outputs`` is a call that did not return.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    every_output: dict[str, list[Tensor]] = field(default_factory=dict)


@contextmanager
def hooks() -> Iterator[list[RemovableHandle]]:
    """A with-block with a list for the hooks that are registered in it, which are removed when it ends."""
    handles: list[RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def computing_by(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """A with-block in which these modules compute by other functions, each given what its ``forward`` would be.

    A ``forward`` that an object had of its own (not of its class) is put back afterwards.
    """
    own = {module: module.__dict__.get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, forward in own.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.__dict__["forward"] = forward


@contextmanager
def record(network: nn.Module, names: Iterable[str] | None, *, clone: bool = False) -> Iterator[Recording]:
    """Record the inputs and outputs of the named submodules ("" is the network itself), or of every leaf for None.

    Nothing is copied or detached, so a gradient can be asked of what is recorded, and a module that works in place
    (a ReLU after a batch norm) overwrites it. With ``clone`` the network continues with a copy of each recorded tensor:
    the recorded one keeps its values and stays in the graph. Raises UnknownName("layer", ...).
    """
    recording = Recording()
    taps = leaves(network) if names is None else named(network, names)
    with hooks() as handles:
        for name, module in taps.items():
            before, after = _recorders(recording, name, clone)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        yield recording


@contextmanager
def observe(network: nn.Module, callback: Callback, *, leaves_only: bool = False) -> Iterator[None]:
    """Call ``callback(name, module, inputs, output)`` after each call of a submodule, in the order of execution.

    A container comes after what it contains, the network itself (name "") last; ``leaves_only`` leaves both out. A
    module used in several places is reported at each call, under its first name.
    """

    def after(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        callback(name, module, (*args, *kwargs.values()), output)

    watched = leaves(network) if leaves_only else dict(network.named_modules())
    with hooks() as handles:
        for name, module in watched.items():
            handles.append(module.register_forward_hook(partial(after, name), with_kwargs=True))
        yield


@contextmanager
def tapping(
    network: nn.Module, taps: Sequence[Tap], callback: Callable[[int, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call ``callback(i, tensor)`` whenever a forward pass of ``network`` comes to ``taps[i]``.

    The tensor is handed over before anything can work on it in place. A tensor that the callback returns goes on in
    its stead. Raises UnknownName("layer", ...).
    """
    by_place: dict[tuple[str, bool], dict[int, list[int]]] = {}
    for number, tap in enumerate(taps):
        by_place.setdefault((tap.module, tap.at_input), {}).setdefault(tap.call, []).append(number)
    modules = named(network, [name for name, _ in by_place])
    counts = dict.fromkeys(by_place, 0)
    with hooks() as handles:
        handles.append(network.register_forward_pre_hook(lambda *_: counts.update(dict.fromkeys(counts, 0))))
        for place, numbers in by_place.items():
            module, hook = modules[place[0]], _passing(counts, place, numbers, callback)
            if place[1]:
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(hook))
        yield


class _Reached(Exception):
    """Ends a forward pass at a tap."""


def reach(network: nn.Module, images_BCHW: Tensor, taps: Sequence[Tap]) -> list[Tensor]:
    """Tell what passes each of the ``taps`` when the network is given these images; nothing after the last is computed.

    Gradients flow as they do in any pass. Raises UnknownName, or UsageError for a tap that the pass does not come to.
    """
    reached: dict[int, Tensor] = {}

    def keep(number: int, tensor: Tensor) -> Tensor:
        reached[number] = tensor
        if len(reached) == len(taps):
            raise _Reached
        return tensor.clone()  # what follows may work in place

    with tapping(network, taps, keep), suppress(_Reached):
        network(images_BCHW)
    for number, tap in enumerate(taps):
        if number not in reached:
            raise UsageError(f"the network does not call {tap.module!r} {tap.call + 1} times.")
    return [reached[number] for number in range(len(taps))]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """A with-block in which no parameter asks for a gradient, so that a graph holds the way of the images alone."""
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, before in wanted:
            parameter.requires_grad_(before)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A with-block in evaluation mode that puts every module back in the mode it was found in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def call_name(name: str, call: int) -> str:
    """A layer by its module's name; one that is called several times in a pass is several layers."""
    return name if call == 0 else f"{name} (call {call + 1})"


def leaves(network: nn.Module) -> dict[str, nn.Module]:
    """The submodules that contain no other, by name; a module whose weights are parametrized counts as one."""
    return {
        name: module
        for name, module in network.named_modules()
        if all(child == "parametrizations" for child, _ in module.named_children())
        and "parametrizations" not in name.split(".")
    }


def named(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The submodules of these names; raises UnknownName with the nearest layers that exist."""
    known = dict(network.named_modules(remove_duplicate=False))
    chosen = list(names)
    for name in chosen:
        if name not in known:
            raise UnknownName("layer", name, [k for k in known if k])
    return {name: known[name] for name in chosen}


def count_hooks(network: nn.Module) -> int:
    """Tell how many forward and backward hooks the network and its submodules carry, whoever registered them."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a value made of tensors, tuples, lists and dicts; None where there is none."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((tensor for part in parts if (tensor := first_tensor(part)) is not None), None)


def logits_in(output: Any) -> Tensor | None:
    """The logits in what a network outputs: the tensor that it calls so, or the first of all; None where there is none.

    The one answer to this question: what is watched, judged and followed is then the same tensor.
    """
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return first_tensor(output if named is None else named)


def _recorders(recording: Recording, name: str, clone: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair of hooks that fill a recording; they return a value only where the network shall go on with a copy."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        recording.inputs.pop(name, None)  # so that the order of the names is that of the latest calls
        recording.outputs.pop(name, None)
        given = first_tensor((args, kwargs))
        if given is not None:
            recording.inputs[name] = given
        return (mapped(args, Tensor.clone), mapped(kwargs, Tensor.clone)) if clone else None

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        outputs = first_tensor(output)
        if outputs is not None:
            recording.outputs[name] = outputs
            recording.every_output.setdefault(name, []).append(outputs)
        return mapped(output, Tensor.clone) if clone else None

    return before, after


def _passing(
    counts: dict[tuple[str, bool], int],
    place: tuple[str, bool],
    numbers: dict[int, list[int]],
    callback: Callable[[int, Tensor], Tensor | None],
) -> Callable[..., Any]:
    """The hook of a place: at its input it is given (arguments, named arguments), else (arguments, output).

    It returns None where nothing is replaced.
    """

    def hook(_module: nn.Module, args: tuple[Any, ...], last: Any) -> Any:
        value = (args, last) if place[1] else last
        call = counts[place]
        counts[place] += 1
        tensor, changed = first_tensor(value), None
        for number in numbers.get(call, ()):
            passing = tensor if changed is None else changed
            answer = callback(number, passing) if passing is not None else None
            changed = changed if answer is None else answer
        return None if tensor is None or changed is None else _replaced(value, tensor, changed)

    return hook


def _replaced(value: Any, old: Tensor, new: Tensor) -> Any:
    """The same structure with one tensor in another's stead."""
    return mapped(value, lambda tensor: new if tensor is old else tensor)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with its tensors changed; what is neither tensor, tuple, list nor dict is passed on."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, mapped(part, change)) for key, part in value.items())
    if isinstance(value, (tuple, list)):
        parts = [mapped(part, change) for part in value]
        named_tuple = hasattr(value, "_fields")  # which takes its parts one by one
        return type(value)(*parts) if named_tuple else type(value)(parts)
    return value
