"""Layers of any network: where they are tapped, what is below them, and receptive fields against the gradients'."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from convscope.errors import UnknownName, UsageError
from convscope.explanation.layers import Layer, find_layers, owners
from convscope.models.alexnet import alexnet
from convscope.models.receptive_fields import Field
from convscope.models.resnet import cifar_resnet, resnet
from convscope.models.speednet import speednet
from convscope.models.taps import Tap, count_hooks, reach, record, tapping


class Twice(nn.Module):
    """One convolution, one norm and one ReLU in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))


class Functional(nn.Module):
    """What happens between modules changes what the channels are: nothing is below ``second``, ``third`` and ``last``.

    The dropout passes on the very tensor that a skip was added to in place.
    """

    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu_(self.first(x))
        second = F.relu(self.second(first))
        third = self.third(second.flip(1))
        third += second
        return self.last(self.drop(third)).mean((2, 3))


class Odd(nn.Module):
    """Modules that output vectors, tokens, tuples and nothing, around one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.tokens = nn.Linear(4, 5)
        self.recurrent = nn.LSTM(5, 6, batch_first=True)
        self.unused = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.pool(self.conv(x))
        x = self.tokens(x.flatten(2).transpose(1, 2))
        return self.fc(self.recurrent(x)[0][:, -1])


def lively(network: nn.Module) -> nn.Module:
    """Norms that are not the identity, in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (lambda: alexnet(3, 16, width=4), 16),
    "alexnet without norms": (lambda: alexnet(3, 16, width=4, batch_norm=False), 16),
    "resnet20": (lambda: cifar_resnet(20, 3, 16, width=4), 16),
    "resnet20 without norms": (lambda: cifar_resnet(20, 3, 16, width=4, batch_norm=False), 16),
    "resnet": (lambda: resnet(3, 32, width=2), 32),
    "speednet": (lambda: speednet(3, 16, width=4), 16),
    "resnet18": (lambda: torchvision.models.resnet18(weights=None, num_classes=3), 64),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=3), 64),
    "twice": (Twice, 16),
    "functional": (lambda: Functional(nn.Identity()), 16),
}


@cache
def built(name: str) -> tuple[nn.Module, Tensor]:
    """A network in float64 and evaluation mode, and two images for it."""
    build, side = NETWORKS[name]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        return lively(build()).double(), torch.randn(2, 3, side, side, dtype=torch.float64)


def layers_of(name: str, names: Sequence[str] | None = None) -> tuple[Layer, ...]:
    network, x = built(name)
    return find_layers(network, x[:1], names)


def below_of(layers: Sequence[Layer]) -> dict[str, str]:
    return {layer.name: layer.below for layer in layers if layer.below is not None}


# Names, taps and sizes


def test_alexnet() -> None:
    layers = layers_of("alexnet")
    assert [(c.name, c.tap, c.norm, c.filters, c.places) for c in layers] == [
        ("conv1", Tap("norm1"), "norm1", 4, (16, 16)),
        ("conv2", Tap("norm2"), "norm2", 8, (8, 8)),
        ("conv3", Tap("norm3"), "norm3", 16, (4, 4)),
    ]
    assert below_of(layers) == {"conv2": "conv1", "conv3": "conv2"}
    assert [(c.convolution, c.call, c.file) for c in layers] == [(c.name, 0, c.name) for c in layers]


@pytest.mark.parametrize(("name", "norm"), [("resnet20", True), ("resnet20 without norms", False), ("resnet18", True)])
def test_residual_networks(name: str, norm: bool) -> None:
    network, _ = built(name)
    layers = layers_of(name)
    assert sorted(c.name for c in layers) == sorted(n for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    names = [c.name for c in layers]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    for layer in layers:
        place = layer.name.replace("conv", "bn") if "conv" in layer.name else layer.name.replace("e.0", "e.1")
        assert (layer.tap, layer.norm) == ((Tap(place), place) if norm else (Tap(layer.name), None))
    blocks = [n.removesuffix(".conv2") for n in names if n.endswith(".conv2")]
    assert below_of(layers) == {"layer1.0.conv1": "conv1"} | {f"{b}.conv2": f"{b}.conv1" for b in blocks}, (
        "what a sum or a projection of a sum is given is no layer's"
    )


def test_speednet_is_tapped_behind_pool_and_norm() -> None:
    layers = layers_of("speednet")
    assert [(c.name, c.tap.module, c.filters, c.places) for c in layers] == [
        ("whiten", "whiten", 24, (15, 15)),
        ("conv1_1", "norm1_1", 4, (7, 7)),
        ("conv1_2", "norm1_2", 4, (7, 7)),
        ("conv2_1", "norm2_1", 16, (3, 3)),
        ("conv2_2", "norm2_2", 16, (3, 3)),
    ]
    names = [c.name for c in layers]
    assert below_of(layers) == dict(zip(names[1:], names, strict=False))


def test_a_norm_that_activates_is_tapped_before_its_activation() -> None:
    network, _ = built("efficientnet_b0")
    layers = {c.name: c for c in layers_of("efficientnet_b0")}
    squeezes = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and ".se." in n}
    assert len(squeezes) == 32
    assert not squeezes & layers.keys()
    assert len(layers) == 81 - 32
    assert layers["conv_stem"].tap == Tap("bn1.drop", at_input=True)
    assert layers["blocks.1.0.conv_dw"].norm == "blocks.1.0.bn2"
    below = below_of(list(layers.values()))
    assert below["blocks.1.0.conv_pw"] == "blocks.0.0.conv_pw"
    assert "blocks.1.0.conv_dw" not in below, "each filter sees one channel"
    assert "blocks.1.0.conv_pwl" not in below, "the channels are weighted"
    (asked,) = layers_of("efficientnet_b0", ["blocks.0.0.se.conv_expand"])
    assert (asked.name, asked.places, asked.below) == ("blocks.0.0.se.conv_expand", (1, 1), "blocks.0.0.se.conv_reduce")


def test_a_convolution_used_twice_is_two_layers() -> None:
    layers = layers_of("twice")
    assert [(c.name, c.tap, c.convolution, c.call, c.below) for c in layers] == [
        ("stem", Tap("stem"), "stem", 0, None),
        ("conv", Tap("norm"), "conv", 0, "stem"),
        ("conv@2", Tap("norm", call=1), "conv", 1, "conv"),
    ]
    assert [c.name for c in layers_of("twice", ["conv@2"])] == ["conv@2"]


@pytest.mark.parametrize(
    "between",
    [
        [nn.ReLU()],
        [nn.ReLU(inplace=True)],
        [nn.ReLU(inplace=True), nn.MaxPool2d(2)],
        [nn.SiLU(), nn.MaxPool2d(2)],
    ],
    ids=str,
)
def test_a_norm_behind_an_activation_is_not_the_convolutions(between: list[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *between, nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    first, _ = find_layers(network, torch.zeros(1, 3, 16, 16))
    assert (first.tap, first.norm) == (Tap("0"), None)


@pytest.mark.parametrize("between", [[nn.Identity()], [nn.Dropout()], [nn.Identity(), nn.MaxPool2d(2)]], ids=str)
def test_a_norm_behind_what_does_nothing_is_the_convolutions(between: list[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *between, nn.BatchNorm2d(4), nn.ReLU(True), nn.Conv2d(4, 2, 3))
    first, second = find_layers(network, torch.zeros(1, 3, 16, 16))
    assert (first.tap, second.below) == (Tap(str(len(between) + 1)), "0")


def by_hand(network: nn.Module, layer: Layer, given: Tensor, halved: bool) -> Tensor:
    """Convolution, pool and batch norm, written out."""
    conv = network.get_submodule(layer.convolution)
    x = F.conv2d(given, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    x = F.max_pool2d(x, 2) if halved else x
    if layer.norm is None:
        return x
    norm = network.get_submodule(layer.norm)
    centred = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    return centred * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tapped_value_is_the_normalised_convolution(name: str) -> None:
    network, x = built(name)
    layers = layers_of(name)
    entries = [Tap(c.convolution, at_input=True, call=c.call) for c in layers]
    with torch.no_grad():
        tensors = reach(network, x, [c.tap for c in layers] + entries)
    for layer, tapped, given in zip(layers, tensors, tensors[len(layers) :], strict=False):
        halved = name == "speednet" and layer.name.endswith("_1")
        torch.testing.assert_close(tapped, by_hand(network, layer, given, halved))
        assert tapped.shape[1:] == (layer.filters, *layer.places)
        assert tapped.min() < 0, "before the activation"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_channel_of_the_input_is_the_filter_below_and_no_other(name: str) -> None:
    network, x = built(name)
    found = {c.name: c for c in layers_of(name)}
    for layer in found.values():
        if layer.below is None:
            continue
        below, entry = found[layer.below], Tap(layer.convolution, at_input=True, call=layer.call)
        k = below.filters // 2

        def disturb(_number: int, maps: Tensor, k: int = k) -> Tensor:
            return maps.index_fill(1, torch.tensor([k]), 5.0)

        with torch.no_grad(), tapping(network, [below.tap], disturb):
            disturbed = reach(network, x, [entry])[0]
        with torch.no_grad():
            changed = (disturbed != reach(network, x, [entry])[0]).any(3).any(2).any(0)
        assert changed.nonzero().flatten().tolist() == [k], layer.name


@pytest.mark.parametrize(
    "drop",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        *(module for module in (nn.Identity(), nn.Dropout(), nn.Dropout(inplace=True))),
    ],
    ids=str,
)
def test_nothing_is_below_what_is_changed_between_modules(drop: nn.Module) -> None:
    network, x = Functional(drop), torch.randn(1, 3, 8, 8)
    assert below_of(find_layers(network, x)) == {}
    assert owners(network, x) == {name: name for name in ("first", "second", "third", "last")}


def test_owners_are_the_layers_whose_filters_pass() -> None:
    network, x = built("alexnet")
    expected = {f"{kind}{stage}": f"conv{stage}" for stage in (1, 2, 3) for kind in ("conv", "norm", "relu", "pool")}
    assert owners(network, x[:1]) == expected
    network, x = built("resnet20")
    found = owners(network, x[:1])
    assert found["layer1.0.relu1"] == "layer1.0.conv1"
    assert "layer1.0.relu2" not in found, "a sum is no layer's"


# What is asked for by name


def test_layers_come_in_the_order_in_which_they_work() -> None:
    chosen = layers_of("alexnet", ["pool2", "conv3", "relu1", "conv1", "conv3"])
    assert [c.name for c in chosen] == ["conv1", "conv3", "pool2", "relu1"]


@pytest.mark.parametrize(
    ("name", "module", "filters", "places"),
    [
        ("alexnet", "pool1", 4, (8, 8)),
        ("resnet18", "layer2", 128, (8, 8)),
        ("resnet18", "layer1.0.relu", 64, (16, 16)),
        ("resnet20", "layer2.0.downsample", 8, (8, 8)),
        ("efficientnet_b0", "blocks.1.0.se", 96, (16, 16)),
        ("efficientnet_b0", "bn1", 32, (32, 32)),
    ],
)
def test_any_module_that_outputs_maps_is_a_layer(name: str, module: str, filters: int, places: tuple[int, int]) -> None:
    network, x = built(name)
    (layer,) = layers_of(name, [module])
    assert (layer.name, layer.tap, layer.filters, layer.places) == (module, Tap(module), filters, places)
    assert (layer.convolution, layer.norm, layer.below) == (None, None, None)
    with torch.no_grad(), record(network, [module], clone=True) as taps:
        network(x)
    with torch.no_grad():
        assert torch.equal(reach(network, x, [layer.tap])[0], taps.every_output[module][0])


def test_a_network_that_is_one_convolution_is_a_layer() -> None:
    (layer,) = find_layers(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    assert (layer.name, layer.filters, layer.file) == ("", 4, "network")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("conv11", "'conv1'"), ("layer1.0.con2", "'layer1.0.conv2'"), ("linaer", "'linear'"), ("conv1@2", "'conv1'")],
)
def test_an_unknown_layer_offers_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=rf"no layer named '{name}'\. Did you mean [^?]*{nearest}"):
        layers_of("resnet20", [name])
    with pytest.raises(UnknownName, match="no layer named ''"):
        layers_of("resnet20", [""])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fc", r"fc outputs \(1, 2\), and a layer outputs maps"),
        ("tokens", r"tokens outputs \(1, 16, 5\)"),
        ("recurrent", r"recurrent outputs \(1, 16, 6\)"),
        ("unused", "unused outputs no tensor in a forward pass"),
    ],
)
def test_what_outputs_no_maps_is_refused_with_what_works(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{reason}.*Layers that work: conv\\."):
        find_layers(Odd(), torch.zeros(1, 3, 8, 8), [name])


def test_of_a_tuple_the_first_is_taken() -> None:
    (layer,) = find_layers(Odd(), torch.zeros(1, 3, 8, 8), ["pool"])
    assert (layer.filters, layer.places) == (4, (4, 4))


def test_a_network_without_convolutions_has_no_layers() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(UsageError, match="the network has no convolution that outputs maps"):
        find_layers(network, torch.zeros(1, 3, 2, 2))
    with pytest.raises(UsageError, match=r"1 outputs \(1, 2\)"):
        find_layers(network, torch.zeros(1, 3, 2, 2), ["1"])


@pytest.mark.parametrize("name", ["resnet18", "twice"])
def test_the_network_is_left_as_it_was(name: str) -> None:
    network = NETWORKS[name][0]().train()
    getattr(network, "layer1", network.relu).eval()
    modes = [module.training for module in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    find_layers(network, torch.zeros(1, 3, 64, 64))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        find_layers(nn.Sequential(network, nn.Linear(7, 1)), torch.zeros(1, 3, 64, 64))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert count_hooks(network) == 0


def made_outside() -> Tensor:
    with torch.inference_mode(False):
        return torch.zeros(1, 3, 16, 16)


def made_inside() -> Tensor:
    return torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize("image", [made_outside, made_inside])
def test_layers_are_found_in_inference_mode(image: Callable[[], Tensor]) -> None:
    network = Twice().eval()
    with torch.inference_mode():
        found = find_layers(network, image())
    assert found == layers_of("twice")


# Receptive fields


def narrow_resnet18() -> nn.Module:
    """torchvision's, with two filters in each convolution: the same forward and the same geometry."""
    network = torchvision.models.resnet18(weights=None, num_classes=2)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                size = (child.kernel_size, child.stride, child.padding)
                setattr(module, name, nn.Conv2d(min(3, child.in_channels) if name == "conv1" else 2, 2, *size))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(2))
    for block in [b for b in network.modules() if isinstance(b, torchvision.models.resnet.BasicBlock)]:
        block.conv1 = nn.Conv2d(2, 2, 3, block.conv1.stride, block.conv1.padding)
    network.fc = nn.Linear(2, 2)
    return network


def dilated() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            wide=nn.Conv2d(3, 2, 3, padding=2, dilation=2),
            relu=nn.ReLU(),
            oblong=nn.Conv2d(2, 2, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(3, 2)),
            pool=nn.MaxPool2d(2, stride=1),
            same=nn.Conv2d(2, 2, 3, padding="same", dilation=4),
            norm=nn.BatchNorm2d(2),
            last=nn.Conv2d(2, 2, 2, stride=3),
        )
    )


# name: build, side, least number of layers whose middle place sees no border
GEOMETRIES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "alexnet": (lambda: alexnet(2, 40, width=2), 40, 3),
    "resnet20": (lambda: cifar_resnet(20, 2, 64, width=2), 64, 13),
    "speednet": (lambda: speednet(2, 49, width=2), 49, 5),
    "resnet18": (narrow_resnet18, 128, 8),
    "dilated": (dilated, 60, 4),
}


def transparent(network: nn.Module) -> nn.Module:
    """Positive weights, average pools and idle norms: nothing that is seen can cancel or lose to something else."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    with torch.no_grad():
        for key, values in network.state_dict().items():
            if key.endswith(("weight", "running_var")):
                nn.init.uniform_(values, 0.5, 1.0)
            else:
                values.zero_()
    return network.double().eval()


def seen_by(network: nn.Module, layer: Layer, places: Sequence[tuple[int, int]], side: int) -> Tensor:
    """bool (P, H, W): the pixels that the places see, by their gradients; a place an image, so one pass is enough."""
    images = 0.5 + torch.rand(len(places), 3, side, side, dtype=torch.float64)
    images.requires_grad_(True)
    maps = reach(network, images, [layer.tap])[0]
    total = torch.stack([maps[n, :, i, j].sum() for n, (i, j) in enumerate(places)]).sum()
    return torch.autograd.grad(total, images)[0].ne(0).any(1)


def box_of(field: Field, place: tuple[int, int]) -> list[tuple[int, int]]:
    """The first and one behind the last row, and column, that a place sees; they may lie beyond the image."""
    firsts = [start + p * step for start, p, step in zip(field.start, place, field.step, strict=True)]
    return [(first, first + size) for first, size in zip(firsts, field.size, strict=True)]


def span(seen: Tensor) -> tuple[int, int]:
    """The first and one behind the last of a row of booleans."""
    found = seen.nonzero().flatten()
    return int(found[0]), int(found[-1]) + 1


@pytest.mark.parametrize("name", GEOMETRIES)
def test_receptive_fields_are_the_gradients(name: str) -> None:
    build, side, least = GEOMETRIES[name]
    network = build().eval()
    layers = find_layers(network, torch.zeros(1, 3, side, side))
    network, inside = transparent(network), 0
    for layer in layers:
        h, w = layer.places
        places = [(h // 2, w // 2), (h // 3, w - 1 - w // 4), (0, w - 1), (h - 1, 0)]
        for place, seen in zip(places, seen_by(network, layer, places, side), strict=True):
            spans = (span(seen.any(1)), span(seen.any(0)))
            box = box_of(layer.field, place)
            cut = tuple((max(0, first), min(side, end)) for first, end in box)
            if name != "dilated":
                assert spans == cut, (layer.name, place)
                assert seen[slice(*cut[0]), slice(*cut[1])].all(), "no gap"
                continue
            for measured, expected, whole in zip(spans, cut, box, strict=True):  # what sees gaps may see no border
                assert expected[0] <= measured[0] < measured[1] <= expected[1]
                assert measured == expected or expected != whole, (layer.name, place)
        inside += all(first >= 0 and end <= side for first, end in box_of(layer.field, places[0]))
    assert inside >= least


def test_known_receptive_fields() -> None:
    fields = [c.field for c in layers_of("alexnet")]
    assert fields[0] == Field((7, 7), (1, 1), (-3, -3), (16, 16))
    assert [f.size[0] for f in fields] == [7, 16, 26]
    whole = torchvision.models.resnet18(weights=None)
    narrow = find_layers(narrow_resnet18(), torch.zeros(1, 3, 64, 64))
    assert [(c.name, c.field) for c in find_layers(whole, torch.zeros(1, 3, 64, 64))] == [
        (c.name, c.field) for c in narrow
    ]
    assert narrow[-1].field.size == (435, 435)


def test_a_field_that_cannot_be_followed_is_none() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.interpolate(self.first(x), scale_factor=0.75))

    first, second = find_layers(Mixed(), torch.zeros(1, 3, 16, 16))
    assert first.field.size == (3, 3)
    assert second.field is None
