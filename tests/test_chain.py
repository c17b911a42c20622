"""A network as a chain of factors: which places everything passes through, on networks of many makes."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convscope.diagnosis.chain import find_chain, segments
from convscope.errors import UnknownName, UsageError
from convscope.models.registry import build
from convscope.models.taps import Tap, count_hooks


class Residual(nn.Module):
    """x + F(x), then an activation that works in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        out += x
        return self.act(out)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = self.layer(torch.tanh(self.layer(x)))
        return {"logits": self.head(x.mean((2, 3))), "maps": x}


class Around(nn.Module):
    """A skip of the whole network's own: nothing but the head is passed by everything."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.two = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        return self.head((self.two(y) + torch.sin(y) + x).mean((2, 3)))


class Needy(nn.Module):
    def forward(self, x: Tensor, temperature: float) -> Tensor:
        return x / temperature


class Halves(nn.Module):
    """A module whose output is split, and both halves are used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return self.head((a * b).mean((2, 3)))


def random_images(side: int = 16) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def names(network: nn.Module, side: int = 16) -> list[str]:
    return [factor.name for factor in find_chain(network, random_images(side))]


def test_a_plain_network_is_its_layers():
    assert names(build("alexnet", 3, 16, {"width": 4}, seed=0).eval()) == [
        "conv1", "conv2", "conv3", "fc4", "fc5", "fc6",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["plain20", "resnet20"])
def test_a_residual_network_and_its_plain_twin_have_the_same_factors(name: str):
    found = find_chain(build(name, 3, 16, {"width": 4}, seed=0).eval(), random_images())
    blocks = [f"layer{stage}.{place}" for stage in (1, 2, 3) for place in (0, 1, 2)]
    assert [factor.name for factor in found] == ["conv1", *blocks, "linear"]
    skips = [factor.name for factor in found if factor.total is not None]
    same_size = [b for b in blocks if b not in ("layer2.0", "layer3.0")]
    assert skips == (same_size if name == "resnet20" else [])


@pytest.mark.parametrize(
    ("name", "side", "factors", "skips"),
    [("resnet18", 64, 10, 5), ("resnet50", 64, 18, 12), ("vgg11", 64, 11, 0), ("timm:convnext_atto", 64, 17, 12)],
)
def test_networks_of_others(name: str, side: int, factors: int, skips: int):
    network = build(name, 3, side, seed=0).eval()
    found = find_chain(network, random_images(side))
    assert (len(found), sum(factor.total is not None for factor in found)) == (factors, skips)
    assert count_hooks(network) == 0
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_segments_join_and_end_at_their_inputs():
    layers = {"first": nn.Conv2d(3, 4, 3, padding=1), "block": Residual(4), "pool": nn.AdaptiveAvgPool2d(1)}
    network = nn.Sequential(OrderedDict(layers | {"flat": nn.Flatten(), "head": nn.Linear(4, 2)}))
    images = random_images()
    cuts = segments(network, find_chain(network, images), images)
    assert [cut.factor.name for cut in cuts] == ["first", "block", "head"]
    for before, after in itertools.pairwise(cuts):
        assert torch.equal(before.y, after.x)
        assert after.x.is_leaf
    assert torch.equal(cuts[-1].y, network(images))
    total = cuts[1].total
    assert total is not None
    assert torch.equal(total.relu(), cuts[1].y)
    assert (total < 0).any()  # as it was before the activation, which works in place


def test_a_block_whose_output_is_the_sum():
    class Plain(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(self.act(x.clone()))

    network = nn.Sequential(nn.Conv2d(3, 4, 1), Plain(4), nn.Flatten(), nn.Linear(4 * 256, 2))
    assert find_chain(network, random_images())[1].total == Tap("1")


def test_a_module_used_twice_and_a_dict_of_outputs():
    network = Twice()
    assert names(network) == ["layer", "layer (call 2)", "head"]
    cuts = segments(network, find_chain(network, random_images()), random_images())
    assert cuts[-1].y.shape == (2, 2)


def test_a_network_with_a_skip_around_everything_is_one_factor():
    network = Around()
    assert names(network) == ["head"]
    with pytest.raises(UsageError, match=r"not everything passes through 'one'"):
        find_chain(network, random_images(), ["one"])


def test_a_split_output_is_no_place_that_everything_passes():
    assert names(Halves()) == ["conv", "head"]


def test_named_modules_in_their_order():
    network = build("plain20", 3, 16, {"width": 4}, seed=0).eval()
    found = find_chain(network, random_images(), ["layer1.0", "layer1.2"])
    assert [factor.name for factor in found] == ["layer1.0", "layer1.2", "the rest"]
    assert len(segments(network, found, random_images())) == 3
    with pytest.raises(UsageError, match=r"'layer1.0' comes before 'layer1.2'"):
        find_chain(network, random_images(), ["layer1.2", "layer1.0"])
    with pytest.raises(UnknownName, match=r"layer1\.9"):
        find_chain(network, random_images(), ["layer1.9"])
    with pytest.raises(UsageError, match=r"does not call 'layer1.0' 2 times"):
        find_chain(network, random_images(), ["layer1.0", "layer1.0"])


def test_a_network_that_needs_more_than_images_is_told():
    with pytest.raises(UsageError, match=r"Needy could not be called with one batch of images.*temperature"):
        find_chain(Needy(), random_images())


def test_a_network_that_depends_on_nothing_is_told():
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2)

    with pytest.raises(UsageError, match="does not depend on its images"):
        find_chain(Constant(), random_images())


def test_a_network_without_an_answer_is_told():
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    with pytest.raises(UsageError, match="outputs no tensor"):
        find_chain(Silent(), random_images())
