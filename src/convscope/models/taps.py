"""Looking at a network without disturbing it: what its modules are given and put out, in evaluation mode if wanted.

The only module of the package that registers a hook. Every tap is a ``with`` block, and its hooks are gone afterwards,
whether the block ended or raised. Any ``nn.Module`` works, whatever its ``forward`` does, because only calls of its
submodules are watched; a submodule whose ``forward`` is not called through ``module(...)`` is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnknownName, UsageError

# name, module, inputs, output: "inputs" are the positional arguments and then the values of the named ones.
Callback = Callable[[str, nn.Module, tuple[Any, ...], Any], None]


@dataclass(frozen=True)
class Tap:
    """A place in a network where a tensor passes: what a module puts out, or is given, at its n-th call in a pass."""

    module: str
    at_input: bool = False
    call: int = 0


@dataclass
class Recording:
    """What the tapped modules were given and put out, by name, in the order in which they were called.

    ``inputs`` and ``outputs`` hold the latest call; ``every_output`` all of them, because a module that is used in
    several places is called several times. Where a module takes or gives more than one tensor, the first is kept. A
    name in ``inputs`` that is not in ``outputs`` is a call that did not return.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    every_output: dict[str, list[Tensor]] = field(default_factory=dict)


@contextmanager
def record(network: nn.Module, names: Iterable[str] | None, *, clone: bool = False) -> Iterator[Recording]:
    """Record the inputs and outputs of the named submodules ("" is the network itself), or of every leaf for None.

    Nothing is copied or detached, so a gradient can be asked of what is recorded, and a module that works in place
    (a ReLU after a batch norm) overwrites it. With ``clone`` the network continues with a copy of each recorded tensor:
    the recorded one keeps its values and stays in the graph. Raises UnknownName("layer", ...).
    """
    recording = Recording()
    taps = leaves(network) if names is None else named(network, names)
    handles = []
    try:
        for name, module in taps.items():
            before, after = _recorders(recording, name, clone)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def observe(network: nn.Module, callback: Callback, *, leaves_only: bool = False) -> Iterator[None]:
    """Call ``callback(name, module, inputs, output)`` after each call of a submodule, in the order of execution.

    A container comes after what it contains, the network itself (name "") last; ``leaves_only`` leaves both out. A
    module used in several places is reported at each call, under its first name.
    """
    watched = leaves(network) if leaves_only else dict(network.named_modules())
    handles = []
    try:
        for name, module in watched.items():
            hook = _observer(name, callback)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


# name, how many calls of it came before in this pass, module, input, output
OnOutput = Callable[[str, int, nn.Module, Tensor | None, Tensor], None]
OnGradient = Callable[[str, int, Tensor], None]


@contextmanager
def following(network: nn.Module, on_output: OnOutput, on_gradient: OnGradient) -> Iterator[None]:
    """Follow a training step: each leaf's output as it is made, then the loss's gradient at those with a weight.

    Nothing is replaced, so a step that is followed computes the same bits. Calls during the backward pass (activations
    that are computed again) and passes without gradients are passed over.
    """
    counts: dict[str, int] = {}
    backward = False

    def before(_module: nn.Module, _args: tuple[Any, ...]) -> None:
        nonlocal backward
        counts.clear()
        backward = False

    def after(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tensor = first_tensor(output)
        if backward or tensor is None or not torch.is_grad_enabled():
            return
        call = counts.get(name, 0)
        counts[name] = call + 1
        on_output(name, call, module, first_tensor((args, kwargs)), tensor)
        if tensor.requires_grad and any(p.ndim > 1 for p in module.parameters(recurse=False)):
            tensor.register_hook(partial(gradient, name, call))

    def gradient(name: str, call: int, tensor: Tensor) -> None:
        nonlocal backward
        backward = True
        on_gradient(name, call, tensor)

    handles = [network.register_forward_pre_hook(before)]
    try:
        for name, module in leaves(network).items():
            handles.append(module.register_forward_hook(partial(after, name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def accumulating(parameters: Mapping[str, nn.Parameter], callback: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``callback(name, gradient)`` when a parameter's gradient has been added up, before it is clipped."""
    handles = []
    try:
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                hook = partial(_on_accumulated, name, callback)
                handles.append(parameter.register_post_accumulate_grad_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _on_accumulated(name: str, callback: Callable[[str, Tensor], None], parameter: Tensor) -> None:
    if parameter.grad is not None:
        callback(name, parameter.grad)


@dataclass(eq=False)
class Call:
    """One call of a module in a traced pass: when it was entered and left, what it was given and put out.

    ``number`` counts the calls as they are entered, ``parent`` is that of the call around it (-1 for none).
    """

    number: int
    name: str
    module: nn.Module
    parent: int
    entered: int
    left: int = -1
    given: Any = None
    output: Any = None


@contextmanager
def tracing(network: nn.Module, given_of: str = "") -> Iterator[list[Call]]:
    """Record every call of every module in the passes within the block, in the order in which they are entered.

    The network goes on with copies of what is put out, so that nothing works on it in place. What is given is kept for
    the module ``given_of`` alone.
    """
    calls: list[Call] = []
    open_calls: list[Call] = []
    clock = iter(range(2**62))

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        parent = open_calls[-1].number if open_calls else -1
        given = _copied(first_tensor(args)) if name == given_of else None
        call = Call(len(calls), name, module, parent, next(clock), given=given)
        calls.append(call)
        open_calls.append(call)

    def leave(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        call = open_calls.pop()
        call.left, call.output = next(clock), output
        return _copied(output)

    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(partial(_entered, enter, name)))
            handles.append(module.register_forward_hook(leave, prepend=True))  # before a user's own hooks
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _entered(enter: Callable[..., None], name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
    enter(name, module, args)


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
    handles = [network.register_forward_pre_hook(lambda *_: counts.update(dict.fromkeys(counts, 0)))]
    try:
        for place, numbers in by_place.items():
            module, hook = modules[place[0]], _passing(counts, place, numbers, callback)
            if place[1]:
                handles.append(module.register_forward_pre_hook(partial(_on_inputs, hook), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(partial(_on_output, hook)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """Ends a forward pass at a tap."""


def reach(network: nn.Module, images_BCHW: Tensor, taps: Sequence[Tap]) -> list[Tensor]:
    """What passes each of the ``taps`` when the network is given these images; nothing after the last is computed.

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
    """How many forward and backward hooks the network and its submodules carry, whoever registered them."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a value made of tensors, tuples, lists and dicts; None where there is none."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((tensor for part in parts if (tensor := first_tensor(part)) is not None), None)


def _recorders(recording: Recording, name: str, clone: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair of hooks that fill a recording; they return a value only where the network shall go on with a copy."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        recording.inputs.pop(name, None)  # so that the order of the names is that of the latest calls
        recording.outputs.pop(name, None)
        given = first_tensor((args, kwargs))
        if given is not None:
            recording.inputs[name] = given
        return (_copied(args), _copied(kwargs)) if clone else None

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        put_out = first_tensor(output)
        if put_out is not None:
            recording.outputs[name] = put_out
            recording.every_output.setdefault(name, []).append(put_out)
        return _copied(output) if clone else None

    return before, after


def _passing(
    counts: dict[tuple[str, bool], int],
    place: tuple[str, bool],
    numbers: dict[int, list[int]],
    callback: Callable[[int, Tensor], Tensor | None],
) -> Callable[..., Any]:
    """The hook of a place, given its output or (arguments, named arguments); None where nothing is replaced."""

    def hook(value: Any) -> Any:
        call = counts[place]
        counts[place] += 1
        tensor, changed = first_tensor(value), None
        for number in numbers.get(call, ()):
            passing = tensor if changed is None else changed
            answer = callback(number, passing) if passing is not None else None
            changed = changed if answer is None else answer
        return None if tensor is None or changed is None else _replaced(value, tensor, changed)

    return hook


def _on_inputs(hook: Callable[[Any], Any], _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return hook((args, kwargs))


def _on_output(hook: Callable[[Any], Any], _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
    return hook(output)


def _replaced(value: Any, old: Tensor, new: Tensor) -> Any:
    """The same structure with one tensor in another's stead."""
    if isinstance(value, Tensor):
        return new if value is old else value
    if isinstance(value, dict):
        return type(value)((key, _replaced(part, old, new)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replaced(part, old, new) for part in value))
    return type(value)(_replaced(part, old, new) for part in value) if isinstance(value, (tuple, list)) else value


def _observer(name: str, callback: Callback) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        callback(name, module, (*args, *kwargs.values()), output)

    return hook


def _copied(value: Any) -> Any:
    """The same structure with its tensors cloned; what is neither tensor, tuple, list nor dict is passed on."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return type(value)((key, _copied(part)) for key, part in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple takes its parts one by one
        return type(value)(*(_copied(part) for part in value))
    return type(value)(_copied(part) for part in value) if isinstance(value, (tuple, list)) else value


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient within the block, so that a graph holds the way of the images alone."""
    taking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in taking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in taking:
            parameter.requires_grad_(True)
