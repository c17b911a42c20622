"""A classifier against a dataset: classes matched by name, one pass, every figure with its interval."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from ..classifying import metrics
from ..classifying.calibration import Calibrated, calibrate, fit_temperature
from ..classifying.classifier import Classifier
from ..classifying.prediction import find_views, logits, view_logits
from ..datasets.dataset import Dataset
from ..datasets.imagenet import names_by_synset
from ..datasets.synsets import SYNSET
from ..errors import DataError
from ..models.taps import computing_by
from ..progress import Counted
from ..training.held_out import ALL_FAIR, FairAnswers

FITTED_VALUES = 50_000_000  # logits that a temperature is fitted on, at most


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with what it was made on: ``index`` (N,) into ``dataset``, logits (N, K) in the classifier's order.

    ``notes`` are sentences a user should read. With test-time views ``view_scores`` are the scores of the mean of
    ``views``; ``scores`` and ``logits`` are always those of the images as they are.
    """

    scores: metrics.Evaluation
    dataset: Dataset
    part: str
    index: np.ndarray
    logits: torch.Tensor
    labels: torch.Tensor
    notes: tuple[str, ...]
    views: str = "none"
    view_scores: metrics.Evaluation | None = None


def evaluate(  # noqa: PLR0913 - what is asked, and who is told how far it is
    classifier: Classifier,
    dataset: Dataset,
    part: str,
    limit: int | None = None,
    views: str = "none",
    progress: Counted | None = None,
) -> Evaluated:
    """Evaluate on a part ("train", "val", "test" or "all") of a dataset, at most ``limit`` images, stratified.

    The dataset must have been read with the classifier's size and fit. Classes go by name: DataError for one that the
    classifier does not know; those that the dataset lacks are noted. ``views`` is a name of VIEWS.
    """
    looks = find_views(views)
    index = dataset.subset(part, limit)
    translate = translation(classifier.class_names, dataset.class_names)
    with computing_by(classifier.faster()):
        scores, mean = view_logits(
            classifier.network, dataset.images, classifier.preprocess, looks, index, progress=progress
        )
    if not (metrics.finite(scores) and metrics.finite(mean)):
        raise DataError(f"the network's outputs for {dataset.name} are not all numbers, so there is nothing to score.")
    labels = torch.from_numpy(translate[dataset.labels[index]])
    result = metrics.evaluate(scores, labels, classifier.class_names)
    notes = _notes(classifier, dataset, result)
    viewed = metrics.evaluate(mean, labels, classifier.class_names) if len(looks) > 1 else None
    return Evaluated(result, dataset, part, index, scores, labels, notes, views, viewed)


def calibrated(
    classifier: Classifier, evaluated: Evaluated, limit: int | None = None, answers: FairAnswers = ALL_FAIR
) -> Calibrated | None:
    """What a temperature, fitted on at most ``limit`` validation images, does to the test images' probabilities.

    Of thousands of classes fewer images do: it is one number, and each image tells of all classes. Images that it was
    trained on are left out, but where ``answers`` were held out. None for other parts, without such images, and where
    no temperature is the best.
    """
    dataset = evaluated.dataset
    if evaluated.part != "test" or not len(dataset.parts["val"]):
        return None
    enough = max(1000, FITTED_VALUES // len(classifier.class_names))
    index = dataset.subset("val", enough if limit is None else min(limit, enough))
    index = index[answers.are_fair(dataset.keys[index])]
    if not len(index):
        return None
    with computing_by(classifier.faster()):
        fitting = logits(classifier.network, dataset.images, classifier.preprocess, index)
    fitting = answers.put(dataset.keys[index], fitting)
    if not metrics.finite(fitting):
        return None
    labels = translation(classifier.class_names, dataset.class_names)[dataset.labels[index]]
    temperature = fit_temperature(fitting, labels)
    return calibrate(evaluated.logits, evaluated.labels, temperature, len(index)) if temperature else None


def translation(known: tuple[str, ...], given: tuple[str, ...]) -> np.ndarray:
    """The classifier's number of each of the dataset's classes; DataError for one that it does not know.

    A name written with other Unicode characters that look the same, or with blanks around it, as a folder may have and
    a table's cell has not, is the same, unless that could mean two classes.
    """
    number = {name: i for i, name in enumerate(known)}
    composed = [_composed(name) for name in known]
    often = Counter(composed)
    alike = {name: i for i, name in enumerate(composed) if often[name] == 1}
    asked = Counter(map(_composed, given))
    number |= {
        n: alike[_composed(n)] for n in given if n not in number and asked[_composed(n)] == 1 and _composed(n) in alike
    }
    if any(name not in number and SYNSET.fullmatch(name) for name in given):  # folders as ImageNet calls them
        called = names_by_synset()
        number |= {n: number[called[n]] for n in given if n not in number and called.get(n) in number}
    strangers = [name for name in given if name not in number]
    if strangers:
        raise DataError(
            f"the classifier does not know the class {strangers[0]!r}; it knows {', '.join(known[:12])}"
            f"{', ...' if len(known) > 12 else ''}."
        )
    return np.array([number[name] for name in given], np.int64)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _notes(classifier: Classifier, dataset: Dataset, result: metrics.Evaluation) -> tuple[str, ...]:
    notes = []
    present = set(map(_composed, dataset.class_names))
    absent = [name for name in classifier.class_names if _composed(name) not in present]
    if absent:
        notes.append(f"{len(absent)} classes of the classifier are not in {dataset.name} (the first: {absent[0]!r}).")
    if result.top5_k < 5:
        notes.append(f"there are {result.top5_k} classes, so top-5 is top-{result.top5_k}, which is always 100 %.")
    elif len(classifier.class_names) == 5:
        notes.append("with 5 classes top-5 is always 100 %.")
    return tuple(notes)
