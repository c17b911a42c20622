"""A network that answers for each pixel: a backbone's feature maps at several strides, and a head on top of them.

The backbone is timm's with ``features_only``, whose weights have the names that they have in the whole network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownName, UsageError

STRIDES = (4, 8, 16, 32)  # pixels of the image to a place of a map
Shape = tuple[int, int, int]  # channels, height, width


class LinearPixels(nn.Module):
    """A plain linear layer at every place of every map, added up: (B, K, h, w) at the finest stride."""

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, num_classes, 1)) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        scores = [layer(one) for layer, one in zip(self.layers, maps, strict=True)]
        return torch.stack([_sized(one, size) for one in scores]).sum(0)


class TopDown(nn.Module):
    """A light feature pyramid (Lin et al. 2017, arXiv:1612.03144): 1x1 projections, upsample and add, 3x3, classifier.

    Gives (B, K, h, w) at the finest stride.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 48) -> None:
        super().__init__()
        self.across = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width)) for c in channels
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in channels
        )
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        found: Tensor | None = None
        for across, smooth, one in zip(reversed(self.across), reversed(self.smooth), reversed(maps), strict=True):
            here = across(one)
            found = smooth(F.relu(here if found is None else here + _sized(found, here.shape[-2:])))
        return self.classify(found)


# Each takes the channels of the maps, finest first, and the number of classes, and by name options with a default.
PIXEL_HEADS: dict[str, Callable[..., nn.Module]] = {"linear-pixels": LinearPixels, "top-down": TopDown}
PIXEL_OPTIONS = ("head", "width")


class MapNetwork(nn.Module):
    """A backbone's ``body``, which gives maps at several strides, and a ``head`` that answers by place from them."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head


class PixelNetwork(MapNetwork):
    """``body`` gives maps at STRIDES, ``head`` scores of classes from them: (B, 3, S, S) to logits (B, K, S, S)."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return _sized(self.head(self.body(images_BCHW)), images_BCHW.shape[-2:])


class FlatMaps(nn.Module):
    """A backbone's maps in one row an image: (B, 3, S, S) to (B, D), the finest first."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return torch.cat([one.flatten(1) for one in self.body(images_BCHW)], 1)


class OfFlatMaps(nn.Module):
    """A pixel head that is given maps in one row an image, as they are recorded, with their shapes."""

    def __init__(self, head: nn.Module, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.head, self.shapes = head, tuple(shapes)

    def forward(self, flat_BD: Tensor) -> Tensor:
        return self.head(unflatten(flat_BD, self.shapes))


def on_flat_maps(make: Callable[..., nn.Module], shapes: Sequence[Sequence[int]], outputs: int) -> OfFlatMaps:
    """The head that ``make`` gives for maps of these shapes, taking them in one row."""
    maps = [(int(c), int(h), int(w)) for c, h, w in shapes]
    return OfFlatMaps(make([c for c, _, _ in maps], outputs), maps)


def unflatten(flat_BD: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    """Maps (B, C, h, w) of what FlatMaps has put in a row, channels last."""
    parts = flat_BD.split([c * h * w for c, h, w in shapes], 1)
    return [
        part.reshape(-1, *shape).contiguous(memory_format=torch.channels_last)
        for part, shape in zip(parts, shapes, strict=True)
    ]


def backbone_maps(name: str, strides: Sequence[int] = STRIDES) -> nn.Module:
    """A freshly initialised backbone of timm's that gives its maps at these strides. UsageError where it cannot."""
    source, _, short = name.partition(":")
    if source != "timm":
        raise UsageError(f"{name} is not timm's, and only those give maps at several strides: take timm:NAME.")
    import timm

    try:
        given = map_info(timm.create_model(short, pretrained=False, features_only=True)).reduction()
        places = [given.index(stride) for stride in strides]
        return timm.create_model(short, pretrained=False, features_only=True, out_indices=places)
    except (RuntimeError, AttributeError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{short} gives no feature maps at strides {', '.join(map(str, strides))}: {reason}") from None


def map_info(body: nn.Module) -> Any:
    """What timm tells of a backbone's maps."""
    return body.feature_info


def map_shapes(body: nn.Module, size: int) -> list[Shape]:
    """The shapes of its maps for images of that side."""
    with torch.inference_mode():
        training = body.training
        shapes = [tuple(one.shape[1:]) for one in body.eval()(torch.zeros(1, 3, size, size))]
        body.train(training)
    return shapes


def make_pixel_network(name: str, num_classes: int, options: Mapping[str, object]) -> PixelNetwork:
    """The network of a backbone's name and the options of a head: "head", and what that takes."""
    kind = str(options["head"])
    if kind not in PIXEL_HEADS:
        raise UnknownName("head", kind, PIXEL_HEADS)
    body = backbone_maps(name)
    rest = {key: value for key, value in options.items() if key != "head"}
    return PixelNetwork(body, PIXEL_HEADS[kind](map_info(body).channels(), num_classes, **rest))


def load_backbone(body: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the weights of a whole network into its backbone. UsageError where names or shapes do not fit."""
    by_name = {_plain(name): tensor for name, tensor in tensors.items()}
    wanted = body.state_dict()
    strange = [n for n, t in wanted.items() if _plain(n) not in by_name or by_name[_plain(n)].shape != t.shape]
    if strange:
        raise UsageError(f"the backbone's weights do not fit its maps: {', '.join(strange[:3])} have none.")
    body.load_state_dict({name: by_name[_plain(name)] for name in wanted})


def _plain(name: str) -> str:
    """A parameter's name, whether its stages are nested or numbered: "stages.0.w" and "stages_0.w" are one."""
    return re.sub(r"[._]+", ".", name)


def _sized(maps_BCHW: Tensor, size: torch.Size) -> Tensor:
    if maps_BCHW.shape[-2:] == size:
        return maps_BCHW
    return F.interpolate(maps_BCHW, size=size, mode="bilinear", align_corners=False)
