"""What a network's answers are worth against targets: one pass, a tally an image, so memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..classifying.classifier import Classifier
from ..classifying.prediction import each_pass
from ..datasets.boxes import Boxes, ImageBoxes
from ..datasets.dataset import Dataset
from ..datasets.masks import Masks
from ..datasets.targets import Targets
from ..errors import DataError
from ..images.decoding import read_header
from ..images.placing import place_of
from ..progress import Progress
from ..tasks.detection import objects
from ..tasks.matching import Matches, TrueBoxes, matched
from ..tasks.registry import TASKS
from ..tasks.segmentation import counts
from ..tasks.task import Score, Task, a_few
from .box_answers import found_in


@dataclass(frozen=True)
class TaskEvaluated:
    """A score with the images it was made on: ``index`` (N,) into the dataset, and what a user should read."""

    score: Score
    tallies: np.ndarray
    dataset: Dataset
    part: str
    index: np.ndarray
    notes: tuple[str, ...] = ()


def task_of(classifier: Classifier) -> Task:
    """The task that a classifier was trained for. DataError for one that this version does not know."""
    if classifier.task not in TASKS:
        raise DataError(f"the classifier is for the task {classifier.task!r}. Known: {', '.join(TASKS)}.")
    return TASKS[classifier.task]


def _differing(classifier: Classifier, targets: Targets) -> str:
    """Which classes a classifier or some targets have alone, in words."""
    ours, theirs = set(classifier.class_names), set(targets.names)
    more = [name for name in targets.names if name not in ours]
    lacking = [name for name in classifier.class_names if name not in theirs]
    told = [f"the classifier does not know {a_few(more)}"] if more else []
    told += [f"without {a_few(lacking)}"] if lacking else []
    return "; ".join(told) or "the same, in another order"


def evaluate_task(
    classifier: Classifier, dataset: Dataset, part: str, limit: int | None = None, progress: Progress | None = None
) -> TaskEvaluated:
    """Score a classifier on a part of a dataset with targets of its task. DataError where their names differ."""
    dataset = _by_name(dataset, classifier.class_names)
    task, targets = task_of(classifier), dataset.targets
    assert targets is not None
    if tuple(targets.names) != classifier.class_names:
        raise DataError(f"{dataset.name} has other classes than the classifier: {_differing(classifier, targets)}.")
    index = dataset.subset(part, limit)
    tallies = tallies_of(classifier, task, dataset, index, progress)
    groups = None if dataset.groups is None else dataset.groups[index]
    score = task.score(tallies, classifier.class_names, classifier.settings, groups)
    return TaskEvaluated(score, tallies, dataset, part, index)


def _by_name(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """With boxes numbered by these names, where they are of no other class."""
    boxes = dataset.targets
    if not isinstance(boxes, Boxes) or boxes.names == names:
        return dataset
    try:
        return replace(dataset, targets=boxes.named(names))
    except KeyError:
        return dataset


def tallies_of(
    classifier: Classifier, task: Task, dataset: Dataset, index: np.ndarray, progress: Progress | None = None
) -> np.ndarray:
    """One tally for each of the images at ``index``, of masks at their own size. DataError for infinite outputs."""
    targets, found = dataset.targets, []
    assert targets is not None

    def act(here: np.ndarray, inputs: torch.Tensor) -> None:
        outputs = classifier.network(inputs).float()
        if not bool(torch.isfinite(outputs).all()):
            raise DataError(f"the network's outputs for {dataset.name} are not all numbers: there is nothing to score.")
        if isinstance(targets, Masks):
            found.extend(_mask_tally(classifier, targets, int(i), one) for i, one in zip(here, outputs, strict=True))
        elif isinstance(targets, Boxes):
            found.extend(_box_tally(classifier, targets.boxes[i], one) for i, one in zip(here, outputs, strict=True))
        else:
            found.extend(task.tally(outputs, task.tensor(targets, here, classifier.preprocess).to(outputs.device)))
        if progress:
            progress("images", len(found), len(index))

    each_pass(classifier.network, dataset.images, classifier.preprocess, index, act)
    return objects(found) if isinstance(targets, Boxes) else np.stack(found)


def _box_tally(classifier: Classifier, truth: ImageBoxes, outputs_LD: torch.Tensor) -> Matches:
    """What matches what in one image, in its own pixels: sizes of boxes count there."""
    return matched(found_in(classifier, outputs_LD, truth.size), true_boxes(truth), len(classifier.class_names))


def true_boxes(truth: ImageBoxes) -> TrueBoxes:
    """The boxes of an image as they are matched."""
    return TrueBoxes(truth.corners, truth.labels, truth.crowd)


def _mask_tally(classifier: Classifier, masks: Masks, i: int, logits_KSS: torch.Tensor) -> np.ndarray:
    """The counts of one image at the size of its mask."""
    truth = masks.read(i)
    size = read_header(masks.images[i]).upright_size
    return counts(guessed_mask(classifier, logits_KSS, size, truth.shape), truth, len(classifier.class_names))


def guessed_mask(
    classifier: Classifier, logits_KSS: torch.Tensor, size: tuple[int, int], shape: tuple[int, ...]
) -> np.ndarray:
    """The class of each pixel, uint8 (h, w) of ``shape``, for an image of ``size`` (width, height).

    What was padded is cut off again, and logits are brought to the shape before a class is chosen.
    """
    rows, columns = place_of(classifier.preprocess, size).window
    within = logits_KSS[None, :, rows, columns]
    return F.interpolate(within, size=shape, mode="bilinear", align_corners=False)[0].argmax(0).to(torch.uint8).numpy()


def worst(evaluated: TaskEvaluated, count: int) -> list[int]:
    """The places in ``index`` of the images that are answered worst, the worst first."""
    return [int(i) for i in np.argsort(evaluated.score.each, kind="stable")[:count]]
