"""Heads: each of the table builds, is found again, and k-NN votes as scikit-learn's does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from convscope.errors import UnknownName, UsageError
from convscope.feature_store.nearest import most_similar
from convscope.models.heads import HEADS, TEMPERATURE, head_place, put_head, unit, votes
from convscope.models.registry import build
from convscope.transfer_learning.fcnn import train_fcnn
from convscope.transfer_learning.fine_tuning import stages_of, tune
from convscope.transfer_learning.knn import choose_neighbours, neighbours_head


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("model", ["timm:tf_efficientnet_lite0", "torchvision:resnet18"])
def test_every_head_can_end_a_network(model: str, head: str):
    plain = build(model, 1000, 64)
    network = build(model, 3, 64, {"head": head}).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    assert head_place(network) == head_place(plain)


def test_heads_that_do_not_exist_and_options_that_do_not_fit():
    with pytest.raises(UnknownName, match="fcnn"):
        build("timm:resnet18", 3, 64, {"head": "fcn"})
    with pytest.raises(UsageError, match="no option"):
        build("timm:resnet18", 3, 64, {"head": "linear", "neighbours": 3})
    with pytest.raises(UsageError, match="no option 'hidden'"):
        build("timm:resnet18", 3, 64, {"hidden": 3})
    with pytest.raises(UsageError, match="no linear layer"):
        put_head(nn.Sequential(nn.Conv2d(3, 3, 3)), "linear", 3, {})


def test_votes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    train, labels = rng.normal(size=(60, 8)), rng.integers(0, 3, 60)
    asked = rng.normal(size=(20, 8))
    unit = [F.normalize(torch.from_numpy(x)) for x in (train, asked)]
    ours = torch.softmax(votes(unit[1] @ unit[0].T, torch.from_numpy(labels), 7, 3), 1)
    oracle = KNeighborsClassifier(7, metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE)).fit(
        train, labels
    )
    assert np.allclose(ours.numpy(), 0.999 * oracle.predict_proba(asked) + 0.001 / 3, atol=1e-6)


def test_neighbours_tell_how_many_images_were_asked():
    generator = torch.Generator().manual_seed(0)
    told: list[tuple[int, int]] = []
    features, fold = torch.randn(40, 6, generator=generator), torch.arange(40) // 8
    choose_neighbours(features, torch.arange(40) % 2, fold, 2, lambda *counts: told.append(counts))
    assert told == [(8, 40), (16, 40), (24, 40), (32, 40), (40, 40)]


def test_neighbours_are_asked_of_other_folds_only():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=generator)
    labels, fold = torch.arange(40) % 2, torch.arange(40) // 8
    features[1] = features[0]  # a copy of another class in the same fold must not vote
    found = choose_neighbours(features, labels, fold, 2)
    head = neighbours_head(features[fold != 0], labels[fold != 0], 2, found.neighbours)
    assert torch.allclose(head(features[fold == 0]), found.logits[fold == 0], atol=1e-6)


def test_most_similar_is_exact():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 5)).astype(np.float32)
    cosines = rows @ rows[7] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[7])
    found = most_similar(rows, rows[7], 5)
    assert [i for i, _ in found] == list(np.argsort(-cosines)[:5])
    assert found[0][1] == pytest.approx(1)
    assert len(most_similar(rows[:3], rows[7], 9)) == 3


def test_the_fully_connected_network_learns_what_no_line_can():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 2, generator=generator) * torch.tensor([1.0, 100.0]) + 5
    labels = ((features[:, 0] > 5) ^ (features[:, 1] > 5)).long()
    network = train_fcnn(features, labels, 2, np.arange(400, dtype=np.uint64))
    with torch.inference_mode():
        assert (network(features).argmax(1) == labels).float().mean() > 0.95
    again = train_fcnn(features, labels, 2, np.arange(400, dtype=np.uint64))
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("model", ["timm:tf_efficientnet_lite0", "timm:resnet18", "timm:convnext_atto"])
def test_fine_tuning_reaches_what_it_says(model: str):
    network = build(model, 3, 64)
    stages = stages_of(network)
    place, _ = head_place(network)
    names = {n for n, _ in network.named_parameters()}
    assert {n for stage in stages for n in stage} | {n for n in names if n.startswith(place)} == names
    last = tune(network, "last stage")
    moving = {n for n, p in network.named_parameters() if p.requires_grad}
    assert moving == set(last.scales) == set(stages[-1]) | {n for n in names if n.startswith(place)}
    full = tune(network, "full")
    assert set(full.scales) == names
    rates = [full.scales[stage[0]] for stage in stages]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] == 1
    with pytest.raises(UsageError, match="last stage"):
        tune(network, "everything")


@pytest.mark.parametrize("size", [1e-37, 1e-25, 1.0, 1e30])
def test_features_have_length_one_however_short_or_long_they_are(size: float) -> None:
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    rows[2] = 0
    torch.testing.assert_close(unit(rows * size), F.normalize(rows), rtol=1e-5, atol=1e-6)
    assert torch.equal(unit(rows * size)[2], torch.zeros(7))


def test_the_gradient_of_a_unit_vector_is_that_of_its_formula() -> None:
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit, rows)
    nothing = torch.zeros(1, 6, requires_grad=True)
    unit(nothing).sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()
