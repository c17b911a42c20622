"""What a loop does at each step, against what was done in it: gradients left over, moves, losses, odd images."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convscope.models.taps import count_hooks
from convscope.training.loop_signs import SIGNS
from convscope.training.watched import Watched
from convscope.training.watching import watching

CLASSES = 5
Loss = Callable[[Tensor, Tensor], Tensor]


def net(classes: int = CLASSES) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(4 * 36, classes))


def batch(step: int, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return torch.randn(12, 3, 8, 8, generator=draw), torch.randint(classes, (12,), generator=draw)


def watched(
    loss: Loss = F.cross_entropy,
    zeroed: Callable[[int], bool] = lambda step: True,
    stepped: Callable[[int], bool] = lambda step: True,
    steps: int = 12,
    network: nn.Module | None = None,
) -> Watched:
    network = net() if network is None else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    with watching(network, 2) as watch:
        for step in range(steps):
            images, labels = batch(step)
            if zeroed(step):
                optimizer.zero_grad()
            value = loss(network(images), labels)
            value.backward()
            if stepped(step):
                optimizer.step()
            watch.step(value.item(), 0.05)
    assert count_hooks(network) == 0
    return watch.watched()


def test_gradients_that_were_not_zeroed_are_seen_from_the_second_update_on():
    assert watched().signs["left_over"].tolist() == [0] * 12
    assert watched(zeroed=lambda step: False).signs["left_over"].tolist() == [0] + [1] * 11


@pytest.mark.parametrize("period", [2, 3, 4, 5, 10])
def test_gradients_that_are_added_up_on_purpose_are_not_left_over(period: int):
    """Told after each backward pass: the first one after an update finds none."""
    seen = watched(
        zeroed=lambda step: step % period == 0, stepped=lambda step: step % period == period - 1, steps=3 * period
    )
    moved = seen.signs["moved"]
    assert moved.tolist() == [float(step % period == period - 1) for step in range(3 * period)]
    assert seen.signs["left_over"][moved == 1].tolist() == [0, 0, 0]
    never = watched(zeroed=lambda step: False, stepped=lambda step: step % period == period - 1, steps=3 * period)
    assert never.signs["left_over"][moved == 1].tolist() == [0, 1, 1]


def test_an_update_is_measured_when_the_weights_move():
    """Looks fall on steps that move nothing; the move that follows is theirs."""
    seen = watched(stepped=lambda step: step % 2 == 1)
    assert (np.nanmin(seen.values["update"], axis=1) > 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_a_loss_that_is_cross_entropy_is_taken_for_no_other(smoothing: float):
    seen = watched(lambda x, y: F.cross_entropy(x, y, label_smoothing=smoothing))
    looked = ~np.isnan(seen.signs["second_softmax"])
    assert looked.sum() >= 6
    assert seen.signs["second_softmax"][looked].min() > 0.2
    assert seen.signs["negated"][looked].min() > 0.2
    assert set(seen.signs["probabilities"][looked]) == {0}


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.1, 4.0), st.sampled_from([1.0, 0.25, 8.0]))
def test_a_softmax_before_the_loss_and_a_minus_are_known_by_the_gradient(
    classes: int, seed: int, scale: float, factor: float
):
    from convscope.training.loop_signs import _losses

    draw = torch.Generator().manual_seed(seed)
    outputs = (scale * torch.randn(24, classes, generator=draw)).requires_grad_()
    labels = torch.randint(classes, (24,), generator=draw)
    losses = {
        "second_softmax": F.cross_entropy(outputs.softmax(1), labels),
        "negated": -F.cross_entropy(outputs, labels),
        "": F.cross_entropy(outputs, labels),
    }
    for sign, loss in losses.items():
        (gradient,) = torch.autograd.grad(factor * loss, outputs)
        found = _losses(outputs.detach(), 24 * gradient)
        for name in ("second_softmax", "negated"):
            assert (found[name] < 0.02) == (name == sign), (name, sign, found)


def test_the_share_of_right_answers_is_read_off_the_gradient():
    seen = watched()
    network = net()
    network.train()
    images, labels = batch(0)
    torch.manual_seed(0)
    logits = network.eval()(images)
    assert 0 <= seen.signs["right"][0] <= 1
    plain = nn.Sequential(*[m for m in network if not isinstance(m, nn.Dropout)])
    right = float((plain(images).argmax(1) == labels).float().mean())
    assert watched(network=plain, steps=1).signs["right"][0] == pytest.approx(right, abs=1e-6)
    assert logits.shape == (12, CLASSES)


def test_a_loss_that_is_cut_off_never_comes_back():
    seen = watched(lambda x, y: F.cross_entropy(x.detach().requires_grad_(), y))
    assert set(seen.signs["arrived"]) == {0}
    assert set(seen.signs["moved"]) == {0}
    assert set(watched().signs["arrived"]) == {1}


def test_images_are_measured_as_they_come():
    network = net()
    seen = watched(network=network, steps=1)
    images, _ = batch(0)
    signs = {name: float(row[0]) for name, row in seen.signs.items()}
    assert signs["low"] == pytest.approx(float(images.min()))
    assert signs["high"] == pytest.approx(float(images.max()))
    assert signs["deviation"] == pytest.approx(float(images.std(correction=0)), rel=1e-6)
    spread = float(images.std(0, correction=0).mean() / images.std((0, 2, 3), correction=0).mean())
    assert signs["variety"] == pytest.approx(spread, rel=1e-5)
    assert (signs["batch"], signs["not_numbers"], signs["dropouts_on"]) == (12, 0, 1)


def test_the_image_that_holds_no_number_is_named_at_the_step_that_broke():
    """The step is none that is looked at: a loss that is no number is looked into."""
    network = net()
    with watching(network, 10) as watch:
        for step in range(4):
            images, labels = batch(step)
            if step == 3:
                images[7, 1, 2, 2] = torch.nan
            watch.step(F.cross_entropy(network(images), labels).item())
    seen = watch.watched()
    assert seen.signs["not_numbers"][3] == 1
    assert seen.signs["bad_place"][3] == 7
    assert math.isinf(seen.losses[3])
    assert math.isnan(seen.signs["not_numbers"][2])


def test_a_loop_in_half_precision_whose_first_steps_are_skipped():
    """A scaler that finds infinities leaves weights alone; what it lets pass is seen."""
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    with watching(network, 3, scale=scaler.get_scale) as watch:
        for step in range(12):
            images, labels = batch(step)
            optimizer.zero_grad()
            loss = 8 * F.cross_entropy(network(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            watch.step(loss.item())
    seen = watch.watched()
    moved = seen.signs["moved"]
    assert moved[0] == 0
    assert moved[-1] == 1
    assert np.nanmax(seen.signs["left_over"]) == 0


def test_a_network_that_gets_another_head_goes_on_being_watched():
    network = net()
    with watching(network, 2) as watch:
        for step in range(8):
            if step == 3:
                network[4] = nn.Linear(4 * 36, 7)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
            images, labels = batch(step)
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(loss.item())
    assert count_hooks(network) == 0
    assert np.nanmin(watch.watched().signs["moved"]) == 1


def test_a_compiled_network_is_watched_or_refused_in_one_sentence():
    network = torch.compile(net(), backend="eager")
    seen = watched(network=network, steps=4)  # type: ignore[arg-type]
    assert seen.signs["arrived"].min() == 1
    assert seen.signs["moved"].min() == 1


def test_a_record_keeps_its_signs_and_one_of_an_earlier_version_has_none(tmp_path: Path):
    seen = watched()
    seen.save(tmp_path / "new")
    again = Watched.load(tmp_path / "new")
    for name in SIGNS:
        np.testing.assert_array_equal(again.signs[name], seen.signs[name])
    seen.signs.clear()
    seen.save(tmp_path / "old")
    old = Watched.load(tmp_path / "old")
    assert old.signs == {}
    assert np.isnan(old.all_signs()["moved"]).all()
    with watching(net(), 2, before=old) as watch:
        watch.step(1.0)
    assert len(watch.watched().signs["moved"]) == len(watch.watched().losses) == 13


def test_a_loss_jumps_from_those_before_the_training_went_on_too():
    network, images = net(), batch(0)[0]

    def steps(losses: list[float], before: Watched | None = None) -> Watched:
        with watching(network, 100, before=before) as watch:
            for loss in losses:
                network(images).sum().backward()
                watch.step(loss)
        return watch.watched()

    earlier = steps([1.0, 1.1] * 6)
    assert np.isfinite(steps([50.0], earlier).signs["high"][-1])
    assert np.isnan(steps([1.05], earlier).signs["high"][-1])
