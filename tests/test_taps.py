"""Taps: what is recorded, handed over, replaced and traced, in which order, and that no hook is left behind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convscope.errors import UnknownName, UsageError
from convscope.models.alexnet import alexnet
from convscope.models.resnet import cifar_resnet
from convscope.models.taps import Tap, computing_by, count_hooks, evaluating, named, observe, reach, record, tapping
from convscope.models.tracing import tracing


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


# tapping, reach, tracing


class Residual(nn.Module):
    """A skip that is added in place, a ReLU in place that is used twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 4, 3, padding=1), norm=nn.BatchNorm2d(4)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        out = self.block(x)
        out += x
        return self.head(self.relu(out))


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Talkative(nn.Module):
    """A module with two inputs, one with several outputs, and one whose input has a name."""

    def __init__(self) -> None:
        super().__init__()
        self.sum, self.recurrent, self.linear = TwoInputs(), nn.LSTM(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        output, (hidden, _) = self.recurrent(self.sum(x, 2 * x))
        return self.linear(input=output) + hidden


class SkipsThroughIdentity(nn.Module):
    """The ReLU works in place on what the identity passed on, so the skip is activated too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.skip, self.relu = nn.Linear(2, 2), nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        skip = self.skip(x)
        return 2 * self.relu(x) + skip


SHARED = [Tap("first"), Tap("first", call=1), Tap("first", at_input=True), Tap("first", at_input=True, call=1)]


def drawn(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode with lively norms, and two images of 16 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = build().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
        return network, torch.randn(2, 3, 16, 16)


def heard(network: nn.Module, x: Tensor, taps: list[Tap]) -> list[tuple[int, list[float]]]:
    """(number of the tap, first row of the tensor) of every call of the callback in a pass."""
    calls: list[tuple[int, list[float]]] = []
    with tapping(network, taps, lambda number, tensor: calls.append((number, tensor[0].tolist()))):
        network(x)
    return calls


def test_tapping_hands_over_each_call_and_input_in_order() -> None:
    calls = heard(Shared(), torch.ones(1, 2), SHARED)
    assert calls == [(2, [1.0, 1.0]), (0, [2.0, 2.0]), (3, [2.0, 2.0]), (1, [4.0, 4.0])]


@pytest.mark.parametrize(("tap", "seen"), [(Tap("again", call=1), [4.0, 4.0]), (Tap("", at_input=True), [1.0, 1.0])])
def test_tapping_takes_a_second_name_and_the_network_itself(tap: Tap, seen: list[float]) -> None:
    assert heard(Shared(), torch.ones(1, 2), [tap]) == [(0, seen)]


def test_a_call_that_does_not_come_is_not_handed_over() -> None:
    assert heard(Shared(), torch.ones(1, 2), [Tap("first", call=2)]) == []


def test_tapping_counts_calls_anew_in_each_pass() -> None:
    network, calls = Shared(), []
    with tapping(network, SHARED, lambda number, _: calls.append(number)):
        for _ in range(3):
            network(torch.ones(1, 2))
    assert calls == [2, 0, 3, 1] * 3


def test_a_pass_that_breaks_off_does_not_upset_the_count_of_the_next() -> None:
    network, calls = Shared(), []
    with tapping(network, [Tap("first", call=1)], lambda _, tensor: calls.append(tensor[0].tolist())):
        with pytest.raises(ZeroDivisionError), tapping(network, [Tap("first")], lambda *_: 1 / 0):
            network(torch.ones(1, 2))
        network(torch.ones(1, 2))
    assert calls == [[4.0, 4.0]]


@pytest.mark.parametrize(("tap", "expected"), [(Tap("0"), [0.0, 7.0]), (Tap("1", at_input=True), [0.0, 7.0])])
def test_what_the_callback_returns_goes_on(tap: Tap, expected: list[float]) -> None:
    network, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2)
    with tapping(network, [tap], lambda *_: torch.tensor([[-7.0, 7.0]])):
        assert network(x)[0].tolist() == expected
    assert network(x)[0].tolist() != expected


def test_taps_at_one_place_follow_on_each_other() -> None:
    network = nn.Sequential(nn.Identity())
    with tapping(network, [Tap("0")] * 3, lambda number, tensor: None if number == 1 else 10 * tensor + number):
        assert network(torch.ones(1)).item() == 102


def test_a_tapped_tensor_is_handed_over_before_it_is_overwritten() -> None:
    network = in_place()
    nn.init.constant_(network.linear.weight, -2.0)
    with torch.no_grad():
        assert heard(network, torch.ones(1, 1), [Tap("linear"), Tap("relu")]) == [(0, [-2.0]), (1, [0.0])]


@pytest.mark.parametrize(
    "tap",
    [
        Tap("sum", at_input=True),
        Tap("sum"),
        Tap("recurrent"),
        Tap("linear", at_input=True),
        Tap("linear"),
    ],
    ids=str,
)
def test_only_the_first_tensor_is_replaced(tap: Tap) -> None:
    network, x = Talkative(), torch.ones(3, 2)
    expected, seen = network(x), []

    def same_again(_number: int, tensor: Tensor) -> Tensor:
        seen.append(tensor)
        return tensor.clone()

    with tapping(network, [tap], same_again):
        assert torch.equal(network(x), expected)
    assert len(seen) == 1


def test_tapping_leaves_no_hook() -> None:
    network, x = nn.Sequential(nn.Linear(2, 2), Failing()), torch.ones(1, 2)
    with tapping(network, [Tap("0"), Tap("0", call=1), Tap("1", at_input=True)], lambda *_: None):
        assert count_hooks(network) == 3, "one for each place, one that resets the counts"
        with pytest.raises(ValueError, match="on purpose"):
            network(x)
    assert count_hooks(network) == 0
    with pytest.raises(ValueError, match="on purpose"), tapping(network, [Tap("0")], lambda *_: None):
        network(x)
    with pytest.raises(ZeroDivisionError), tapping(network, [Tap("0")], lambda *_: 1 / 0):
        network(x)
    with pytest.raises(UnknownName, match="no layer named 'second'"), tapping(network, [Tap("second")], lambda *_: 0):
        pass
    assert count_hooks(network) == 0


PLACES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "alexnet": (lambda: alexnet(3, 16, width=4), ["conv1", "norm2", "flatten", "fc6"]),
    "resnet20": (lambda: cifar_resnet(20, 3, 16, width=4), ["bn1", "layer1.0", "layer2.0.downsample", "layer3.2.bn2"]),
    "in place": (Residual, ["stem", "block.conv", "block", "head.2"]),
}


@pytest.mark.parametrize("name", PLACES)
def test_reach_gives_what_a_whole_pass_records(name: str) -> None:
    build, places = PLACES[name]
    network, x = drawn(build)
    with record(network, places, clone=True) as taps:
        expected = network(x)
    for place in places:
        assert torch.equal(reach(network, x, [Tap(place)])[0], taps.outputs[place])
        assert torch.equal(reach(network, x, [Tap(place, at_input=True)])[0], taps.inputs[place])
    wanted = [Tap(place, at_input) for place in reversed(places) for at_input in (False, True)]
    together = reach(network, x, [*wanted, wanted[0]])
    for tap, tensor in zip([*wanted, wanted[0]], together, strict=True):
        assert torch.equal(tensor, (taps.inputs if tap.at_input else taps.outputs)[tap.module]), tap
    assert torch.equal(network(x), expected)
    assert count_hooks(network) == 0


def test_reach_tells_the_calls_of_a_shared_module_apart() -> None:
    network, x = drawn(Residual)
    first, second = reach(network, x, [Tap("relu"), Tap("relu", call=1)])
    before = reach(network, x, [Tap("relu", at_input=True, call=1)])[0]
    assert torch.equal(first, network.stem(x).relu())
    assert torch.equal(before, network.block(first) + first)
    assert torch.equal(second, before.relu())


def test_reach_computes_nothing_behind_the_last_tap() -> None:
    called: list[str] = []
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)], Failing())
    with observe(network, lambda name, *_: called.append(name)):
        reach(network, torch.ones(1, 2), [Tap("2", at_input=True), Tap("0")])
    assert called == ["0", "1"]
    with pytest.raises(ValueError, match="on purpose"):
        network(torch.ones(1, 2))


@pytest.mark.parametrize("taps", [[Tap("block.norm")], [Tap("relu"), Tap("block.norm")]], ids=["one", "two"])
def test_gradients_flow_through_reach(taps: list[Tap]) -> None:
    network, x = drawn(Residual)
    x.requires_grad_(True)
    reached = reach(network, x, taps)[-1]
    expected = network.block(network.stem(x).relu())
    ours, theirs = (torch.autograd.grad(maps[:, 1].square().sum(), x)[0] for maps in (reached, expected))
    assert theirs.abs().sum() > 0
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("taps", [[Tap("relu", call=2)], [Tap("stem"), Tap("relu", call=2)]], ids=["alone", "second"])
def test_reach_refuses_a_call_that_never_comes(taps: list[Tap]) -> None:
    network, x = drawn(Residual)
    with pytest.raises(UsageError, match="does not call 'relu' 3 times"):
        reach(network, x, taps)
    with pytest.raises(UnknownName, match="Did you mean 'stem'"):
        reach(network, x, [Tap("sten")])
    assert count_hooks(network) == 0


def test_reach_hands_on_an_error_of_the_network() -> None:
    network = nn.Sequential(nn.Linear(2, 2), Failing(), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="on purpose"):
        reach(network, torch.ones(1, 2), [Tap("2")])
    assert count_hooks(network) == 0


def test_tracing_keeps_order_parents_and_times() -> None:
    network, x = drawn(Residual)
    with tracing(network) as calls:
        network(x)
    assert [(call.name, call.parent) for call in calls] == [
        *[("", -1), ("stem", 0), ("relu", 0), ("block", 0), ("block.conv", 3), ("block.norm", 3), ("relu", 0)],
        *[("head", 0), ("head.0", 7), ("head.1", 7), ("head.2", 7)],
    ]
    assert [call.number for call in calls] == list(range(11))
    assert all(call.module is network.get_submodule(call.name) for call in calls)
    assert sorted(t for call in calls for t in (call.entered, call.left)) == list(range(22))
    for call in calls[1:]:
        around = calls[call.parent]
        assert around.entered < call.entered < call.left < around.left
    assert [call.number for call in sorted(calls, key=lambda call: call.left)] == [1, 2, 4, 5, 3, 6, 8, 9, 10, 7, 0]


def test_traced_outputs_keep_their_values_where_a_network_works_in_place() -> None:
    network, x = drawn(Residual)
    expected = network(x)
    with tracing(network, given_of="relu") as calls:
        assert torch.equal(network(x), expected)
    stem = network.stem(x)
    block = network.block(stem.relu())
    wanted = {1: stem, 2: stem.relu(), 3: block, 5: block, 6: (block + stem.relu()).relu(), 10: expected, 0: expected}
    for number, tensor in wanted.items():
        assert torch.equal(calls[number].output, tensor), calls[number].name
    assert [call.number for call in calls if call.given is not None] == [2, 6]
    assert torch.equal(calls[2].given, stem)
    assert torch.equal(calls[6].given, block + stem.relu())
    assert torch.equal(network(x), expected)


def test_tracing_goes_on_over_several_passes_and_kinds_of_output() -> None:
    network, x = Talkative(), torch.ones(3, 2)
    with tracing(network, given_of="") as calls:
        expected = [network(x), network(2 * x)]
    assert [call.name for call in calls] == ["", "sum", "recurrent", "linear"] * 2
    assert [call.parent for call in calls] == [-1, 0, 0, 0, -1, 4, 4, 4]
    assert torch.equal(calls[4].given, 2 * x)
    output, (hidden, _) = calls[2].output
    assert torch.equal(network.linear(output) + hidden, expected[0])
    assert torch.equal(network(2 * x), expected[1])


def test_tracing_leaves_no_hook() -> None:
    network, x = nn.Sequential(nn.Linear(2, 2), Failing()), torch.ones(1, 2)
    with pytest.raises(ValueError, match="on purpose"), tracing(network) as calls:
        assert count_hooks(network) == 6
        network(x)
    assert [(call.name, call.left >= 0) for call in calls] == [("", False), ("0", True), ("1", False)]
    assert count_hooks(network) == 0
    with tracing(network):
        pass
    assert count_hooks(network) == 0


@pytest.mark.xfail(reason="not yet: an identity's copy is no longer the tensor that is worked on in place")
def test_a_traced_network_answers_as_it_does_untraced() -> None:
    network, x = SkipsThroughIdentity(), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), tracing(network):
        traced = network(x)
    with torch.no_grad():
        assert torch.equal(traced, network(x))


def test_evaluating_gives_every_module_its_mode_back() -> None:
    network = Residual().train()
    network.block.eval()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        assert not any(module.training for module in network.modules())
        raise ZeroDivisionError
    assert {name for name, module in network.named_modules() if not module.training} == {
        *["block", "block.conv", "block.norm"]
    }


def test_modules_compute_by_other_functions_within_the_block_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = torch.randn(3, 2)
    expected = network(x)
    with computing_by({network[0]: lambda given: given * 0, network[1]: lambda given: given + 7}):
        assert network(x).tolist() == [[7.0, 7.0]] * 3
    assert torch.equal(network(x), expected)
    with pytest.raises(ValueError, match="on purpose"), computing_by({network[1]: Failing().forward}):
        network(x)
    assert torch.equal(network(x), expected)
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_forward_of_the_object_is_put_back() -> None:
    layer = nn.Identity()
    layer.forward = own = lambda x: x + 1
    with computing_by({layer: lambda x: x - 1}):
        assert layer(torch.zeros(1)).item() == -1
    assert layer.forward is own
