"""Which filters vote for a class of pixels, for a label, for a large number: their votes add up to the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.datasets.mask_coding import VOID
from convscope.models.pixel_network import STRIDES, LinearPixels, TopDown
from convscope.transfer_learning.pixel_filters import Given, pixel_votes, sampled, votes
from convscope.transfer_learning.used_filters import label_votes, number_votes

SIDE, COUNT, CLASSES = 64, 6, 3
CHANNELS = (5, 4, 3, 2)


def random_head(kind: type[nn.Module], classes: int = CLASSES) -> nn.Module:
    """A head whose norms have statistics of their own."""
    torch.manual_seed(0)
    head = kind(CHANNELS, classes)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
    return head.eval()


@pytest.fixture
def given() -> tuple[list[Tensor], Tensor]:
    draw = torch.Generator().manual_seed(1)
    maps = [torch.randn(COUNT, c, SIDE // s, SIDE // s, generator=draw) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    masks = torch.randint(0, CLASSES, (COUNT, 4, 4), generator=draw).repeat_interleave(SIDE // 4, 1)
    masks = masks.repeat_interleave(SIDE // 4, 2)
    masks[:, :8] = VOID
    return maps, masks


def asked(head: nn.Module, maps: list[Tensor], masks: Tensor) -> tuple[Given, np.ndarray]:
    return Given(head, lambda rows: [one[rows] for one in maps], lambda rows: masks[rows]), np.arange(len(masks))


def lead(head: nn.Module, maps: list[Tensor], masks: Tensor, k: int, mean_C: Tensor) -> float:
    """How much higher a class's logit, less the classes' mean, is on its pixels than with every filter at its mean."""
    levels = [
        mean[None, :, None, None].expand_as(one) for one, mean in zip(maps, mean_C.split(list(CHANNELS)), strict=True)
    ]
    with torch.no_grad():
        now, flat = head(maps), head(levels)
    own = sampled(masks, now.shape[-1]) == k
    return float(((now[:, k] - now.mean(1)) - (flat[:, k] - flat.mean(1)))[own].mean())


def test_a_pixels_logit_is_the_sum_of_the_votes_and_a_bias(given: tuple[list[Tensor], Tensor]):
    """Weight times activation, written out: the oracle of what the head computes, and of what the votes count."""
    maps, masks = given
    head = random_head(LinearPixels)
    said, bias = [], torch.zeros(CLASSES)
    for (norm, convolution), one in zip(head.layers, maps, strict=True):
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = convolution.weight[:, :, 0, 0] * scale
        bias += convolution.bias + convolution.weight[:, :, 0, 0] @ (norm.bias - norm.running_mean * scale)
        placed = F.interpolate(one, size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
        said.append(weight[None, :, :, None, None] * placed[:, None])
    votes_BKCHW = torch.cat(said, 2)
    assert torch.allclose(votes_BKCHW.sum(2) + bias[None, :, None, None], head(maps), atol=1e-5)
    mean_C = torch.linspace(-1, 1, sum(CHANNELS))
    weights_KC = torch.cat(
        [c.weight[:, :, 0, 0] * (n.weight / torch.sqrt(n.running_var + n.eps)) for n, c in head.layers], 1
    ).detach()
    for k in range(CLASSES):
        own = sampled(masks, maps[0].shape[-1]) == k
        centred = (votes_BKCHW[:, k] - votes_BKCHW.mean(1)).permute(0, 2, 3, 1)[own].mean(0).detach()
        level = (weights_KC[k] - weights_KC.mean(0)) * mean_C
        assert torch.allclose(votes(*asked(head, maps, masks), k, mean_C), centred - level, atol=1e-5)


@pytest.mark.parametrize(("kind", "share"), [(LinearPixels, 1e-5), (TopDown, 0.02)])
def test_votes_add_up_to_what_they_explain(kind: type[nn.Module], share: float, given: tuple[list[Tensor], Tensor]):
    maps, masks = given
    head = random_head(kind)
    mean_C = torch.linspace(-1, 1, sum(CHANNELS))
    for k in range(CLASSES):
        wanted = lead(head, maps, masks, k, mean_C)
        adds_C = votes(*asked(head, maps, masks), k, mean_C)
        assert float(adds_C.sum()) == pytest.approx(wanted, abs=share * float(adds_C.abs().sum()))
        assert abs(wanted) > share * float(adds_C.abs().sum())


def planted(kind: type[nn.Module]) -> tuple[nn.Module, list[Tensor], Tensor]:
    """Filter 2 of the second map fires on class 1 alone, and the head has learned that."""
    masks = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.long)
    for i in range(COUNT):
        masks[i, 16 : 24 + 4 * i, 16:40] = 1
    draw = torch.Generator().manual_seed(2)
    maps = [
        0.1 * torch.rand(COUNT, c, SIDE // s, SIDE // s, generator=draw) for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]
    maps[1][:, 2] += 3 * (sampled(masks, SIDE // 8) == 1)
    head = kind(CHANNELS, 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(head(maps), sampled(masks, SIDE // 4)).backward()
        optimizer.step()
    return head.eval(), maps, masks


@pytest.mark.parametrize("kind", [LinearPixels, TopDown])
def test_the_filter_that_fires_on_a_class_is_found_and_where_it_fires(kind: type[nn.Module]):
    torch.manual_seed(0)
    head, maps, masks = planted(kind)
    names, layers = ("background", "thing"), ("a", "b", "c", "d")
    found = pixel_votes(*asked(head, maps, masks), names, layers)
    thing = found.classes[1]
    assert (thing.votes[0].layer, thing.votes[0].filter) == ("b", 2)
    assert thing.votes[0].part > 0.5
    assert all((vote.layer, vote.filter) != ("b", 2) for vote in found.classes[0].votes)
    assert found.classes[0].by_absence > 0.5  # the background is known by the filter that is silent there
    fired = found.firing[1][0]
    for i, fires in zip(fired.index, fired.maps, strict=True):
        assert np.array_equal(fires > 0.5, (sampled(masks, SIDE // 8)[i] == 1).numpy())
    for one in found.classes:
        adds = [vote.adds for vote in one.votes]
        assert adds == sorted(adds, reverse=True)
        assert 0 <= one.by_absence <= 1
        assert sum(vote.part for vote in one.votes) + one.by_absence <= 1 + 1e-6


def test_what_is_void_excites_nothing_and_a_class_that_is_nowhere_is_left_out(given: tuple[list[Tensor], Tensor]):
    maps, masks = given
    maps[0][:, :, :2] = 1000.0
    masks = torch.where(masks == 2, VOID, masks)
    found = pixel_votes(*asked(random_head(LinearPixels), maps, masks), ("a", "b", "c"), ("1", "2", "3", "4"))
    assert [one.name for one in found.classes] == ["a", "b"]
    void = sampled(masks, SIDE // 4) == VOID
    for one, fires in zip(found.classes, found.firing, strict=True):
        for vote, fired in zip(one.votes, fires, strict=False):
            if vote.layer == "1":
                assert not fired.maps[void[fired.index].numpy()].any()
    assert all(abs(vote.adds) < 100 for one in found.classes for vote in one.votes)


def test_votes_for_a_label_add_up_to_how_much_higher_its_logit_is():
    torch.manual_seed(0)
    head, features = nn.Linear(6, 2), torch.rand(30, 6)
    labels = torch.stack([features[:, 1] > 0.5, torch.zeros(30)], 1)
    (one,) = label_votes(head, features, labels, ("label", "of no image"), "conv")
    has = labels[:, 0] > 0
    more = features[has].mean(0) - features[~has].mean(0)
    with torch.no_grad():
        logits, adds = head(features)[:, 0], more * head.weight[0]
    assert float(adds.sum()) == pytest.approx(float(logits[has].mean() - logits[~has].mean()), abs=1e-5)
    for vote in one.votes:
        assert vote.adds == pytest.approx(float(adds[vote.filter]), abs=1e-6)
        assert more[vote.filter] > 0


def test_large_and_small_numbers_have_filters_of_their_own():
    head = nn.Linear(3, 1)
    head.weight.data = torch.tensor([[2.0, -1.0, 0.0]])
    numbers = torch.arange(10.0)
    features = torch.stack([numbers, 9 - numbers, torch.ones(10)], 1)
    large, small = number_votes(head, features, numbers, "age", None)
    assert (large.name, [v.filter for v in large.votes]) == ("large age", [0])
    assert (small.name, [v.filter for v in small.votes]) == ("small age", [1])
    assert large.votes[0].adds == pytest.approx(2 * 5)
    assert large.by_absence == pytest.approx(1 / 3)
