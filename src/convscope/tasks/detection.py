"""Boxes around objects of some classes. Scored by average precision (Everingham et al. 2010; Lin et al. 2014).

Learned as FCOS is (Tian et al. 2019, arXiv:1904.01355), with the focal loss (Lin et al. 2017, arXiv:1708.02002) and
that of the generalised intersection over union (Rezatofighi et al. 2019, arXiv:1902.09630).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.asked import ASKED
from ..datasets.boxes import Boxes
from ..datasets.targets import Targets
from ..errors import DataError
from ..images.placing import place_of
from ..images.preprocess import Preprocess
from ..models.box_network import BOX_HEADS, BOX_STRIDES, boxes_at, places_of, scored_boxes, side_of
from ..models.pixel_network import on_flat_maps
from .average_precision import score, settings
from .matching import FoundBoxes, Matches, TrueBoxes, matched
from .task import HeadKind, Task, a_few

NOBODY = -1  # in the place of a label: of a row that is no box
CROWD = -2  # less the label: of a box of this class that is neither right nor wrong
REACH = {8: (0.0, 64.0), 16: (64.0, 128.0), 32: (128.0, float("inf"))}  # px: the farthest side of a box, by stride
NEAR = 1.5  # strides from the centre of a box, within which its places lie
LEAST = 0.05  # score below which nothing is a box
CANDIDATES = 1000  # places, the best of an image, that are looked at
OVERLAP = 0.6  # intersection over union beyond which the worse of two boxes of one class is dropped
MOST = 300  # boxes of an image
AT_ONCE = 128  # true boxes that are set against all places together


def tensor(targets: Targets, index: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Boxes float32 (B, 1 + G, 5): left, top, right, bottom in the network's square, and the label; NOBODY fills up.

    The first row is no box: its corners are the image's own, within the square. The label k of a crowd is CROWD - k.
    """
    assert isinstance(targets, Boxes)
    most = max((len(targets.boxes[i].labels) for i in index), default=0)
    found = torch.full((len(index), 1 + most, 5), float(NOBODY))
    for row, i in enumerate(index):
        own = targets.boxes[i]
        labels = np.where(own.crowd, CROWD - own.labels, own.labels)
        found[row, 0, :4] = torch.tensor(window_of(preprocess, own.size))
        found[row, 1 : 1 + len(labels), :4] = torch.from_numpy(targets.fitted(int(i), preprocess)).float()
        found[row, 1 : 1 + len(labels), 4] = torch.from_numpy(labels).float()
    return found


def window_of(preprocess: Preprocess, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an image of ``size`` (width, height) in the network's square."""
    place = place_of(preprocess, size)
    return place.left, place.top, place.left + place.width, place.top + place.height


def mirrored(boxes_BG5: Tensor, side: int) -> Tensor:
    """The boxes of images whose left and right change places; what only fills up stays as it is."""
    left, top, right, bottom, label = boxes_BG5.unbind(-1)
    turned = torch.stack([side - right, top, side - left, bottom, label], -1)
    return torch.where((right > left)[..., None], turned, boxes_BG5)


def assigned(boxes_G5: Tensor, centres_L2: Tensor, strides_L: Tensor) -> Tensor:
    """The row of the box that each place is to tell, (L,); NOBODY of background, CROWD where nothing is asked.

    A place belongs to a box if it lies in it and near its centre, and the box is of a size for the place's map; to the
    smallest if there are several.
    """
    limits = torch.tensor([REACH[int(s)] for s in BOX_STRIDES])[(strides_L / BOX_STRIDES[0]).log2().long()]
    least = torch.full((len(centres_L2),), float("inf"))
    row, crowded = torch.full((len(centres_L2),), NOBODY), torch.zeros(len(centres_L2), dtype=torch.bool)
    for start in range(0, len(boxes_G5), AT_ONCE):
        corners, labels = boxes_G5[start : start + AT_ONCE, :4], boxes_G5[start : start + AT_ONCE, 4]
        sides = torch.cat([centres_L2[:, None] - corners[:, :2], corners[:, 2:] - centres_L2[:, None]], -1)  # (L, G, 4)
        inside, farthest = sides.amin(-1) > 0, sides.amax(-1)
        middle = (corners[:, :2] + corners[:, 2:]) / 2
        near = (centres_L2[:, None] - middle).abs().amax(-1) < NEAR * strides_L[:, None]
        fits = (farthest > limits[:, :1]) & (farthest <= limits[:, 1:])
        area = (corners[:, 2:] - corners[:, :2]).prod(-1).expand(len(centres_L2), -1)
        smallest, here = area.masked_fill(~(inside & near & fits) | (labels < 0), float("inf")).min(1)
        row = torch.where(smallest < least, start + here, row)
        least = torch.minimum(least, smallest)
        crowded |= (inside & (labels <= CROWD)).any(1)
    return row.masked_fill(crowded & (row == NOBODY), CROWD)


def loss(outputs_BLD: Tensor, boxes_BG5: Tensor) -> Tensor:
    """Focal loss of classes, GIoU loss of boxes weighted by centre-ness, and the cross-entropy of centre-ness, added.

    Each a mean over the places that belong to a box.
    """
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss  # slow to import

    side, classes = side_of(outputs_BLD.shape[1]), outputs_BLD.shape[2] - 5
    centres, strides = places_of(side)
    rows = torch.stack([assigned(one, centres, strides) for one in boxes_BG5.cpu()]).to(outputs_BLD.device)
    centres = centres.to(outputs_BLD)
    image, place = torch.nonzero(rows >= 0, as_tuple=True)
    own = boxes_BG5.to(outputs_BLD)[image, rows[image, place]]
    wanted = torch.zeros_like(outputs_BLD[..., :classes])
    wanted[image, place, own[:, 4].long()] = 1.0
    asked = (rows != CROWD)[..., None].expand_as(wanted)
    of_classes = sigmoid_focal_loss(outputs_BLD[..., :classes][asked], wanted[asked], reduction="sum")
    count = max(1, len(image))
    if not len(image):
        return of_classes + 0.0 * outputs_BLD[..., classes:].sum()
    near = centreness(own[:, :4], centres[place])
    of_boxes = generalized_box_iou_loss(boxes_at(outputs_BLD)[image, place], own[:, :4])
    of_centres = F.binary_cross_entropy_with_logits(outputs_BLD[image, place, classes], near)
    return of_classes / count + (of_boxes * near).sum() / near.sum() + of_centres


def centreness(boxes_N4: Tensor, centres_N2: Tensor) -> Tensor:
    """How near the centre of its box each place is, (N,): 1 there and 0 on the border."""
    before, behind = centres_N2 - boxes_N4[:, :2], boxes_N4[:, 2:] - centres_N2
    low, high = torch.minimum(before, behind), torch.maximum(before, behind)
    return (low / high).prod(1).clamp(min=0).sqrt()


def decoded(outputs_LD: Tensor) -> FoundBoxes:
    """The boxes that an image's outputs tell, best first, with the scores and corners of ``scored_boxes``."""
    from torchvision.ops import batched_nms  # slow to import

    with torch.no_grad():
        scores, places = scored_boxes(outputs_LD[None])[0].split([outputs_LD.shape[1] - 5, 4], 1)
        classes = scores.shape[1]
        best, flat = scores.flatten().topk(min(CANDIDATES, scores.numel()))
        flat, best = flat[best > LEAST], best[best > LEAST]
        labels = flat % classes
        corners = places[flat // classes]
        kept = batched_nms(corners, best, labels, OVERLAP)[:MOST]
    return FoundBoxes(
        corners[kept].cpu().double().numpy(), labels[kept].cpu().numpy(), best[kept].cpu().double().numpy()
    )


def within(found: FoundBoxes, window: Sequence[float]) -> FoundBoxes:
    """The boxes cut off at left, top, right and bottom of a window; those that lie outside fall away."""
    low, high = np.array([*window[:2]] * 2, np.float64), np.array([*window[2:]] * 2, np.float64)
    corners = np.clip(found.corners, low, high)
    there = (corners[:, 2:] - corners[:, :2]).min(1, initial=np.inf) > 0
    return FoundBoxes(corners[there], found.labels[there], found.scores[there])


def tally(outputs_BLD: Tensor, boxes_BG5: Tensor) -> np.ndarray:
    """What matches what in each image, in its square: `Matches`, an array of objects (B,)."""
    classes = outputs_BLD.shape[2] - 5
    return objects(
        [
            matched(within(decoded(out), boxes[0, :4].tolist()), _true(boxes), classes)
            for out, boxes in zip(outputs_BLD, boxes_BG5, strict=True)
        ]
    )


def _true(boxes_G5: Tensor) -> TrueBoxes:
    rows = boxes_G5[boxes_G5[:, 4] != NOBODY].cpu().double().numpy()
    crowd = rows[:, 4] <= CROWD
    return TrueBoxes(rows[:, :4], np.where(crowd, CROWD - rows[:, 4], rows[:, 4]).astype(np.int64), crowd)


def objects(matches: list[Matches]) -> np.ndarray:
    """An array of them, (N,)."""
    found = np.empty(len(matches), object)
    found[:] = matches
    return found


def check(train: Targets, val: Targets) -> list[str]:
    """Notes about classes without a box to learn from. DataError where there is no box to learn or to validate with."""
    assert isinstance(train, Boxes)
    assert isinstance(val, Boxes)
    for part, boxes in (("training", train), ("validation", val)):
        if not any(len(one.counted) for one in boxes.boxes):
            raise DataError(
                f"no {part} image has a box: there is nothing to {'learn' if part == 'training' else 'measure'}."
            )
    return [
        *_absent(train, "in a training image and cannot be learned"),
        *_absent(val, "in a validation image, so nothing measures whether it is found"),
    ]


def _absent(boxes: Boxes, where: str) -> list[str]:
    """A note about classes without a box."""
    absent = [name for name, count in boxes.counts(np.arange(len(boxes))).items() if not count]
    if not absent:
        return []
    many = "1 class has" if len(absent) == 1 else f"{len(absent)} classes have"
    return [f"{many} no box {where}: {a_few(absent)}."]


TASK = Task(
    name="detection",
    asks=ASKED["detection"],
    better="higher",
    metric=lambda names: "ap50",
    tensor=tensor,
    loss=loss,
    tally=tally,
    score=score,
    settings=settings,
    check=check,
    strides=BOX_STRIDES,
    has_curve=True,
    size=512,
    mirrored=mirrored,
    heads=(HeadKind("FCOS", {"head": "fcos"}, partial(on_flat_maps, BOX_HEADS["fcos"]), epochs=16, rate=2e-3),),
)
