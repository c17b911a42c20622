"""The loop: against a slow obvious one, its counters, its generator's good manners, and running away."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from convscope.datasets.dataset import Dataset, assemble
from convscope.datasets.shapes import load_shapes
from convscope.models.layer_table import ledger
from convscope.models.registry import MODELS, build
from convscope.recipes import AUGMENTS, Recipe
from convscope.training.batches import Batches
from convscope.training.diverging import Diverged
from convscope.training.loop import TrainState, flops_per_image, make_optimizer, train
from convscope.training.schedules import SCHEDULES

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return assemble(load_shapes(60))


def start(data: Dataset, **options) -> tuple[TrainState, Batches, Recipe]:
    wanted = {"model": "alexnet", "width": 4, "epochs": 2, "batch_size": 16, "precision": "float32", "augment": "light"}
    recipe = Recipe().with_options({**wanted, **options})
    network = build("alexnet", len(data.class_names), 32, recipe.model.options(), seed=recipe.loop.seed)
    index = data.subset("train")
    batches = Batches(data, index, recipe.loop.batch_size, recipe.loop.seed, recipe.augment, CPU)
    return TrainState(network, make_optimizer(network, recipe.optimizer)), batches, recipe


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_loop_equals_a_slow_obvious_one(data: Dataset, optimizer: str) -> None:
    options = {"optimizer": optimizer, "lr": 0.01, "clip": 1.0}
    state, batches, recipe = start(data, **options)
    losses = [step.loss for step in train(state, batches, recipe)]

    network = build("alexnet", len(data.class_names), 32, recipe.model.options(), seed=0)
    decay = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": recipe.optimizer.weight_decay}, {"params": plain, "weight_decay": 0}]
    if optimizer == "sgd":
        slow = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)
    else:
        slow = torch.optim.AdamW(groups, lr=0.01)
    network.train()
    expected, done, updates = [], 0, 2 * len(batches)
    for epoch in range(2):
        for batch in batches.epoch(epoch):
            for group in slow.param_groups:
                group["lr"] = 0.01 * SCHEDULES["one-cycle"](done / updates, recipe.optimizer.warmup)
            smooth = F.one_hot(batch.labels, 6) * 0.9 + 0.1 / 6
            loss = -(smooth * F.log_softmax(network(batch.images), 1)).sum(1).mean()
            slow.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            slow.step()
            expected.append(loss.item())
            done += 1
    assert losses == pytest.approx(expected, rel=2e-4)
    for a, b in zip(state.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-5)


def test_averaged_weights_follow_their_formula(data: Dataset) -> None:
    state, batches, recipe = start(data, ema=0.7)
    average = {name: t.clone().double() for name, t in state.network.state_dict().items()}
    for updates, _ in enumerate(train(state, batches, recipe)):
        decay = min(0.7, (1 + updates) / (10 + updates))
        for name, now in state.network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * now if now.is_floating_point() else now.clone()
    assert state.averaged is not None
    assert state.best_network is state.averaged
    for name, tensor in state.averaged.state_dict().items():
        torch.testing.assert_close(tensor.double(), average[name].double(), rtol=1e-4, atol=1e-6)


def test_steps_and_summaries_are_counted(data: Dataset) -> None:
    state, batches, recipe = start(data)
    steps = list(train(state, batches, recipe))
    assert [(s.epoch, s.step) for s in steps] == [(e, i) for e in (1, 2) for i in range(1, len(batches) + 1)]
    assert sum(s.images for s in steps) == 2 * len(batches.index)
    first = steps[: len(batches)]
    assert [s.summary is not None for s in first] == [False] * (len(batches) - 1) + [True]
    mean = sum(s.loss * s.images for s in first) / len(batches.index)
    assert first[-1].summary is not None
    assert first[-1].summary.loss == pytest.approx(mean)
    assert 0 <= first[-1].summary.top1 <= 1
    assert (state.epoch, state.step, state.seen) == (2, 0, 0)


def test_stopping_is_break_and_going_on_is_the_same_as_never_stopping(data: Dataset) -> None:
    state, batches, recipe = start(data, dropout=0.3)
    whole = [s.loss for s in train(state, batches, recipe)]
    other, _, _ = start(data, dropout=0.3)
    parts = []
    for count in (1, 3, 2, 100):
        parts += [s.loss for s in itertools.islice(train(other, batches, recipe), count)]
    assert parts == whole
    for a, b in zip(state.network.state_dict().values(), other.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_callers_random_generator_is_left_alone(data: Dataset) -> None:
    state, batches, recipe = start(data, dropout=0.5)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    next(train(state, batches, recipe))
    assert torch.equal(torch.rand(3), expected)


def test_no_gradient_mode_is_left_on_or_off_between_steps(data: Dataset) -> None:
    state, batches, recipe = start(data, precision="bfloat16")
    for _ in train(state, batches, recipe):
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")


def test_a_runaway_loss_stops_with_step_rate_and_images(data: Dataset) -> None:
    state, batches, recipe = start(data, lr=1e6)
    with pytest.raises(Diverged) as caught:
        list(train(state, batches, recipe))
    assert caught.value.exit_code == 76
    assert caught.value.step > 1
    assert caught.value.lr > 0
    assert set(caught.value.index) <= set(data.subset("train"))


def test_a_loss_that_is_no_number_stops_before_any_weight_moves(data: Dataset) -> None:
    state, batches, recipe = start(data)
    with torch.no_grad():
        state.network.get_submodule("fc6").bias[0] = float("nan")
    before = [p.clone() for p in state.network.parameters()]
    with pytest.raises(Diverged, match="nan"):
        list(train(state, batches, recipe))
    for a, b in zip(before, state.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_weight_decay_is_on_filters_and_not_on_norms() -> None:
    network = build("alexnet", 3, 32, seed=0)
    decayed, plain = make_optimizer(network, Recipe().optimizer).param_groups
    assert {p.ndim for p in plain["params"]} == {1}
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_three_forward_passes_less_what_nobody_reads(name: str) -> None:
    network = build(name, 10, 32, {"width": 8})
    book = ledger(network, 32)
    first = next(row for row in book.rows if row.multiply_adds)
    frozen = not network.get_submodule(first.name).get_parameter("weight").requires_grad
    saved = (2 if frozen else 1) * first.multiply_adds
    assert flops_per_image(network, 32) == 2 * (3 * book.multiply_adds - saved)


def test_another_batch_order_or_level_is_another_training(data: Dataset) -> None:
    losses = {}
    for options in ({}, {"seed": 1}, {"augment": "none"}):
        state, batches, recipe = start(data, **options)
        losses[str(options)] = tuple(s.loss for s in train(state, batches, recipe))
    assert len(set(losses.values())) == 3
    assert np.isfinite(list(losses.values())).all()
    assert AUGMENTS["none"].flip == "none"
