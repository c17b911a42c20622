"""What was answered to images with boxes, beside what is true: right, false, doubled, missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from ..canvas.boxed import boxed
from ..canvas.overlays import class_colours
from ..classifying.classifier import Classifier
from ..classifying.prediction import each_pass
from ..datasets.boxes import Boxes
from ..datasets.dataset import Dataset
from ..tasks.detection import decoded, window_of, within
from ..tasks.matching import FoundBoxes, TrueBoxes, matched
from .box_answers import sure, told_counts


@dataclass(frozen=True)
class Compared:
    """One image as the network sees it, and its boxes there.

    ``found`` are those at the threshold, ``right`` (n,) which of them are, ``wrong`` the false and the doubled ones,
    ``doubled`` these alone; one in a crowd is neither. ``missed`` (m,) are true boxes that nothing has found.
    """

    image: np.ndarray
    found: FoundBoxes
    truth: TrueBoxes
    right: np.ndarray
    wrong: np.ndarray
    doubled: np.ndarray
    missed: np.ndarray
    names: tuple[str, ...]

    def said(self) -> str:
        """How many of the answers are right, and how many are not."""
        doubled, right = int(self.doubled.sum()), int(self.right.sum())
        false = int(self.wrong.sum()) - doubled
        return f"{right} right, {false} false" + (f", {doubled} doubled" if doubled else "")

    def true(self) -> str:
        """Which boxes there are, and how many are missed."""
        missed = int(self.missed.sum())
        told = told_counts([self.names[k] for k in self.truth.labels[~self.truth.crowd]])
        return told + (f"; {missed} missed" if missed else "")


def compared(classifier: Classifier, dataset: Dataset, index: np.ndarray) -> Iterator[Compared]:
    """Each of the images at ``index``, in order, its answer at the classifier's threshold beside the truth."""
    boxes = dataset.targets
    assert isinstance(boxes, Boxes)
    outputs: list[torch.Tensor] = []

    def act(_: np.ndarray, inputs: torch.Tensor) -> None:
        outputs.extend(classifier.network(inputs).float().cpu())

    for start in range(0, len(index), 16):
        block = index[start : start + 16]
        outputs.clear()
        each_pass(classifier.network, dataset.images, classifier.preprocess, block, act)
        for i, one in zip(block, outputs, strict=True):
            yield _compared(classifier, boxes, int(i), one, np.asarray(dataset.images[int(i)]))


def _compared(classifier: Classifier, boxes: Boxes, i: int, outputs: torch.Tensor, pixels: np.ndarray) -> Compared:
    own = boxes.boxes[i]
    seen = within(decoded(outputs), window_of(classifier.preprocess, own.size))
    found = sure(seen, classifier.settings["threshold"])
    truth = TrueBoxes(boxes.fitted(i, classifier.preprocess), own.labels, own.crowd)
    matches = matched(found, truth, len(classifier.class_names))
    kept = FoundBoxes(found.corners[matches.kept], matches.labels, matches.scores)
    wrong = matches.false | matches.doubled
    names = classifier.class_names
    return Compared(pixels, kept, truth, matches.right, wrong, matches.doubled, matches.missed, names)


def small(compared: Compared, side: int) -> Compared:
    """The same at a sheet's size, so that lines are drawn there."""
    scale = side / max(compared.image.shape[:2])
    image = np.asarray(Image.fromarray(compared.image).resize((side, side), Image.Resampling.BILINEAR))
    found = FoundBoxes(compared.found.corners * scale, compared.found.labels, compared.found.scores)
    truth = TrueBoxes(compared.truth.corners * scale, compared.truth.labels, compared.truth.crowd)
    return replace(compared, image=image, found=found, truth=truth)


def answer_and_truth(compared: Compared, classes: int) -> list[np.ndarray]:
    """Two images: the answer over it, broken lines where that is wrong; and what is true, broken where it is missed."""
    colours, found, truth = class_colours(classes, False), compared.found, compared.truth
    said = boxed(compared.image, found.corners, colours[found.labels], compared.wrong)
    return [said, boxed(compared.image, truth.corners, colours[truth.labels], compared.missed)]
