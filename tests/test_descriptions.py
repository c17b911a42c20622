"""Words for filters: colours, edges and stripes as they look, the area under the ROC curve, rules on planted data.

The last part plants filters in a network by hand and follows them through exemplars, responses, rules and words.
"""

from __future__ import annotations

import colorsys
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ImageColor
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from convscope.explanation import descriptions as words
from convscope.explanation.descriptions import (
    COLOURS,
    EDGES,
    SIGHTS,
    ClassShare,
    Rule,
    Seen,
    auroc,
    class_mix,
    dominant_colours,
    find_rules,
    first_layer,
    sights,
    top_images,
)
from convscope.explanation.exemplars import Exemplars, exemplars
from convscope.explanation.layers import Layer, find_layers
from convscope.explanation.responses import MOST_IMAGES, Responses, affordable, built_from, correlations, responses
from convscope.images.preprocess import Preprocess
from convscope.models.taps import reach

# As they look on screen: the first line is the top.
VERTICAL = ("##..", "##..", "##..", "##..")
RISING = ("..##", ".##.", "##..", "#..#")
HORIZONTAL = ("####", "####", "....", "....")
FALLING = ("##..", ".##.", "..##", "#..#")
LOOKS = dict(zip(EDGES, (VERTICAL, RISING, HORIZONTAL, FALLING), strict=True))


def drawn(look: tuple[str, ...], side: int, scale: int = 1) -> np.ndarray:
    """An image of side x side filled with the pattern: uint8 (side, side, 3), "#" bright."""
    tile = np.kron([[220 if c == "#" else 30 for c in line] for line in look], np.ones((scale, scale)))
    repeats = math.ceil(side / len(tile))
    grey = np.tile(tile, (repeats, repeats))[:side, :side]
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def plain(colour: str, side: int = 12) -> np.ndarray:
    return np.full((side, side, 3), ImageColor.getrgb(colour), np.uint8)


def sight(images_NHWC: np.ndarray, field: int | None, name: str) -> Tensor:
    return sights(images_NHWC, field)[:, SIGHTS.index(name)]


def among(image: np.ndarray, field: int | None, names: tuple[str, ...]) -> str:
    """The one of these sights of which there is most."""
    values = sights(image[None], field)[0]
    return max(names, key=lambda name: float(values[SIGHTS.index(name)]))


# The area under the ROC curve


@pytest.mark.parametrize("levels", [2, 5, 10_000])  # few levels: many ties
def test_auroc_is_that_of_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (60, 3)).astype(np.float32)
    positives = rng.random((60, 4)) < [0.05, 0.3, 0.5, 0.9]
    positives[:2] = [[True], [False]]
    ours = auroc(scores, torch.from_numpy(positives))
    expected = [[roc_auc_score(positives[:, c], scores[:, f]) for f in range(3)] for c in range(4)]
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    torch.testing.assert_close(auroc(torch.from_numpy(scores), torch.from_numpy(positives)), ours)


@pytest.mark.parametrize("inside", [True, False])
def test_auroc_without_a_positive_or_a_negative_is_not_a_number(inside: bool) -> None:
    positives = torch.tensor([[inside, True], [inside, False], [inside, True]])
    ours = auroc(torch.tensor([[1.0], [2.0], [3.0]]), positives)
    assert ours[0].isnan().all()
    assert ours[1] == 0.5


def test_the_top_images_are_one_in_a_hundred_and_five_at_least() -> None:
    answers = torch.rand(700, 2, generator=torch.Generator().manual_seed(0))
    top = top_images(answers)
    assert top.sum(0).tolist() == [7, 7]
    assert torch.where(top, answers, 2).amin(0).gt(torch.where(top, -1, answers).amax(0)).all()
    assert top_images(answers[:100]).sum(0).tolist() == [5, 5]
    assert top_images(answers[:3]).all()


# What there is to see


@pytest.mark.parametrize(
    ("css", "name"),
    [
        *((name, name) for name in COLOURS if name != "brown"),  # that of CSS is a dark red
        *(("saddlebrown", "brown"), ("gold", "yellow"), ("navy", "blue"), ("hotpink", "pink"), ("indigo", "purple")),
        *(("firebrick", "red"), ("darkgreen", "green"), ("silver", "grey"), ("beige", "white"), ("#101018", "black")),
    ],
)
def test_a_plain_colour_is_named(css: str, name: str) -> None:
    image = plain(css)
    expected = torch.tensor([float(c == name) for c in COLOURS])
    torch.testing.assert_close(sights(image[None], 4)[0, : len(COLOURS)], expected)
    assert dominant_colours([image]) == ((name, 1.0),)


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize(("scale", "side", "field"), [(2, 32, None), (3, 32, 11), (4, 48, 20), (8, 64, 33), (2, 32, 4)])
def test_edges_are_named_as_they_look(name: str, scale: int, side: int, field: int | None) -> None:
    assert among(drawn(LOOKS[name], side, scale), field, EDGES) == name


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("field", [3, 9, None])
def test_fine_edges_are_named_as_they_look(name: str, field: int | None) -> None:
    fine = tuple(f"fine {edge}" for edge in EDGES)
    assert among(drawn(LOOKS[name], 32), field, fine) == f"fine {name}"


def test_brightness_contrast_and_plainness() -> None:
    images = np.stack([plain("white", 32), plain("black", 32), plain("gray", 32), drawn(VERTICAL, 32, 3)])
    assert sight(images, 9, "something bright").argmax() == 0
    assert sight(images, 9, "something dark").argmax() == 1
    assert sight(images, 9, "strong contrast").argmax() == 3
    assert sight(images, 9, "fine texture").argmax() == 3
    assert sight(images, 9, "a plain area").argmin() == 3
    images[3, :16] = 128  # half of it plain
    assert sight(images, 9, "a plain area")[3] == 0.0, "the part counts in which there is most"


def test_a_small_thing_fills_a_part_but_not_the_image() -> None:
    image = plain("blue", 32)
    image[20:28, 4:12] = ImageColor.getrgb("red")
    assert sight(image[None], 8, "red").item() == 1.0
    assert sight(image[None], None, "red").item() == pytest.approx(64 / 1024)
    assert sight(image[None], 16, "red").item() == pytest.approx(64 / 256)


@pytest.mark.parametrize("side", [1, 4, 32, 64, 224])
@pytest.mark.parametrize("field", [1, 2, 7, 50, 300, None])
def test_sights_of_any_size_and_field_are_finite(side: int, field: int | None) -> None:
    images = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), np.uint8)
    values = sights(images, field)
    assert values.shape == (2, len(SIGHTS))
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert ((values[:, : len(COLOURS)] >= 0) & (values[:, : len(COLOURS)] <= 1)).all()


def slow_sights(image: np.ndarray, window: int) -> dict[str, float]:
    """Some of the sights of an image (S, S, 3) of 0..1 that is small already, pixel by pixel."""
    side = len(image)
    grey = image.mean(2)

    def at(values: np.ndarray, row: int, column: int) -> float:
        return values[min(max(row, 0), side - 1), min(max(column, 0), side - 1)]

    def mean_of_nine(row: int, column: int) -> float:
        return sum(at(grey, row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9

    smooth = np.array([[mean_of_nine(row, column) for column in range(side)] for row in range(side)])
    seen: dict[str, list[float]] = {}
    stride = max(1, window // 4)
    for top in range(0, side - window + 1, stride):
        for left in range(0, side - window + 1, stride):
            sums = dict.fromkeys(("green", "blue", "vertical edges", "fine edges rising to the right"), 0.0)
            sums |= dict.fromkeys(("strong contrast", "fine texture", "something bright"), 0.0)
            for row in range(top, top + window):
                for column in range(left, left + window):
                    hue, saturation, value = colorsys.rgb_to_hsv(*image[row, column])
                    vivid = value >= 0.2 and saturation >= 0.18 and value * saturation >= 0.08
                    sums["green"] += vivid and 70 <= 360 * hue < 165
                    sums["blue"] += vivid and 195 <= 360 * hue < 260
                    sums["something bright"] += grey[row, column]
                    source = smooth if window >= 5 else grey
                    x = at(source, row, column + 1) - at(source, row, column - 1)
                    y = at(source, row + 1, column) - at(source, row - 1, column)
                    sums["strong contrast"] += x * x + y * y
                    sums["vertical edges"] += x * x - y * y
                    x = at(grey - smooth, row, column + 1) - at(grey - smooth, row, column - 1)
                    y = at(grey - smooth, row + 1, column) - at(grey - smooth, row - 1, column)
                    sums["fine texture"] += x * x + y * y
                    sums["fine edges rising to the right"] += 2 * x * y
            for name, total in sums.items():
                seen.setdefault(name, []).append(total / window**2)
    return {name: max(values) for name, values in seen.items()}


@pytest.mark.parametrize(
    ("side", "field", "shrink", "window"),
    [(14, 3, 1, 3), (14, 8, 1, 8), (14, None, 1, 14), (14, 99, 1, 14), (60, 19, 2, 10), (100, 10, 3, 3)],
)
def test_sights_are_those_of_a_slow_version(side: int, field: int | None, shrink: int, window: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), np.uint8)
    ours = sights(images, field)
    small = side // shrink
    for image, values in zip(images / 255, ours, strict=True):
        cut = image[: small * shrink, : small * shrink]
        expected = slow_sights(cut.reshape(small, shrink, small, shrink, 3).mean((1, 3)), window)
        for name, value in expected.items():
            assert float(values[SIGHTS.index(name)]) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_sights_of_an_image_do_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 20, 3), np.uint8)
    whole = sights(images, 6)
    monkeypatch.setattr("convscope.explanation.descriptions.BLOCK", 3)
    torch.testing.assert_close(sights(images, 6), whole)
    images.setflags(write=False)  # as a memory-mapped file is
    torch.testing.assert_close(sights(images[::2], 6), whole[::2])


def test_dominant_colours_are_shares_over_all_crops() -> None:
    half = plain("red", 8)
    half[:, 4:] = ImageColor.getrgb("blue")
    tall = np.full((16, 2, 3), ImageColor.getrgb("blue"), np.uint8)  # crops may differ in size, and count the same
    assert dominant_colours([half, tall]) == (("blue", 0.75), ("red", 0.25))
    speck = plain("white", 10)
    speck[0, 0] = 0
    assert dominant_colours([speck]) == (("white", pytest.approx(0.99)),), "less than a sixth is not named"
    four = np.repeat(np.stack([plain(c, 4)[0, 0] for c in ("red", "green", "blue", "white")])[:, None], 4, axis=1)
    assert len(dominant_colours([four])) == 3


# First-layer filters

GREY = (1.0, 1.0, 1.0)


def wave(across: float, down: float, colour: tuple[float, float, float] = GREY, size: int = 7) -> Tensor:
    """A filter (3, size, size) of stripes that repeat so often a pixel, columns rightwards and rows downwards."""
    place = torch.arange(size) - size // 2
    phase = 2 * math.pi * (down * place[:, None] + across * place[None])
    return torch.tensor(colour).view(3, 1, 1) * phase.cos()


def blob(colour: tuple[float, float, float], size: int = 7) -> Tensor:
    place = (torch.arange(size) - size // 2).float()
    return torch.tensor(colour).view(3, 1, 1) * torch.exp(-(place[:, None] ** 2 + place[None] ** 2) / 12)


WAVES = {  # stripes stand at right angles to the way in which they change
    "vertical stripes": (1.0, 0.0, 90),
    "stripes rising to the right": (math.sqrt(0.5), math.sqrt(0.5), 45),
    "horizontal stripes": (0.0, 1.0, 0),
    "stripes falling to the right": (-math.sqrt(0.5), math.sqrt(0.5), 135),
}


@pytest.mark.parametrize("name", WAVES)
@pytest.mark.parametrize(("period", "size"), [(3.5, 7), (4.0, 7), (6.0, 11)])
@pytest.mark.parametrize("factor", [1.0, -0.01])
def test_stripes_have_a_direction_and_a_period(name: str, period: float, size: int, factor: float) -> None:
    across, down, degrees = WAVES[name]
    found = first_layer(factor * wave(across / period, down / period, size=size))
    assert found.words.startswith(f"{name} of about {found.period:.1f} pixels")
    assert found.words.endswith(", black and white")
    assert found.period == pytest.approx(period, rel=0.12)  # the steps of the spectrum are 1 / 32
    assert abs((found.degrees - degrees + 90) % 180 - 90) <= 5
    assert found.colour == pytest.approx(0.0, abs=1e-9)
    assert found.flat < 0.1


@pytest.mark.parametrize("name", EDGES)
def test_a_filter_and_the_image_it_likes_have_the_same_direction(name: str) -> None:
    image = torch.from_numpy(drawn(LOOKS[name], 8)).permute(2, 0, 1) - 125.0
    assert first_layer(image).words.startswith(name.replace("edges", "stripes"))


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        ((-1.0, -1.0, 1.0), "colour: blue rather than yellow"),
        ((1.0, 1.0, -1.0), "colour: yellow rather than blue"),
        ((1.0, -0.5, -0.5), "colour: red rather than cyan"),
        ((-1.0, 1.0, -1.0), "colour: green rather than purple"),
        ((1.0, 1.0, 1.0), "brightness: bright rather than dark"),
        ((-1.0, -1.1, -0.9), "brightness: dark rather than bright"),
    ],
)
def test_a_blob_likes_a_colour_or_brightness(colour: tuple[float, float, float], words: str) -> None:
    found = first_layer(blob(colour))
    assert found.words == words
    assert found.period is found.degrees is None
    assert found.flat > 0.5
    assert (found.colour > 0.3) == words.startswith("colour")


def test_stripes_of_two_colours() -> None:
    found = first_layer(wave(0.25, 0.0, (-1.0, -1.0, 1.0)))
    start, _, pair = found.words.partition(" pixels, ")
    assert start.startswith("vertical stripes of about")
    assert set(pair.split(" and ")) == {"blue", "yellow"}
    assert found.colour > 0.8


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_filter_of_zeros_answers_to_nothing(size: int) -> None:
    found = first_layer(torch.zeros(3, size, size))
    assert found.words == "nothing: its weights are 0"
    assert (found.colour, found.flat, found.period, found.degrees) == (0.0, 0.0, None, None)


def test_a_bright_blob_with_coloured_grain_is_not_called_a_colour() -> None:
    grain = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(0))
    grain -= grain.mean((1, 2), keepdim=True)
    assert first_layer(1 + grain - grain.mean(0)).words != "colour: bright rather than dark"


def test_shares_of_energy_by_hand() -> None:
    weight = torch.zeros(3, 1, 2)
    weight[0] = torch.tensor([3.0, 1.0])  # red alone: a third of its energy is grey
    found = first_layer(weight)
    assert found.colour == pytest.approx(2 / 3)
    assert found.flat == pytest.approx(2 * 2**2 / 10)


# Rules on planted data

CLASSES = tuple("ant bee cat dog elk fox gnu hen ibis jay".split())


class Planted:
    """Noise images, each with a coloured patch and a patch of stripes; what was put where is kept."""

    def __init__(self, seed: int, count: int, side: int = 32) -> None:
        rng = np.random.default_rng(seed)
        self.images = rng.integers(90, 166, (count, side, side, 1), np.uint8).repeat(3, axis=3)
        self.labels = torch.from_numpy(rng.integers(0, len(CLASSES), count))
        self.colours = rng.integers(0, len(COLOURS), count)
        self.areas = np.zeros(count)
        self.looks = rng.integers(0, len(EDGES), count)
        self.contrasts = rng.uniform(0, 1, count)
        stripes = [drawn(LOOKS[name], 16, 2).astype(float) - 125 for name in EDGES]  # they repeat every 8 pixels
        for i in range(count):
            size = rng.integers(5, 15)
            top, left, row, column = rng.integers(0, (side - size, side // 2 - size + 1, side - 15, 1))
            name = COLOURS[self.colours[i]]
            shade = plain("saddlebrown" if name == "brown" else name, size)
            self.images[i, top : top + size, left : left + size] = shade
            patch = self.images[i, row : row + 16, side // 2 + column :][:, :16]
            patch[:] = (125 + self.contrasts[i] * stripes[self.looks[i]]).astype(np.uint8)
            self.areas[i] = size**2

    def amount(self, of: np.ndarray, number: int, how_much: np.ndarray) -> Tensor:
        """How much of a thing was put into each image: (N,)."""
        return torch.from_numpy((of == number) * how_much)

    def seen(self, highest_NC: Tensor, field: int = 8) -> Seen:
        return Seen(sights(self.images, field), self.labels, highest_NC)


@pytest.fixture(scope="module")
def planted() -> tuple[Planted, Planted]:
    """Images to choose rules on, and others to score them on."""
    return Planted(0, 900), Planted(1, 900)


def rules_of(planted: tuple[Planted, Planted], answer: Callable[[Planted, torch.Generator], Tensor]) -> list[Rule]:
    parts = [p.seen(answer(p, torch.Generator().manual_seed(i))) for i, p in enumerate(planted)]
    return find_rules(parts[0], parts[1], CLASSES)


def test_answers_to_a_colour_have_it_in_common(planted: tuple[Planted, Planted]) -> None:
    def answer(p: Planted, _: torch.Generator) -> Tensor:
        return torch.stack([p.amount(p.colours, k, p.areas) for k in range(len(COLOURS))], 1)

    for name, rule in zip(COLOURS, rules_of(planted, answer), strict=True):
        if name == "grey":  # is all over the noise
            continue
        assert (rule.words, rule.kind) == (name, "sight")
        assert rule.auroc > 0.97


def test_answers_to_edges_have_their_direction_in_common(planted: tuple[Planted, Planted]) -> None:
    def answer(p: Planted, _: torch.Generator) -> Tensor:
        return torch.stack([p.amount(p.looks, k, p.contrasts) for k in range(len(EDGES))], 1)

    for name, rule in zip(EDGES, rules_of(planted, answer), strict=True):
        assert (rule.words.removeprefix("fine "), rule.kind) == (name, "sight")  # bars have sharp edges
        assert rule.auroc > 0.97


@pytest.mark.parametrize(("classes", "words"), [([3], "dog"), ([2, 7], "cat or hen")])
def test_answers_to_classes_name_them(planted: tuple[Planted, Planted], classes: list[int], words: str) -> None:
    def answer(p: Planted, generator: torch.Generator) -> Tensor:
        noise = torch.rand(len(p.labels), 1, generator=generator)
        return torch.isin(p.labels, torch.tensor(classes))[:, None] + 0.5 * noise

    (rule,) = rules_of(planted, answer)
    assert rule.kind == "class"
    assert set(rule.words.split(" or ")) == set(words.split(" or "))
    assert rule.auroc == pytest.approx(1 - len(classes) / 20, abs=0.03), "the rest of the class counts half"


def test_noise_has_nothing_in_common(planted: tuple[Planted, Planted]) -> None:
    def answer(p: Planted, generator: torch.Generator) -> Tensor:
        return torch.randn(len(p.labels), 40, generator=generator)

    rules = rules_of(planted, answer)
    nothing = [rule for rule in rules if rule.kind == "none"]
    assert len(nothing) >= 36, "9 images can agree by chance"
    assert {rule.words for rule in nothing} == {"nothing simple in common"}
    assert all(rule.auroc < 0.7 for rule in nothing)
    assert np.mean([rule.auroc for rule in rules]) == pytest.approx(0.5, abs=0.06), "held-out images owe nothing"


def test_a_rule_that_does_not_hold_on_other_images_is_not_believed(planted: tuple[Planted, Planted]) -> None:
    train, held_out = planted
    red = train.seen(train.amount(train.colours, COLOURS.index("red"), train.areas)[:, None])
    noise = held_out.seen(torch.randn(len(held_out.labels), 1, generator=torch.Generator().manual_seed(0)))
    (rule,) = find_rules(red, noise, CLASSES)
    assert (rule.words, rule.kind) == ("nothing simple in common", "none")
    assert rule.auroc < 0.7


def test_each_filter_is_judged_by_itself(planted: tuple[Planted, Planted]) -> None:
    train, held_out = (p.seen(torch.rand(900, 3, generator=torch.Generator().manual_seed(5))) for p in planted)
    together = find_rules(train, held_out, CLASSES)
    for k in range(3):
        one = [replace(seen, highest=seen.highest[:, k : k + 1]) for seen in (train, held_out)]
        assert find_rules(*one, CLASSES) == [together[k]]


def test_classes_that_are_frequent_everywhere_do_not_hide_a_rare_one() -> None:
    labels = torch.tensor([0, 1, 2] * 30 + [3] * 10)
    top = torch.zeros(100, dtype=torch.bool)
    top[:9], top[-3:] = True, True  # three of each, which is much for the last
    assert words._lifted(labels, top, 4) == [3]
    top[-2:] = False
    assert words._lifted(labels, top, 4) == [], "a single image is no class"


def test_the_mix_of_classes_is_counted_and_held_against_chance() -> None:
    labels = np.array([2, 2, 0, 2, 1, 0, 2, 2])
    mix = class_mix(labels, np.array([0.5, 0.25, 0.125, 0.125]), "abcd")
    assert mix == (ClassShare("c", 5, 8, 5.0), ClassShare("a", 2, 8, 0.5), ClassShare("b", 1, 8, 0.5))


# Twins, and what a filter is built from


def test_correlations_are_those_of_numpy() -> None:
    answers = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    answers[:, 1] = 3 * answers[:, 0] - 1
    answers[:, 2] = 1e-3 * answers[:, 2] + 100
    ours = correlations(answers)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, np.corrcoef(answers.double().T), atol=1e-12)
    assert ours[0, 1] == pytest.approx(1.0)


def test_a_filter_that_never_varies_is_correlated_with_nothing() -> None:
    answers = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    answers[:, 1], answers[:, 3] = 0.0, 0.1
    ours = correlations(answers)
    varying = torch.tensor([True, False, True, False])
    assert (ours[~varying] == 0).all()
    assert (ours[:, ~varying] == 0).all()
    torch.testing.assert_close(ours[varying][:, varying], torch.from_numpy(np.corrcoef(answers[:, ::2].double().T)))
    assert (correlations(torch.ones(5, 2)) == 0).all()


def test_as_many_images_as_can_be_kept() -> None:
    layer = Layer("conv", None, 100, (1, 1), None)
    assert affordable([layer], 70) == 70
    assert affordable([layer] * 3, 10**6) == MOST_IMAGES
    wide = replace(layer, filters=20_000)
    assert 8 * 20_000 * affordable([wide], 10**6) <= 256 * 2**20 < 8 * 20_000 * (affordable([wide], 10**6) + 1)
    assert affordable([replace(layer, filters=10**9)], 10) == 1


class Sized(nn.Module):
    """Two convolutions, the second one of any kind, with statistics as a training leaves them."""

    def __init__(self, size: int = 1, groups: int = 1, norm: bool = True, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = (
            nn.Conv2d(6, 4, size, groups=groups, bias=not norm) if groups == 1 else nn.Conv2d(6, 6, size, groups=6)
        )
        self.norm2 = nn.BatchNorm2d(self.conv2.out_channels, affine=affine) if norm else nn.Identity()
        self.fc = nn.Linear(self.conv2.out_channels, 3)
        generator = torch.Generator().manual_seed(size)
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                if tensor.is_floating_point():
                    tensor.copy_(0.3 + torch.rand(tensor.shape, generator=generator))
            self.conv1.weight.sub_(0.8)
            self.conv2.weight.sub_(0.8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm2(self.conv2(self.relu(self.conv1(x)))).mean((2, 3)))


def answers_of(network: nn.Module, side: int = 12) -> tuple[Layer, Responses, Tensor]:
    """The second layer's answers to 70 images (more than one batch), and the images normalised."""
    images = np.random.default_rng(0).integers(0, 256, (90, side, side, 3), np.uint8)
    preprocess, index = Preprocess(side), np.random.default_rng(1).permutation(90)[:70]
    layers = find_layers(network, torch.randn(1, 3, side, side))
    found, scores = responses(network, images, preprocess, layers, index)
    x = preprocess.normalise(torch.from_numpy(images[index]).permute(0, 3, 1, 2))
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(scores, network(x))
    return layers[1], found[1], x


@pytest.mark.parametrize(
    ("size", "norm", "affine"), [(1, True, True), (1, False, True), (3, True, True), (3, True, False)]
)
def test_what_a_filter_is_built_from_is_weight_times_mean_input(size: int, norm: bool, affine: bool) -> None:
    network = Sized(size, norm=norm, affine=affine)
    layer, found, x = answers_of(network)
    ours = built_from(network, found)
    with torch.no_grad():
        double = network.double()
        entering = double.relu(double.conv1(x.double())).mean((0, 2, 3))
        direct = double.conv2.weight.sum((2, 3)) * entering
        if norm:
            gain = double.norm2.weight if affine else 1.0
            direct = direct * (gain / (double.norm2.running_var + double.norm2.eps).sqrt())[:, None]
        torch.testing.assert_close(found.entering.double(), entering, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(ours.double(), direct, rtol=1e-5, atol=1e-6)
        if size > 1:
            return
        # A 1x1 convolution is linear in the means: its parts and a shift are the mean before the activation.
        maps = reach(double, x.double(), [layer.tap])[0]
        zero = double.conv2(torch.zeros(1, 6, 1, 1, dtype=torch.float64))
        shift = (double.norm2(zero) if norm else zero)[0, :, 0, 0]
        torch.testing.assert_close(ours.double().sum(1) + shift, maps.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_a_grouped_convolution_is_not_taken_apart() -> None:
    network = Sized(groups=6)
    _, found, _ = answers_of(network)
    assert built_from(network, found) is None


def test_responses_are_the_highest_and_the_mean_of_what_is_positive() -> None:
    network = Sized(3)
    layer, found, x = answers_of(network)
    with torch.no_grad():
        maps = reach(network, x, [layer.tap])[0]
    torch.testing.assert_close(found.highest, maps.amax((2, 3)))
    torch.testing.assert_close(found.mean, maps.relu().mean((2, 3)))


def test_one_place_under_two_names_answers_twice() -> None:
    network = Sized(3)
    layers = find_layers(network, torch.randn(1, 3, 12, 12), ["conv2", "norm2"])  # both are seen behind the norm
    images = np.random.default_rng(0).integers(0, 256, (9, 12, 12, 3), np.uint8)
    conv, norm = exemplars(network, images, Preprocess(12), layers)
    torch.testing.assert_close(conv.values, norm.values)
    (conv, norm), _ = responses(network, images, Preprocess(12), layers, np.arange(9))
    torch.testing.assert_close(conv.highest, norm.highest)


# From planted filters to the words on their cards


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Filter 0 finds red, 1 and 2 find standing and falling edges, 3 is noise, 4 never answers, 5 finds darkness."""
    conv1 = nn.Conv2d(3, 6, 7, padding=3)
    with torch.no_grad():
        conv1.weight.zero_()
        conv1.bias.zero_()
        conv1.weight[0] = blob((1.0, -0.5, -0.5))
        conv1.weight[1] = wave(1 / 8, 0.0) - wave(1 / 8, 0.0).mean()
        conv1.weight[2] = wave(-1 / 8, 1 / 8) - wave(-1 / 8, 1 / 8).mean()
        conv1.weight[3].normal_(0, 1, generator=torch.Generator().manual_seed(0))
        conv1.bias[4] = -1.0
        conv1.weight[5] = blob((-1.0, -1.0, -1.0))
    layers = OrderedDict(conv1=conv1, relu1=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return nn.Sequential(layers | {"fc": nn.Linear(6, len(CLASSES))})


@pytest.fixture(scope="module")
def card(network: nn.Module, planted: tuple[Planted, Planted]) -> tuple[Exemplars, list[Rule]]:
    """The exemplars and the rules of the planted filters."""
    preprocess = Preprocess(32)
    layers = find_layers(network, torch.randn(1, 3, 32, 32))
    parts = []
    for p in planted:
        (answers,), _ = responses(network, p.images, preprocess, layers, np.arange(len(p.images)))
        parts.append(p.seen(answers.highest, layers[0].field.size[0]))
    (found,) = exemplars(network, planted[0].images, preprocess, layers, count=9)
    best = parts[0].highest.topk(9, dim=0)
    torch.testing.assert_close(found.values, best.values.T)
    return found, find_rules(parts[0], parts[1], CLASSES)


@pytest.mark.parametrize(
    ("k", "rule", "words"),
    [
        (0, "red", "colour: red rather than cyan"),
        (1, "vertical edges", "vertical stripes of about"),
        (2, "edges falling to the right", "stripes falling to the right of about"),
        (5, "black", "brightness: dark rather than bright"),
    ],
)
def test_a_planted_filter_gets_its_words(
    card: tuple[Exemplars, list[Rule]], network: nn.Module, k: int, rule: str, words: str
) -> None:
    _, rules = card
    assert (rules[k].words, rules[k].kind) == (rule, "sight")
    assert rules[k].auroc > 0.9
    assert first_layer(network.conv1.weight[k].detach()).words.startswith(words)


def test_the_exemplars_of_a_planted_filter_show_it(
    card: tuple[Exemplars, list[Rule]], planted: tuple[Planted, Planted]
) -> None:
    found, _ = card
    field, train = found.layer.field, planted[0]

    def crops(k: int) -> list[np.ndarray]:
        cut = []
        for image, place in zip(found.index[k].tolist(), found.places[k].tolist(), strict=True):
            rows, columns = (slice(max(0, p + s), p + s + 7) for p, s in zip(place, field.start, strict=True))
            cut.append(train.images[image, rows, columns])
        return cut

    assert {COLOURS[c] for c in train.colours[found.index[0]]} == {"red"}
    assert dominant_colours(crops(0)) == (("red", 1.0),)
    for k, name in ((1, "vertical edges"), (2, "edges falling to the right")):
        assert {EDGES[c] for c in train.looks[found.index[k]]} == {name}
        assert all(among(crop, None, EDGES) == name for crop in crops(k) if crop.shape == (7, 7, 3))
    assert found.dead.tolist() == [False, False, False, False, True, False]


def test_a_filter_that_never_answers_is_not_given_words_to_believe(card: tuple[Exemplars, list[Rule]]) -> None:
    assert card[1][4].kind == "none"
