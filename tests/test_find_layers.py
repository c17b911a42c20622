"""Layers of any network: what they are called, where their values pass, and how much of the image they see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import UnknownName, UsageError
from convscope.explanation.crops import crop_box, cut, effective_field
from convscope.explanation.layers import find_layers
from convscope.models.registry import build
from convscope.models.taps import count_hooks, reach
from lively import lively


def network_of(name: str, side: int, **options: object) -> nn.Module:
    network = build(name, 4, side, options, seed=0).eval()
    return lively(network)


def noise(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(2))


class Twice(nn.Module):
    """One convolution used twice, with a norm of its own each time, and ReLUs that work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.norm1(self.conv(x)))
        x = x + self.relu(self.norm2(self.conv(x)))
        return self.fc(self.pool(x).flatten(1))


class Tokens(nn.Module):
    """Outputs vectors, tuples and tokens beside maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 4, stride=4), nn.LayerNorm(4)
        self.attention, self.fc = nn.MultiheadAttention(4, 1, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        return self.fc(self.attention(tokens, tokens, tokens)[0].mean(1))


@pytest.mark.parametrize(
    ("name", "side", "count", "first"),
    [
        ("alexnet", 16, 3, ["conv1", "conv2", "conv3"]),
        ("resnet20", 16, 19, ["conv1", "layer1.0.conv1", "layer1.0.conv2"]),
        ("speednet", 16, 5, ["whiten", "conv1_1", "conv1_2"]),
        ("torchvision:resnet18", 32, 20, ["conv1", "layer1.0.conv1", "layer1.0.conv2"]),
        ("timm:efficientnet_b0", 64, 49, ["conv_stem", "blocks.0.0.conv_dw", "blocks.0.0.conv_pw"]),
    ],
)
def test_every_convolution_is_a_layer(name: str, side: int, count: int, first: list[str]) -> None:
    network = network_of(name, side)
    layers = find_layers(network, noise(side, 1))
    assert [layer.name for layer in layers][:3] == first
    assert len(layers) == count
    assert count_hooks(network) == 0


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "torchvision:resnet18", "timm:efficientnet_b0", "speednet"])
def test_a_value_is_that_of_convolution_and_norm_before_the_activation(name: str) -> None:
    side = 32
    network = network_of(name, side)
    modules, images = dict(network.named_modules()), noise(side)
    with torch.no_grad():
        for layer in find_layers(network, images[:1])[:6]:
            conv = modules[str(layer.convolution)]
            given = reach(network, images, [type(layer.tap)(str(layer.convolution), at_input=True)])[0]
            by_hand = F.conv2d(given, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
            if layer.name.endswith("_1") and name == "speednet":
                by_hand = F.max_pool2d(by_hand, 2)  # it pools before its norm
            if layer.norm is not None:
                norm = modules[layer.norm]
                by_hand = F.batch_norm(
                    by_hand, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
                )
            assert torch.allclose(reach(network, images, [layer.tap])[0], by_hand, atol=1e-5), layer.name


def test_a_convolution_used_twice_is_two_layers() -> None:
    network = Twice().eval()
    layers = {layer.name: layer for layer in find_layers(network, noise(8, 1))}
    assert list(layers) == ["stem", "conv", "conv@2"]
    assert [layers[n].norm for n in layers] == [None, "norm1", "norm2"]
    assert [layers[n].below for n in layers] == [None, "stem", "conv"]


def test_the_layer_below_is_named_only_where_its_filters_are_the_channels() -> None:
    layers = {layer.name: layer.below for layer in find_layers(network_of("torchvision:resnet18", 32), noise(32, 1))}
    assert layers["layer1.0.conv1"] == "conv1"
    assert layers["layer1.0.conv2"] == "layer1.0.conv1"
    assert layers["layer1.1.conv1"] is None  # a sum, added in place to what conv2 output


def test_what_is_not_there_or_outputs_no_maps_is_one_sentence() -> None:
    network = network_of("alexnet", 16)
    with pytest.raises(UnknownName, match=r"no layer named 'conv4'. Did you mean 'conv"):
        find_layers(network, noise(16, 1), ["conv4"])
    with pytest.raises(UsageError, match=r"fc4 outputs \(1, 512\), and a layer outputs maps .* conv1, conv2, conv3"):
        find_layers(network, noise(16, 1), ["fc4"])
    with pytest.raises(UsageError, match=r"norm outputs \(1, 16, 4\)"):
        find_layers(Tokens().eval(), noise(16, 1), ["norm"])
    with pytest.raises(UsageError, match=r"attention outputs \(1, 16, 4\)"):
        find_layers(Tokens().eval(), noise(16, 1), ["attention"])
    with pytest.raises(UsageError, match="no convolution"):
        find_layers(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), noise(4, 1))


def test_any_module_that_outputs_maps_is_a_layer_when_asked_for() -> None:
    (layer,) = find_layers(network_of("resnet20", 16), noise(16, 1), ["layer2"])
    assert (layer.name, layer.filters, layer.places, layer.convolution) == ("layer2", 32, (8, 8), None)
    (layer,) = find_layers(Tokens().eval(), noise(16, 1))
    assert (layer.name, layer.filters) == ("conv", 4)


# ------------------------------------------------------------------------------------------------ receptive fields


def dilated() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(4, 4, (3, 1), padding=(3, 0), dilation=(3, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def measured(network: nn.Module, layer, side: int, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of pixels that change a place's value: the gradient is not 0 for some image of many."""
    touched = torch.zeros(side, side)
    for seed in range(6):
        x = torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x.requires_grad_(True)
        value = reach(network, x, [layer.tap])[0][:, :, place[0], place[1]].sum()
        touched += torch.autograd.grad(value, x)[0].abs().sum((0, 1)).float()
    rows, columns = touched.sum(1).nonzero()[:, 0], touched.sum(0).nonzero()[:, 0]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@pytest.mark.parametrize(
    ("name", "side"),
    [("alexnet", 32), ("resnet20", 16), ("speednet", 16), ("torchvision:resnet18", 64), ("dilated", 24)],
)
def test_fields_are_those_that_gradients_measure(name: str, side: int) -> None:
    network = (dilated().eval() if name == "dilated" else network_of(name, side)).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                module.weight.abs_().add_(0.01)  # so that nothing cancels, and nothing is 0
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
    layers = find_layers(network, torch.zeros(1, 3, side, side, dtype=torch.float64))
    for layer in layers[:: max(1, len(layers) // 6)]:
        assert layer.field is not None
        for place in ((layer.places[0] // 2, layer.places[1] // 2), (0, layer.places[1] - 1)):
            start = [layer.field.start[a] + place[a] * layer.field.step[a] for a in (0, 1)]
            low = [max(0, s) for s in start]
            high = [min(side, s + size) for s, size in zip(start, layer.field.size, strict=True)]
            assert measured(network, layer, side, place) == (*low, *high), (layer.name, place)


def test_a_crop_is_the_field_and_what_lies_beyond_the_border_is_grey() -> None:
    (layer, *_) = find_layers(network_of("alexnet", 16), noise(16, 1))
    assert crop_box(layer, (0, 15), 16) == (-3, 12, 4, 19)
    image = torch.arange(16 * 16 * 3).remainder(100).to(torch.uint8).view(16, 16, 3).numpy()
    crop = cut(image, (-3, 12, 4, 19))
    assert crop.shape == (7, 7, 3)
    assert (crop[3:, :4] == image[:4, 12:]).all()
    assert (crop[:3] == 128).all()
    assert (crop[:, 4:] == 128).all()
    assert crop_box(layer, (3, 3), 6) == (0, 0, 6, 6)  # the field is larger than that


def test_the_effective_field_of_a_filter_that_looks_at_its_middle_is_small() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 9, padding=4, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    (layer,) = find_layers(network, noise(32, 1))
    assert effective_field(network, layer, noise(32)) == 9
    with torch.no_grad():
        network[0].weight.zero_()[:, :, 3:6, 3:6] = 1.0
    assert effective_field(network, layer, noise(32)) == 3
    assert count_hooks(network) == 0
