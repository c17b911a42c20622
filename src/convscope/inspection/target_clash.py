"""When two copies of one image contradict each other in what is asked of them."""

from __future__ import annotations

import numpy as np

from ..datasets.boxes import Boxes
from ..datasets.targets import LabelSets, Numbers
from .box_overlap import Agreement, agreement
from .copies import Pair
from .copy_findings import Clash
from .mask_survey import MaskSurvey
from .survey import Survey

SAME, ALIKE = 0.95, 0.5  # the IoU under which masks differ, of the same bytes and of near copies
APART = 0.1  # standard deviations between two numbers


def target_clash(survey: Survey, masks: MaskSurvey | None) -> Clash | None:
    """By what copies are compared; None where an image has one class, or nothing that could be read."""
    targets = survey.unsplit.targets
    if masks is not None:
        found: dict[Pair, float] = {}

        def overlap(pair: Pair) -> float:
            if pair not in found:
                found[pair] = masks.overlap(pair.first, pair.second, pair.exact)
            return found[pair]

        return Clash(
            "masks",
            "with two masks",
            lambda pair: overlap(pair) < (SAME if pair.exact else ALIKE),
            lambda pair: {"iou": round(overlap(pair), 4)},
        )
    if isinstance(targets, Boxes):
        return _of_boxes(targets)
    if isinstance(targets, LabelSets):
        rows = targets.values
        return Clash("labels", "under two labels", lambda p: bool((rows[p.first] != rows[p.second]).any()))
    if isinstance(targets, Numbers):
        numbers = targets.values
        least = APART * float(np.std(numbers))
        return Clash("numbers", "with two numbers", lambda p: bool(abs(numbers[p.first] - numbers[p.second]) > least))
    return None


def _of_boxes(boxes: Boxes) -> Clash:
    found: dict[Pair, Agreement] = {}

    def of(pair: Pair) -> Agreement:
        if pair not in found:
            found[pair] = agreement(boxes.boxes[pair.first], boxes.boxes[pair.second], pair.exact)
        return found[pair]

    def differ(pair: Pair) -> bool:
        here = of(pair)
        return here.alone > 0 or here.iou < SAME if pair.exact else here.iou < ALIKE

    return Clash("boxes", "with different boxes", differ, lambda pair: {"iou": round(of(pair).iou, 4)})
