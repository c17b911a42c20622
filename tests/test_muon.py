"""Muon against slow, obvious ones: the iteration in float64, SVD, and torch's SGD."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convscope.models.registry import build
from convscope.recipes import Optimizer
from convscope.training.loop import make_optimizer
from convscope.training.muon import Muon, orthogonal
from slow_steps import newton_schulz


@pytest.mark.parametrize("shape", [(64, 216), (32, 288), (100, 30), (1, 9), (12, 12)])
def test_the_iteration_is_the_published_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(matrix).double(), newton_schulz(matrix, 3), rtol=1e-4, atol=1e-5)


def test_singular_values_go_near_one_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(40, 16, generator=generator))
    spread = torch.linspace(0.2, 1.0, 16)
    result = orthogonal(left @ spread.diag() @ right.T)
    values = (left.T @ result @ right).diagonal()
    assert ((values > 0.5) & (values < 1.25)).all()
    torch.testing.assert_close(left @ values.diag() @ right.T, result, rtol=1e-4, atol=1e-5)


def test_a_gradient_of_zeros_moves_nothing_and_breaks_nothing() -> None:
    assert torch.equal(orthogonal(torch.zeros(4, 9)), torch.zeros(4, 9))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_update_has_the_size_of_the_rate_and_keeps_the_norm(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(16, 8, 3, 3, generator=generator).contiguous(memory_format=layout))
    before = weight.detach().clone()
    weight.grad = torch.randn(16, 8, 3, 3, generator=generator).contiguous(memory_format=layout)
    optimizer = Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.1}], lr=0.05, momentum=0.6)
    optimizer.step()
    assert weight.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    assert ((weight - before).norm() / before.norm()).item() == pytest.approx(0.05, rel=0.2)
    direction = orthogonal(weight.grad.reshape(16, -1)).reshape(weight.shape)
    moved = before - direction * 0.05 * before.norm() / 4
    torch.testing.assert_close(weight.detach(), moved * before.norm() / moved.norm(), rtol=1e-4, atol=1e-5)


def test_without_orthogonal_it_is_torchs_nesterov_sgd() -> None:
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = Muon([{"params": list(ours.parameters()), "weight_decay": 0.01}], lr=0.1, momentum=0.8)
    peer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01)
    for seed in range(4):
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
        for network, optimizer in ((ours, mine), (theirs, peer)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_filters_are_made_orthogonal_and_the_last_layer_and_vectors_are_not() -> None:
    network = build("alexnet", 10, 32, {"width": 8}, seed=0)
    groups = make_optimizer(network, Optimizer("muon", lr=0.05)).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    made = {names[id(p)] for group in groups if group["orthogonal"] for p in group["params"]}
    assert made == {"conv1.weight", "conv2.weight", "conv3.weight", "fc4.weight", "fc5.weight"}
    assert sum(len(group["params"]) for group in groups) == len(names)
