"""Labels that are likely wrong: images that a head, trained on all others, is sure to belong to another class.

Features are recorded by a pretrained network; a linear head is trained on four fifths of the images and asked about
the last, in turn, with copies kept on one side, since a copy would vouch for its own wrong label. What it gives the
label of an image that it has not seen is the evidence (confident learning: Northcutt, Jiang and Chuang 2021).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .findings import Finding, are, counted, first, some

FOLDS = 5
SURE = (
    0.9  # of another class, as an image's own label gets less than `OWN`: docs/results.md has how often that is right
)
OWN = 0.05
COMPONENTS = 256
STRENGTH = 0.01  # of the penalty on weights: C of scikit-learn, for standardised features


@dataclass(frozen=True)
class LabelCheck:
    """Of images that could be judged: ``index``, the chance of their own label, the likeliest class and its chance."""

    index: np.ndarray
    own: np.ndarray
    likeliest: np.ndarray
    chance: np.ndarray
    accuracy: float

    @property
    def doubtful(self) -> np.ndarray:
        """Places of the labels that are likely wrong, the surest first."""
        wrong = np.flatnonzero((self.chance >= SURE) & (self.own <= OWN))
        return wrong[np.argsort(self.own[wrong], kind="stable")]


def check_labels(
    features_NC: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray, index_N: np.ndarray
) -> LabelCheck:
    """Judge every label by heads that have not seen it; ``groups_N`` numbers images so that copies have one number."""
    chance = out_of_fold(features_NC, labels_N, groups_N)
    classes = np.unique(labels_N)
    own = chance[np.arange(len(labels_N)), np.searchsorted(classes, labels_N)]
    best = chance.argmax(1)
    accuracy = float((classes[best] == labels_N).mean())
    return LabelCheck(index_N, own, classes[best], chance.max(1), accuracy)


def out_of_fold(features_NC: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """The chance of each class for each image, by a head that has not seen it, float64 (N, K); 1/K without one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    classes = np.unique(labels_N)
    chance = np.full((len(labels_N), len(classes)), 1 / len(classes))
    features, folds = _fewer(features_NC.astype(np.float32)), min(FOLDS, len(np.unique(groups_N)))
    if folds < 2:
        return chance
    # Small products: several threads would wait for one another, on a busy machine for most of the time.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # fewer groups than folds; a solver that stops early is near enough
        for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(
            features, labels_N, groups_N
        ):
            if len(np.unique(labels_N[train])) < 2:
                continue
            head = LogisticRegression(C=STRENGTH, max_iter=200)
            head.fit(features[train], labels_N[train])
            chance[test] = 0
            chance[test[:, None], np.searchsorted(classes, head.classes_)] = head.predict_proba(features[test])
    return chance


def _fewer(features_NC: np.ndarray) -> np.ndarray:
    """Standardised features in their `COMPONENTS` main directions: what a head reads, at a fraction of its time."""
    features = (features_NC - features_NC.mean(0)) / (features_NC.std(0) + 1e-6)
    if min(features.shape) <= COMPONENTS:
        return features
    values, vectors = np.linalg.eigh(features.T @ features)
    return features @ vectors[:, np.argsort(values)[-COMPONENTS:]]


def label_findings(
    check: LabelCheck, class_names: tuple[str, ...], names: list[str], labels: np.ndarray
) -> Iterator[Finding]:
    """The labels that are likely wrong; ``names`` and ``labels`` are of the images judged, in order."""
    doubtful = check.doubtful
    if not len(doubtful):
        return
    told = [
        f"{names[i]} ({class_names[labels[i]]}, looks like {class_names[check.likeliest[i]]}: {check.chance[i]:.0%})"
        for i in doubtful
    ]
    sentence = (
        f"{counted(len(doubtful), 'label')} {are(len(doubtful))} likely wrong: a network that has not seen the image "
        f"is at "
        f"least {SURE:.0%} sure of another class. {some(told)}."
    )
    advice = "look at them in the page; the corrections file relabels those you leave in it."
    yield Finding("wrong-labels", "doubt", sentence, len(doubtful), advice, first(told), {"judged": len(names)})
