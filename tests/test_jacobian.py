"""Jacobians by products alone, against the whole matrix in float64, and against numbers known on paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from convscope.diagnosis.chain import find_chain, segments
from convscope.diagnosis.gradients import gradients, ready
from convscope.diagnosis.jacobian import Jacobians, Spectrum, jacobians
from convscope.errors import UsageError
from convscope.models.registry import build
from convscope.models.taps import count_hooks


class Skip(nn.Module):
    """x + F(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def linear(matrix: Tensor) -> nn.Linear:
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=matrix.dtype)
    with torch.no_grad():
        layer.weight.copy_(matrix)
    return layer


def random(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(network: nn.Module, images: Tensor) -> Jacobians:
    return jacobians(network, find_chain(network, images), images)


def check(found: Spectrum, matrix: Tensor) -> None:
    values = torch.linalg.svdvals(matrix)
    for ours, theirs in zip(found.largest, values.tolist(), strict=False):
        assert ours == pytest.approx(theirs, rel=1e-6)
    assert found.frobenius == pytest.approx(float(matrix.norm()), rel=6 * found.error / found.frobenius + 1e-9)
    assert (found.inputs, found.outputs) == (matrix.shape[1], matrix.shape[0])
    gradients_NO = random(20_000, matrix.shape[0], 9)  # random ones, on their way back
    back = (gradients_NO @ matrix).norm() / gradients_NO.norm()
    assert found.gain == pytest.approx(float(back), rel=6 * found.error / found.frobenius + 0.03)


def test_a_linear_network_has_the_singular_values_of_its_matrices():
    matrices = [random(20, 12, 1), random(30, 20, 2), random(7, 30, 3)]
    network = nn.Sequential(nn.Flatten(), *(linear(m) for m in matrices))
    found = measured(network, random(3, 12, 4).reshape(3, 3, 2, 2))
    assert len(found.factors) == 3
    for factor, matrix in zip(found.factors, matrices, strict=True):
        check(factor.whole, matrix)
    whole = matrices[2] @ matrices[1] @ matrices[0]
    check(found.end_to_end, whole)
    assert found.bound == pytest.approx(math.prod(float(torch.linalg.matrix_norm(m, 2)) for m in matrices), rel=1e-6)
    assert found.end_to_end.norm <= found.bound
    assert found.factors[0].whole.least == pytest.approx(float(torch.linalg.svdvals(matrices[0])[-1]), rel=1e-6)


def test_a_linear_residual_network():
    branches = [0.3 * random(12, 12, seed) / math.sqrt(12) for seed in (1, 2, 3)]
    network = nn.Sequential(
        nn.Flatten(), linear(torch.eye(12, dtype=torch.float64)), *(Skip(linear(b)) for b in branches)
    )
    found = measured(network, random(2, 12, 4).reshape(2, 3, 2, 2))
    eye = torch.eye(12, dtype=torch.float64)
    assert found.factors[0].branch is None
    for factor, branch in zip(found.factors[1:], branches, strict=True):
        assert factor.branch is not None
        assert factor.total is not None
        check(factor.branch, branch)
        check(factor.total, eye + branch)
        assert factor.total.least == pytest.approx(float(torch.linalg.svdvals(eye + branch)[-1]), rel=1e-6)
    check(found.end_to_end, (eye + branches[2]) @ (eye + branches[1]) @ (eye + branches[0]))


def test_a_convolution_that_doubles_and_a_rectifier_that_halves_known_on_paper():
    """A 1x1 convolution that doubles each channel stretches everything by 2, a block that adds it by 3."""
    double = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        double.weight.copy_(2 * torch.eye(3)[:, :, None, None])
    network = nn.Sequential(double, Skip(double), nn.Flatten(), nn.Linear(48, 2))
    found = measured(network, torch.randn(2, 3, 4, 4)).factors
    assert found[0].whole.largest == pytest.approx([2.0] * 5, rel=1e-4)
    assert found[0].whole.least == pytest.approx(2.0, rel=1e-2)
    assert found[0].whole.frobenius == pytest.approx(2 * math.sqrt(48), rel=1e-4)
    assert found[0].whole.gain == pytest.approx(2.0, rel=1e-4)
    assert found[1].branch is not None
    assert found[1].total is not None
    assert (found[1].branch.norm, found[1].total.norm) == (pytest.approx(2.0, rel=1e-4), pytest.approx(3.0, rel=1e-4))
    assert found[1].total.least == pytest.approx(3.0, rel=1e-2)


def test_it_tells_each_factor_before_it_is_measured():
    network, images = nn.Sequential(nn.Flatten(), linear(random(20, 12, 1)), linear(random(7, 20, 2))), random(3, 12, 4)
    images, told = images.reshape(3, 3, 2, 2), list[tuple[str, int, int]]()
    chain = find_chain(network, images)
    jacobians(network, chain, images, progress=lambda *said: told.append(said))
    names = [*(f"Jacobians, {factor.name}" for factor in chain), "Jacobians, end to end"]
    assert told == [(name, number, len(names)) for number, name in enumerate(names)]


@pytest.mark.parametrize("name", ["alexnet", "resnet20", "plain20"])
def test_every_factor_against_its_whole_matrix(name: str):
    network = build(name, 3, 8, {"width": 2}, seed=0).double()
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ready(network, images)
    chain = find_chain(network, images)
    found = jacobians(network, chain, images[:1], vectors=2)
    cuts = segments(network, chain, images[:1])
    names = [f.name for f in chain]
    for number in (0, 1, len(chain) - 1):
        cut = cuts[number]
        rows = [
            torch.autograd.grad(cut.y.flatten()[i], cut.x, retain_graph=True)[0].flatten() for i in range(cut.y.numel())
        ]
        values = torch.linalg.svdvals(torch.stack(rows))
        assert found.factors[number].whole.norm == pytest.approx(float(values[0]), rel=1e-6), names[number]
    whole = jacobian(network, images[:1]).reshape(3, -1)
    assert found.end_to_end.norm == pytest.approx(float(torch.linalg.svdvals(whole)[0]), rel=1e-6)
    assert found.end_to_end.norm <= found.bound
    assert count_hooks(network) == 0


def test_float32_is_near_float64():
    network = build("resnet20", 3, 8, {"width": 2}, seed=0)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    ready(network, images)
    rough = measured(network, images[:2])
    exact = measured(network.double(), images[:2].double())
    for ours, theirs in zip(rough.factors, exact.factors, strict=True):
        assert ours.whole.norm == pytest.approx(theirs.whole.norm, rel=0.02)
        if ours.total is not None and theirs.total is not None:
            assert theirs.total.least <= ours.total.least * 1.001  # the least comes out from above
            assert ours.total.least < 0.3 * ours.total.norm


@pytest.mark.parametrize("name", ["alexnet", "plain20", "resnet20", "speednet"])
def test_the_gradients_of_the_factors_multiply_to_the_undivided_one(name: str):
    network = ready(build(name, 3, 16, {"width": 4}, seed=0))
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8) % 3
    found = gradients(network, find_chain(network, images[:2]), images, labels)
    assert found.off < 1e-5
    assert found.reach == pytest.approx(found.norms[0] / found.norms[-1], rel=1e-9)
    assert found.typical ** len(found.names) == pytest.approx(found.reach, rel=1e-6)
    weights = {w.name: w for w in found.weights}
    logits = network(images)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    for key, parameter in network.named_parameters():
        if parameter.ndim > 1 and parameter.requires_grad:
            assert parameter.grad is not None
            assert weights[key].gradient == pytest.approx(float(parameter.grad.norm()), rel=1e-4)
            assert weights[key].relative == pytest.approx(
                float(parameter.grad.norm() / parameter.detach().norm()), rel=1e-4
            )


def test_gradients_that_die_are_zero_and_not_an_error():
    dead = nn.Conv2d(3, 3, 1)
    nn.init.constant_(dead.weight, -1)
    nn.init.constant_(dead.bias, -100)
    network = nn.Sequential(dead, nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    images = torch.rand(2, 3, 4, 4)
    found = gradients(network, find_chain(network, images), images, torch.tensor([0, 1]))
    assert (found.reach, found.typical, found.norms[0]) == (0, 0, 0)
    assert found.weights[0].relative == 0


def test_a_map_that_cannot_be_differentiated_twice_is_named():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[override]
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):  # type: ignore[override]
            return 2 * gradient

    class Layer(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(super().forward(x))  # type: ignore[no-any-return]

    network = nn.Sequential(Layer(3, 3, 1), nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(UsageError, match="0 cannot be differentiated twice"):
        measured(network, torch.randn(1, 3, 4, 4))
