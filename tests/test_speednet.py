"""speednet's pieces: whitening against a slow one, what is frozen, and how it begins."""

from __future__ import annotations

import torch
from torch import nn

from convscope.datasets.dataset import assemble
from convscope.datasets.shapes import load_shapes
from convscope.models.registry import build
from convscope.models.speednet import EPSILON, SpeedNet
from convscope.recipes import AUGMENTS, Optimizer
from convscope.training.batches import Batches
from convscope.training.loop import make_optimizer, prepare


def prepared(images: torch.Tensor) -> SpeedNet:
    network = build("speednet", 10, 32, {"width": 8}, seed=0)
    assert isinstance(network, SpeedNet)
    network.prepare(images)
    return network


def test_whitened_patches_have_the_identity_as_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 32, 32, generator=generator)
    images = (images + 2 * images.mean(1, keepdim=True)).cumsum(3) / 6  # neighbours and channels go together
    whiten = prepared(images).get_submodule("whiten")
    with torch.no_grad():
        out = whiten(images) - whiten.get_parameter("bias").detach()[:, None, None]
    flat = out[:, :12].permute(0, 2, 3, 1).reshape(-1, 12).double()
    covariance = flat.T @ flat / len(flat)
    patches = torch.nn.functional.unfold(images.double(), 2).permute(0, 2, 1).reshape(-1, 12)
    values = torch.linalg.eigvalsh(patches.T @ patches / len(patches))
    torch.testing.assert_close(covariance.diagonal(), values / (values + EPSILON), rtol=1e-4, atol=1e-5)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-4
    torch.testing.assert_close(out[:, :12], -out[:, 12:])


def test_a_constant_image_does_not_break_the_whitening() -> None:
    weight = prepared(torch.zeros(4, 3, 32, 32)).get_submodule("whiten").get_parameter("weight")
    assert weight.isfinite().all()


def test_what_is_frozen_gets_no_update_and_biases_learn_faster() -> None:
    network = build("speednet", 10, 32, {"width": 8}, seed=0)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    norms = {f"norm{stage}_{place}.weight" for stage in (1, 2, 3) for place in (1, 2)}
    assert frozen == {"whiten.weight"} | norms
    assert all((p == 1).all() for name, p in network.named_parameters() if name in norms)
    for kind, factor in (("sgd", 1.0), ("muon", 7.0)):
        groups = make_optimizer(network, Optimizer(kind, lr=0.1)).param_groups
        scales = {id(p): group["scale"] for group in groups for p in group["params"]}
        assert len(scales) == sum(p.requires_grad for p in network.parameters())
        assert scales[id(network.get_parameter("norm1_1.bias"))] == 64 * factor
        assert scales[id(network.get_parameter("fc.weight"))] == factor
        assert scales[id(network.get_parameter("conv2_1.weight"))] == 1.0


def test_filters_begin_as_the_identity() -> None:
    network = build("speednet", 10, 32, {"width": 32}, seed=0)
    maps = torch.rand(2, 24, 16, 16)
    torch.testing.assert_close(network.get_submodule("conv1_1")(maps)[:, :24], maps)


def test_pools_stand_before_norms_and_a_larger_image_has_more_stages() -> None:
    names = list(dict(build("speednet", 10, 64, {"width": 8}, seed=0).named_children()))
    assert names[:5] == ["whiten", "act0", "conv1_1", "pool1", "norm1_1"]
    assert "conv4_2" in names
    assert "conv4_1" not in dict(build("speednet", 10, 32, seed=0).named_children())


def test_the_loop_shows_it_the_same_training_images_each_time() -> None:
    data = assemble(load_shapes(60))
    batches = Batches(data, data.subset("train"), 16, 0, AUGMENTS["strong"], torch.device("cpu"))
    networks = [build("speednet", 6, 32, {"width": 8}, seed=0) for _ in range(2)]
    before = networks[0].get_submodule("whiten").get_parameter("weight").clone()
    for network in networks:
        prepare(network, batches)
    first, second = (n.get_submodule("whiten").get_parameter("weight") for n in networks)
    assert torch.equal(first, second)
    assert not torch.equal(first, before)
    prepare(nn.Linear(1, 1), batches)  # a network that wants nothing is left alone
