"""Whole networks, each layer of them by its formula in float64; by faster layers; and with activations made again."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.models.fast_convolutions import convolving, every_layer
from convscope.models.recomputing import recomputing
from convscope.models.registry import MODELS, build
from convscope.models.resnet import Block, PadShortcut
from convscope.models.speednet import Scale
from torture.numbers_compare import LAST, Check, Random, apart, drawn, first, lively, of_kind, size, unequal

DEEP = 3e-5  # of a network's logits: the roundings of up to 110 layers, one after the other
NEAR_FAST = 1e-4  # of the largest gradient of a parameter, and 1e-5 of that of all: through all layers of tiles


def windows(x: Tensor, size: int, stride: int, padding: int, fill: float) -> Tensor:
    """(B, C, places, size * size) of what each window sees."""
    padded = F.pad(x, (padding,) * 4, value=fill)
    parts = padded.unfold(2, size, stride).unfold(3, size, stride)
    return parts.flatten(4)


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution as a sum of products over windows."""
    (filter_size, _), (stride, _), (padding, _) = conv.kernel_size, conv.stride, conv.padding
    parts = windows(x, filter_size, stride, padding, 0.0)
    out = torch.einsum("bchwn,kcn->bkhw", parts, conv.weight.double().flatten(2))
    return out if conv.bias is None else out + conv.bias.double()[:, None, None]


def normed(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance = layer.running_mean.double(), layer.running_var.double()
    if layer.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    scaled = (x - mean[:, None, None]) / (variance + layer.eps).sqrt()[:, None, None]
    return scaled * layer.weight.double()[:, None, None] + layer.bias.double()[:, None, None]


def by_formula(module: nn.Module, x: Tensor) -> Tensor:
    """What a module of ours outputs for float64 maps, each layer written out."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = by_formula(layer, x)
        return x
    if isinstance(module, Block):
        out = by_formula(nn.Sequential(module.conv1, module.bn1, nn.ReLU(), module.conv2, module.bn2), x)
        return (out if module.downsample is None else out + by_formula(module.downsample, x)).clamp(min=0)
    if isinstance(module, PadShortcut):
        x = x[..., :: module.subsample.stride, :: module.subsample.stride]
        before, after = (x.new_zeros(len(x), n, *x.shape[2:]) for n in (module.before, module.after))
        return torch.cat([before, x, after], 1)
    if isinstance(module, nn.Conv2d):
        return convolved(module, x)
    if isinstance(module, nn.MaxPool2d):
        return windows(x, module.kernel_size, module.stride, module.padding, -torch.inf).amax(4)
    return FORMULAS[type(module)](module, x)


FORMULAS = {
    nn.BatchNorm2d: normed,
    nn.ReLU: lambda layer, x: x.clamp(min=0),
    nn.SiLU: lambda layer, x: x / (1 + (-x).exp()),
    nn.Identity: lambda layer, x: x,
    nn.Dropout: lambda layer, x: x,
    nn.Flatten: lambda layer, x: x.reshape(len(x), -1),
    nn.Linear: lambda layer, x: x @ layer.weight.double().T + (0 if layer.bias is None else layer.bias.double()),
    nn.AdaptiveAvgPool2d: lambda layer, x: x.mean((2, 3), keepdim=True),
    nn.AdaptiveMaxPool2d: lambda layer, x: x.amax((2, 3), keepdim=True),
    Scale: lambda layer, x: x * layer.factor,
}


def made(name: str, random: Random) -> tuple[nn.Module, Tensor]:
    """A small network of that name with lively norms, and images for it, of any kind but the smallest."""
    side = size(random, 24, 33) if name == "resnet" else size(random, 12, 20)
    network = build(name, size(random, 1, 5), side, {"width": size(random, 2, 6)}, seed=size(random, 0, 999))
    images = drawn(random, size(random, 2, 3), 3, side, side, but="large, one large, tiny, denormal, constant")
    return lively(network, random).to(memory_format=LAST), images.contiguous(memory_format=LAST)


def model(name: str, random: Random) -> str:
    """Its logits in evaluation, by torch's layers and by every faster one."""
    network, images = made(name, random)
    network.eval()
    right = by_formula(network, images.double())
    options = every_layer(network, images.shape[2])
    tiles = {layer: sides for layer, *sides in options["tiles"]}
    with torch.no_grad():
        plain = network(images)
        with convolving(network, tiles, options["fused"]):
            fast = network(images)
    return first(
        apart(plain, right, f"{name}'s logits", DEEP), apart(fast, right, f"{name}'s logits by faster layers", DEEP)
    )


def fast_training(random: Random) -> str:
    """A step of a smooth network by faster layers is as near to float64 as one by torch's: loss, gradients, statistics.

    Of usual images: among others the greatest two of a pool are nearly equal, and rounding chooses.
    """
    network, images = made("speednet", random)
    images = of_kind(random, "usual", *images.shape).contiguous(memory_format=LAST)
    labels = torch.arange(len(images)) % network.fc.out_features
    options = every_layer(network, images.shape[2])
    tiles = {layer: sides for layer, *sides in options["tiles"]}
    momentum = [0.4, 1.0, None][size(random, 0, 2)]
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum

    def step(twin: nn.Module, images: Tensor, fast: bool) -> dict[str, Tensor]:
        with convolving(twin.train(), tiles if fast else {}, options["fused"] if fast else ()):
            F.cross_entropy(twin(images), labels).backward()
        found = {name: p.grad.double() for name, p in twin.named_parameters() if p.grad is not None}
        return found | {name: b.double() for name, b in twin.named_buffers()}

    right = step(deepcopy(network).double(), images.double(), False)
    theirs, ours = (step(deepcopy(network), images, fast) for fast in (False, True))
    gradients = dict(network.named_parameters())
    largest = max(float(one.abs().max()) for name, one in right.items() if name in gradients)
    for name, exact in right.items():
        off, allowed = (float((one[name] - exact).abs().max()) for one in (ours, theirs))
        if off > 5 * allowed + max(NEAR_FAST * float(exact.abs().max()), 1e-5 * largest):
            return f"{name} after a step by faster layers is off by {off:.3g}, and by torch's by {allowed:.3g}"
    return ""


def recomputed(random: Random) -> str:
    """With activations made again in the backward pass all gradients and running statistics have the same bits."""
    network, images = made(str(random.choice(["alexnet", "vgg", "resnet20", "speednet"])), random)
    images = images if random.integers(2) else of_kind(random, "usual", *images.shape)
    found = []
    for enabled in (False, True):
        twin = deepcopy(network).train()
        torch.manual_seed(0)
        with recomputing(twin, enabled):
            out = twin(images)
        out.square().mean().backward()
        found.append([out, *(p.grad for p in twin.parameters() if p.grad is not None), *twin.buffers()])
    return unequal(*found, "a step with activations made again and one with all of them kept")


ENTRIES: dict[str, Check] = {
    **{f"model {name}": partial(model, name) for name in MODELS},
    "layer, a step by faster ones": fast_training,
    "layer, activations made again": recomputed,
}
