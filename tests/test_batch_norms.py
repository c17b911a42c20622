"""A batch norm at work: the lecture's formulas against torch, and what small batches do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convscope.diagnosis.batch_norms import batch_norms, look_at_norm
from convscope.errors import UnknownName, UsageError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    norm = made[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 3.0]))
    made(torch.randn(16, 3, 8, 8))
    return made.train()


def test_the_formulas_are_what_torch_outputs():
    made, images = network(), 2 * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2)) + 1
    found = look_at_norm(made, "1", 1, images)
    norm = made[1]
    assert isinstance(norm, nn.BatchNorm2d)
    x = made[0](images).detach()[:, 1]
    assert found.off < 1e-5
    assert found.mean == pytest.approx(float(x.mean()), rel=1e-4)
    assert found.scale == pytest.approx(float((x.var(correction=0) + norm.eps).sqrt()), rel=1e-4)
    assert (found.gamma, found.delta, found.channels) == (2.0, 1.0, 4)
    norm.train()
    after = norm(made[0](images)).detach()[:, 1].flatten()
    torch.testing.assert_close(found.after, after, rtol=1e-4, atol=1e-4)
    assert made.training  # left in the mode it was in


def test_the_running_statistics_stay_as_they_were():
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    look_at_norm(made, "1", 0, torch.randn(8, 3, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


def test_small_batches_are_noisy_and_the_whole_is_not():
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    images = images + torch.linspace(-2, 2, 64)[:, None, None, None]  # images differ in brightness
    rows = look_at_norm(network(), "1", 0, images).batches
    assert [row.size for row in rows] == [1, 2, 8, 64]
    assert rows[0].noise > rows[1].noise > rows[2].noise > 0.01
    assert rows[3].noise == pytest.approx(0, abs=1e-6)
    assert rows[3].mean_spread == pytest.approx(0, abs=1e-6)


def test_what_there_is_not_is_told():
    made = network()
    assert batch_norms(made) == ["1"]
    with pytest.raises(UnknownName, match="no batch norm named '0'"):
        look_at_norm(made, "0", 0, torch.randn(2, 3, 8, 8))
    with pytest.raises(UsageError, match="channels 0 to 3, not 4"):
        look_at_norm(made, "1", 4, torch.randn(2, 3, 8, 8))
