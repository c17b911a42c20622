"""The images of a plan: which train, validate and test, and what an arm may do to them. Every change is in the
fingerprint, so that a result is never taken for one on other images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..datasets.dataset import Dataset, assemble
from ..datasets.registry import load_dataset
from ..datasets.shapes import load_shapes
from ..datasets.splits import stratified
from ..images.preprocess import statistics
from ..randomness import order
from ..storage import to_json
from .plan import StudyData

PERMUTATION = 0  # the seed of the one that shuffles pixels


def load_study_data(wanted: StudyData, data_root: Path | None = None) -> Dataset:
    """The dataset with the parts that a plan asks for. Raises as ``datasets.load``."""
    if wanted.data == "shapes":
        asked = (wanted.train or 0) + (wanted.val or 0) + (wanted.test or 0)
        dataset = assemble(load_shapes(max(asked, 12)), image_size=wanted.image_size)
    else:
        dataset = load_dataset(wanted.data, data_root=data_root, image_size=wanted.image_size)
    parts = _given(dataset, wanted) if dataset.test_given else _cut(dataset, wanted)
    mean, std = statistics(dataset.images, parts["train"])
    dataset = replace(dataset, parts=parts, preprocess=replace(dataset.preprocess, mean=mean, std=std))
    return changed(dataset, to_json(asdict(wanted)))


def _given(dataset: Dataset, wanted: StudyData) -> dict[str, np.ndarray]:
    """Some of each part, stratified."""
    counts = {"train": wanted.train, "val": wanted.val, "test": wanted.test}
    return {part: dataset.subset(part, count) for part, count in counts.items()}


def _cut(dataset: Dataset, wanted: StudyData) -> dict[str, np.ndarray]:
    """Parts cut from all images, copies on one side; training first, then validation, and the rest is the test."""
    rest, parts = np.arange(len(dataset)), {}
    for part, count in (("train", wanted.train), ("val", wanted.val), ("test", wanted.test)):
        count = len(rest) if count is None else min(count, len(rest))
        chosen = rest[stratified(dataset.labels[rest], dataset.keys[rest], count)]
        parts[part] = chosen
        rest = rest[~np.isin(dataset.keys[rest], dataset.keys[chosen])]
    return parts


def changed(dataset: Dataset, words: str) -> Dataset:
    """A dataset that was changed, with a fingerprint of its own: made of the old one and ``words`` for the change."""
    fingerprint = hashlib.sha256(f"{dataset.fingerprint}|{words}".encode()).hexdigest()
    return replace(dataset, fingerprint=fingerprint)


def shuffled(dataset: Dataset, _seed: int) -> Dataset:
    """Every image's pixels in another order, the same for all: what is there stays, where it is does not."""
    count, height, width, channels = dataset.images.shape
    places = order(PERMUTATION, 0, np.arange(height * width, dtype=np.uint64))
    images = np.asarray(dataset.images).reshape(count, height * width, channels)[:, places]
    return changed(replace(dataset, images=images.reshape(dataset.images.shape)), "pixels shuffled")


def only_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """The images of some classes in every part, their labels counted anew."""
    number = np.full(len(dataset.class_names), -1, np.int64)
    number[list(classes)] = np.arange(len(classes))
    labels = number[dataset.labels]
    kept = replace(
        dataset,
        labels=np.maximum(labels, 0),
        class_names=tuple(dataset.class_names[k] for k in classes),
        parts={part: index[labels[index] >= 0] for part, index in dataset.parts.items()},
    )
    return changed(kept, f"classes {list(classes)}")


def some_a_class(dataset: Dataset, seed: int, count: int) -> Dataset:
    """So many training images of each class, others for each seed; validation and test stay."""
    train = dataset.parts["train"]
    shuffled_train = train[order(seed, 0, dataset.keys[train])]
    place = np.concatenate([np.flatnonzero(dataset.labels[shuffled_train] == k)[:count] for k in _labels(dataset)])
    parts = dataset.parts | {"train": np.sort(shuffled_train[place])}
    return changed(replace(dataset, parts=parts), f"{count} a class, seed {seed}")


def _labels(dataset: Dataset) -> range:
    return range(len(dataset.class_names))
