"""Labels that are likely wrong: planted ones come first, copies do not vouch for each other, cleanlab agrees."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from convscope.inspection.wrong_labels import OWN, SURE, check_labels, label_findings, out_of_fold

CLASSES, EACH, WIDTH = 5, 120, 40


def features(seed: int, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features of five classes, true labels, given labels of which 5 % are wrong, and which those are."""
    random = np.random.default_rng(seed)
    true = np.repeat(np.arange(CLASSES), EACH)
    centres = random.normal(size=(CLASSES, WIDTH)) * apart / np.sqrt(2)
    made = centres[true] + random.normal(size=(len(true), WIDTH))
    wrong = random.random(len(true)) < 0.05
    given = np.where(wrong, (true + random.integers(1, CLASSES, len(true))) % CLASSES, true)
    return made, true, given, wrong


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_come_first(seed: int) -> None:
    made, true, given, wrong = features(seed)
    alone = np.arange(len(given))
    check = check_labels(made, given, alone, alone)
    assert roc_auc_score(wrong, -check.own) > 0.98
    doubtful = check.doubtful
    assert wrong[doubtful].mean() > 0.95
    assert (check.likeliest[doubtful] == true[doubtful]).mean() > 0.95
    assert (np.diff(check.own[doubtful]) >= 0).all()
    assert ((check.chance[doubtful] >= SURE) & (check.own[doubtful] <= OWN)).all()
    names = [str(i) for i in alone]
    (finding,) = label_findings(check, tuple("abcde"), names, given)
    assert finding.count == len(doubtful)


def test_labels_without_a_fault_are_left_alone() -> None:
    made, true, _, _ = features(9, 3.0)
    alone = np.arange(len(true))
    assert len(check_labels(made, true, alone, alone).doubtful) <= 2


def test_a_copy_does_not_vouch_for_its_own_label() -> None:
    """Twins with one wrong label: apart they hold each other up, together they are told."""
    made, _, given, wrong = features(4)
    twice, labels = np.repeat(made, 2, 0), np.repeat(given, 2)
    together = np.repeat(np.arange(len(made)), 2)
    apart = np.arange(len(twice))
    mean = [check_labels(twice, labels, groups, apart).own[np.repeat(wrong, 2)].mean() for groups in (together, apart)]
    assert mean[0] < mean[1]


def test_cleanlab_ranks_them_alike() -> None:
    rank = pytest.importorskip("cleanlab.rank")
    made, _, given, wrong = features(5, 1.2)
    chance = out_of_fold(made, given, np.arange(len(given)))
    theirs = rank.get_label_quality_scores(given, chance, method="self_confidence")
    check = check_labels(made, given, np.arange(len(given)), np.arange(len(given)))
    assert np.allclose(theirs, check.own)
    assert abs(roc_auc_score(wrong, -check.own) - roc_auc_score(wrong, -theirs)) < 1e-9


def test_a_class_of_one_group_is_judged_by_nobody() -> None:
    made, _, given, _ = features(6)
    groups = np.arange(len(given))
    groups[given == 0] = 0
    chance = out_of_fold(made, given, groups)
    assert np.isfinite(chance).all()
    assert np.allclose(chance.sum(1), 1)
