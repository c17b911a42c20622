"""A network that finds boxes: a backbone's maps at strides 8 to 32, and an anchor-free head on top of them.

FCOS (Tian et al. 2019, arXiv:1904.01355): at each place of each map a score a class, the distances to the four sides
of the box that the place lies in, and how near its centre the place is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UnknownName
from .pixel_network import MapNetwork, backbone_maps, map_info

BOX_STRIDES = (8, 16, 32)
GROUPS = 8  # of channels that are normalised together: a group norm is the same for any batch and any map
RARE = 0.01  # the probability of each class that a new head gives every place (Lin et al. 2017, arXiv:1708.02002)
LONGEST = 8.0  # of the logarithm of a distance in strides: beyond any image, and exp() stays finite


class Fcos(nn.Module):
    """A feature pyramid and two towers that all maps share: (B, L, K + 5) for L places, the finest map first.

    Of each place K class logits, the centre-ness' logit, and the distances to the left, upper, right and lower side in
    pixels of the image.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.across = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, width, 1, bias=False), nn.GroupNorm(GROUPS, width))
            for c in channels
        )
        self.smooth = nn.ModuleList(_layer(width) for _ in channels)
        self.of_classes, self.of_boxes = _layer(width), _layer(width)
        self.classes = _last(width, [math.log(RARE / (1 - RARE))] * num_classes)
        self.boxes = _last(width, [0.0, 1.0, 1.0, 1.0, 1.0])
        self.scales = nn.Parameter(torch.ones(len(channels)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels: list[Tensor] = []
        for across, smooth, one in zip(reversed(self.across), reversed(self.smooth), reversed(maps), strict=True):
            here = across(one)
            if levels:
                here = here + F.interpolate(levels[-1], size=here.shape[-2:], mode="nearest")
            levels.append(smooth(F.relu(here)))
        rows = [self._of_level(one, n) for n, one in enumerate(reversed(levels))]
        return torch.cat(rows, 1)

    def _of_level(self, map_BCHW: Tensor, level: int) -> Tensor:
        classes = self.classes(self.of_classes(map_BCHW))
        boxes = self.boxes(self.of_boxes(map_BCHW))
        distances = (self.scales[level] * boxes[:, 1:]).clamp(max=LONGEST).exp() * BOX_STRIDES[level]
        return torch.cat([classes, boxes[:, :1], distances], 1).flatten(2).transpose(1, 2)


def _last(width: int, biases: Sequence[float]) -> nn.Conv2d:
    """The layer that answers, which begins with its biases alone."""
    conv = nn.Conv2d(width, len(biases), 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias.copy_(torch.tensor(biases))
    return conv


def _layer(width: int) -> nn.Sequential:
    conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, width), nn.ReLU())


# Each takes the channels of the maps, finest first, and the number of classes, and by name options with a default.
BOX_HEADS: dict[str, Callable[..., nn.Module]] = {"fcos": Fcos}
BOX_OPTIONS = ("head", "width")


class BoxNetwork(MapNetwork):
    """``body`` gives maps at BOX_STRIDES, ``head`` what FCOS tells of their places: (B, 3, S, S) to (B, L, K + 5)."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.head(self.body(images_BCHW))


def make_box_network(name: str, num_classes: int, options: Mapping[str, object]) -> BoxNetwork:
    """The network of a backbone's name and the options of a head: "head", and what that takes."""
    kind = str(options["head"])
    if kind not in BOX_HEADS:
        raise UnknownName("head", kind, BOX_HEADS)
    body = backbone_maps(name, BOX_STRIDES)
    rest = {key: value for key, value in options.items() if key != "head"}
    return BoxNetwork(body, BOX_HEADS[kind](map_info(body).channels(), num_classes, **rest))


def places_of(side: int) -> tuple[Tensor, Tensor]:
    """The centres (L, 2), x and y, of the places of all maps in pixels of a square image, and their strides (L,)."""
    centres, strides = [], []
    for stride in BOX_STRIDES:
        middles = (torch.arange(side // stride) + 0.5) * stride
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full((len(centres[-1]),), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def side_of(places: int) -> int:
    """The side of the square image whose maps have so many places together."""
    return round(math.sqrt(places / sum(stride**-2 for stride in BOX_STRIDES)))


def boxes_at(outputs_BLD: Tensor) -> Tensor:
    """The box (B, L, 4) that each place tells: left, top, right, bottom in pixels of the image."""
    centres = places_of(side_of(outputs_BLD.shape[1]))[0].to(outputs_BLD)
    distances = outputs_BLD[..., -4:]
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1)


def scored_boxes(outputs_BLD: Tensor) -> Tensor:
    """What each place tells, (B, L, K + 4): a score in 0..1 a class, and its box.

    Scores are the root of probability times centre-ness; corners are those of ``boxes_at``, cut off at the borders of
    the square.
    """
    scores = (outputs_BLD[..., :-5].sigmoid() * outputs_BLD[..., -5:-4].sigmoid()).sqrt()
    return torch.cat([scores, boxes_at(outputs_BLD).clamp(0, side_of(outputs_BLD.shape[1]))], -1)
