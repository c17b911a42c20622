"""Every call of every module in a pass, in order, with what it was given and its output."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from .taps import first_tensor, hooks, mapped


@dataclass(eq=False)
class Call:
    """One call of a module in a traced pass: when it was entered and left, what it was given and output.

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
def tracing(network: nn.Module, given_of: str = "", outputs_of: Container[int] | None = None) -> Iterator[list[Call]]:
    """Record every call of every module in the passes within the block, in the order in which they are entered.

    The network goes on with copies of what is output, so that nothing works on it in place. What is given is kept for
    the module ``given_of`` alone, and what is output for the calls of the numbers ``outputs_of`` (None for all).
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
        call.left = next(clock)
        if outputs_of is not None and call.number not in outputs_of:
            return output
        call.output = output
        return _copied(output)

    with hooks() as handles:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(partial(enter, name)))
            handles.append(module.register_forward_hook(leave, prepend=True))  # before a user's own hooks
        yield calls


def _copied(value: Any) -> Any:
    """The same structure with its tensors cloned."""
    return mapped(value, Tensor.clone)
