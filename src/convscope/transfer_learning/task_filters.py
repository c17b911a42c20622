"""The filters that decide a transfer to a task: for classes of pixels, for labels, for large and small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..classifying.classifier import Classifier
from ..datasets.boxes import Boxes
from ..images.preprocess import to_tensor
from ..models.pixel_network import MapNetwork, map_info, unflatten
from ..progress import Progress
from .box_filters import ClassesOfPlaces, middles
from .fine_tuning import REACHES
from .pixel_filters import Firing, Given, pixel_votes
from .recorded_targets import Recorded, TaskRung, head_of
from .used_filters import ClassVotes, label_votes, number_votes, pooled_layer

SHOWN = 8  # images of a filter
OUTSIDE = ""  # what is called so here, no class is: the places that no box holds


@dataclass(frozen=True)
class Strongest:
    """The images that excite the first filter of a class most, into the dataset, and which of them are of the class."""

    index: np.ndarray
    own: tuple[bool, ...]


@dataclass(frozen=True)
class Deciding:
    """The filters that ``rung`` decides by. Of each class, where its first filters fire if it is one of pixels, else
    the images that its first filter is excited by: None where it has no filter."""

    rung: str
    classes: tuple[ClassVotes, ...]
    firing: tuple[tuple[Firing, ...], ...] = ()
    strongest: tuple[Strongest | None, ...] = ()


def deciding_filters(
    recorded: Recorded, rungs: Sequence[TaskRung], best: TaskRung, classifier: Classifier, progress: Progress | None
) -> Deciding:
    """Of pixels, the filters of the network that is kept; else those of the linear head, kept or not."""
    if recorded.task.strides:
        return _of_pixels(recorded, best, classifier, progress)
    rung = rungs[0]
    assert isinstance(rung.module, nn.Linear)
    assert recorded.dataset.targets is not None
    rows = np.sort(np.concatenate([recorded.dataset.parts["train"], recorded.dataset.parts["val"]]))
    features, targets, names = recorded.inputs(rows), recorded.targets(rows), recorded.dataset.targets.names
    layer = pooled_layer(classifier.network, recorded.preprocess.size, rung.module.in_features)
    if recorded.task.scaled:
        classes = number_votes(rung.module, features, targets[:, 0], names[0], layer)
        above = targets[:, 0] > targets[:, 0].median()
        own = [above, ~above]
    else:
        classes = label_votes(rung.module, features, targets, names, layer)
        own = [targets[:, names.index(found.name)] > 0 for found in classes]
    strongest = [_strongest(rows, features, *one) for one in zip(classes, own, strict=True)]
    return Deciding(rung.name, classes, strongest=tuple(strongest))


def _strongest(rows: np.ndarray, features_NC: Tensor, found: ClassVotes, own_N: Tensor) -> Strongest | None:
    if not found.votes:
        return None
    best = torch.argsort(-features_NC[:, found.votes[0].filter], stable=True)[:SHOWN]
    return Strongest(rows[best.numpy()], tuple(own_N[best].tolist()))


def _of_pixels(recorded: Recorded, best: TaskRung, classifier: Classifier, progress: Progress | None) -> Deciding:
    network = classifier.network
    assert isinstance(network, MapNetwork)
    body, names = network.body, classifier.class_names
    shapes = [(int(c), int(h), int(w)) for c, h, w in recorded.shapes]

    def recorded_maps(rows: np.ndarray) -> list[Tensor]:
        return unflatten(recorded.inputs(rows), shapes)

    def own_maps(rows: np.ndarray) -> list[Tensor]:
        pixels = to_tensor(np.asarray(recorded.dataset.images[rows]))
        with torch.no_grad():
            return [one.float() for one in body(recorded.preprocess.normalise(pixels))]

    tuned = best.name in REACHES
    head, maps = (network.head, own_maps) if tuned else (head_of(best.module), recorded_maps)
    given = Given(head.eval(), maps, recorded.targets)
    of_boxes = isinstance(recorded.dataset.targets, Boxes)
    if of_boxes:
        side = recorded.preprocess.size
        given = Given(ClassesOfPlaces(head.eval()), maps, lambda rows: middles(recorded.targets(rows), side))
        names = (OUTSIDE, *names)
    layers = map_info(body).module_name()
    found = pixel_votes(given, recorded.dataset.parts["val"], names, layers, progress)
    there = [n for n, one in enumerate(found.classes) if not (of_boxes and one.name == OUTSIDE)]
    return Deciding(best.name, tuple(found.classes[n] for n in there), tuple(found.firing[n] for n in there))
