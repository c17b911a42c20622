"""The residual networks: their plan, their twins, and the published weights' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convscope.errors import DamagedFile, UsageError
from convscope.models.architecture import load_weight_file
from convscope.models.registry import build
from convscope.models.resnet import Block, cifar_resnet

DEPTHS = (20, 32, 44, 56, 110)
# He et al. 2016, table 6: millions of parameters.
PUBLISHED = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


def published_names(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the usual CIFAR-10 weights with option A, written down from their description."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (16, 3, 3, 3)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)

    norm("bn1", 16)
    channels = 16
    for stage, filters in enumerate((16, 32, 64), start=1):
        for place in range((layers - 2) // 6):
            block = f"layer{stage}.{place}"
            shapes[f"{block}.conv1.weight"] = (filters, channels, 3, 3)
            shapes[f"{block}.conv2.weight"] = (filters, filters, 3, 3)
            norm(f"{block}.bn1", filters)
            norm(f"{block}.bn2", filters)
            channels = filters
    return shapes | {"linear.weight": (10, 64), "linear.bias": (10,)}


@pytest.mark.parametrize("layers", DEPTHS)
def test_depth_and_size_are_the_papers(layers: int) -> None:
    network = build(f"resnet{layers}", 10, 32, seed=0)
    weighted = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == layers
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(PUBLISHED[layers], abs=0.04)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_load_by_name_and_are_used(prefix: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.rand(s, generator=generator) * 0.1 for n, s in published_names(20).items()}
    save_file({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "published.safetensors")
    network = build("resnet20", 10, 32, seed=0).eval()
    load_weight_file(network, tmp_path / "published.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(network.state_dict()[name], tensor), name
    image = torch.rand(2, 3, 32, 32, generator=generator)
    torch.testing.assert_close(network(image), slow_option_a(image, weights), rtol=1e-4, atol=1e-5)
    with pytest.raises(DamagedFile, match=r"layer1\.3\.conv1\.weight is missing"):
        load_weight_file(build("resnet32", 10, 32, seed=0), tmp_path / "published.safetensors")


def slow_option_a(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """The paper's network by functions alone, from a state dict."""
    from torch.nn import functional

    def convolve(x: torch.Tensor, name: str, norm: str, stride: int = 1) -> torch.Tensor:
        x = functional.conv2d(x, w[f"{name}.weight"], stride=stride, padding=1)
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, variance, w[f"{norm}.weight"], w[f"{norm}.bias"])

    x = convolve(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for place in range(3):
            name = f"layer{stage}.{place}"
            stride = 2 if stage > 1 and place == 0 else 1
            out = convolve(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            out = convolve(out, f"{name}.conv2", f"{name}.bn2")
            if stride == 2:
                zeros = torch.zeros_like(x[:, : x.shape[1] // 2, ::2, ::2])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            x = (out + x).relu()
    return x.mean((2, 3)) @ w["linear.weight"].T + w["linear.bias"]


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("layers", [20, 56])
def test_a_plain_twin_differs_in_nothing_but_the_skips(layers: int, batch_norm: bool) -> None:
    options = {"width": 4, "batch_norm": batch_norm}
    skipping, plain = (build(f"{kind}{layers}", 10, 32, options, seed=0) for kind in ("resnet", "plain"))
    ours, theirs = skipping.state_dict(), plain.state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    equal = [torch.equal(ours[name], theirs[name]) for name in ours]
    assert all(equal) if batch_norm else equal.count(False) == (layers - 2) // 2, "conv2 of each block is scaled"
    for block in skipping.modules():
        if isinstance(block, Block):
            block.downsample = None
    plain.load_state_dict(ours)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(skipping(image), plain(image))


def test_without_batch_norm_depth_does_not_blow_the_signal_up() -> None:
    image = torch.rand(4, 3, 32, 32)
    stds = [build("resnet110", 10, 32, {"batch_norm": False}, seed=seed)(image).std() for seed in (0, 1)]
    assert all(0.1 < std < 10 for std in stds), stds


@pytest.mark.parametrize(("stem", "image_size", "side"), [(7, 32, 8), (7, 224, 56), (5, 64, 16), ("small", 32, 32)])
def test_the_stem_of_the_lectures_network(stem: int | str, image_size: int, side: int) -> None:
    network = build("resnet", 10, image_size, {"width": 4, "stem": stem}, seed=0)
    x, sides = torch.rand(1, 3, image_size, image_size), {}
    for name, layer in network.eval().named_children():
        x = layer(x)
        sides[name] = tuple(x.shape[1:])
    assert sides["layer1"] == (4, side, side), "an aggressive stem leaves a quarter of the side"
    assert sides["layer4"] == (32, side // 8, side // 8)
    assert [len(layer) for name, layer in network.named_children() if name.startswith("layer")] == [3, 3, 3, 3]
    assert network.get_submodule("conv1").kernel_size == ((3, 3) if stem == "small" else (stem, stem))


def test_other_depths_of_the_paper_can_be_built_and_no_others() -> None:
    assert sum(isinstance(m, nn.Conv2d) for m in cifar_resnet(14, 10).modules()) == 13
    with pytest.raises(UsageError, match=r"6 n \+ 2 layers .* and got 21"):
        cifar_resnet(21, 10)
