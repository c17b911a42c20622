"""Boxes: what places are asked to tell, the losses, decoding, and answers in an image's own pixels."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convscope.classifying.classifier import Classifier
from convscope.datasets.boxes import Boxes, ImageBoxes
from convscope.errors import DataError, UnknownName
from convscope.evaluation.box_answers import box_answer, coco_json, found_by_tiles, found_in, yolo_text
from convscope.evaluation.task_scoring import true_boxes
from convscope.images.preprocess import Preprocess, to_tensor
from convscope.models.architecture import Architecture
from convscope.models.box_network import BOX_STRIDES, BoxNetwork, Fcos, boxes_at, make_box_network, places_of, side_of
from convscope.tasks.detection import (
    CROWD,
    NOBODY,
    assigned,
    centreness,
    check,
    decoded,
    loss,
    mirrored,
    tally,
    tensor,
)  # fmt: skip
from convscope.tasks.matching import matched
from slow_boxes import box_of

SIDE = 96
CENTRES, STRIDES = places_of(SIDE)
PREPROCESS = Preprocess(SIDE, "pad")


def of_boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def outputs_of(boxes: list[tuple[int, float, tuple[float, float, float, float]]], classes: int) -> torch.Tensor:
    """Outputs (L, classes + 5) that tell these boxes (place, logit of class 0, corners) and nothing else."""
    found = torch.full((len(CENTRES), classes + 5), -12.0)
    found[:, -4:] = 1.0
    for place, logit, corners in boxes:
        found[place, 0], found[place, classes] = logit, logit
        found[place, -4:] = torch.cat([CENTRES[place], -CENTRES[place]]) + torch.tensor(
            [-corners[0], -corners[1], corners[2], corners[3]]
        )
    return found


# ------------------------------------------------------------------------------------------------------------- places


def test_places_are_the_centres_of_their_strides() -> None:
    assert len(CENTRES) == sum((SIDE // stride) ** 2 for stride in BOX_STRIDES)
    for stride in BOX_STRIDES:
        own = CENTRES[stride == STRIDES]
        assert own[0].tolist() == [stride / 2, stride / 2]
        assert own[1].tolist() == [3 * stride / 2, stride / 2]  # x first
        assert own.max() == SIDE - stride / 2


@pytest.mark.parametrize("side", [32, 96, 416, 512, 1024, 2048])
def test_the_side_is_known_by_the_number_of_places(side: int) -> None:
    assert side_of(sum((side // stride) ** 2 for stride in BOX_STRIDES)) == side


def slowly(boxes: torch.Tensor) -> list[int]:
    """The assignment by its definition, a place and a box at a time."""
    where = zip(CENTRES.tolist(), STRIDES.tolist(), strict=True)
    return [box_of(boxes.tolist(), (x, y, int(stride))) for (x, y), stride in where]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_places_belong_to_boxes_as_defined(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 70, (count, 2))
    corners = np.concatenate([low, np.minimum(SIDE, low + random.uniform(2, 90, (count, 2)))], 1)
    labels = random.choice([NOBODY, CROWD - 1, 0, 1], count, p=[0.1, 0.1, 0.4, 0.4])
    boxes = torch.from_numpy(np.concatenate([corners, labels[:, None]], 1)).float()
    assert assigned(boxes, CENTRES, STRIDES).tolist() == slowly(boxes)


def test_every_size_of_box_has_a_place_of_its_own() -> None:
    centres, strides = places_of(512)
    for size in (10, 20, 60, 100, 128, 200, 300, 500):
        middle = 256.0 if size > 16 else 252.0
        box = of_boxes((middle - size / 2, middle - size / 2, middle + size / 2, middle + size / 2, 1))
        assert (assigned(box, centres, strides) == 0).any(), size


# ------------------------------------------------------------------------------------------------------------- losses


def test_the_loss_is_that_of_its_parts_by_hand() -> None:
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, len(CENTRES), 7, generator=random)
    outputs[..., -4:] = outputs[..., -4:].exp() * 20
    boxes = torch.stack([of_boxes((10, 12, 50, 60, 1), (60, 60, 90, 80, 0)), of_boxes((5, 5, 30, 30, 0), (-1,) * 5)])
    focal = giou = centre = weight = count = 0.0
    for output, own in zip(outputs, boxes, strict=True):
        for place, row in enumerate(slowly(own)):
            for k in range(2):
                p = 1 / (1 + math.exp(-float(output[place, k])))
                true = row >= 0 and own[row, 4] == k
                focal += -0.25 * (1 - p) ** 2 * math.log(p) if true else -0.75 * p**2 * math.log(1 - p)
            if row < 0:
                continue
            count += 1
            near = float(centreness(own[row : row + 1, :4], CENTRES[place : place + 1])[0])
            logit = float(output[place, 2])
            centre += -near * math.log(1 / (1 + math.exp(-logit))) - (1 - near) * math.log(1 / (1 + math.exp(logit)))
            giou += near * (1 - generalised(boxes_at(output[None])[0, place].tolist(), own[row, :4].tolist()))
            weight += near
    assert float(loss(outputs, boxes)) == pytest.approx(focal / count + giou / weight + centre / count, rel=1e-4)


def generalised(a: list[float], b: list[float]) -> float:
    """The generalised intersection over union of two boxes."""
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both / union - (around - union) / around


def test_images_without_a_box_teach_the_background_and_nothing_else() -> None:
    outputs = torch.zeros(2, len(CENTRES), 7, requires_grad=True)
    value = loss(outputs, torch.full((2, 0, 5), -1.0))
    value.backward()
    assert outputs.grad is not None
    assert float(value.detach()) == pytest.approx(2 * len(CENTRES) * 2 * 0.75 * 0.25 * math.log(2), rel=1e-4)
    assert bool((outputs.grad[..., 2:] == 0).all())
    assert bool((outputs.grad[..., :2] > 0).all())


def test_a_crowd_teaches_nothing() -> None:
    outputs = torch.zeros(1, len(CENTRES), 7, requires_grad=True)
    loss(outputs, of_boxes((0, 0, SIDE, SIDE, CROWD))[None]).backward()
    assert outputs.grad is not None
    assert bool((outputs.grad == 0).all())


def test_centreness_is_one_in_the_middle_and_none_on_the_border() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 50]] * 3)
    found = centreness(boxes, torch.tensor([[20.0, 30], [10, 30], [15, 30]]))
    assert found.tolist() == pytest.approx([1.0, 0.0, math.sqrt(5 / 15)])


def test_500_boxes_an_image_are_learned_from() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 80, (500, 2))
    boxes = torch.from_numpy(
        np.concatenate([low, low + random.uniform(3, 15, (500, 2)), np.zeros((500, 1))], 1)
    ).float()
    assert math.isfinite(float(loss(torch.zeros(1, len(CENTRES), 6), boxes[None])))


# ----------------------------------------------------------------------------------------------------------- decoding


def test_boxes_come_back_from_the_places_that_tell_them() -> None:
    found = decoded(outputs_of([(40, 4.0, (11, 22, 33, 44)), (90, 2.0, (50, 60, 70, 95))], 2))
    assert found.corners.tolist() == pytest.approx(np.array([[11, 22, 33, 44], [50, 60, 70, 95]]), abs=1e-4)
    assert found.labels.tolist() == [0, 0]
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-2))], rel=1e-5)


def test_of_boxes_on_one_object_the_best_stays() -> None:
    twice = [(40, 2.0, (10, 10, 50, 50)), (41, 4.0, (11, 11, 51, 51)), (60, 3.0, (55, 55, 90, 90))]
    found = decoded(outputs_of(twice, 1))
    assert found.corners.round().astype(int).tolist() == [[11, 11, 51, 51], [55, 55, 90, 90]]


def test_what_lies_beyond_the_square_is_cut_off() -> None:
    found = decoded(outputs_of([(0, 3.0, (-40, -1, 30, 200))], 1))
    assert found.corners.tolist() == pytest.approx(np.array([[0, 0, 30, SIDE]]))


def test_nothing_is_found_where_nothing_is_told() -> None:
    found = decoded(outputs_of([], 3))
    assert found.corners.shape == (0, 4)
    assert tally(outputs_of([], 3)[None], of_boxes((1, 2, 30, 40, 1))[None])[0].missed.tolist() == [True]


def test_mirroring_twice_changes_nothing() -> None:
    boxes = torch.stack([of_boxes((10, 12, 50, 60, 1), (-1,) * 5), of_boxes((0, 0, SIDE, 5, CROWD), (3, 4, 5, 6, 0))])
    turned = mirrored(boxes, SIDE)
    assert turned[0, 0].tolist() == [SIDE - 50, 12, SIDE - 10, 60, 1]
    assert turned[0, 1].tolist() == [-1] * 5
    assert torch.equal(mirrored(turned, SIDE), boxes)


def test_targets_are_boxes_in_the_network_s_square() -> None:
    empty = ImageBoxes((100, 100), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    one = ImageBoxes(
        (192, 96), np.array([[10.0, 20, 30, 40], [0, 0, 192, 96]]), np.array([1, 0]), np.array([False, True])
    )
    found = tensor(Boxes(("a", "b"), (empty, one)), np.array([1, 0]), PREPROCESS)
    assert found[0].tolist() == [[0, 24, 96, 72, NOBODY], [5, 34, 15, 44, 1], [0, 24, 96, 72, CROWD]]
    assert found[1].tolist() == [[0, 0, 96, 96, NOBODY], [-1] * 5, [-1] * 5]


def test_a_crowd_keeps_its_class_and_padding_is_cut_off_when_a_network_is_measured() -> None:
    """As `evaluate` has it, in the pixels of the image."""
    corners, labels = np.array([[10.0, 20, 60, 80], [100, 10, 190, 90]]), np.array([1, 0])
    one = ImageBoxes((192, 96), corners, labels, np.array([True, False]))
    boxes, classifier = Boxes(("a", "b"), (one,)), replace(bright(), class_names=("a", "b"))
    told = [(40, 4.0, (5.0, 10.0, 30.0, 64.0)), (50, 3.0, (50.0, 20.0, 95.0, 70.0)), (60, 2.0, (10.0, 2.0, 40.0, 20.0))]
    outputs = outputs_of(told, 2)
    outputs[40, :2] = torch.tensor([-12.0, 4.0])  # of the crowd's class; the last lies in the padding
    here = tally(outputs[None], tensor(boxes, np.array([0]), PREPROCESS))[0]
    there = matched(found_in(classifier, outputs, (192, 96)), true_boxes(one), 2)
    for name in ("labels", "hit", "ignored", "missed", "doubled"):
        assert getattr(here, name)[0].tolist() == getattr(there, name)[0].tolist(), name
    assert here.ignored[0, 0].tolist() == [False, True]
    assert here.false.tolist() == [False, False]


def test_data_without_boxes_are_refused_and_classes_without_are_named() -> None:
    empty = ImageBoxes((10, 10), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    one = ImageBoxes((10, 10), np.array([[1.0, 1, 5, 5]]), np.array([0]), np.array([False]))
    with pytest.raises(DataError, match="no training image has a box: there is nothing to learn"):
        check(Boxes(("a",), (empty,)), Boxes(("a",), (one,)))
    with pytest.raises(DataError, match="no validation image has a box: there is nothing to measure"):
        check(Boxes(("a",), (one,)), Boxes(("a",), (empty,)))
    assert check(Boxes(("a", "b"), (one,)), Boxes(("a", "b"), (one,))) == [
        "1 class has no box in a training image and cannot be learned: 'b'.",
        "1 class has no box in a validation image, so nothing measures whether it is found: 'b'.",
    ]
    difficult = replace(one, crowd=np.array([True]))
    with pytest.raises(DataError, match="no validation image has a box"):
        check(Boxes(("a",), (one,)), Boxes(("a",), (difficult,)))


def test_boxes_go_by_the_names_of_their_classes() -> None:
    one = ImageBoxes((10, 10), np.array([[1.0, 1, 5, 5], [2, 2, 8, 8]]), np.array([1, 0]), np.array([False, True]))
    boxes = Boxes(("b", "a"), (one,)).named(("a", "b", "c"))
    assert [boxes.names[k] for k in boxes.boxes[0].labels] == ["a", "b"]
    with pytest.raises(KeyError):
        Boxes(("b", "a"), (one,)).named(("a", "c"))
    assert Boxes(("a", "x"), (replace(one, labels=np.zeros(2, np.int64)),)).named(("c", "a")).boxes[
        0
    ].labels.tolist() == [1, 1]


# ----------------------------------------------------------------------------------------------------------- networks


def test_a_head_tells_of_every_place_and_begins_with_rare_classes() -> None:
    torch.manual_seed(0)
    head = Fcos([8, 16, 24], 3, 16).eval()
    maps = [torch.randn(2, c, SIDE // s, SIDE // s) for c, s in zip((8, 16, 24), BOX_STRIDES, strict=True)]
    with torch.no_grad():
        found = head(maps)
    assert found.shape == (2, len(CENTRES), 8)
    assert float(found[..., :3].sigmoid().mean()) == pytest.approx(0.01, rel=0.3)
    assert bool((found[..., -4:] > 0).all())


def test_a_head_that_is_not_known_is_named() -> None:
    with pytest.raises(UnknownName, match="fcos"):
        make_box_network("timm:resnet18", 2, {"head": "fcs"})


class Found(torch.nn.Module):
    """A network that finds each bright spot, wherever it stands: the larger, the surer."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.told(image) for image in images])

    def told(self, image: torch.Tensor) -> torch.Tensor:
        spots = scipy.ndimage.find_objects(scipy.ndimage.label(image[0].numpy() > 0.9)[0])
        corners = [(float(x.start), float(y.start), float(x.stop), float(y.stop)) for y, x in spots]
        return outputs_of([(n, 2.0 + 0.001 * (c[2] - c[0]), c) for n, c in enumerate(corners)], 1)


def bright(fit: str = "pad") -> Classifier:
    network = BoxNetwork(torch.nn.Identity(), Found())
    preprocess = Preprocess(SIDE, fit, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier(network, ("spot",), preprocess, Architecture("x", SIDE), {}, "detection", {"threshold": 0.3})


def spotted(width: int, height: int, *spots: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height), (40, 40, 40))
    for left, top, right, bottom in spots:
        image.paste((255, 255, 255), (left, top, right, bottom))
    return image


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize(("width", "height"), [(192, 96), (96, 288), (96, 96), (48, 24)])
def test_boxes_are_told_in_the_image_s_own_pixels(fit: str, width: int, height: int) -> None:
    classifier, spot = bright(fit), (width // 4, height // 4, width // 2, height // 2)
    image = spotted(width, height, spot)
    pixels = classifier.preprocess.fit_image(image, "x")
    with torch.no_grad():
        outputs = classifier.network(classifier.preprocess.normalise(to_tensor(pixels[None])))
    answer = box_answer(classifier, "x", found_in(classifier, outputs[0], image.size), image.size)
    (box,) = answer.boxes
    pixel = max(width, height) / SIDE
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx(spot, abs=1.5 * max(1, pixel))
    assert answer.words() == "1 spot"


def test_a_large_image_is_found_in_by_tiles_and_seams_cut_nothing() -> None:
    spots = [(66, 80, 82, 100), (250, 150, 280, 190), (20, 10, 60, 50)]  # the first lies on a seam
    found = found_by_tiles(bright(), spotted(300, 200, *spots))
    assert sorted(map(tuple, found.corners.tolist())) == sorted(spots)
    assert (np.diff(found.scores) <= 0).all()


def test_what_is_larger_than_a_tile_is_found_by_the_look_at_the_whole() -> None:
    found = found_by_tiles(bright(), spotted(300, 200, (20, 30, 270, 180)))
    (whole,) = found.corners.tolist()
    assert whole == pytest.approx([20, 30, 270, 180], abs=4)


def test_answers_are_written_as_other_tools_read_them() -> None:
    classifier = bright()
    image = spotted(SIDE, SIDE, (10, 20, 30, 60))
    found = found_by_tiles(classifier, image)
    answer = box_answer(classifier, "a.png", found, image.size)
    number, *rest = yolo_text(answer, ["other", "spot"]).split()
    assert number == "1"
    assert [float(value) for value in rest[:4]] == pytest.approx([20 / 96, 40 / 96, 20 / 96, 40 / 96], abs=1e-5)
    told = json.loads(coco_json([answer], ["spot"]))
    assert told["annotations"][0]["bbox"] == pytest.approx([10, 20, 20, 40], abs=1e-4)
    assert told["categories"] == [{"id": 1, "name": "spot"}]
    assert told["images"] == [{"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}]
