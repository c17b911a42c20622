"""Augmentation: pure and stateless, and each variation against a slow, obvious version of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convscope.images import augmentation as module
from convscope.images.augmentation import augment
from convscope.randomness import mix, uniforms
from convscope.recipes import AUGMENTS, OPERATIONS, Augment
from slow_images import slow_warp

KEYS = mix(11, np.arange(40))
SIDES = [(1, 1), (1, 7), (7, 1), (13, 32), (33, 5)]
EVERYTHING = Augment(
    flip="random",
    amounts={"translate": 0.3, "zoom": 0.7, "rotate": 170, "brightness": 0.3, "contrast": 0.5, "cutout": 0.4},
)  # further than any level goes
RECIPES = AUGMENTS | {"everything": EVERYTHING}


def random_images(count: int = 40, height: int = 32, width: int = 32) -> torch.Tensor:
    raw = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return torch.from_numpy(raw).permute(0, 3, 1, 2)


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    """Waves without sharp steps, so that a place a hair to the side has nearly the same value."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / (3 + c) + i) * np.cos(y / (4 + c)) for i in range(count) for c in range(3)]
    raw = np.rint(np.array(waves)).astype(np.uint8).reshape(count, 3, height, width)
    return torch.from_numpy(raw).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("level", AUGMENTS)
def test_every_level_keeps_shape_type_and_memory(level: str) -> None:
    given_images = random_images()
    before = given_images.clone()
    varied = augment(given_images, AUGMENTS[level], 0, 0, KEYS)
    assert varied.dtype == torch.uint8
    assert varied.shape == given_images.shape
    assert varied.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(given_images, before)
    if level == "none":
        assert varied is given_images
    else:
        assert not torch.equal(varied, augment(given_images, AUGMENTS[level], 0, 1, KEYS))
        assert not torch.equal(varied, augment(given_images, AUGMENTS[level], 1, 0, KEYS))
        assert torch.equal(varied, augment(given_images, AUGMENTS[level], 0, 0, KEYS))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(list(RECIPES)),
    st.lists(st.integers(0, 39), min_size=1, max_size=80),
    st.integers(0, 3),
    st.sampled_from([(32, 32), *SIDES]),
)
def test_an_image_is_the_same_bits_in_any_batch(
    level: str, picked: list[int], epoch: int, sides: tuple[int, int]
) -> None:
    whole = augment(random_images(40, *sides), RECIPES[level], 5, epoch, KEYS)
    part = augment(random_images(40, *sides)[picked], RECIPES[level], 5, epoch, KEYS[picked])
    assert torch.equal(part, whole[picked])


@pytest.mark.parametrize("sides", [(32, 32), (31, 37), (1, 7)])
@pytest.mark.parametrize("level", RECIPES)
def test_an_image_is_the_same_bits_alone(level: str, sides: tuple[int, int]) -> None:
    given_images = random_images(40, *sides)
    whole = augment(given_images, RECIPES[level], 5, 1, KEYS)
    for i in range(40):
        assert torch.equal(augment(given_images[i : i + 1], RECIPES[level], 5, 1, KEYS[i : i + 1])[0], whole[i])


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives back the number of threads that a test changed."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("level", RECIPES)
def test_the_number_of_threads_changes_no_bit(level: str) -> None:
    given_images = random_images(40, 61, 67)  # enough pixels that torch shares the work, in pieces of odd sizes
    several = []
    for number in (1, 2, 3, 7):
        torch.set_num_threads(number)
        several.append(augment(given_images, RECIPES[level], 5, 1, KEYS))
        several.append(torch.cat([augment(given_images[:3], RECIPES[level], 5, 1, KEYS[:3]), several[0][3:]]))
    assert all(torch.equal(varied, several[0]) for varied in several)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("level", RECIPES)
def test_odd_sides_work(level: str, sides: tuple[int, int]) -> None:
    varied = augment(random_images(5, *sides), RECIPES[level], 0, 0, KEYS[:5])
    assert varied.shape == (5, 3, *sides)
    assert varied.dtype == torch.uint8
    assert varied.is_contiguous(memory_format=torch.channels_last)


def test_an_image_of_one_pixel_has_nowhere_to_go() -> None:
    recipe, given_images = (
        Augment(flip="random", amounts={"translate": 0.9, "zoom": 1, "rotate": 180}),
        random_images(40, 1, 1),
    )
    assert torch.equal(augment(given_images, recipe, 0, 0, KEYS), given_images)


@pytest.mark.parametrize("sides", [(1, 7), (7, 1), (13, 32)])
def test_a_flip_of_odd_sides_is_a_flip(sides: tuple[int, int]) -> None:
    given_images, recipe = random_images(40, *sides), Augment(flip="alternating")
    flips = module._flips("alternating", 0, 0, KEYS)
    varied = augment(given_images, recipe, 0, 0, KEYS)
    for image, before, flipped in zip(varied, given_images, flips, strict=True):
        assert torch.equal(image, before.flip(-1) if flipped else before)


def test_an_alternating_flip_shows_both_sides_in_any_two_epochs() -> None:
    recipe, given_images = Augment(flip="alternating"), random_images()
    epochs = [augment(given_images, recipe, 3, epoch, KEYS) for epoch in range(4)]
    for first, second in itertools.pairwise(epochs):
        assert torch.equal(first, second.flip(-1))
    turned = (epochs[0] != given_images).flatten(1).any(1)
    assert 8 < int(turned.sum()) < 32
    assert torch.equal(epochs[0][turned], given_images[turned].flip(-1))


def test_a_random_flip_turns_about_half_and_anew_each_epoch() -> None:
    recipe, given_images = Augment(flip="random"), random_images()
    turned = [(augment(given_images, recipe, 0, e, KEYS) != given_images).flatten(1).any(1) for e in range(20)]
    assert 0.4 < torch.stack(turned).float().mean() < 0.6
    assert len({tuple(t.tolist()) for t in turned}) == 20


def test_translation_is_a_reflected_crop() -> None:
    recipe, given_images = Augment(amounts={"translate": 0.2}), random_images(40, 32, 20)
    varied = augment(given_images, recipe, 0, 0, KEYS)
    u = uniforms(0, 0, KEYS, module.SLOTS)
    seen = set()
    for i, image in enumerate(given_images.numpy()):
        dx = math.floor(u[i, module.SHIFT_X] * 9) - 4
        dy = math.floor(u[i, module.SHIFT_Y] * 13) - 6
        padded = np.pad(image, ((0, 0), (6, 6), (4, 4)), mode="reflect")
        assert np.array_equal(varied[i].numpy(), padded[:, 6 + dy : 38 + dy, 4 + dx : 24 + dx])
        seen |= {("x", dx), ("y", dy)}
    assert {("x", 4), ("x", -4), ("y", 6), ("y", -6)} <= seen


@pytest.mark.parametrize(
    "recipe",
    [
        Augment(amounts={"zoom": 0.3}),
        Augment(amounts={"rotate": 25}),
        Augment(amounts={"zoom": 2, "rotate": 180}),
        Augment(amounts={"rotate": 10, "translate": 0.9}),
        Augment(flip="alternating", amounts={"zoom": 0.2, "rotate": 15, "translate": 0.15}),
    ],
)
@pytest.mark.parametrize("sides", [(20, 24), (17, 9), (1, 12), (12, 1)])
def test_zoom_and_rotation_equal_the_slow_version(recipe: Augment, sides: tuple[int, int]) -> None:
    given_images = smooth(6, *sides)
    varied = augment(given_images, recipe, 2, 1, KEYS[:6])
    u = uniforms(2, 1, KEYS[:6], module.SLOTS)
    flips = module._flips(recipe.flip, 2, 1, KEYS[:6])
    for i, image in enumerate(given_images.numpy()):
        expected = slow_warp(image, recipe, u[i], bool(flips[i]))
        assert abs(varied[i].numpy() - expected).max() <= 1


@pytest.mark.parametrize("nothing", [{"zoom": 1e-9}, {"rotate": 1e-9}, {"zoom": 1e-9, "rotate": 1e-9}])
@pytest.mark.parametrize("sides", [(32, 32), (13, 32), (33, 5), (1, 7)])
def test_a_warp_of_nothing_is_a_shift(nothing: dict[str, float], sides: tuple[int, int]) -> None:
    given_images = random_images(40, *sides)
    shifted = augment(given_images, Augment(flip="random", amounts={"translate": 0.2}), 0, 0, KEYS)
    warped = augment(given_images, Augment(flip="random", amounts={"translate": 0.2, **nothing}), 0, 0, KEYS)
    assert (shifted.int() - warped.int()).abs().max() <= 1


def test_zoom_stays_inside_the_image() -> None:
    """Without translation nothing is reflected: a bright border seen from inside stays on its side."""
    ramp = torch.arange(32, dtype=torch.uint8).repeat(32, 1).expand(40, 3, 32, 32)
    rows = augment(ramp.contiguous(memory_format=torch.channels_last), Augment(amounts={"zoom": 0.5}), 0, 0, KEYS)[
        :, 0, 16
    ].int()
    assert (rows.diff(dim=1) >= 0).all()
    spans = rows[:, -1] - rows[:, 0]
    assert spans.min() >= 20
    assert spans.max() <= 31


def test_brightness_and_contrast_are_the_formula() -> None:
    recipe, given_images = Augment(amounts={"brightness": 0.3, "contrast": 0.4}), random_images()
    varied = augment(given_images, recipe, 0, 0, KEYS)
    u = uniforms(0, 0, KEYS, module.SLOTS)
    contrast = 1 + 0.4 * (2 * u[:, module.CONTRAST] - 1)
    brightness = 255 * 0.3 * (2 * u[:, module.BRIGHTNESS] - 1)
    values = (given_images.numpy().astype(float) - 128) * contrast[:, None, None, None] + 128
    expected = np.rint(values + brightness[:, None, None, None]).clip(0, 255)
    assert abs(varied.numpy() - expected).max() <= 1


def test_cutout_leaves_the_rest_alone() -> None:
    given_images = random_images()
    varied = augment(given_images, Augment(amounts={"cutout": 0.5}), 0, 0, KEYS)
    changed = (varied != given_images).any(1)
    assert (varied.permute(0, 2, 3, 1)[changed] == 128).all()
    assert changed.sum() > 40 * 250  # of 256 pixels each, a few may have been grey


def test_cutout_is_one_grey_square_of_the_right_size_inside() -> None:
    given_images = torch.full((40, 3, 32, 24), 7, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    grey = augment(given_images, Augment(amounts={"cutout": 0.25}), 0, 0, KEYS) == 128
    assert (grey.sum((1, 2, 3)) == 3 * 8 * 6).all()
    rows, columns = grey.any(3).any(1), grey.any(2).any(1)
    assert (rows.sum(1) == 8).all()
    assert (columns.sum(1) == 6).all()
    assert len({tuple(r.tolist()) for r in rows}) > 10


def test_every_operation_is_done_somewhere() -> None:
    done = [*module.PLACES, *(operation for operations in module.CHANGES for operation in operations)]
    assert sorted(done) == sorted(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_changes_images_alike_in_any_batch_and_nothing_at_0(operation: str) -> None:
    given_images, recipe = random_images(), Augment(amounts={operation: 0.5})
    varied = augment(given_images, recipe, 0, 0, KEYS)
    assert not torch.equal(varied, given_images)
    assert torch.equal(varied[7:9], augment(given_images[7:9], recipe, 0, 0, KEYS[7:9]))
    assert augment(given_images, Augment(amounts={operation: 0.0}), 0, 0, KEYS) is given_images
