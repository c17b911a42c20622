"""Activations computed again: the same gradients and statistics, in less memory, on any network with sequences."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torchvision
from torch import nn

from convscope.errors import UsageError
from convscope.models.recomputing import _groups, activation_bytes, recomputing
from convscope.models.registry import MODELS, build, options_of

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def narrow(name: str) -> nn.Module:
    options = {"width": 8, "dropout": 0.3}
    return build(name, 10, 32, {k: v for k, v in options.items() if k in options_of(name)}, seed=0)


def trained(network: nn.Module, save_memory: bool, bfloat16: bool = False) -> nn.Module:
    """The network after one forward and backward pass in training, dropout drawn from the same seed."""
    network = deepcopy(network).train()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), recomputing(network, save_memory):
            out = network(IMAGES)
        out.float().square().mean().backward()
    return network


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_statistics_are_the_same(name: str) -> None:
    network = narrow(name)
    plain, saving = trained(network, False), trained(network, True)
    for (parameter_name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if a.requires_grad:
            scale = a.grad.abs().max().clamp_min(1e-30)
            assert ((a.grad - b.grad).abs().max() / scale).item() <= 1e-6, parameter_name
    for (buffer_name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), buffer_name


def test_in_bfloat16_too() -> None:
    network = narrow("resnet20")
    plain, saving = trained(network, False, bfloat16=True), trained(network, True, bfloat16=True)
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(("name", "share"), [("resnet110", 0.2), ("plain56", 0.3), ("vgg", 0.8), ("speednet", 0.8)])
def test_it_takes_less_memory(name: str, share: float) -> None:
    network = build(name, 10, 32, seed=0)
    plain, saving = (activation_bytes(deepcopy(network), IMAGES, save) for save in (False, True))
    assert saving <= share * plain


def test_blocks_of_one_kind_are_joined_so_that_least_is_kept() -> None:
    def groups(*units: nn.Module) -> list[int]:
        return [len(group) for group in _groups(nn.Sequential(*units))]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

    class Other(Block):
        pass

    blocks, others = [Block() for _ in range(36)], [Other() for _ in range(16)]
    assert groups(*blocks) == [3] * 12
    assert groups(*blocks[:8]) == [1] * 8
    assert groups(*blocks[:17]) == [2] * 8 + [1]
    assert groups(*blocks[:16], *others) == [2] * 16
    assert groups(*blocks[:16], nn.ReLU(), *blocks[16:]) == [1] * 15 + [2] + [2] * 10
    assert groups(*(nn.Linear(4, 4) for _ in range(36))) == [1] * 36  # layers of any sizes, as VGG's are


def test_the_measure_against_a_known_answer() -> None:
    network = nn.Sequential(*(nn.Sequential(nn.Linear(100, 100, bias=False), nn.Sigmoid()) for _ in range(50)))
    x = torch.rand(64, 100)
    one = x.numel() * 4
    kept = activation_bytes(network, x)  # the sum and the sigmoid of each layer; sums are not needed afterwards
    assert 50 * one <= kept <= 56 * one
    assert activation_bytes(network, x, save_memory=True) <= 56 * one


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_networks_of_others_are_cut_too(name: str) -> None:
    network = torchvision.models.get_model(name, weights=None, num_classes=10)
    plain, saving = trained(network, False), trained(network, True)
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)
    for a, b in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_left_changed_even_after_an_error() -> None:
    network = narrow("resnet20")
    with pytest.raises(RuntimeError), recomputing(network):
        network(torch.rand(1, 5, 32, 32))
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_network_without_sequences_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Conv2d has no nn\.Sequential"), recomputing(nn.Conv2d(3, 1, 3)):
        pass
    with recomputing(nn.Conv2d(3, 1, 3), enabled=False):
        pass
