"""The lecture's rules against tables that keep or break them."""

from __future__ import annotations

import torchvision
from torch import nn

from convscope.models.design_rules import broken_rules
from convscope.models.layer_table import ledger
from convscope.models.registry import build


def rules(network: nn.Module, image_size: int = 32) -> tuple[str, ...]:
    return broken_rules(ledger(network, image_size), image_size)


def test_a_network_that_keeps_them_all_has_nothing_said_against_it() -> None:
    assert rules(build("resnet20", 10, 32, seed=0)) == ()
    assert rules(build("resnet", 10, 32, {"stem": "small"}, seed=0)) == ()


def test_the_lectures_networks() -> None:
    alexnet = rules(build("alexnet", 10, 32, seed=0))
    assert [rule.split(":")[0] for rule in alexnet] == ["conv1", "conv2", "conv3", "fc4"]
    assert "with 27 weights instead of 49" in alexnet[0]
    assert "sees 26 of the image's 32 px" in alexnet[2]
    assert "hold 82 % of the parameters" in alexnet[3]
    lecture = rules(build("resnet", 10, 32, seed=0))
    assert any(
        rule.startswith("conv1 and maxpool: a stem of stride 4 on 32 px discards 15/16 of the positions")
        for rule in lecture
    )
    assert not any("stem" in rule for rule in rules(build("resnet", 10, 224, seed=0), 224)), "large images bear it"


def test_a_pool_without_doubling_is_told_with_its_stage() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 48, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.Conv2d(48, 96, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10)),
    )
    assert rules(network) == ("5: pool without doubling channels at stage 3: 32 at 16 px, 48 at 8 px",)


def test_networks_of_others_and_of_no_convolutions() -> None:
    assert rules(torchvision.models.vgg16(weights=None), 224)[0].startswith("features.24: pool without doubling")
    assert rules(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10), nn.Linear(10, 10))) == ()
