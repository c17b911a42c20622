"""Logistic regression on features, against scikit-learn's optimum, and its cross-validation against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from convscope.errors import DataError
from convscope.transfer_learning.head import Problem, Standard, folds_of, train_head

CLASSES = 4


def made(n: int = 300, channels: int = 40, seed: int = 0, noise: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    centres = rng.normal(size=(CLASSES, channels))
    features = (centres[labels] + noise * rng.normal(size=(n, channels))) * rng.uniform(0.1, 10, channels) + 3
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def objective(weight, bias, features, labels, C) -> float:
    """scikit-learn's, in float64."""
    logits = features.double() @ weight.double().T + bias.double()
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return float(0.5 * weight.double().square().sum() + C * loss)


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(300, 40), (30, 80)])
def test_the_optimum_is_scikit_learns(C: float, shape: tuple[int, int]):
    features, labels = made(*shape)
    standard = Standard.of(features)(features)
    problem = Problem(standard, labels, CLASSES, torch.ones(len(labels)))
    ours = objective(*problem.layer(problem.solve(C, torch.ones(len(labels), 1))[:, 0]), standard, labels, C)
    model = LogisticRegression(C=C, tol=1e-10, max_iter=50_000).fit(standard.double().numpy(), labels.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if weight.shape[0] == CLASSES:
        theirs = objective(weight, bias, standard, labels, C)
        assert ours <= theirs * (1 + 1e-6)


def test_folds_solved_together_are_those_solved_alone():
    features, labels = made()
    standard = Standard.of(features)(features)
    used = torch.from_numpy(folds_of(np.arange(300, dtype=np.uint64), labels.numpy(), 5))[:, None] != torch.arange(5)
    together = Problem(standard, labels, CLASSES, torch.ones(300))
    solved = together.solve(0.1, used.float())
    for j in range(5):
        alone = Problem(standard[used[:, j]], labels[used[:, j]], CLASSES, torch.ones(int(used[:, j].sum())))
        weight, bias = alone.layer(alone.solve(0.1, torch.ones(int(used[:, j].sum()), 1))[:, 0])
        ours = objective(*together.layer(solved[:, j]), standard[used[:, j]], labels[used[:, j]], 0.1)
        assert ours == pytest.approx(objective(weight, bias, standard[used[:, j]], labels[used[:, j]], 0.1), rel=1e-6)


def test_the_head_works_on_raw_features_and_its_path_is_what_a_plain_loop_finds():
    features, labels = made()
    keys = np.arange(300, dtype=np.uint64)
    told = []
    head = train_head(features, labels, CLASSES, keys, strengths=[1e-3, 1e-1], progress=lambda *step: told.append(step))
    assert told == [(0, 3), (1, 3), (2, 3)]
    standard = Standard.of(features)(features)
    fold = folds_of(keys, labels.numpy(), 5)
    for row in head.path:
        correct = np.zeros(300, bool)
        for j in range(5):
            model = LogisticRegression(C=row.C, tol=1e-8, max_iter=5000)
            model.fit(standard[fold != j].double(), labels[fold != j])
            correct[fold == j] = model.predict(standard[fold == j].double()) == labels[fold == j].numpy()
        assert abs(int(correct.sum()) - int(row.correct.sum())) <= 1
    raw = (features @ head.weight.T + head.bias).argmax(1)
    assert (raw == labels).float().mean() > head.path[0].top1.value - 0.05


def test_folds_keep_copies_together_and_shares_of_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 50)
    keys = rng.integers(0, 2**63, 150, dtype=np.uint64)
    keys[10] = keys[20] = keys[30]
    fold = folds_of(keys, labels, 5)
    assert len({fold[10], fold[20], fold[30]}) == 1
    assert all(8 <= ((fold == j) & (labels == k)).sum() <= 12 for j in range(5) for k in range(3))
    order = rng.permutation(150)
    assert (folds_of(keys[order], labels[order], 5) == fold[order]).all()


def test_balance_gives_a_rare_class_its_say():
    features, labels = made(400, noise=6.0)
    rare = torch.ones(400, dtype=torch.bool)
    rare[torch.nonzero(labels == 0)[8:, 0]] = False
    features, labels = features[rare], labels[rare]
    keys = np.arange(len(labels), dtype=np.uint64)
    recall = {}
    for balance in (False, True):
        head = train_head(features, labels, CLASSES, keys, strengths=[1e-3], folds=0, balance=balance)
        guess = (features @ head.weight.T + head.bias).argmax(1)
        recall[balance] = (guess[labels == 0] == 0).float().mean()
    assert recall[True] > recall[False]


def test_awkward_features():
    features, labels = made(20, 5)
    features[:, 2] = 7.0  # constant
    head = train_head(features, labels, CLASSES, np.arange(20, dtype=np.uint64))
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()
    with pytest.raises(DataError, match="two images"):
        train_head(features[:1], labels[:1], CLASSES, np.arange(1, dtype=np.uint64))
    few = train_head(features[:3], torch.tensor([0, 1, 2]), CLASSES, np.arange(3, dtype=np.uint64))
    assert torch.isfinite(few.weight).all()
