"""What the claims on augmented heads, near images and 50 layers measure, against slow or known answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convscope.datasets.registry import load_dataset
from convscope.studies.claims import fifty_layers
from convscope.studies.claims.nearer_images import distance, divergence
from convscope.studies.claims.pretrained_beats_scratch import _recorded
from convscope.studies.study_data import some_a_class


@pytest.mark.parametrize("save_memory", [False, True])
def test_a_step_takes_on_no_device_what_it_takes_on_a_processor(save_memory: bool) -> None:
    counts = [fifty_layers.step_bytes(2, 64, save_memory=save_memory, device=name) for name in ("meta", "cpu")]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


def test_computing_again_saves_two_fifths_of_the_activations() -> None:
    weights = 3 * 4 * 25_557_032  # of resnet50, with gradients and momentum
    kept, again = (fifty_layers.step_bytes(32, 224, save_memory=save) - weights for save in (False, True))
    assert 0 < again < 0.6 * kept


def test_the_divergence_of_a_normal_distribution_is_the_closed_form() -> None:
    norm = nn.BatchNorm2d(1, eps=0.0)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    maps = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 3 + 2
    one, other = torch.distributions.Normal(2.0, 3.0), torch.distributions.Normal(1.0, 2.0)
    assert float(divergence(maps, norm)) == pytest.approx(
        float(torch.distributions.kl_divergence(one, other)), abs=0.01
    )
    same = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 + 1
    assert float(divergence(same, norm)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_noise_is_further_from_imagenet_than_smooth_images() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (16, 3, 32, 32), generator=random, dtype=torch.uint8)
    coarse = torch.rand(16, 3, 5, 5, generator=random) * 160 + 48
    smooth = nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)
    far, near = (distance(images, 64) for images in (noise, smooth))
    assert math.isfinite(far)
    assert near < far


@pytest.mark.slow
def test_copies_come_behind_the_images_and_differ_from_them() -> None:
    data = some_a_class(load_dataset("digits", limit=300), 1, 2)
    index = data.subset("train")
    plain = _recorded(data, index, "lite0", 64)
    varied = _recorded(data, index, "lite0", 64, copies=2, seed=1)
    assert varied.shape == (3, *plain.shape[1:])
    assert torch.allclose(varied[0], plain[0], atol=1e-4)
    assert not torch.allclose(varied[1], plain[0], atol=1e-2)
    assert not torch.allclose(varied[1], varied[2], atol=1e-2)
