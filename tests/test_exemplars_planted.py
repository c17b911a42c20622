"""Exemplars on values that are planted: ties, zeros of both signs, infinities; and what a stream leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convscope.classifying import prediction
from convscope.classifying.prediction import BATCH, logits
from convscope.errors import DamagedFile
from convscope.explanation import exemplars as streaming
from convscope.explanation.exemplars import Exemplars, Stream, _key, _value, exemplars
from convscope.explanation.layers import Layer, find_layers
from convscope.images.preprocess import Preprocess
from convscope.models.alexnet import alexnet
from convscope.models.resnet import cifar_resnet
from convscope.models.taps import count_hooks, record

PLAIN = Preprocess(1, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # pixel values as they are
TIES = [-2.0, -1.0, -0.0, 0.0, 1.0, 1.5]


class Lookup(nn.Module):
    """Outputs the maps of a table (M, C, h, w): an image's red and green say which."""

    def __init__(self, table_MCHW: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table_MCHW)

    def forward(self, x: Tensor) -> Tensor:
        return self.table[(x[:, 0, 0, 0] + 256 * x[:, 1, 0, 0]).round().long()]


def planted(table_MCHW: Tensor) -> tuple[nn.Module, np.ndarray, tuple[Layer, ...]]:
    """A network whose layer "0" outputs the table, an image for each row of it, and the layer."""
    network = nn.Sequential(Lookup(table_MCHW), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    numbers = np.arange(len(table_MCHW))
    images = np.stack([numbers % 256, numbers // 256, 0 * numbers], -1).astype(np.uint8).reshape(-1, 1, 1, 3)
    return network, images, find_layers(network, torch.zeros(1, 3, 1, 1), ["0"])


def sorted_out(maps_NCHW: Tensor, index_N: np.ndarray, k: int, least: bool = False) -> tuple[np.ndarray, ...]:
    """Values (C, k), images (C, k) and places (C, k, 2) by sorting all there is, with NumPy."""
    n, c, _, width = maps_NCHW.shape
    flat = maps_NCHW.numpy().reshape(n, c, -1).transpose(1, 0, 2)
    peaks = flat.max(2)
    order = np.stack([np.lexsort((index_N, row if least else -row)) for row in peaks])[:, :k]
    places = np.take_along_axis(flat.argmax(2), order, 1)
    return np.take_along_axis(peaks, order, 1), index_N[order], np.stack([places // width, places % width], -1)


def check(found: Exemplars, maps_NCHW: Tensor, index_N: np.ndarray, k: int) -> None:
    """What was found is what sorting gives, number by number."""
    for ours, wanted in zip((found.values, found.index, found.places), sorted_out(maps_NCHW, index_N, k), strict=True):
        np.testing.assert_array_equal(ours.numpy(), wanted)
    above = (maps_NCHW.numpy() > 0).sum((0, 2, 3), dtype=np.float64)
    np.testing.assert_array_equal(found.firing.numpy(), above / maps_NCHW[:, 0].numel())
    np.testing.assert_array_equal(found.dead.numpy(), maps_NCHW.numpy().max((0, 2, 3)) <= 0)
    assert found.images == len(index_N)
    assert not any(t.isnan().any() for t in (found.values, found.firing))
    if found.least_values is not None and found.least_index is not None:
        values, index, _ = sorted_out(maps_NCHW, index_N, k, least=True)
        np.testing.assert_array_equal(found.least_values.numpy(), values)
        np.testing.assert_array_equal(found.least_index.numpy(), index)


# Planted values


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_values_in_any_order_give_what_sorting_gives(data: st.DataObject) -> None:
    n, c, h, w, k = (data.draw(st.integers(1, most)) for most in (20, 3, 2, 3, 6))
    values = st.sampled_from(TIES) if data.draw(st.booleans()) else st.floats(width=32, allow_nan=False)
    table = torch.tensor(data.draw(st.lists(values, min_size=n * c * h * w, max_size=n * c * h * w)))
    network, images, layers = planted(table.view(n, c, h, w))
    index = np.array(data.draw(st.permutations(range(n)))[: data.draw(st.integers(1, n))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "BATCH", data.draw(st.integers(1, 5)))
        patch.setattr(streaming, "CACHED", data.draw(st.sampled_from([1, 20, 10**6])))
        patch.setattr(streaming, "WAITING", data.draw(st.integers(1, 4)))
        patch.setattr(streaming, "MANY", data.draw(st.sampled_from([0.0, 0.5, 10.0])))
        (found,) = exemplars(network, images, PLAIN, layers, index, k, least=True)
    assert found.values.shape == (c, min(k, len(index)))
    check(found, network[0].table[index], index, k)


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
def test_ties_over_many_batches(order: str) -> None:
    rng = np.random.default_rng(1)
    table = torch.from_numpy(rng.choice(np.array(TIES, np.float32), (4 * BATCH + 7, 5, 2, 2)))
    table[:, 3], table[:, 4] = -0.0, -1.0  # filters that are equal everywhere
    network, images, layers = planted(table)
    index = np.arange(len(table))
    index = {"forwards": index, "backwards": index[::-1].copy(), "shuffled": rng.permutation(index)}[order]
    (found,) = exemplars(network, images, PLAIN, layers, index, 9, least=True)
    check(found, table[index], index, 9)
    assert found.dead.tolist() == [False, False, False, True, True]
    assert found.index[3:].tolist() == [list(range(9))] * 2
    assert found.places[3:].eq(0).all()


def test_infinities_have_their_place() -> None:
    table = torch.tensor([-torch.inf, 1.0, torch.inf, -torch.inf, -1.0]).view(5, 1, 1, 1)
    network, images, layers = planted(table)
    (found,) = exemplars(network, images, PLAIN, layers, count=9, least=True)
    assert found.index.tolist() == [[2, 1, 4, 0, 3]]
    check(found, table, np.arange(5), 9)


def test_numbers_of_images_may_fill_32_bits() -> None:
    table = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    network, images, layers = planted(table)
    numbers = np.array([2**32 - 1, 2**31, 2**31 - 1, 0])
    stream = Stream(layers, 3)
    with stream.watching(network, numbers):
        logits(network, images, PLAIN)
    assert stream.results()[0].index.tolist() == [[2**31 - 1, 2**32 - 1, 0]]


FLOATS = st.one_of(st.sampled_from([0.0, -0.0, 2.0**-149, -(2.0**-149)]), st.floats(width=32, allow_nan=False))
INDICES = st.integers(0, 2**32 - 1)


@given(FLOATS, FLOATS, INDICES, INDICES)
def test_keys_keep_order_and_come_back(one: float, other: float, first: int, second: int) -> None:
    keys = _key(torch.tensor([[one, other]]), torch.tensor([first, second]))[0]
    assert (keys[0] > keys[1]).item() == ((one, -first) > (other, -second))
    assert (keys[0] == keys[1]).item() == ((one, first) == (other, second))
    assert _value(keys).tolist() == [one, other]
    assert (2**32 - 1 - (keys & (2**32 - 1))).tolist() == [first, second]


# Networks


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return network.eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, list[str] | None]] = {
    "alexnet": (lambda: alexnet(3, 16, width=3), 16, None),
    "alexnet without norms": (lambda: alexnet(3, 16, width=3, batch_norm=False), 16, None),
    "resnet20": (lambda: cifar_resnet(20, 3, 8, width=3), 8, None),
    "resnet18": (
        lambda: torchvision.models.resnet18(weights=None, num_classes=3),
        32,
        ["conv1", "layer1.0.conv2", "layer2.0.downsample.0", "layer3.1.conv1"],
    ),
}
N = 2 * BATCH + 9


@cache
def subject(name: str) -> tuple[nn.Module, np.ndarray, Preprocess, tuple[Layer, ...]]:
    """A network, images that repeat and of which some are of one colour, and layers, one of them with a dead filter.

    The weights of filter 0 of the first convolution are 0: it is equal everywhere.
    """
    build, side, names = NETWORKS[name]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = lively(build())
        network.conv1.weight[0] = 0
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (50, side, side, 3), np.uint8)
    few[:5] = np.arange(0, 250, 50, np.uint8)[:, None, None, None]
    layers = find_layers(network, torch.zeros(1, 3, side, side), names)
    return network, few[rng.integers(0, 50, N)], Preprocess(side), layers


def kept(name: str, index: np.ndarray) -> list[Tensor]:
    """All activations of all layers, recorded without taps: the norm's output, or the convolution's."""
    network, images, preprocess, layers = subject(name)
    with record(network, [str(c.norm or c.convolution) for c in layers], clone=True) as taps:
        logits(network, images, preprocess, index)
    return [torch.cat(taps.every_output[str(c.norm or c.convolution)]) for c in layers]


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_lists_are_those_of_sorting_everything(name: str, k: int) -> None:
    network, images, preprocess, layers = subject(name)
    index = np.random.default_rng(3).permutation(N)[: N - 4]  # more than two batches, shuffled, a few left out
    for found, maps in zip(
        exemplars(network, images, preprocess, layers, index, k, least=True), kept(name, index), strict=True
    ):
        check(found, maps, index, k)
    assert found.layer is layers[-1]


def test_repeated_images_tie() -> None:
    network, images, preprocess, layers = subject("alexnet")
    found = exemplars(network, images, preprocess, layers)[0]
    ties = (found.values[:, 1:] == found.values[:, :-1]) & (found.index[:, 1:] > found.index[:, :-1])
    assert ties[1:].any(), "there is something to settle"
    assert found.index[0].tolist() == list(range(9)), "the filter that is equal everywhere"


def test_with_fewer_images_than_asked_for_the_lists_are_short() -> None:
    network, images, preprocess, layers = subject("resnet20")
    index = np.array([41, 7, 12])
    found = exemplars(network, images, preprocess, layers, index, 9, least=True)
    for one, maps in zip(found, kept("resnet20", index), strict=True):
        assert one.values.shape == one.index.shape == one.least_index.shape == (one.layer.filters, 3)
        check(one, maps, index, 9)


def test_a_layer_of_any_module_and_the_same_layer_twice() -> None:
    network, images, preprocess, layers = subject("alexnet")
    (pool,) = find_layers(network, torch.zeros(1, 3, 16, 16), ["pool2"])
    found = exemplars(network, images, preprocess, [pool, layers[1], layers[1]])
    with record(network, ["pool2"]) as taps:
        logits(network, images, preprocess)
    check(found[0], torch.cat(taps.every_output["pool2"]), np.arange(N), 9)
    assert torch.equal(found[1].index, found[2].index)


# The stream


def run(stream: Stream, name: str, index: np.ndarray) -> None:
    network, images, preprocess, _ = subject(name)
    with stream.watching(network, index):
        logits(network, images, preprocess, index)


def same(found: tuple[Exemplars, ...], wanted: tuple[Exemplars, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        for part in ("values", "index", "places", "firing", "least_values", "least_index"):
            assert torch.equal(getattr(one, part), getattr(other, part)), part
        assert one.images == other.images


@pytest.mark.parametrize(
    "copied",
    [True, False],
    ids=["copied", "as it is"],
)
def test_a_stream_goes_on_from_a_state_however_often(copied: bool) -> None:
    _, _, _, layers = subject("resnet20")
    parts = np.split(np.arange(N), [BATCH])
    whole = Stream(layers, 4, least=True)
    run(whole, "resnet20", parts[0])
    state = {name: t.clone() if copied else t for name, t in whole.state().items()}
    run(whole, "resnet20", parts[1])
    wanted = whole.results()
    for _ in range(2):
        other = Stream(layers, 4, least=True)
        other.restore({name: t.clone() if copied else t for name, t in state.items()})
        assert other.images == BATCH
        run(other, "resnet20", parts[1])
        same(other.results(), wanted)


def state_of(layers: tuple[Layer, ...], count: int = 4, least: bool = False) -> dict[str, Tensor]:
    return Stream(layers, count, least).state()


OTHERS: dict[str, Callable[[tuple[Layer, ...]], dict[str, Tensor]]] = {
    "fewer layers": lambda layers: state_of(layers[:1]),
    "the last layers": lambda layers: state_of(layers[1:]),
    "another order": lambda layers: state_of(layers[::-1]),
    "longer lists": lambda layers: state_of(layers, count=5),
    "more lists": lambda layers: state_of(layers, least=True),
    "a part": lambda layers: dict(list(state_of(layers).items())[:-1]),
    "nothing": lambda _: {},
    "another kind": lambda layers: {name: t.float() for name, t in state_of(layers).items()},
}
KIND = "another kind"


@pytest.mark.parametrize("other", [*list(OTHERS)[:-1], KIND])
def test_a_state_of_something_else_is_refused(other: str) -> None:
    _, _, _, layers = subject("alexnet")
    stream = Stream(layers, 4)
    with pytest.raises(DamagedFile, match="of other layers"):
        stream.restore(OTHERS[other](layers))
    assert stream.images == 0


def test_a_state_of_layers_of_the_same_size_is_refused() -> None:
    _, _, _, layers = subject("resnet20")
    with pytest.raises(DamagedFile, match="of other layers"):
        Stream(layers[1:2], 4).restore(state_of(layers[2:3]))


def test_memory_does_not_grow_with_the_images() -> None:
    _, _, _, layers = subject("alexnet")
    sizes = []
    for n in (5, N):
        stream = Stream(layers, 4, least=True)
        run(stream, "alexnet", np.arange(n))
        sizes.append({name: (t.shape, t.untyped_storage().nbytes()) for name, t in stream.state().items()})
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "modes",
    [
        [torch.no_grad, torch.inference_mode],
        [torch.inference_mode, torch.no_grad],
        [nullcontext, torch.no_grad],
    ],
    ids=["no grad, inference", "inference, no grad", "grad, no grad"],
)
def test_a_stream_watches_passes_of_any_mode(modes: list[Callable[[], object]]) -> None:
    network, images, preprocess, layers = subject("alexnet")
    inputs = preprocess.normalise(torch.from_numpy(images[:20]).permute(0, 3, 1, 2))
    stream = Stream(layers, 4)
    for mode in modes:
        with stream.watching(network, np.arange(20)), mode():
            network(inputs)
    assert stream.images == 40
    assert not stream.results()[0].values.requires_grad


# What is left behind


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_the_network_is_as_it_was(name: str) -> None:
    network, images, preprocess, layers = subject(name)
    network.train()
    network.fc4.eval() if name == "alexnet" else network.layer1.eval()
    modes = [module.training for module in network.modules()]
    state = {key: t.clone() for key, t in network.state_dict().items()}
    before = logits(network, images[:70], preprocess)
    with Stream(layers).watching(network, np.arange(70)):
        assert count_hooks(network) == len(layers) + 1
        assert torch.equal(logits(network, images[:70], preprocess), before), "while it is watched"
    exemplars(network, images[:70], preprocess, layers)
    assert torch.equal(logits(network, images[:70], preprocess), before)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(t, state[key]) for key, t in network.state_dict().items())
    assert count_hooks(network) == 0
    network.eval()


def test_nothing_is_left_after_an_error() -> None:
    network, images, preprocess, layers = subject("alexnet")
    stream = Stream(layers)
    with pytest.raises(ZeroDivisionError), stream.watching(network, np.arange(5)):
        raise ZeroDivisionError
    assert (count_hooks(network), stream.images) == (0, 0)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        exemplars(network, images[:, :8, :8], preprocess, layers)  # fc4 cannot take these
    assert count_hooks(network) == 0
    assert not any(module.training for module in network.modules())
