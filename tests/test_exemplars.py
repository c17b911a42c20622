"""Exemplars: the same lists as brute force gives, ties included, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from convscope.classifying.prediction import BATCH, logits
from convscope.errors import DamagedFile
from convscope.explanation.exemplars import Stream, _key, _value, average, exemplars, highest
from convscope.explanation.layers import find_layers
from convscope.images.preprocess import Preprocess
from convscope.models.registry import build
from convscope.models.taps import count_hooks, tapping
from lively import lively
from slow_explaining import brute_force

N = 2 * BATCH + 9  # over two borders of a batch, and a part of one


def random_images(side: int, n: int = N) -> np.ndarray:
    """Noise with copies among it, so that there are ties."""
    made = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)
    made[3], made[n // 2], made[n - 1] = made[1], made[1], made[n // 3]
    made[7] = made[n // 2 + 5] = 128
    return made


def network_of(name: str, side: int, **options: object) -> nn.Module:
    network = build(name, 4, side, options, seed=0).eval().to(memory_format=torch.channels_last)
    return lively(network)


def stored(network: nn.Module, layers, made: np.ndarray, preprocess: Preprocess) -> list[Tensor]:
    """Every activation of every layer, as the pass computes it: (N, C, h, w) each."""
    kept: list[list[Tensor]] = [[] for _ in layers]
    with tapping(network, [layer.tap for layer in layers], lambda i, maps: kept[i].append(maps.clone())):
        logits(network, made, preprocess)
    return [torch.cat(parts) for parts in kept]


@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        ("alexnet", 16, {"width": 4}),
        ("alexnet", 16, {"width": 3, "batch_norm": False}),
        ("resnet20", 8, {"width": 4}),
        ("speednet", 14, {"width": 4}),
        ("torchvision:resnet18", 32, {}),
    ],
)
def test_the_lists_are_those_of_brute_force(name: str, side: int, options: dict[str, object]) -> None:
    network, preprocess, made = network_of(name, side, **options), Preprocess(side), random_images(side)
    layers = find_layers(network, torch.zeros(1, 3, side, side))
    layers = layers if len(layers) < 8 else layers[::5]
    everything = stored(network, layers, made, preprocess)
    for found, maps in zip(exemplars(network, made, preprocess, layers, count=5), everything, strict=True):
        some = list(range(0, found.layer.filters, max(1, found.layer.filters // 12)))
        values, index, places = brute_force(maps[:, some], 5, np.arange(N))
        assert found.values[some].tolist() == values
        assert found.index[some].tolist() == index
        assert found.places[some].tolist() == places
        assert found.firing.tolist() == pytest.approx((maps.double() > 0).double().mean((0, 2, 3)).tolist(), abs=1e-12)
        assert found.dead.tolist() == (maps.amax((0, 2, 3)) <= 0).tolist()


def test_the_least_exciting_are_those_of_brute_force_too() -> None:
    network, preprocess, made = network_of("alexnet", 16, width=4), Preprocess(16), random_images(16)
    layers = find_layers(network, torch.zeros(1, 3, 16, 16))
    everything = stored(network, layers, made, preprocess)
    for found, maps in zip(exemplars(network, made, preprocess, layers, count=4, least=True), everything, strict=True):
        peaks = maps.amax((2, 3)).T
        rows = [sorted((float(v), n) for n, v in enumerate(row))[:4] for row in peaks]
        assert found.least_values is not None
        assert found.least_index is not None
        assert found.least_values.tolist() == [[v for v, _ in row] for row in rows]
        assert found.least_index.tolist() == [[n for _, n in row] for row in rows]


@pytest.mark.parametrize("backwards", [False, True])
def test_of_equal_values_the_image_with_the_lower_index_wins_in_any_order(backwards: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.dirac_(network[0].weight)
    made = np.repeat(np.arange(40, dtype=np.uint8) // 10, 4).reshape(-1, 1, 1, 1).repeat(3, 3)  # 40 of each value
    index = np.arange(160)[:: -1 if backwards else 1].copy()
    (found,) = exemplars(network, made, Preprocess(1), find_layers(network, torch.zeros(1, 3, 1, 1), ["0"]), index, 3)
    assert found.index.tolist() == [[120, 121, 122]] * 3


def test_a_subset_is_searched_by_its_indices() -> None:
    network, preprocess, made = network_of("alexnet", 16, width=4), Preprocess(16), random_images(16)
    layers = find_layers(network, torch.zeros(1, 3, 16, 16))
    index = np.array([50, 3, 99, 7, 60])
    (found, *_) = exemplars(network, made, preprocess, layers, index, count=9)
    assert found.values.shape == (4, 5)
    assert sorted(found.index[0].tolist()) == sorted(index.tolist())
    assert found.images == 5


def test_a_dead_filter_is_told() -> None:
    network, preprocess, made = network_of("alexnet", 16, width=4), Preprocess(16), random_images(16)
    with torch.no_grad():
        network.norm1.weight[2], network.norm1.bias[2] = 0.0, -1.0
    layers = find_layers(network, torch.zeros(1, 3, 16, 16))
    found = exemplars(network, made, preprocess, layers)[0]
    assert found.dead.tolist() == [False, False, True, False]
    assert found.firing[2] == 0
    assert found.index[2].tolist() == list(range(9))  # all are equal, so the first come first


def test_a_pass_that_is_cut_goes_on_from_its_state() -> None:
    network, preprocess, made = network_of("resnet20", 8, width=4), Preprocess(8), random_images(8)
    layers = find_layers(network, torch.zeros(1, 3, 8, 8))
    whole = exemplars(network, made, preprocess, layers, count=4, least=True)
    state: dict[str, Tensor] = {}
    for part in np.split(np.arange(N), [BATCH, BATCH + 30]):
        stream = Stream(layers, 4, least=True)
        if state:
            stream.restore(state)
        with stream.watching(network, part):
            logits(network, made, preprocess, part)
        state = {name: tensor.clone() for name, tensor in stream.state().items()}
    for one, other in zip(whole, stream.results(), strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.places, other.places)
        assert torch.equal(one.firing, other.firing)


def test_the_state_does_not_grow_and_fits_its_layers_only() -> None:
    layers = find_layers(build("alexnet", 4, 16, {"width": 4}, seed=0), torch.zeros(1, 3, 16, 16))
    stream = Stream(layers, 4)
    assert sum(t.numel() for t in stream.state().values()) == 1 + sum(layer.filters * 9 for layer in layers)
    with pytest.raises(DamagedFile, match="other layers"):
        Stream(layers[:2], 4).restore(stream.state())


def test_the_network_is_as_it_was_after_success_and_after_an_error() -> None:
    network, preprocess, made = network_of("resnet20", 8, width=4).train(), Preprocess(8), random_images(8, 70)
    layers = find_layers(network, torch.zeros(1, 3, 8, 8))
    before = {name: t.clone() for name, t in network.state_dict().items()}
    exemplars(network, made, preprocess, layers)
    with pytest.raises(IndexError):
        exemplars(network, made, preprocess, layers, np.array([0, 999]))
    assert count_hooks(network) == 0
    assert all(module.training for module in network.modules())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2), st.integers(0, 2**32 - 2))
def test_a_key_orders_by_value_and_then_by_index(values: list[float], index: int) -> None:
    first, second = _key(torch.tensor([values]), torch.tensor([index, index + 1]))[0].tolist()
    assert (first > second) == (values[0] >= values[1])
    assert _value(torch.tensor([first, second])).tolist() == values


def test_reductions_over_places_are_torchs() -> None:
    for memory in (torch.channels_last, torch.contiguous_format):
        maps = torch.randn(3, 5, 6, 4, generator=torch.Generator().manual_seed(0)).to(memory_format=memory)
        assert torch.equal(highest(maps), maps.amax((2, 3)))
        assert torch.allclose(average(maps), maps.mean((2, 3)), atol=1e-6)
