"""Which filters speak for a class: those it excites, and never those that it lacks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convscope.transfer_learning.used_filters import used_filters


def head_of(weight: list[list[float]]) -> nn.Linear:
    head = nn.Linear(len(weight[0]), len(weight))
    head.weight.data = torch.tensor(weight)
    return head


def test_two_classes_never_share_the_filter_that_only_one_excites():
    """Ants excite filter 0; for bees it is missing, which lifts them as much, and is not their filter."""
    features = torch.tensor([[5.0, 0.0], [5.0, 0.2], [0.0, 1.0], [0.0, 0.8]])
    ants, bees = used_filters(
        head_of([[1.0, -0.5], [-1.0, 0.5]]), features, torch.tensor([0, 0, 1, 1]), ["ant", "bee"], "conv"
    )
    assert ants.filters == (0,)
    assert bees.filters == (1,)
    assert 0.9 < bees.by_absence < 1
    assert ants.by_absence < 0.1


def test_a_class_that_excites_nothing_has_no_filter():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    *_, nothing = used_filters(
        head_of([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), features, torch.tensor([0, 1, 2]), ["a", "b", "none"], None
    )
    assert nothing.filters == ()
    assert nothing.by_absence == 1


def test_a_class_of_many_images_weighs_as_one_of_few():
    features = torch.tensor([[3.0, 0.0]] * 50 + [[0.0, 3.0]] * 2)
    labels = torch.tensor([0] * 50 + [1] * 2)
    many, few = used_filters(head_of([[1.0, -1.0], [-1.0, 1.0]]), features, labels, ["many", "few"], None)
    assert many.shares == few.shares


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 12), st.integers(0, 10**6))
def test_a_filter_that_speaks_for_a_class_is_excited_by_it_and_weighed_for_it(classes: int, filters: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    head = nn.Linear(filters, classes)
    head.weight.data = torch.randn(classes, filters, generator=draw)
    labels = torch.arange(classes).repeat(3)
    features = torch.rand(len(labels), filters, generator=draw)
    means = torch.stack([features[labels == k].mean(0) for k in range(classes)])
    for k, found in enumerate(used_filters(head, features, labels, [str(k) for k in range(classes)], None)):
        for number, share in zip(found.filters, found.shares, strict=True):
            assert means[k, number] > means[:, number].mean()
            assert head.weight[k, number] > head.weight[:, number].mean()
            assert share > 0
        assert list(found.shares) == sorted(found.shares, reverse=True)
        assert 0 <= found.by_absence <= 1
