"""Taps: what is recorded, in which order, and that no hook is left behind."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from convscope.errors import UnknownName
from convscope.taps import count_hooks, named, observe, record


class Shared(nn.Module):
    """One module used twice, by two names, and one that gives more than a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.again = self.first
        self.recurrent = nn.LSTM(2, 2)
        nn.init.constant_(self.first.weight, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(input=self.again(self.first(x)))[0]


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("on purpose")


def in_place() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(linear=nn.Linear(1, 1, bias=False), relu=nn.ReLU(inplace=True), last=nn.Linear(1, 1, bias=False))
    )


def test_outputs_and_inputs_are_those_of_the_forward_pass() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    x = torch.randn(4, 3)
    with record(network, ["0", ""]) as taps:
        y = network(x)
    assert list(taps.outputs) == ["0", ""]
    assert taps.outputs[""] is y
    assert taps.inputs["0"] is x
    assert torch.equal(taps.outputs["0"], network[0](x))


def test_none_records_every_leaf() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Linear(2, 1))
    with record(network, None) as taps:
        network(torch.randn(4, 3))
    assert list(taps.outputs) == ["0.0", "0.1", "1"]


def test_a_shared_module_keeps_every_call() -> None:
    network = Shared()
    with record(network, ["again"]) as taps:
        network(torch.ones(1, 2))
    assert [t.tolist() for t in taps.every_output["again"]] == [[[2.0, 2.0]], [[4.0, 4.0]]]
    assert taps.outputs["again"].tolist() == [[4.0, 4.0]]
    assert taps.inputs["again"].tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("clone", [False, True])
def test_of_several_tensors_the_first_is_kept_and_named_arguments_count(clone: bool) -> None:
    network = Shared()
    expected = network(torch.ones(1, 2))
    with record(network, ["recurrent"], clone=clone) as taps:
        assert torch.equal(network(torch.ones(1, 2)), expected)
    assert torch.equal(taps.outputs["recurrent"], expected)
    assert taps.inputs["recurrent"].tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize(("clone", "seen"), [(False, 0.0), (True, -2.0)])
def test_an_in_place_relu_overwrites_unless_cloned(clone: bool, seen: float) -> None:
    network = in_place()
    nn.init.constant_(network.linear.weight, -2.0)
    with record(network, ["linear", "relu"], clone=clone) as taps, torch.no_grad():
        network(torch.ones(1, 1))
    assert taps.outputs["linear"].item() == seen
    assert taps.inputs["relu"].item() == seen
    assert taps.outputs["relu"].item() == 0.0


def test_a_clone_stays_in_the_graph() -> None:
    network = in_place()
    for weight in network.parameters():
        nn.init.constant_(weight, 3.0)
    with record(network, ["linear"], clone=True) as taps:
        y = network(torch.ones(1, 1))
    assert torch.autograd.grad(y, taps.outputs["linear"])[0].item() == 3.0


def test_observe_reports_in_order_of_execution() -> None:
    network, calls, leaf_calls = Shared(), [], []
    with observe(network, lambda name, module, inputs, output: calls.append((name, type(module), len(inputs)))):
        network(torch.ones(1, 2))
    with observe(network, lambda name, *_: leaf_calls.append(name), leaves_only=True):
        network(torch.ones(1, 2))
    assert calls == [("first", nn.Linear, 1), ("first", nn.Linear, 1), ("recurrent", nn.LSTM, 1), ("", Shared, 1)]
    assert leaf_calls == ["first", "first", "recurrent"]


def test_a_parametrized_layer_is_one_leaf() -> None:
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with record(network, None) as taps:
        network(torch.ones(1, 2))
    assert list(taps.outputs) == ["0"]


def test_no_hook_is_left_after_success() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert count_hooks(network) == 0
    with record(network, None):
        assert count_hooks(network) == 4
        with observe(network, lambda *_: None):
            assert count_hooks(network) == 7
    assert count_hooks(network) == 0


def test_no_hook_is_left_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(2, 2), Failing())
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match="on purpose"), record(network, None) as taps:
        network(x)
    assert list(taps.inputs) == ["0", "1"]
    assert list(taps.outputs) == ["0"], "the call that did not return"
    with pytest.raises(ValueError, match="on purpose"), observe(network, lambda *_: None):
        network(x)
    with pytest.raises(ZeroDivisionError), observe(network, lambda *_: 1 / 0):  # the callback itself
        network(x)
    assert count_hooks(network) == 0


def test_an_unknown_layer_offers_the_nearest() -> None:
    network = in_place()
    with pytest.raises(UnknownName, match=r"no layer named 'rellu'\. Did you mean 'relu'"), record(network, ["rellu"]):
        pass
    assert count_hooks(network) == 0
    assert list(named(network, ["relu"])) == ["relu"]
