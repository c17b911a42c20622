"""Narrow projection shortcuts, which torch's own convolution can neither train safely nor rightly."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from convscope.models.onednn_fault import StridedPointwise, without_the_fault
from convscope.models.registry import build

CRASHES_WITHOUT = """
import torch
from convscope.models.architecture import Architecture
torch.set_num_threads(2)
network = Architecture("resnet", 32, {"width": 12, "stem": "small"}).build(10)
images = torch.rand(31, 3, 32, 32).contiguous(memory_format=torch.channels_last)
for _ in range(8):
    network(images).sum().backward()
    junk = [torch.empty(n).fill_(1) for n in range(1000, 50000, 997)]
print("whole")
"""


def test_a_narrow_residual_net_trains_on_two_threads() -> None:
    """In a process of its own: without the way around it ends in a segmentation fault or an abort."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", CRASHES_WITHOUT], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr[-500:]


@pytest.mark.parametrize("channels", [3, 8, 15])
@pytest.mark.parametrize(
    ("stride", "groups", "bias"), [(2, 1, True), (3, 1, False), ((1, 2), 1, True), (2, "all", True)]
)
def test_the_same_numbers_as_the_plain_definition(
    channels: int, stride: int | tuple[int, int], groups: int | str, bias: bool
) -> None:
    """Values and gradients against torch's convolution in float64, which another path computes."""
    grouped = channels if groups == "all" else 1
    conv = nn.Conv2d(channels, 2 * channels, 1, stride, groups=grouped, bias=bias)
    oracle = nn.Conv2d(channels, 2 * channels, 1, stride, groups=grouped, bias=bias).double()
    oracle.load_state_dict(conv.state_dict())
    conv = without_the_fault(conv.to(memory_format=torch.channels_last))
    assert type(conv) is StridedPointwise
    images = torch.randn(7, channels, 9, 10).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = images.detach().double().contiguous().requires_grad_()
    ours, theirs = conv(images), oracle(exact)
    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights.double()).sum().backward()
    assert images.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)
    for mine, exactly in zip(conv.parameters(), oracle.parameters(), strict=True):
        assert mine.grad is not None
        assert exactly.grad is not None
        torch.testing.assert_close(mine.grad.double(), exactly.grad, rtol=1e-4, atol=1e-4)


def test_only_what_meets_the_fault_is_changed() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 15, 1, 2),
        nn.Conv2d(15, 16, 3, 2),
        nn.Conv2d(16, 16, 1, 2),
        nn.Conv2d(16, 8, 1),
        nn.Conv2d(8, 8, 1, 2, 1),
    )
    names = list(network.state_dict())
    kinds = [type(layer) for layer in without_the_fault(network)]
    assert kinds == [StridedPointwise, *[nn.Conv2d] * 4]
    assert list(network.state_dict()) == names


def test_every_network_that_is_built_is_without_it() -> None:
    narrow = build("resnet20", 10, 32, {"width": 8, "shortcut": "projection"}, seed=0)
    assert [type(layer) for layer in narrow.modules()].count(StridedPointwise) == 1  # 8 to 16; 16 to 32 is sound


class Shared(nn.Module):
    """One such layer under two names, with a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1, 2)
        self.again = self.first
        self.first.register_forward_hook(lambda module, args, output: output + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.first(x))


def test_a_shared_layer_stays_one_and_keeps_its_hooks_and_parameters() -> None:
    network, images = Shared().eval(), torch.randn(2, 4, 8, 8)
    before, parameters, expected = list(network.state_dict()), list(network.parameters()), network(images)
    drawn = torch.get_rng_state()
    assert without_the_fault(network) is network
    assert torch.equal(torch.get_rng_state(), drawn)
    assert network.first is network.again
    assert type(network.first) is StridedPointwise
    assert not network.first.training
    assert list(network.state_dict()) == before
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(copy.deepcopy(network)(images), expected)
