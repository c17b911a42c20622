"""Boxes that are likely missing or of another class, by a head that is trained on all other images.

A pretrained network's maps are recorded once. The head that `transfer` trains learns two thirds of the images for a few
epochs and is asked about the last third, in turn, with copies kept on one side. What it surely finds where nobody has
drawn a box is a candidate for one; a box at whose places it sees another class is a candidate for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..classifying.classifier import Classifier
from ..datasets.boxes import Boxes, back
from ..datasets.dataset import Listing, Undecoded
from ..feature_store.engines import FeatureRequest
from ..feature_store.extraction import extract
from ..feature_store.store import FeatureOptions
from ..models.box_network import BOX_STRIDES, places_of, side_of
from ..models.pixel_network import backbone_maps, map_shapes
from ..progress import Progress
from ..tasks.detection import CROWD, NOBODY, TASK, assigned, decoded
from ..tasks.matching import FoundBoxes, overlap
from ..tasks.task import Shape
from ..transfer_learning.recorded_targets import BLOCK, Recorded, record_targets, trained_head
from ..workers import Workers
from .findings import Finding, are, counted, first, some

SIZE = 320  # pixels of the square that images are padded into
FOLDS = 3
EPOCHS, UPDATES = 8, 120  # of a head: at least, both
APART = 0.3  # the IoU with every drawn box, under which a found one lies on none
SAME = 0.5  # the IoU from which two found boxes are one object
LEAST_SURE = 0.3  # score of a found box, below which it is never told
SURE_WRONG = 0.1  # by which another class is more probable
TOLD = 60  # boxes that are told one by one
SECONDS = 0.6  # an image, on two cores: what is told before


@dataclass(frozen=True)
class FoundAlone:
    """M boxes that heads have found where none is drawn, the surest first.

    ``image`` (M,) is the place of the image among all, ``corners`` (M, 4) are pixels of it, ``label`` and ``score``
    (M,) what was found.
    """

    image: np.ndarray
    corners: np.ndarray
    label: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class DrawnBoxes:
    """What heads say of B drawn boxes: ``image`` and ``box`` (B,) are the places of the image and of the box in it.

    ``own`` is the probability of the box's own ``label``, ``chance`` that of the ``likeliest`` other one; both NaN
    where a box is too small for any place. ``score`` is that of the surest box of its class found on it, 0 of none.
    """

    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    own: np.ndarray
    likeliest: np.ndarray
    chance: np.ndarray
    score: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """How much more probable another class is than the one given, (B,)."""
        return self.chance - self.own


@dataclass(frozen=True)
class BoxCheck:
    """What heads say of images that they have not seen: boxes that nobody has drawn, and the classes of those drawn."""

    alone: FoundAlone
    drawn: DrawnBoxes

    @property
    def missing(self) -> np.ndarray:
        """Places of the found boxes as sure as the middle one of those drawn of their class, the surest first."""
        labels = np.unique(self.drawn.label)
        middle = {k: float(np.median(self.drawn.score[self.drawn.label == k])) for k in labels.tolist()}
        least = np.array([max(LEAST_SURE, middle.get(k, np.inf)) for k in self.alone.label.tolist()])
        return np.flatnonzero(self.alone.score >= least)

    @property
    def wrong(self) -> np.ndarray:
        """Places of the drawn boxes that are likely of another class, the surest first."""
        found = np.flatnonzero(self.drawn.margin >= SURE_WRONG)
        return found[np.argsort(-self.drawn.margin[found], kind="stable")]


def record_boxes(
    listed: Listing,
    backbone: Classifier,
    device: torch.device,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Recorded:
    """The maps of the images of a listing, and their boxes; those of images that cannot be read are in no row."""
    preprocess = replace(backbone.preprocess, size=SIZE, fit="pad", centre=1.0)
    architecture = replace(backbone.architecture, image_size=SIZE)
    fitted = replace(backbone, preprocess=preprocess, architecture=architecture)
    stored = FeatureOptions(FeatureRequest(strides=BOX_STRIDES), "float16", workers=workers)
    found = extract(listed, fitted, stored, device, progress)
    dataset = listed.dataset(Undecoded(listed, preprocess), preprocess)
    shapes: list[Shape] = [*map_shapes(backbone_maps(architecture.name, BOX_STRIDES), SIZE)]
    return record_targets(TASK, dataset, found.features, shapes, progress)


def check_boxes(
    recorded: Recorded, groups_N: np.ndarray, index_N: np.ndarray, progress: Progress | None = None
) -> BoxCheck:
    """Judge every box by heads that have not seen its image; ``groups_N`` numbers images so that copies have one.

    ``index_N`` are the places of the images where the check is told.
    """
    usable = recorded.features.rows[: len(groups_N)] >= 0
    fold_of = folds(recorded.dataset.keys, groups_N)
    alone, drawn = [], []
    for fold in range(FOLDS):
        train, test = (np.flatnonzero(usable & which) for which in (fold_of != fold, fold_of == fold))
        if not len(test) or not _has_boxes(recorded, train):
            continue
        kind = TASK.heads[0]
        epochs = max(EPOCHS, -(-UPDATES // max(1, len(train) // kind.batch)))
        head = trained_head(replace(kind, epochs=epochs), recorded, train, 0, _of_fold(progress, fold))
        for start in range(0, len(test), BLOCK):
            rows = test[start : start + BLOCK]
            with torch.inference_mode():
                outputs = head(recorded.inputs(rows))
            targets = recorded.targets(rows)[:, 1:]  # the first is none
            for i, outputs_LD, boxes_G5 in zip(rows.tolist(), outputs, targets, strict=True):
                found = decoded(outputs_LD)
                alone.append(_alone(recorded, i, found, boxes_G5))
                drawn.append(_drawn(i, found, outputs_LD, boxes_G5))
    return _together(alone, drawn, index_N)


def minutes(images: int) -> int:
    """About how long so many take on two cores."""
    return max(1, round(images * SECONDS / 60))


def folds(keys_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """The fold of each image, int64 (N,): groups in the order of their contents, one after the other."""
    names, place = np.unique(groups_N, return_inverse=True)
    first = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, place, keys_N)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(names))
    return rank[place] % FOLDS


def _has_boxes(recorded: Recorded, rows: np.ndarray) -> bool:
    boxes = recorded.dataset.targets
    assert isinstance(boxes, Boxes)
    return any(len(boxes.boxes[i]) for i in rows.tolist())


def _of_fold(progress: Progress | None, fold: int) -> Progress | None:
    """Progress through all folds."""
    if progress is None:
        return None
    return lambda _, done, total: progress("judging boxes", fold * total + done, FOLDS * total)


def _alone(recorded: Recorded, i: int, found: FoundBoxes, boxes_G5: Tensor) -> np.ndarray:
    """Rows of what was found on no drawn box: image, four corners in its pixels, label, score; float64 (m, 7)."""
    found = _one_each(found)
    rows = boxes_G5[boxes_G5[:, 4] != NOBODY].double().numpy()
    overlaps = overlap(found.corners, rows[:, :4], rows[:, 4] <= CROWD)
    boxes = recorded.dataset.targets
    assert isinstance(boxes, Boxes)
    corners = back(found.corners, boxes.boxes[i].size, recorded.preprocess)
    kept = (overlaps.max(1, initial=0) < APART) & ((corners[:, 2:] - corners[:, :2]).min(1, initial=np.inf) > 0)
    columns = (np.full(len(kept), i), corners, found.labels, found.scores)
    return np.column_stack([values[kept] for values in columns])


def _one_each(found: FoundBoxes) -> FoundBoxes:
    """The surest of the boxes, of whatever class, that lie on one object; they come in that order."""
    overlaps = overlap(found.corners, found.corners, np.zeros(len(found.labels), bool))
    kept: list[int] = []
    for k in range(len(found.labels)):
        if not (overlaps[k, kept] >= SAME).any():
            kept.append(k)
    return FoundBoxes(found.corners[kept], found.labels[kept], found.scores[kept])


def _drawn(i: int, found: FoundBoxes, outputs_LD: Tensor, boxes_G5: Tensor) -> np.ndarray:
    """Rows of the drawn boxes, float64 (g, 7): the columns of `DrawnBoxes`."""
    classes = outputs_LD.shape[1] - 5
    row_L = assigned(boxes_G5, *places_of(side_of(len(outputs_LD)))).numpy()
    chance_LK = outputs_LD[:, :classes].sigmoid().double().numpy()
    weight_L = outputs_LD[:, classes].sigmoid().double().numpy()
    rows = boxes_G5.double().numpy()
    overlaps = overlap(found.corners, rows[:, :4], np.zeros(len(rows), bool))
    same = (overlaps >= SAME) & (found.labels[:, None] == rows[:, 4])
    scores = np.where(same, found.scores[:, None], 0.0).max(0, initial=0.0)
    told = []
    for g in np.flatnonzero(rows[:, 4] >= 0).tolist():
        mine, own = row_L == g, int(rows[g, 4])
        chance_K = np.average(chance_LK[mine], 0, weight_L[mine]) if mine.any() else np.full(classes, np.nan)
        others = np.where(np.arange(classes) == own, -1.0, chance_K)
        other = int(others.argmax())
        told.append((i, g, own, chance_K[own], other, max(0.0, others[other]) if mine.any() else np.nan, scores[g]))
    return np.array(told, np.float64).reshape(-1, 7)


def _together(alone: list[np.ndarray], drawn: list[np.ndarray], index_N: np.ndarray) -> BoxCheck:
    lost = np.concatenate([np.zeros((0, 7)), *alone])
    lost = lost[np.argsort(-lost[:, 6], kind="stable")]
    rows = np.concatenate([np.zeros((0, 7)), *drawn])
    image, box, label, own, likeliest, chance, score = rows.T
    return BoxCheck(
        FoundAlone(index_N[_whole(lost[:, 0])], lost[:, 1:5], _whole(lost[:, 5]), lost[:, 6]),
        DrawnBoxes(index_N[_whole(image)], _whole(box), _whole(label), own, _whole(likeliest), chance, score),
    )


def _whole(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64)


def box_check_findings(check: BoxCheck, boxes: Boxes, origin: Callable[[int], str]) -> Iterator[Finding]:
    """The boxes that are likely missing, and those that are likely of another class; ``origin`` names an image."""
    alone, drawn = check.alone, check.drawn
    rows: list[dict[str, object]] = []
    for k in check.missing.tolist():
        more = {"likeliest": boxes.names[alone.label[k]], "score": round(float(alone.score[k]), 4)}
        rows.append(_place(origin, alone.image[k], alone.corners[k]) | more)
    if rows:
        told = [f"{row['image']} ({row['likeliest']}: {row['score']:.2f})" for row in rows]
        sentence = (
            f"{counted(len(rows), 'object')} may lack a box: a network that has not seen the image is as sure of one "
            f"there as of half the boxes that are drawn: {some(told)}."
        )
        advice = "look at them in the page, and draw those that are right: what has no box is learned as background."
        details = {"boxes": rows[:TOLD], "judged": len(boxes)}
        yield Finding("boxes-missing", "doubt", sentence, len(rows), advice, first(told), details)
    rows = []
    for k in check.wrong.tolist():
        names = {"label": boxes.names[drawn.label[k]], "likeliest": boxes.names[drawn.likeliest[k]]}
        place = _place(origin, drawn.image[k], boxes.boxes[drawn.image[k]].corners[drawn.box[k]])
        rows.append(place | names | {"margin": round(float(drawn.margin[k]), 4)})
    if rows:
        told = [f"{row['image']} ({row['label']}, looks like {row['likeliest']})" for row in rows]
        sentence = (
            f"{counted(len(rows), 'box', 'boxes')} {are(len(rows))} likely of another class, to which a network that "
            f"has not seen the image gives at least {SURE_WRONG:g} more than to the one told: {some(told)}."
        )
        details = {"boxes": rows[:TOLD], "judged": int(np.isfinite(drawn.margin).sum())}
        advice = "look at them in the page, and mend those that are wrong."
        yield Finding("boxes-wrong-class", "doubt", sentence, len(rows), advice, first(told), details)


def _place(origin: Callable[[int], str], i: int, corners_4: np.ndarray) -> dict[str, object]:
    return {"image": origin(int(i)), "box": [round(float(value), 1) for value in corners_4]}
