"""A network as a chain of factors: places that everything passes through, found in the graph of one pass.

What lies between two such places is one factor of the product of Jacobians: a layer with the norm and activation behind
it, or a block whose skip goes around its layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConvscopeError, UsageError
from ..models.taps import Tap, call_name, first_tensor, frozen, logits_in, named, tapping
from ..models.tracing import Call, tracing

WHOLE = Tap("")  # the network's own output


@dataclass(frozen=True)
class Factor:
    """From where the factor before ends to ``end``. ``total``, in a block with an identity skip: where F(x) + x is."""

    name: str
    end: Tap
    total: Tap | None = None


@dataclass(frozen=True, eq=False)
class Segment:
    """A factor in a pass: what it was given, what it output, and F(x) + x; its graph reaches no further than ``x``."""

    factor: Factor
    x: Tensor
    y: Tensor
    total: Tensor | None = None


def find_chain(network: nn.Module, images_BCHW: Tensor, names: Sequence[str] | None = None) -> tuple[Factor, ...]:
    """The factors of a network, from its input to its output; with ``names`` one factor up to each of these modules.

    UnknownName for a module that does not exist, UsageError for one that is not called, out of order, or that a skip
    goes around, and for a network that cannot be given images alone.
    """
    with frozen(network), torch.enable_grad():
        x = images_BCHW.detach().clone().requires_grad_()
        with tracing(network) as calls:
            out = logits_of(network, x)
    if out.grad_fn is None:
        raise UsageError("the network's answer does not depend on its images in a way that can be differentiated.")
    graph = _Graph(calls, out)
    return _named_chain(network, graph, names) if names else _grouped(graph)


def logits_of(network: nn.Module, images_BCHW: Tensor) -> Tensor:
    """The logits that the network outputs; UsageError where it cannot be called with images alone."""
    try:
        out = logits_in(network(images_BCHW))
    except ConvscopeError:
        raise
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        shape = tuple(images_BCHW.shape)
        said = f"{error}".partition("\n")[0]
        raise UsageError(
            f"{type(network).__name__} could not be called with one batch of images, {shape}: {said} "
            "Wrap it in a module whose forward takes images and returns logits."
        ) from error
    if out is None or not out.is_floating_point():
        raise UsageError(f"{type(network).__name__} outputs no tensor of numbers; its forward must return logits.")
    return out


def segments(network: nn.Module, chain: Sequence[Factor], images_BCHW: Tensor) -> list[Segment]:
    """One pass, cut at the end of each factor: Jacobians are then those of single factors."""
    taps = [f.end for f in chain[:-1]] + [f.total for f in chain if f.total is not None and f.total != f.end]
    inputs, outputs = [images_BCHW.detach().clone().requires_grad_()], []
    totals: dict[Tap | None, Tensor] = {}

    def cut(number: int, tensor: Tensor) -> Tensor:
        if number >= len(chain) - 1:
            totals[taps[number]] = tensor
            return tensor.clone()
        outputs.append(tensor)
        inputs.append(tensor.detach().clone().requires_grad_())
        return inputs[-1].clone()  # what follows may work in place

    with frozen(network), torch.enable_grad(), tapping(network, taps, cut):
        outputs.append(logits_of(network, inputs[0].clone()))
    rows = zip(chain, inputs, outputs, strict=True)
    return [Segment(f, x, y, y if f.total == f.end else totals.get(f.total)) for f, x, y in rows]


# ------------------------------------------------------------------------------------------------------- the graph


class _Graph:
    """The calls of a pass, and which of their outputs everything passes through."""

    def __init__(self, calls: list[Call], out: Tensor) -> None:
        self.calls = calls
        self.children: dict[int, list[Call]] = {}
        for call in calls:
            self.children.setdefault(call.parent, []).append(call)
        self.uses: Counter[str] = Counter()
        self.turn: dict[int, int] = {}  # which call of its module a call is
        for call in calls:
            self.turn[call.number] = self.uses[call.name]
            self.uses[call.name] += 1
        assert out.grad_fn is not None
        self.end = _same(out.grad_fn)
        self.cuts = _cut_nodes(out.grad_fn)

    def is_cut(self, call: Call) -> bool:
        """Say whether everything passes through this call's output."""
        tensor = first_tensor(call.output)
        if tensor is None or tensor.grad_fn is None:
            return False
        return self.cuts.get(tensor.grad_fn) == {tensor.output_nr}

    def tap(self, call: Call, at_input: bool = False) -> Tap:
        return Tap(call.name, at_input, self.turn[call.number])

    def name(self, call: Call) -> str:
        return call_name(call.name, self.turn[call.number])


def _cut_nodes(root: Any) -> dict[Any, set[int]]:
    """The nodes of a graph that every path passes through, each with which of its outputs are used.

    Nodes are taken from the output on, each when all that use it are done; one is a cut if no edge leads past it then.
    """
    incoming: Counter[Any] = Counter()
    used: dict[Any, set[int]] = {root: {0}}
    stack, seen = [root], {root}
    while stack:
        for node, place in stack.pop().next_functions:
            if node is None:
                continue
            incoming[node] += 1
            used.setdefault(node, set()).add(place)
            if node not in seen:
                seen.add(node)
                stack.append(node)
    cuts: dict[Any, set[int]] = {}
    waiting, ready, edges = Counter(incoming), [root], 0
    while ready:
        node = ready.pop()
        edges -= incoming[node]
        if edges == 0:
            cuts[node] = used[node]
        for following, _ in node.next_functions:
            if following is not None:
                edges += 1
                waiting[following] -= 1
                if waiting[following] == 0:
                    ready.append(following)
    return cuts


def _same(node: Any) -> Any:
    """The node whose value this one hands on: copies, which tracing makes, are looked through."""
    while node is not None and node.name() == "CloneBackward0":
        node = node.next_functions[0][0]
    return node


# ------------------------------------------------------------------------------------------------------ the factors


def _units(graph: _Graph, call: Call) -> list[Call]:
    """A call, or the calls within it that everything passes through, where those are blocks and layers in a row."""
    inside = graph.children.get(call.number, [])
    passed = [child for child in inside if graph.is_cut(child)]
    container = any(graph.children.get(child.number) for child in inside)
    expands = call.parent == -1 or isinstance(call.module, nn.Sequential) or (len(passed) == len(inside) and container)
    if not passed or not expands:
        return [call]
    return [unit for child in passed for unit in _units(graph, child)]


def _has_weight(call: Call) -> bool:
    return any(p.ndim > 1 for p in call.module.parameters())


def _grouped(graph: _Graph) -> tuple[Factor, ...]:
    """Units joined to factors: each layer with a weight begins one, and what has none stays with the layer before.

    Behind a block it goes to the layer that follows, so that a block stays what it is.
    """
    root = next(call for call in graph.calls if call.parent == -1)
    groups: list[list[Call]] = []
    loose: list[Call] = []
    for unit in _units(graph, root):
        block = bool(graph.children.get(unit.number))
        if _has_weight(unit):
            groups.append([*loose, unit])
            loose = []
        elif groups and not loose and not graph.children.get(groups[-1][-1].number) and not block:
            groups[-1].append(unit)
        else:
            loose.append(unit)
    if not groups:
        raise UsageError("the network has no layer with weights that everything passes through.")
    groups[-1] += loose
    return tuple(_factor(graph, group, last=group is groups[-1]) for group in groups)


def _factor(graph: _Graph, group: list[Call], last: bool) -> Factor:
    weighted = next(call for call in group if _has_weight(call))
    total = _total(graph, group[0]) if len(group) == 1 else None
    return Factor(graph.name(weighted), WHOLE if last else graph.tap(group[-1]), total)


def _total(graph: _Graph, call: Call) -> Tap | None:
    """Find a block's F(x) + x, if it has an identity skip: its output, or the input of its last activation.

    None where the skip changes sizes, or where the sum is not to be seen from outside.
    """
    out = first_tensor(call.output)
    inside = graph.children.get(call.number)
    if not inside or out is None:
        return None
    end = _same(out.grad_fn)
    if _adds_input(graph, call, end):
        return graph.tap(call)
    last = next((c for c in reversed(inside) if _node(c) is end and not graph.children.get(c.number)), None)
    if last is None or len(end.next_functions) != 1:
        return None
    return graph.tap(last, at_input=True) if _adds_input(graph, call, _same(end.next_functions[0][0])) else None


def _node(call: Call) -> Any:
    tensor = first_tensor(call.output)
    return None if tensor is None else _same(tensor.grad_fn)


def _adds_input(graph: _Graph, call: Call, node: Any) -> bool:
    """Say whether a node adds two tensors of which one is the call's input."""
    if node is None or not node.name().startswith("AddBackward"):
        return False
    given = [_same(following) for following, _ in node.next_functions]
    before = max(
        (c for c in graph.calls if c.left < call.entered and graph.is_cut(c)), key=lambda c: c.left, default=None
    )
    if before is None:  # the images themselves: the only leaf there is
        return any(n is not None and n.name() == "torch::autograd::AccumulateGrad" for n in given)
    return any(n is _node(before) for n in given)


def _named_chain(network: nn.Module, graph: _Graph, names: Sequence[str]) -> tuple[Factor, ...]:
    """One factor up to each of the modules, and one for the rest where something follows."""
    named(network, names)
    chosen: list[Call] = []
    taken: Counter[str] = Counter()
    for name in names:
        calls = [call for call in graph.calls if call.name == name]
        if taken[name] >= len(calls):
            raise UsageError(f"the network does not call {name!r} {taken[name] + 1} times.")
        call = calls[taken[name]]
        taken[name] += 1
        if not graph.is_cut(call):
            raise UsageError(f"not everything passes through {name!r}: something goes around it, or it is not used.")
        if chosen and call.left < chosen[-1].left:
            raise UsageError(f"{name!r} comes before {chosen[-1].name!r} in the network: name modules in their order.")
        chosen.append(call)
    factors = [Factor(graph.name(c), graph.tap(c), _total(graph, c)) for c in chosen]
    if _node(chosen[-1]) is graph.end:
        return (*factors[:-1], Factor(factors[-1].name, WHOLE, factors[-1].total))
    return (*factors, Factor("the rest", WHOLE))
