"""Objectives and activation maximization: against obvious versions, and planted filters whose best image is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from convscope.datasets.shapes import load_shapes
from convscope.errors import UsageError
from convscope.explanation import maximize as under_test
from convscope.explanation.layers import Layer, find_layers
from convscope.explanation.maximize import BLOCK, Maximized, maximize, pick_preset
from convscope.explanation.objectives import Objective, Values, channel, direction, logit, neuron
from convscope.explanation.presets import LINEAR, PRESETS, WHOLE, Palette, Preset, palette, total_variation
from convscope.explanation.window import window_of
from convscope.images.preprocess import Preprocess
from convscope.models.alexnet import alexnet
from convscope.models.receptive_fields import Field
from convscope.models.resnet import cifar_resnet
from convscope.models.speednet import speednet
from convscope.models.taps import Tap, count_hooks, reach

CPU = torch.device("cpu")
PREPROCESS = Preprocess(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
SHORT = Preset(2 * BLOCK, 0.2)
STILL = replace(SHORT, shift=0.0)  # the filters of an untrained network answer to one pixel more or less


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Evaluation mode, and statistics as a training leaves them: no norm is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.copy_(0.5 + torch.rand(values.shape, generator=generator))
                for values in (module.bias, module.running_mean):
                    values.copy_(0.3 * torch.randn(values.shape, generator=generator))
    return network.eval()


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return lively(build())


class Breakable(nn.Module):
    """Passes on what it is given until it is broken."""

    broken = False

    def forward(self, x: Tensor) -> Tensor:
        if self.broken:
            raise ValueError("on purpose")
        return x


class Small(nn.Module):
    """Two convolutions with norms and in-place activations, then maps whose field cannot be followed, then logits."""

    def __init__(self) -> None:
        super().__init__()
        self.breakable = Breakable()
        self.conv1 = nn.Conv2d(3, 6, 5, padding=2)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)  # in both places
        self.conv2 = nn.Conv2d(6, 8, 5, stride=2, padding=2)
        self.norm2 = nn.BatchNorm2d(8)
        self.uneven = nn.AdaptiveAvgPool2d(6)  # windows of different sizes
        self.conv3 = nn.Conv2d(8, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(self.breakable(x))))
        x = self.uneven(self.relu(self.norm2(self.conv2(x))))
        return self.fc(self.conv3(x).relu_().mean((2, 3)))


@pytest.fixture
def small() -> Small:
    return seeded(Small)


def layers_of(network: nn.Module, side: int = 32) -> tuple[Layer, ...]:
    return find_layers(network, torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)))


@cache
def colours() -> Palette:
    return palette(real())


@cache
def real() -> np.ndarray:
    return load_shapes(90).arrays


def neurons(layer: Layer) -> list[Objective]:
    return [neuron(layer, k) for k in range(layer.filters)]


def normalised(images_NHWC: np.ndarray, preprocess: Preprocess = PREPROCESS) -> Tensor:
    return preprocess.normalise(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2))


def maps_at(network: nn.Module, layer: Layer, images_NHWC: np.ndarray) -> Tensor:
    """What the layer outputs for clean images, in one ordinary pass."""
    with torch.no_grad():
        return reach(network, normalised(images_NHWC), [layer.tap])[0]


def middle(maps: Tensor) -> Tensor:
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in the 256 steps of a pixel."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# Objectives

A = Layer("a", Tap("a"), 3, (5, 6), None)
B = Layer("b", Tap("b"), 2, (4, 4), None)
PLACES = {A: (2, 4), B: (1, 0), None: (0, 0)}
U, V = (0.5, -2.0, 1.0), (-1.0, 3.0)


def maps(rows: int, seed: int = 0) -> dict[Layer | None, Tensor]:
    """What two layers and the head output."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {A: (3, 5, 6), B: (2, 4, 4), None: (4,)}
    return {layer: torch.randn(rows, *shape, generator=generator) for layer, shape in shapes.items()}


# name: objective, and its value for the row i of what the layers output
OBJECTIVES: dict[str, tuple[Objective, Callable[[dict, int], float]]] = {
    "neuron": (neuron(A, 1), lambda m, i: m[A][i, 1, 2, 4]),
    "channel": (channel(A, 2), lambda m, i: sum(m[A][i, 2].flatten().tolist()) / 30),
    "direction": (direction(B, V), lambda m, i: -m[B][i, 0, 1, 0] + 3 * m[B][i, 1, 1, 0]),
    "direction everywhere": (
        direction(A, U, everywhere=True),
        lambda m, i: sum(U[c] * m[A][i, c, y, x] for c in range(3) for y in range(5) for x in range(6)) / 30,
    ),
    "logit": (logit(4, 3), lambda m, i: m[None][i, 3]),
    "sum": (neuron(A, 0) + channel(A, 0), lambda m, i: m[A][i, 0, 2, 4] + m[A][i, 0].mean()),
    "this but not that": (logit(4, 0) - logit(4, 1), lambda m, i: m[None][i, 0] - m[None][i, 1]),
    "scaled": (2.5 * neuron(B, 0), lambda m, i: 2.5 * m[B][i, 0, 1, 0]),
    "negated": (-channel(B, 1), lambda m, i: -m[B][i, 1].mean()),
    "twice the same": (neuron(A, 1) + neuron(A, 1), lambda m, i: 2 * m[A][i, 1, 2, 4]),
    "nothing": (neuron(A, 1) - neuron(A, 1), lambda m, i: 0.0),
    "all": (
        -(2 * neuron(A, 2) - (channel(B, 0) + logit(4, 2)) * 3) + neuron(B, 1),
        lambda m, i: -2 * m[A][i, 2, 2, 4] + 3 * m[B][i, 0].mean() + 3 * m[None][i, 2] + m[B][i, 1, 1, 0],
    ),
}


@pytest.mark.parametrize(
    "chosen", [*([name] for name in OBJECTIVES), list(OBJECTIVES)], ids=lambda names: "+".join(names)
)
def test_the_values_of_a_batch_are_those_of_each_by_hand(chosen: list[str]) -> None:
    values = Values([OBJECTIVES[name][0] for name in chosen])
    outputs = maps(len(chosen))
    ours = values.of(
        [outputs[layer] for layer in values.layers], values.rows, [PLACES[layer] for layer in values.layers]
    )
    assert ours.dtype == torch.float32
    assert ours.tolist() == pytest.approx([float(OBJECTIVES[n][1](outputs, i)) for i, n in enumerate(chosen)], abs=1e-5)


def test_part_of_a_batch_has_the_same_values() -> None:
    values = Values([objective for objective, _ in OBJECTIVES.values()])
    outputs, places = maps(len(OBJECTIVES)), [PLACES[layer] for layer in values.layers]
    rows = torch.tensor([7, 0, 4])
    whole = values.of([outputs[layer] for layer in values.layers], values.rows, places)
    torch.testing.assert_close(values.of([outputs[layer][rows] for layer in values.layers], rows, places), whole[rows])


def test_what_is_local_looks_at_one_layer_in_its_middle() -> None:
    assert Values([neuron(A, 0), direction(A, U), neuron(A, 0) - 2 * neuron(A, 2)]).local() == A
    for objectives in ([channel(A, 0)], [neuron(A, 0), channel(A, 0)], [neuron(A, 0) + neuron(B, 0)], [logit(4, 0)]):
        assert Values(objectives).local() is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: neuron(A, 3), r"^there is no filter of a numbered 3: they go from 0 to 2\."),
        (lambda: channel(B, -1), r"^there is no filter of b numbered -1: they go from 0 to 1\."),
        (lambda: logit(4, 4), r"^there is no class numbered 4: they go from 0 to 3\."),
        (lambda: direction(A, (1.0, 2.0)), r"^a direction of a has 3 numbers, and got 2\."),
        (lambda: direction(B, (), everywhere=True), r"^a direction of b has 2 numbers, and got 0\."),
    ],
)
def test_what_does_not_exist_is_no_objective(build: Callable[[], Objective], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


# What real images are like


def slow_variation(image_CHW: np.ndarray) -> float:
    channels, height, width = image_CHW.shape
    down = [
        abs(image_CHW[c, y + 1, x] - image_CHW[c, y, x])
        for c in range(channels)
        for y in range(height - 1)
        for x in range(width)
    ]
    across = [
        abs(image_CHW[c, y, x + 1] - image_CHW[c, y, x])
        for c in range(channels)
        for y in range(height)
        for x in range(width - 1)
    ]
    return sum(down) / len(down) + sum(across) / len(across)


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 3, 2, 9)])
def test_total_variation_is_that_of_a_slow_version(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape)
    assert total_variation(torch.from_numpy(x)).tolist() == pytest.approx([slow_variation(image) for image in x])


def test_a_palette_holds_mean_covariance_and_variation() -> None:
    rng = np.random.default_rng(0)
    images = (rng.random((40, 9, 9, 1)) * [200, 100, 50] + rng.random((40, 9, 9, 3)) * 50).astype(np.uint8)
    ours = palette(images)
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(ours.mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(ours.mixing @ ours.mixing.T, np.cov(pixels.T) + 1e-5 * np.eye(3), rtol=1e-3, atol=1e-6)
    variation = [slow_variation(image.transpose(2, 0, 1) / 255) for image in images]
    assert ours.variation == pytest.approx(np.quantile(variation, [0.05, 0.5, 0.95]).tolist(), rel=1e-5)


def test_a_palette_of_one_colour_can_be_inverted() -> None:
    ours = palette(np.full((2, 8, 8, 3), 77, np.uint8))
    assert torch.linalg.inv(ours.mixing).isfinite().all()
    assert ours.variation == (0.0, 0.0, 0.0)


# The window

WINDOWED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (lambda: alexnet(5, 32, width=4), 32),
    "alexnet of 36": (lambda: alexnet(5, 36, width=4), 36),
    "resnet20": (lambda: cifar_resnet(20, 5, 32, width=4), 32),
    "resnet18": (lambda: torchvision.models.resnet18(weights=None, num_classes=5), 64),
    "speednet": (lambda: speednet(5, 32, width=4), 32),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_shows_the_middle_place_all_that_it_sees(name: str) -> None:
    build, side = WINDOWED[name]
    network = seeded(build).double()
    layers = find_layers(network, torch.randn(1, 3, side, side, dtype=torch.float64))
    image = torch.randn(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = reach(network, image, [layer.tap for layer in layers])
        for layer, seen in zip(layers, whole, strict=True):
            expected = middle(seen)
            for window in {window_of(layer, side, margin) for margin in range(5)}:
                (top, left), (height, width), (row, column) = window.start, window.size, window.place
                part = image[:, :, top : top + height, left : left + width]
                ours = reach(network, part, [layer.tap])[0][:, :, row, column]
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7, msg=f"{layer.name} in {window}")


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.parametrize("margin", range(5))
def test_a_window_lies_in_the_image_and_holds_its_box_and_margin(name: str, margin: int) -> None:
    build, side = WINDOWED[name]
    for layer in layers_of(seeded(build), side):
        window, field = window_of(layer, side, margin), layer.field
        for axis in (0, 1):
            start, end = window.start[axis], window.start[axis] + window.size[axis]
            low, high = window.box[axis], window.box[axis + 2]
            first = field.start[axis] + layer.places[axis] // 2 * field.step[axis]
            assert (low, high) == (max(0, first), min(side, first + field.size[axis]))
            assert 0 <= start <= max(0, low - margin)
            assert min(side, high + margin) == end <= side
            assert start % field.step[axis] == 0
            assert low - margin - start < field.step[axis] or start == 0, "no larger than it must be"


def test_without_a_layer_or_its_field_the_window_is_the_image() -> None:
    layer = Layer("conv", Tap("conv"), 4, (7, 6), None)
    window = window_of(layer, 28, 3)
    assert (window.start, window.size, window.place, window.box) == ((0, 0), (28, 28), (3, 3), (0, 0, 28, 28))
    assert window_of(None, 28, 3).size == (28, 28)


# Planted filters: what is linear in the image has one best image, of which every pixel is 0 or 255


def filters(kind: str, size: int, count: int = 5) -> Tensor:
    """Weights (count, 3, size, size): noise, waves of several directions and colours, or differences of blobs."""
    generator = torch.Generator().manual_seed(size)
    noise = torch.randn(count, 3, size, size, generator=generator)
    place = torch.arange(size) - (size - 1) / 2
    if kind == "noise":
        return noise
    if kind == "waves":
        angle = torch.arange(count)[:, None, None] * torch.pi / count
        phase = angle.cos() * place[None, None, :] + angle.sin() * place[None, :, None]
        return (1.7 * phase + 0.3).cos()[:, None] * noise[:, :, :1, :1]
    return noise[:, :, :1, :1] * torch.exp(-(place[:, None] ** 2 + place**2) / size)


def planted(weight: Tensor, stride: int = 1, norm: bool = False) -> nn.Sequential:
    """A network whose first layer has these filters; half of its norm's gains are negative."""
    count, _, size, _ = weight.shape
    conv = nn.Conv2d(3, count, size, stride, padding=size // 2)
    with torch.no_grad():
        conv.weight.copy_(weight)
    middle_part = [nn.BatchNorm2d(count)] if norm else []
    network = nn.Sequential(conv, *middle_part, nn.ReLU(inplace=True), nn.Conv2d(count, 4, 3), nn.AdaptiveAvgPool2d(1))
    network = lively(nn.Sequential(*network, nn.Flatten()))
    if norm:
        with torch.no_grad():
            network[1].weight[::2] *= -1
    return network


def extremes(weight: Tensor, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """The least and the most that weights (N, 3, h, w) of normalised pixels can make of a legal image: (N,) each."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    black, white = weight * (0 - mean) / std, weight * (1 - mean) / std
    return torch.minimum(black, white).sum((1, 2, 3)), torch.maximum(black, white).sum((1, 2, 3))


def share_of_best(values: Tensor, shift: Tensor, weight: Tensor, preprocess: Preprocess = PREPROCESS) -> Tensor:
    """How far values are on the way from halfway between the extremes, 0, to the most that there is, 1."""
    least, most = extremes(weight, preprocess)
    half = (least + most) / 2
    return (values - shift - half) / (most - half)


@pytest.mark.parametrize("kind", ["noise", "waves", "blobs"])
@pytest.mark.parametrize(
    ("size", "stride", "norm"), [(3, 1, False), (5, 1, True), (7, 1, True), (7, 2, True), (3, 2, False)]
)
def test_a_planted_filter_reaches_its_best_legal_image(kind: str, size: int, stride: int, norm: bool) -> None:
    weight = filters(kind, size)
    network = planted(weight, stride, norm)
    layer = layers_of(network)[0]
    found = maximize(network, neurons(layer), PREPROCESS, colours())
    scale, shift = torch.ones(len(weight)), network[0].bias.detach()
    if norm:
        bn = network[1]
        scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
        shift = ((shift - bn.running_mean) * scale + bn.bias).detach()
    values = middle(maps_at(network, layer, found.images)).diagonal()
    share = share_of_best(values, shift, weight * scale.view(-1, 1, 1, 1))
    assert share.min() > 0.99
    assert share.max() < 1 + 1e-5, "the yardstick is right"
    top, left, bottom, right = found.box
    part = found.images[:, top:bottom, left:right]
    assert np.isin(part, (0, 255)).mean() > 0.99


class LinearHead(nn.Module):
    def __init__(self, weight_KCHW: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(weight_KCHW[0].numel(), len(weight_KCHW))
        with torch.no_grad():
            self.fc.weight.copy_(weight_KCHW.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def smooth_noise(count: int, side: int = 32) -> Tensor:
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    amplitude = (down**2 + across**2).sqrt().clamp(min=1 / side) ** -1.5
    return torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude, s=(side, side))


@pytest.mark.parametrize(("preset", "least"), [(None, 0.5), (LINEAR, 0.99)])  # by default images vary as real ones do
def test_a_planted_logit_reaches_much_of_its_best_image(preset: Preset | None, least: float) -> None:
    weight = smooth_noise(4)
    network = LinearHead(weight).eval()
    found = maximize(network, [logit(4, k) for k in range(4)], PREPROCESS, colours(), preset=preset)
    with torch.no_grad():
        values = network(normalised(found.images)).diagonal()
    share = share_of_best(values, network.fc.bias.detach(), weight)
    assert share.min() > least
    assert share.max() < 1 + 1e-5


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "speednet"])
def test_filters_are_excited_more_than_by_real_images(name: str) -> None:
    network = seeded(WINDOWED[name][0])
    layers = layers_of(network)
    for layer in (layers[0], layers[len(layers) // 2]):
        preset = replace(pick_preset(network, layer, 32, CPU), shift=0.0)
        found = maximize(network, neurons(layer), PREPROCESS, colours(), preset=preset)
        ours = middle(maps_at(network, layer, found.images)).diagonal()
        assert (ours > maps_at(network, layer, real()).amax((0, 2, 3))).all()


@pytest.mark.parametrize(
    ("build", "last"),
    [
        (lambda n, _: channel(n[1], 2), lambda _, maps: maps[1][:, 2].mean((1, 2))),
        (lambda n, _: -neuron(n[1], 2), lambda _, maps: -middle(maps[1])[:, 2]),
        (
            lambda n, _: direction(n[1], [1.0, -1.0] * 4),
            lambda _, maps: (middle(maps[1]) * torch.tensor([1.0, -1.0] * 4)).sum(1),
        ),
        (lambda _, k: logit(k, 1) - logit(k, 0), lambda scores, _: scores[:, 1] - scores[:, 0]),
        (lambda n, _: neuron(n[2], 1), lambda _, maps: middle(maps[2])[:, 1]),  # its field is not known
    ],
    ids=["channel", "negated", "direction", "logits", "no field"],
)
def test_any_objective_is_climbed(
    small: Small, build: Callable[[tuple[Layer, ...], int], Objective], last: Callable[[Tensor, list[Tensor]], Tensor]
) -> None:
    layers = layers_of(small)
    found = maximize(small, [build(layers, 5)], PREPROCESS, colours(), preset=STILL)
    images = np.concatenate([found.images, real()])
    with torch.no_grad():
        values = last(small(normalised(images)), [maps_at(small, layer, images) for layer in layers])
    assert values[0] > values[1:].max()


# Mixtures of places


def test_neurons_of_two_layers_are_climbed_at_the_middle_of_both(small: Small) -> None:
    first, second, _ = layers_of(small)
    both = neuron(first, 1) + neuron(second, 1)
    found = maximize(small, [both], PREPROCESS, colours(), preset=STILL)
    for layer in (first, second):
        values = maps_at(small, layer, found.images)[0, 1]
        assert values[layer.places[0] // 2, layer.places[1] // 2] > values.quantile(0.97)


def test_a_neuron_beside_a_channel_is_climbed_in_the_middle(small: Small) -> None:
    layer = layers_of(small)[1]
    found = maximize(small, [neuron(layer, 1), channel(layer, 2)], PREPROCESS, colours(), preset=STILL)
    values = maps_at(small, layer, found.images)[0, 1]
    assert values[layer.places[0] // 2, layer.places[1] // 2] > values.quantile(0.97)


def test_a_logit_and_a_channel_are_climbed_together(small: Small) -> None:
    layer = layers_of(small)[1]
    found = maximize(small, [logit(5, 1) + 0.1 * channel(layer, 2)], PREPROCESS, colours(), preset=SHORT)
    assert found.images.shape == (1, 32, 32, 3)


# What is an image a function of


def test_an_image_is_a_function_of_seed_and_key(small: Small) -> None:
    chosen = neurons(layers_of(small)[1])

    def climbed(seed: int = 0, rows: Sequence[int] = range(6), keys: Sequence[int] | None = None) -> Maximized:
        return maximize(small, [chosen[k] for k in rows], PREPROCESS, colours(), seed=seed, keys=keys, preset=SHORT)

    whole = climbed()
    torch.manual_seed(5)
    again = climbed()
    assert again.images.tobytes() == whole.images.tobytes()
    assert torch.equal(again.gains, whole.gains)
    other = climbed(seed=1)
    assert all(difference(a, b) > 10 for a, b in zip(whole.images, other.images, strict=True))
    part = climbed(rows=[1, 4], keys=[1, 4])
    assert difference(part.images, whole.images[[1, 4]]) < 1
    keyed = climbed(rows=[1, 4], keys=[1, 7])
    assert difference(keyed.images[0], whole.images[1]) < 1
    assert difference(keyed.images[1], whole.images[4]) > 10


def test_an_image_does_not_depend_on_which_others_are_done_before(small: Small) -> None:
    layer = layers_of(small)[1]
    whole = maximize(small, neurons(layer), PREPROCESS, colours())
    assert len(whole.steps.unique()) > 1
    longest = int(whole.steps.argmax())
    alone = maximize(small, [neuron(layer, longest)], PREPROCESS, colours(), keys=[longest])
    assert alone.steps[0] == whole.steps[longest]
    assert difference(alone.images[0], whole.images[longest]) < 1


def test_the_moves_are_a_function_of_the_seed_too(small: Small) -> None:
    chosen, given = [neuron(layers_of(small)[1], 0)], real()[:1]
    a, b = (maximize(small, chosen, PREPROCESS, colours(), seed=s, starts_NHWC=given, preset=SHORT) for s in (0, 1))
    assert difference(a.images, b.images) > 1


def test_batches_change_nearly_nothing(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = neurons(layers_of(small)[1])
    whole = maximize(small, chosen, PREPROCESS, colours(), preset=SHORT)
    monkeypatch.setattr(under_test, "LARGEST_CHUNK", 3)
    parts = maximize(small, chosen, PREPROCESS, colours(), preset=SHORT)
    assert difference(parts.images, whole.images) < 1
    assert parts.images.shape == whole.images.shape
    assert len(parts.gains) == len(parts.steps) == len(chosen)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_callers_no_grad_changes_nothing(small: Small, mode: Callable[[], torch.no_grad]) -> None:
    layer = layers_of(small)[1]
    expected = maximize(small, [neuron(layer, 0)], PREPROCESS, colours(), preset=SHORT)
    with mode():
        found = maximize(small, [neuron(layer, 0)], PREPROCESS, colours(), preset=SHORT)
        assert not torch.is_grad_enabled()
    assert found.images.tobytes() == expected.images.tobytes()


# Where a climb begins, and what it leaves alone


@pytest.mark.parametrize("pixels", [False, True])
def test_a_climb_begins_at_the_given_images(small: Small, pixels: bool) -> None:
    layer, given = layers_of(small)[1], real()[:3]
    chosen = neurons(layer)[:3]
    few = Preset(BLOCK, 0.01, decay=0.0, shift=0.0, pixels=pixels)
    found = maximize(small, chosen, PREPROCESS, colours(), starts_NHWC=given, preset=few)
    values = [middle(maps_at(small, layer, images)).diagonal() for images in (given, found.images)]
    assert (values[1] > values[0]).all()
    assert 0 < difference(found.images, given) < 10
    still = maximize(small, chosen, PREPROCESS, colours(), starts_NHWC=given, preset=replace(few, rate=1e-6))
    assert difference(still.images, given) < 0.01


def test_the_contrast_of_given_images_is_not_that_of_the_noise(small: Small) -> None:
    given, faint = real()[:1], Preset(BLOCK, 1e-6, decay=0.0, start=0.25)
    chosen = [channel(layers_of(small)[1], 0)]
    still = maximize(small, chosen, PREPROCESS, colours(), starts_NHWC=given, preset=faint)
    assert difference(still.images, given) < 0.01


@pytest.mark.parametrize("steps", [BLOCK // 2, BLOCK + 1, 2 * BLOCK - 1])
def test_every_step_counts(small: Small, steps: int) -> None:
    layer = layers_of(small)[1]

    def value(preset: Preset) -> float:
        found = maximize(small, [neuron(layer, 1)], PREPROCESS, colours(), preset=preset)
        assert found.steps.tolist() == [preset.steps]
        return float(middle(maps_at(small, layer, found.images))[0, 1])

    blocks = steps // BLOCK * BLOCK
    assert value(Preset(steps, 0.05)) > (value(Preset(blocks, 0.05)) if blocks else value(Preset(BLOCK, 1e-6)))


def test_read_only_images_are_not_written_to(small: Small) -> None:
    given = real()[:1].copy()
    given.setflags(write=False)
    maximize(small, [neuron(layers_of(small)[1], 0)], PREPROCESS, colours(), starts_NHWC=given, preset=SHORT)
    assert given.tobytes() == real()[:1].tobytes()


@pytest.mark.parametrize("preset", [SHORT, LINEAR, replace(SHORT, zoom=0.1, turn=0.1)])
@pytest.mark.parametrize("number", [0, 1])
def test_outside_the_window_an_image_stays_as_it_was(small: Small, number: int, preset: Preset) -> None:
    layer, given = layers_of(small)[number], real()[:2]
    window = window_of(layer, 32, 0 if preset.pixels else 2)
    (top, left), (height, width) = window.start, window.size
    outside = np.ones((32, 32), bool)
    outside[top : top + height, left : left + width] = False
    assert outside.any()
    chosen = neurons(layer)[:2]
    found = maximize(small, chosen, PREPROCESS, colours(), starts_NHWC=given, preset=preset)
    assert (found.images[:, outside] == given[:, outside]).all()
    assert (found.images[:, ~outside] != given[:, ~outside]).mean() > 0.3
    assert found.box == window.box
    noise = maximize(small, chosen, PREPROCESS, colours(), keys=[3, 3], preset=preset)
    assert (noise.images[0][outside] == noise.images[1][outside]).all(), "one key, one noise"


@pytest.mark.parametrize("side", [20, 33])
def test_what_is_found_is_legal(small: Small, side: int) -> None:
    layers, preprocess = layers_of(small, side), Preprocess(side)
    bright = palette(np.full((2, 8, 8, 3), 250, np.uint8))
    for chosen in (neurons(layers[0])[:2], neurons(layers[1])[:2], [logit(5, 0), logit(5, 1)]):
        found = maximize(small, chosen, preprocess, bright, preset=SHORT)
        assert (found.images.dtype, found.images.shape) == (np.uint8, (2, side, side, 3))
        assert found.images.flags.c_contiguous
        top, left, bottom, right = found.box
        assert 0 <= top < bottom <= side
        assert 0 <= left < right <= side
        assert (found.gains.dtype, found.gains.shape) == (torch.float32, (2,))
        assert (found.steps.dtype, found.steps.tolist()) == (torch.int64, [SHORT.steps] * 2)


def test_an_image_varies_no_more_than_real_ones(small: Small) -> None:
    found = maximize(small, [logit(5, k) for k in range(5)], PREPROCESS, colours())
    variation = total_variation(torch.from_numpy(found.images).permute(0, 3, 1, 2) / 255)
    assert variation.max() < 1.05 * colours().variation[2]


def state_of(network: nn.Module) -> dict[str, object]:
    """Everything that a climb could leave changed, as values that can be compared."""
    tensors = network.state_dict()
    return {
        "tensors": {name: t.clone().numpy().tobytes() for name, t in tensors.items()},
        "versions": {name: t._version for name, t in tensors.items()},
        "modes": [module.training for module in network.modules()],
        "requires_grad": [p.requires_grad for p in network.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in network.parameters()],
        "random": (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
        "hooks": count_hooks(network),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("what", ["first", "second", "logit"])
def test_nothing_is_left_behind(small: Small, what: str, broken: bool) -> None:
    layers = layers_of(small)
    chosen = {"first": neurons(layers[0]), "second": neurons(layers[1]), "logit": [logit(5, 0)]}[what]
    small.train()
    small.norm1.eval()
    small.conv2.weight.requires_grad_(False)
    small.fc.bias.grad = torch.ones(5)
    small.breakable.broken = broken
    handle = small.conv1.register_forward_hook(lambda *_: None)  # a caller's own, which must stay
    before = state_of(small)
    with pytest.raises(ValueError, match="on purpose") if broken else nullcontext():
        maximize(small, chosen, PREPROCESS, colours(), preset=None if what == "first" else SHORT)
    assert state_of(small) == before
    handle.remove()


# Diversity


def gram_cosine(network: nn.Module, layer: Layer, images: np.ndarray) -> float:
    flat = maps_at(network, layer, images).flatten(2)
    a, b = (flat @ flat.transpose(1, 2)).flatten(1)
    return float(F.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_diversity_makes_two_images_of_one_filter_less_alike(small: Small, k: int) -> None:
    layer = layers_of(small)[1]

    def alike(diversity: float) -> tuple[float, Tensor]:
        found = maximize(small, [channel(layer, k)] * 2, PREPROCESS, colours(), preset=SHORT, diversity=diversity)
        return gram_cosine(small, layer, found.images), maps_at(small, layer, found.images)[:, k].mean((1, 2))

    (usual, _), (diverse, values) = alike(0.0), alike(8.0)
    assert diverse < usual - 0.1
    assert values.max() > maps_at(small, layer, real())[:, k].mean((1, 2)).mean(), "and still an answer"


def test_diversity_of_one_image_is_nothing(small: Small) -> None:
    layer = layers_of(small)[1]
    usual, alone = (
        maximize(small, [channel(layer, 0)], PREPROCESS, colours(), preset=SHORT, diversity=d) for d in (0.0, 5.0)
    )
    assert difference(usual.images, alone.images) < 1


def test_images_of_a_class_can_be_diverse(small: Small) -> None:
    found = maximize(small, [logit(5, 1)] * 2, PREPROCESS, colours(), preset=SHORT, diversity=1.0)
    assert found.images.shape == (2, 32, 32, 3)


# Presets


def test_the_first_layer_is_linear_and_the_second_is_not(small: Small) -> None:
    deep = nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1))
    for network, linear in (
        (small, [True, False, False]),
        (seeded(lambda: alexnet(5, 32, width=4)), [True, False, False]),
        (lively(nn.Sequential(*deep, nn.Flatten())), [True, True]),  # no activation between them
    ):
        assert [under_test._is_linear(network, layer, 32, CPU) for layer in layers_of(network)] == linear


def test_what_is_linear_is_climbed_in_pixels(small: Small) -> None:
    for layer, preset in zip(layers_of(small), (LINEAR, PRESETS[24], PRESETS[48]), strict=True):
        assert pick_preset(small, layer, 32, CPU) == preset
    assert pick_preset(small, None, 32, CPU) == WHOLE[48]


@pytest.mark.parametrize(
    ("field", "side", "canvas"),
    [
        (5, 224, 24),
        (24, 32, 24),
        (25, 32, 48),
        (99, 24, 24),
        (99, 64, 112),
        (113, 224, 10_000),
        (None, 32, 48),
        (None, 224, 10_000),
    ],
)
def test_the_preset_suits_the_canvas(
    monkeypatch: pytest.MonkeyPatch, field: int | None, side: int, canvas: int
) -> None:
    monkeypatch.setattr(under_test, "_is_linear", lambda *_: False)
    seen = None if field is None else Field((3, field), (1, 1), (0, 0), (8, 8))
    layer = Layer("conv", Tap("conv"), 4, (8, 8), seen)
    assert pick_preset(nn.Identity(), layer, side, CPU) == PRESETS[canvas]


@pytest.mark.parametrize(("side", "canvas"), [(32, 48), (48, 48), (64, 112), (112, 112), (224, 10_000)])
def test_the_preset_of_a_class_suits_the_image(side: int, canvas: int) -> None:
    assert pick_preset(nn.Identity(), None, side, CPU) == WHOLE[canvas]


def test_a_filter_of_one_pixel_is_climbed_without_moves() -> None:
    network = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    layer = layers_of(network)[1]
    found = maximize(network, neurons(layer), PREPROCESS, colours(), preset=STILL)
    assert found.gains.isfinite().all()


# Networks of others


@pytest.mark.parametrize(("number", "known"), [(0, True), (3, True), (-1, False)])
def test_layers_of_a_timm_network_whose_norms_activate_too(number: int, known: bool) -> None:
    import timm

    network = seeded(lambda: timm.create_model("test_efficientnet", num_classes=5))
    layer, preprocess = layers_of(network, 64)[number], Preprocess(64)
    assert layer.tap.at_input
    assert (layer.field is not None) == known
    images = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
    found = maximize(network, neurons(layer)[:2], preprocess, colours(), preset=STILL)
    with torch.no_grad():
        maps = reach(network, normalised(np.concatenate([found.images, images]), preprocess), [layer.tap])[0]
    values = middle(maps)[:, :2]
    assert (values[:2].diagonal() > values[2:].amax(0)).all()
    assert (found.box == (0, 0, 64, 64)) == (not known)


def test_a_network_that_asks_for_whole_images_gets_them():
    """As transformers do: it refuses the small part of an image that a first layer's filter sees."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, bias=False)
            nn.init.constant_(self.conv.weight, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (32, 32), "another size than it was built for"
            return self.conv(x).mean(dim=(2, 3))

    network = Whole().eval()
    layer = find_layers(network, torch.zeros(1, 3, 32, 32), None)[0]
    found = maximize(
        network, [neuron(layer, 0)], Preprocess(size=32), palette(np.full((2, 8, 8, 3), 77, np.uint8)), preset=SHORT
    )
    top, left, bottom, right = found.box
    assert (bottom - top, right - left) == (3, 3)  # what the filter sees, marked in the whole image
    assert found.images.shape == (1, 32, 32, 3)


def test_each_step_is_told_and_all_of_them_at_the_end(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "LARGEST_CHUNK", 3)
    layer = layers_of(small)[0]
    preset = replace(pick_preset(small, layer, 32, torch.device("cpu")), steps=BLOCK)
    told: list[tuple[int, int]] = []
    listened = {"preset": preset, "progress": lambda done, total: told.append((done, total))}
    maximize(small, neurons(layer), Preprocess(32), colours(), **listened)
    parts = -(-layer.filters // 3)
    assert told == [(step, parts * BLOCK) for step in range(parts * BLOCK + 1)]
