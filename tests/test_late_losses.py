"""Losses that are read late: the same training, and a divergence that is still caught, by what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.shapes import load_shapes
from convscope.models.registry import build
from convscope.recipes import Recipe
from convscope.training.batches import Batches
from convscope.training.diverging import Diverged
from convscope.training.loop import Step, TrainState, make_optimizer, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    return assemble(load_shapes(120))


def training(data: Dataset, late: bool, **options: Any) -> tuple[TrainState, list[Step]]:
    """A small training, and each of its steps."""
    given = {"epochs": 2, "batch_size": 20, "precision": "float32", **options}
    recipe = Recipe().with_options(given)
    network = build("resnet20", 6, 32, seed=0)
    state = TrainState(network, make_optimizer(network, recipe.optimizer))
    batches = Batches(data, np.arange(len(data)), 20, 0, recipe.augment, CPU, recipe.labels)
    return state, list(train(state, batches, recipe, late=late))


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"mixup": 0.4, "optimizer": "muon", "lr": 0.02}])
def test_a_training_is_the_same_but_for_when_its_losses_are_told(shapes: Dataset, options: dict[str, Any]) -> None:
    usual, steps = training(shapes, False, **options)
    other, told = training(shapes, True, **options)
    assert [s.summary for s in steps] == [s.summary for s in told]
    for one, two in zip(usual.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    losses, late = [s.loss for s in steps], [s.loss for s in told]
    assert late == [losses[0], *losses[:4], losses[5], *losses[5:10], losses[11]]
    assert not other.late


@pytest.mark.parametrize("lr", [1e6, 1e30])
def test_a_loss_that_runs_away_is_told_as_it_is_at_once(shapes: Dataset, lr: float) -> None:
    said = []
    for late in (False, True):
        with pytest.raises(Diverged) as caught:
            training(shapes, late, lr=lr, warmup=0.0)
        said.append((str(caught.value), caught.value.step, caught.value.index.tolist()))
    assert said[0] == said[1]


def test_who_stops_between_reads_what_is_late_first(shapes: Dataset) -> None:
    recipe = Recipe().with_options({"epochs": 1, "batch_size": 20, "precision": "float32"})
    sums = []
    for late in (False, True):
        network = build("resnet20", 6, 32, seed=0)
        state = TrainState(network, make_optimizer(network, recipe.optimizer))
        batches = Batches(shapes, np.arange(len(shapes)), 20, 0, recipe.augment, CPU)
        for step in train(state, batches, recipe, late=late):
            if step.step == 3:
                break
        assert len(state.late) == int(late)
        state.catch_up()
        sums.append((state.loss_sum, state.correct, state.seen))
    assert sums[0] == sums[1]
