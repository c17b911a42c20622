"""The layers and heads of our networks, against the formulas of their papers in float64."""

from __future__ import annotations

import math
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.exporting.formats import _Maximum, _Whole, _written_as_maxima
from convscope.images.preprocess import Preprocess
from convscope.models.box_network import BOX_STRIDES, BoxNetwork, Fcos
from convscope.models.heads import TEMPERATURE, Fcnn, Neighbours, fcnn
from convscope.models.onednn_fault import without_the_fault
from convscope.models.pixel_network import FlatMaps, LinearPixels, OfFlatMaps, PixelNetwork, TopDown
from convscope.models.resnet import Block, PadShortcut
from convscope.models.speednet import EPSILON, Scale, speednet
from convscope.transfer_learning.box_filters import ClassesOfPlaces
from torture.numbers_compare import LAST, Check, Random, apart, drawn, first, lively, size, usual

NO_KINK = "constant, denormal, tiny"  # maps of these are all on the corner of a ReLU
FAR = "one large, far from 0, large"  # float32 keeps no digits of what is beside these


def values_of(module: nn.Module) -> dict[str, Tensor]:
    """Its parameters and buffers in float64."""
    return {name: t.detach().double() for name, t in [*module.named_parameters(), *module.named_buffers()]}


def norm(x: Tensor, v: dict[str, Tensor], name: str) -> Tensor:
    """A batch norm in evaluation, as its formula has it."""
    mean, variance, weight, bias = (
        v[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def block(random: Random) -> str:
    """A residual or plain block, its outputs and the gradients of all its weights."""
    channels, stride = size(random, 1, 8), size(random, 1, 2)
    shortcut = [None, "projection", "pad"][size(random, 0, 2)]
    filters = channels * size(random, 1, 2) if shortcut == "pad" else size(random, 1, 9)
    normed = bool(random.integers(2))
    layer = lively(Block(channels, filters, stride, shortcut, normed), random).eval()
    x = drawn(random, size(random, 1, 3), channels, size(random, 2, 9), size(random, 2, 9), but=NO_KINK)
    v = values_of(layer)

    def step(x: Tensor, number: int, stride: int) -> Tensor:
        x = F.conv2d(x, v[f"conv{number}.weight"], v.get(f"conv{number}.bias"), stride, 1)
        return norm(x, v, f"bn{number}") if normed else x

    out = step(F.relu(step(x.double(), 1, stride)), 2, 1)
    if isinstance(layer.downsample, nn.Identity):
        out = out + x
    elif isinstance(layer.downsample, nn.Sequential):
        skip = F.conv2d(x.double(), v["downsample.0.weight"], v.get("downsample.0.bias"), stride)
        out = out + (norm(skip, v, "downsample.1") if normed else skip)
    elif layer.downsample is not None:
        out[:, layer.downsample.before : layer.downsample.before + channels] += x[..., ::stride, ::stride]
    scale = float(x.abs().max()) * (1 if shortcut else 0.1)
    return apart(layer(x), F.relu(out), f"a block with the shortcut {shortcut}", scale=scale)


def gradients_of(module: nn.Module, *given: Tensor) -> list[Tensor]:
    """The gradients of all weights, and of what is given, of the mean square of what a module in training outputs."""
    given = tuple(t.detach().clone().requires_grad_() for t in given)
    out = module(list(given) if len(given) > 1 else given[0])
    weights = [p for p in module.parameters() if p.requires_grad]
    return list(torch.autograd.grad(out.square().mean(), [*weights, *given], allow_unused=True))


def in_training(random: Random) -> str:
    """A block in training, its gradients in float32 against those in float64, where no corner is near."""
    layer = lively(Block(4, 8, 1, "projection", True), random).train()
    for name in ("relu1", "relu2"):
        setattr(layer, name, nn.SiLU())  # no corners, on whose other side rounding may throw a number
    x = usual(random, size(random, 2, 4), 4, size(random, 3, 8), size(random, 3, 8))
    found, right = gradients_of(layer, x), gradients_of(deepcopy(layer).double(), x.double())
    return first(*(apart(a, b, "a gradient of a block in training", 1e-4) for a, b in zip(found, right, strict=True)))


def pad_shortcut(random: Random) -> str:
    channels, more, stride = size(random, 1, 6), size(random, 0, 7), size(random, 1, 3)
    x = drawn(random, size(random, 0, 3), channels, size(random, 1, 9), size(random, 1, 9))
    right = torch.zeros(len(x), channels + more, *x[:, :1, ::stride, ::stride].shape[2:])
    right[:, more // 2 : more // 2 + channels] = x[..., ::stride, ::stride]
    return apart(PadShortcut(channels, channels + more, stride)(x), right, "the paper's shortcut A", near=0)


def scale(random: Random) -> str:
    x, factor = drawn(random, size(random, 0, 3), 4), float(random.normal())
    return apart(Scale(factor)(x), x.double() * factor, "a scale")


def whitening(random: Random) -> str:
    """Patches behind speednet's first layer have the covariance 1 but for the noise that is added to it."""
    network = speednet(3, 12, width=4)
    images = drawn(random, 6, 3, 9, 11, but="denormal, tiny, one large, large, far from 0")
    network.prepare(images)
    patches = F.unfold(images.double(), 2).transpose(1, 2).reshape(-1, 12)
    values, vectors = np.linalg.eigh((patches.T @ patches / len(patches)).numpy())
    half = network.whiten.weight.detach().double()[:12].reshape(12, -1)
    wanted = torch.from_numpy(vectors / (values + EPSILON) @ vectors.T)  # W^T W, whatever the signs of eigenvectors
    flaw = apart(half.T @ half, wanted, "whitening's square")
    return flaw or apart(network.whiten.weight[12:], -half.reshape(-1, 3, 2, 2), "whitening's other half")


def neighbours(random: Random) -> str:
    rows, channels, classes = size(random, 1, 30), size(random, 2, 12), size(random, 1, 5)  # of one all are tied
    layer = Neighbours(channels, classes, rows, size(random, 1, 12))
    layer.features.copy_(F.normalize(usual(random, rows, channels)))
    layer.labels.copy_(torch.from_numpy(random.integers(0, classes, rows)))
    x = drawn(random, size(random, 1, 4), channels, but="denormal, half zeros")
    logits = np.empty((len(x), classes))
    for b, one in enumerate(x.double().numpy()):
        cosines = layer.features.double().numpy() @ (one / math.sqrt((one**2).sum()))
        best = np.argsort(-cosines, kind="stable")[: layer.neighbours]
        votes = np.exp((cosines[best] - cosines.max()) / TEMPERATURE)
        shares = np.bincount(layer.labels.numpy()[best], votes / votes.sum(), classes)
        logits[b] = np.log(0.999 * shares + 0.001 / classes)
    # A cosine that is off by 1e-7 changes a vote by that over TEMPERATURE.
    return apart(layer(x).double().exp(), np.exp(logits), "the votes of neighbours", 3e-5, scale=1.0)


def small_network(random: Random) -> str:
    head = lively(fcnn(size(random, 1, 9), size(random, 1, 5), hidden=size(random, 1, 9)), random).eval()
    assert isinstance(head, Fcnn)
    x, v = drawn(random, size(random, 0, 4), head[0].in_features), values_of(head)
    hidden = (x.double() @ v["0.weight"].T + v["0.bias"]).clamp(min=0)
    return apart(head(x), hidden @ v["3.weight"].T + v["3.bias"], "the small network", scale=float(hidden.sum()))


def maps_of(random: Random, channels: list[int], finest: tuple[int, int], but: str = FAR) -> list[Tensor]:
    sides = [tuple(-(-side // 2**level) for side in finest) for level in range(len(channels))]
    images = size(random, 1, 2)
    return [
        drawn(random, images, c, *s, but=but).contiguous(memory_format=LAST)
        for c, s in zip(channels, sides, strict=True)
    ]


def bilinear(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Upsampled as its formula has it: a matrix for each side, whose rows weigh two neighbours."""

    def matrix(into: int, of: int) -> Tensor:
        rows = torch.zeros(into, of, dtype=torch.float64)
        for i in range(into):
            at = max(0.0, (i + 0.5) * of / into - 0.5)
            low, share = int(at), at - int(at)
            rows[i, low] += 1 - share
            rows[i, min(low + 1, of - 1)] += share
        return rows

    return torch.einsum("ih,bchw,jw->bcij", matrix(shape[0], x.shape[2]), x.double(), matrix(shape[1], x.shape[3]))


def linear_pixels(random: Random) -> str:
    channels, classes = [size(random, 1, 5) for _ in range(size(random, 1, 4))], size(random, 1, 4)
    head = lively(LinearPixels(channels, classes), random).eval()
    maps, v = maps_of(random, channels, (size(random, 1, 9), size(random, 1, 9))), values_of(head)
    total = torch.zeros(())
    for n, one in enumerate(maps):
        scores = F.conv2d(norm(one.double(), v, f"layers.{n}.0"), v[f"layers.{n}.1.weight"], v[f"layers.{n}.1.bias"])
        total = total + bilinear(scores, tuple(maps[0].shape[2:]))
    return apart(head(maps), total, "a linear layer of pixels", scale=max(float(m.abs().max()) for m in maps))


def top_down(random: Random) -> str:
    channels, classes = [size(random, 1, 5) for _ in range(size(random, 1, 4))], size(random, 1, 4)
    head = lively(TopDown(channels, classes, 6), random).eval()
    maps, v = maps_of(random, channels, (size(random, 1, 9), size(random, 1, 9))), values_of(head)
    found: Tensor | None = None
    for n in reversed(range(len(maps))):
        here = norm(F.conv2d(maps[n].double(), v[f"across.{n}.0.weight"]), v, f"across.{n}.1")
        here = here if found is None else here + bilinear(found, tuple(here.shape[2:]))
        found = F.relu(norm(F.conv2d(F.relu(here), v[f"smooth.{n}.0.weight"], padding=1), v, f"smooth.{n}.1"))
    assert found is not None
    right = F.conv2d(found, v["classify.weight"], v["classify.bias"])
    return apart(head(maps), right, "a feature pyramid", scale=float(found.abs().max()))


def group_norm(x: Tensor, v: dict[str, Tensor], name: str, groups: int = 8) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    return parts.reshape(x.shape) * v[f"{name}.weight"][:, None, None] + v[f"{name}.bias"][:, None, None]


def fcos_head(random: Random) -> tuple[Fcos, list[Tensor], Tensor]:
    """A head with its maps, and what it outputs in float64."""
    channels, classes, side = [size(random, 1, 5) for _ in BOX_STRIDES], size(random, 1, 4), 32 * size(random, 1, 2)
    head = lively(Fcos(channels, classes, 16), random).eval()
    maps = [usual(random, 2, c, side // s, side // s) for c, s in zip(channels, BOX_STRIDES, strict=True)]
    v, levels, rows = values_of(head), [], []

    def tower(x: Tensor, name: str) -> Tensor:
        return F.relu(group_norm(F.conv2d(x, v[f"{name}.0.weight"], padding=1), v, f"{name}.1"))

    for n in reversed(range(3)):
        here = F.conv2d(norm(maps[n].double(), v, f"across.{n}.0"), v[f"across.{n}.1.weight"])
        here = group_norm(here, v, f"across.{n}.2")
        if levels:
            here = here + levels[0].repeat_interleave(2, 2).repeat_interleave(2, 3)
        levels.insert(0, tower(F.relu(here), f"smooth.{n}"))
    for n, one in enumerate(levels):
        of_classes = F.conv2d(tower(one, "of_classes"), v["classes.weight"], v["classes.bias"], padding=1)
        boxes = F.conv2d(tower(one, "of_boxes"), v["boxes.weight"], v["boxes.bias"], padding=1)
        distances = BOX_STRIDES[n] * (v["scales"][n] * boxes[:, 1:]).clamp(max=8).exp()
        rows.append(torch.cat([of_classes, boxes[:, :1], distances], 1).flatten(2).transpose(1, 2))
    return head, maps, torch.cat(rows, 1)


def fcos(random: Random) -> str:
    head, maps, right = fcos_head(random)
    return apart(head(maps), right, "FCOS's head")


def classes_of_places(random: Random) -> str:
    head, maps, right = fcos_head(random)
    sides, start, grids = [one.shape[2] for one in maps], 0, []
    for side in sides:
        part = right[:, start : start + side**2, :-5].transpose(1, 2).unflatten(2, (side, side))
        grids.append(part.repeat_interleave(sides[0] // side, 2).repeat_interleave(sides[0] // side, 3))
        start += side**2
    best = torch.stack(grids).amax(0)
    found = ClassesOfPlaces(head)(maps)
    return first(
        apart(found[:, :1], torch.zeros_like(best[:, :1]), "the background of places", near=0),
        apart(found[:, 1:], best, "the classes of places", scale=float(right[..., :-5].abs().max())),
    )


class Pyramid(nn.Module):
    """A body that gives maps at these strides by mean pools."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(x, stride) for stride in self.strides]


def whole_networks(random: Random) -> str:
    """A body with its head, and the same with maps put in a row between them, as they are recorded."""
    boxes = bool(random.integers(2))
    body, side = Pyramid(BOX_STRIDES if boxes else (4, 8, 16, 32)), 32 * size(random, 1, 2)
    make = (lambda: Fcos([3] * 3, 2, 16)) if boxes else (lambda: TopDown([3] * 4, 2, 6))
    head = lively(make(), random).eval()
    network = (BoxNetwork if boxes else PixelNetwork)(body, head)
    x = usual(random, 2, 3, side, side)
    plain = deepcopy(head).double()([m.double() for m in body(x)])
    right = plain if boxes else bilinear(plain, (side, side))
    flat = OfFlatMaps(head, [tuple(m.shape[1:]) for m in body(x)])(FlatMaps(body)(x))
    return first(
        apart(network(x), right, "a body with its head"),
        apart(flat, plain, "a head on maps in a row"),
    )


def strided_pointwise(random: Random) -> str:
    channels, stride = size(random, 1, 15), (size(random, 1, 3), size(random, 2, 3))
    groups = 1 if channels % 2 else 2
    layer = nn.Conv2d(channels, 2 * groups, 1, stride, bias=bool(random.integers(2)), groups=groups)
    ours, x = without_the_fault(deepcopy(layer)), drawn(random, 2, channels, size(random, 1, 9), size(random, 1, 9))
    if type(ours) is nn.Conv2d:
        return "a layer that meets the fault is left as it is"
    found = [ours(x), *gradients_of(ours, x)]
    right = [layer.double()(x.double()), *gradients_of(layer, x.double())]
    scale = float(x.abs().max())
    return first(
        apart(found[0], right[0], "a strided 1x1 convolution", scale=scale),
        *(apart(a, b, "the gradient of one") for a, b in zip(found[1:], right[1:], strict=True)),
    )


def with_preprocess(random: Random) -> str:
    """What is exported: bytes to logits."""
    side = size(random, 4, 9)
    mean, deviation = (tuple(float(v) for v in random.uniform(0.2, 0.7, 3)) for _ in range(2))
    network = lively(nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 3)), random)
    preprocess = Preprocess(size=side, mean=mean, std=deviation)
    bytes_BHWC = random.integers(0, 256, (2, side, side, 3), np.uint8)
    found = _Whole(SimpleNamespace(network=network, preprocess=preprocess, task="classification"))(
        torch.from_numpy(bytes_BHWC)
    )
    x = (bytes_BHWC / 255 - mean) / deviation
    right = x.transpose(0, 3, 1, 2).reshape(2, -1) @ network[1].weight.detach().double().numpy().T
    return apart(found, right + network[1].bias.detach().double().numpy(), "an exported network", scale=5.0)


def pools_as_maxima(random: Random) -> str:
    """Pools over whole maps, as they are exported; the network is as before afterwards."""
    x = drawn(random, *(size(random, 1, 5) for _ in range(4)))
    network = nn.Sequential(nn.AdaptiveMaxPool2d(1))
    with _written_as_maxima(network):
        written, found = type(network[0]), network(x)
    if written is not _Maximum or not isinstance(network[0], nn.AdaptiveMaxPool2d):
        return "a pool is not written as a maximum, or is none afterwards"
    return apart(found, x.double().flatten(2).max(2).values[..., None, None], "a pool over whole maps")


# By the name of the class in src.
LAYERS: dict[str, Check] = {
    "Block": block,
    "PadShortcut": pad_shortcut,
    "Scale": scale,
    "SpeedNet": whitening,
    "Neighbours": neighbours,
    "Fcnn": small_network,
    "LinearPixels": linear_pixels,
    "TopDown": top_down,
    "MapNetwork": whole_networks,
    "PixelNetwork": whole_networks,
    "BoxNetwork": whole_networks,
    "FlatMaps": whole_networks,
    "OfFlatMaps": whole_networks,
    "Fcos": fcos,
    "ClassesOfPlaces": classes_of_places,
    "StridedPointwise": strided_pointwise,
    "_Maximum": pools_as_maxima,
    "_Whole": with_preprocess,
}

ENTRIES: dict[str, Check] = {
    **{f"layer {name}": check for name, check in LAYERS.items()},
    "layer, a block in training": in_training,
}
