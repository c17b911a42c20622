"""Masks and boxes out of class maps: known answers, the way back to an image's pixels, and honest scores."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope import cli
from convscope.classifying.classifier import Classifier
from convscope.datasets.mask_coding import VOID
from convscope.errors import DataError, UnknownName, UsageError
from convscope.explanation.boxes import UNSEEN, box_of, box_overlap, boxes_of, centred_map, scaled_map
from convscope.explanation.localize_drawing import BOX, TRUE, Shown, heat, outlined, overlays
from convscope.explanation.overlap import (
    CENTRE,
    MAP,
    THRESHOLDS,
    WHOLE,
    Found,
    Truth,
    Way,
    beyond,
    found_by,
    found_by_guessing,
    scored_way,
)
from convscope.explanation.scored_maps import Judged
from convscope.images.placing import seen_of, window_of
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture

SIDE = 24
NAMES = ("red", "blue")


def by_colour(pooled: bool = True) -> nn.Sequential:
    """A network whose maps are known: that of red is the red channel of an image, that of blue the blue one."""
    pick, last = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)
    with torch.no_grad():
        pick.weight.zero_()
        pick.weight[0, 0] = pick.weight[1, 2] = last.weight[0, 0] = last.weight[1, 1] = 1.0
        last.weight[0, 1] = last.weight[1, 0] = 0.0
        pick.bias.zero_()
        last.bias.zero_()
    pool: nn.Module = nn.AdaptiveAvgPool2d(1) if pooled else nn.AdaptiveMaxPool2d(1)
    return nn.Sequential(pick, pool, nn.Flatten(), last).eval()


def classifier(fit: str = "pad", network: nn.Module | None = None, **options: Any) -> Classifier:
    preprocess = Preprocess(size=SIDE, fit=fit, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier(network or by_colour(), NAMES, preprocess, Architecture("by_colour", SIDE), **options)


def picture(red: tuple[int, int, int, int], blue: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """A red and a blue rectangle (top, left, bottom, right) on green noise, uint8 of ``size`` (width, height)."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 1] = np.random.default_rng(sum(red)).integers(0, 256, size[::-1])
    for channel, (top, left, bottom, right) in ((0, red), (2, blue)):
        pixels[top:bottom, left:right, channel] = 255
    return pixels


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty images as wide as the network's square, lower than it, with the masks of their red rectangles."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i in range(20):
        top, left, high, wide = random.integers([0, 0, 3, 3], [8, 5, 8, 7]).tolist()
        red = (top, left, top + high, left + wide)
        pixels = picture(red, (0, 16, 6, 22), (SIDE, 16))
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{i}.png")
        Image.fromarray(pixels[..., 0]).save(tmp_path / "data" / "masks" / f"{i}.png")
    return tmp_path / "data"


# --------------------------------------------------------------------------------------------------- the way back


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(24, 16), (24, 24), (13, 24), (24, 17), (23, 24)])
def test_a_map_finds_its_way_back_to_the_pixel(fit: str, size: tuple[int, int]) -> None:
    # Values of pixels themselves are the map, so that the image must come back as it was wherever it was seen.
    random = np.random.default_rng(sum(size))
    pixels = random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    pixels[size[1] // 2, size[0] // 2], pixels[size[1] // 2, size[0] // 2 + 1] = 0, 255
    how = Preprocess(size=SIDE if fit == "pad" else min(size), fit=fit)
    fitted = how.fit_image(Image.fromarray(pixels))
    found = scaled_map(fitted[..., 0].astype(np.float32), size, how, size[::-1])
    rows, columns = seen_of(how, size)
    assert fitted[window_of(how, size)].shape[:2] <= (how.size, how.size)
    if fit == "squash" and size[0] != size[1]:  # resized, and back: smooth
        assert found.shape == size[::-1]
        return
    seen = pixels[rows, columns, 0].astype(np.float32) / 255
    np.testing.assert_allclose(found[rows, columns], seen, atol=1e-6)
    outside = np.ones(found.shape, bool)
    outside[rows, columns] = False
    assert (found[outside] == UNSEEN).all()
    assert outside.any() == (fit == "crop" and size[0] != size[1])


def test_the_middle_that_a_network_looks_at_is_that_of_its_preprocess() -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[5:15, 10:20] = 255
    how = Preprocess(size=10, fit="crop", centre=0.5)
    assert (how.fit_image(Image.fromarray(pixels)) == 255).all()
    assert seen_of(how, (30, 20)) == (slice(5, 15), slice(10, 20))


@pytest.mark.parametrize(("size", "scale"), [((48, 32), 2), ((96, 96), 4), ((12, 8), 0.5)])
def test_a_rectangle_is_found_at_any_size(size: tuple[int, int], scale: float) -> None:
    how = Preprocess(size=SIDE, fit="pad")
    square = np.zeros((SIDE, SIDE), np.float32)
    top = (SIDE - round(size[1] / scale)) // 2
    square[top + 4 : top + 8, 6:12] = 1.0
    square[:top] = 5.0  # what pads is no part of the map, however large
    found = scaled_map(square, size, how, size[::-1])
    assert box_of(found >= 0.5) == tuple(round(scale * value) for value in (4, 6, 8, 12))


def test_a_map_that_is_the_same_everywhere_says_nothing() -> None:
    flat = scaled_map(np.full((SIDE, SIDE), 3.0, np.float32), (30, 20), Preprocess(size=SIDE), (20, 30))
    assert (flat == UNSEEN).all()
    assert box_of(flat >= 0) is None


# --------------------------------------------------------------------------------------------------- slow and obvious


def pieces(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Pixels that touch, at corners too, by walking from one to the next."""
    left, found = set(zip(*map(list, np.nonzero(mask)), strict=True)), []
    while left:
        waiting, piece = [min(left)], set()
        while waiting:
            y, x = waiting.pop()
            if (y, x) in left:
                left.remove((y, x))
                piece.add((y, x))
                waiting += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        found.append(piece)
    return found


def frame(piece: set[tuple[int, int]]) -> tuple[int, int, int, int]:
    ys, xs = [y for y, _ in piece], [x for _, x in piece]
    return min(ys), min(xs), max(ys) + 1, max(xs) + 1


def pixels_in(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    return {(y, x) for y in range(box[0], box[2]) for x in range(box[1], box[3])}


def test_overlaps_are_those_of_counting_pixel_by_pixel() -> None:
    random = np.random.default_rng(3)
    for _ in range(4):
        values = random.random((9, 11)).astype(np.float32)
        values[random.random((9, 11)) < 0.1] = UNSEEN
        mask = random.choice([0, 1, VOID], (9, 11), p=[0.6, 0.3, 0.1]).astype(np.uint8)
        truth, thresholds = Truth.of(mask, (1,)), np.array([0.0, 0.3, 0.7, 0.95], np.float32)
        found = found_by(values, truth, thresholds)
        objects, void = (
            set(map(tuple, np.argwhere(mask == 1).tolist())),
            set(map(tuple, np.argwhere(mask == VOID).tolist())),
        )
        true_boxes = [pixels_in(frame(piece)) for piece in pieces(mask == 1)]
        assert sorted(boxes_of(mask == 1)) == sorted(frame(piece) for piece in pieces(mask == 1))
        for k, threshold in enumerate(thresholds):
            taken = set(map(tuple, np.argwhere(values >= threshold).tolist()))
            known = taken - void
            assert found.masks[k] == pytest.approx(len(known & objects) / len(known | objects))
            largest = max(pieces(values >= threshold), key=len, default=None)
            if largest is None or sum(len(p) == len(largest) for p in pieces(values >= threshold)) > 1:
                continue
            box = pixels_in(frame(largest))
            assert found.boxes[k] == pytest.approx(max(len(box & one) / len(box | one) for one in true_boxes))


def test_what_is_guessed_without_looking() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:20] = 1
    guesses = found_by_guessing(Truth.of(mask, (1,)))
    assert guesses[WHOLE].masks == pytest.approx([100 / 600])
    assert guesses[WHOLE].boxes == pytest.approx([100 / 600])
    assert guesses[CENTRE].masks.max() > 0.6
    assert guesses[CENTRE].masks[0] == pytest.approx(100 / 600)  # at 0 all of the image
    centre = centred_map((20, 30))
    assert centre.max() == 1.0
    assert np.array_equal(centre, centre[::-1, ::-1])


def test_no_box_overlaps_nothing() -> None:
    assert box_overlap(None, np.array([[0, 0, 2, 2]])) == 0.0
    assert box_overlap((0, 0, 2, 2), np.zeros((0, 4), np.int64)) == 0.0
    assert box_overlap((0, 0, 2, 2), np.array([[5, 5, 6, 6], [0, 1, 2, 3]])) == pytest.approx(2 / 6)


def test_a_threshold_is_chosen_by_images_that_are_not_scored() -> None:
    # Thresholds 0.1, 0.2, 0.3: the first two images are best at 0.3, the two that are scored at 0.1.
    thresholds = np.array([0.1, 0.2, 0.3], np.float32)
    choosing = Found(np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.6, 0.7]))
    scored = Found(np.array([0.8, 0.5, 0.4]), np.array([0.9, 0.2, 0.1]))
    way = scored_way(MAP, [choosing, scored, choosing, scored], np.array([0, 2]), np.array([1, 3]), thresholds)
    assert (way.mask_at, way.box_at) == (0.3, 0.2)
    assert way.masks.tolist() == [0.4, 0.4]
    assert way.boxes.tolist() == [0.2, 0.2]
    assert (way.best_masks, way.best_boxes) == (0.8, 1.0)
    usual = scored_way(MAP, [scored], np.zeros(0, np.int64), np.array([0]), thresholds)
    assert (usual.mask_at, usual.masks.tolist()) == (0.2, [0.5])


def test_a_map_that_is_better_on_every_image_is_surely_better() -> None:
    random = np.random.default_rng(0)
    guess = random.uniform(0.2, 0.4, 30)
    one, other = (
        Way(name, 0.2, 0.2, masks, masks + 0.2, 0.0, 0.0) for name, masks in ((MAP, guess + 0.3), (CENTRE, guess))
    )
    (difference,) = beyond({MAP: one, CENTRE: other})
    told = difference.to_json()
    assert told["than"] == CENTRE
    assert told["iou"]["difference"] == pytest.approx(0.3)
    assert told["iou"]["low"] == pytest.approx(0.3)
    assert told["iou"]["p"] < 0.001
    assert told["box_accuracy"]["difference"] == pytest.approx(1 - (guess + 0.2 >= 0.5).mean())
    row = one.to_json()
    assert row["iou_low"] < row["iou"] < row["iou_high"]


# ------------------------------------------------------------------------------------------------------- the command


def test_the_map_of_a_network_that_is_known_finds_each_rectangle(data: Path, tmp_path: Path) -> None:
    found = convscope.localize(classifier(), data, target="red", runs=tmp_path / "runs", masks_to=tmp_path / "out")
    scored = found.summary["scored"]
    rows = {way["way"]: way for way in scored["ways"]}
    assert found.summary["method"] == "cam"
    assert found.summary["classes_from"] == "class"
    assert (rows[MAP]["iou"], rows[MAP]["box_accuracy"]) == (1.0, 1.0)
    assert rows[CENTRE]["iou"] < 0.5
    assert rows[WHOLE]["iou_best_here"] == rows[WHOLE]["iou"] < 0.3
    assert all(one["iou"]["low"] > 0.3 and one["iou"]["p"] < 0.05 for one in scored["differences"])
    assert scored["n"] + scored["chosen_n"] == 20
    assert scored["n"] >= 5
    assert "IoU of 100.0 % [100.0, 100.0]" in scored["sentences"][0]
    assert scored["sentences"][0].endswith("better.")
    for box in found.boxes:
        true = np.asarray(Image.open(data / "masks" / Path(box.image).name)) > 0
        assert box.box == box_of(true)
        written = np.asarray(Image.open(tmp_path / "out" / f"{Path(box.image).stem}.mask.png"))
        assert np.array_equal(written > 0, true)
        assert box.share == pytest.approx(true.mean())
    assert (tmp_path / "out" / "0.overlay.png").exists()
    with open(found.folder / "boxes.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["used_for"] for row in table} == {"choosing", "scoring"}
    assert all(row["mask_iou"] == row["box_iou"] == "1.0000" and row["class"] == "red" for row in table)
    assert sorted(p.name for p in found.folder.iterdir()) == ["boxes.csv", "localize.json", "overlays.png"]


def test_the_other_class_looks_elsewhere(data: Path, tmp_path: Path) -> None:
    found = convscope.localize(classifier(), data, target="blue", threshold=0.5, runs=tmp_path / "runs")
    assert {box.box for box in found.boxes} == {(0, 16, 6, 22)}
    ours, guess, _ = found.summary["scored"]["ways"]
    assert ours["iou"] == 0.0 < guess["iou"]
    assert found.summary["scored"]["sentences"][0].endswith("worse.")


def test_the_masks_class_of_the_maps_name_is_the_object(data: Path, tmp_path: Path) -> None:
    for path in (data / "images").iterdir():
        pixels = np.asarray(Image.open(path))
        mask = np.where(pixels[..., 0] > 0, 1, np.where(pixels[..., 2] > 0, 2, 0)).astype(np.uint8)
        Image.fromarray(mask).save(data / "masks" / path.name)
    (data / "classes.txt").write_text("background\nred\nblue\n", encoding="utf-8")
    by_name = convscope.localize(classifier(), data, target="blue", runs=tmp_path / "runs").summary
    assert by_name["scored"]["ways"][0]["iou"] == 1.0
    other = convscope.localize(classifier(), data, target="blue", object="red", runs=tmp_path / "runs").summary
    assert other["scored"]["ways"][0]["iou_best_here"] < 0.3
    with pytest.raises(UnknownName, match="green"):
        convscope.localize(classifier(), data, target="blue", object=["green"], runs=tmp_path / "runs")
    (data / "classes.txt").write_text("sky\ngrass\nwater\n", encoding="utf-8")
    with pytest.raises(UsageError, match="`object` which of sky, grass, water"):
        convscope.localize(classifier(), data, target="blue", runs=tmp_path / "runs")
    both = convscope.localize(classifier(), data, target="blue", object=["grass", "water"], runs=tmp_path / "runs")
    assert both.summary["scored"]["ways"][0]["iou_best_here"] < 1.0


def test_labels_say_whose_map_it_is_and_else_the_answer(tmp_path: Path) -> None:
    for name, box in (("red", (2, 2, 8, 9)), ("blue", (1, 12, 5, 20))):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(3):
            red, blue = (2, 2, 8, 9 + i), (1, 12, 5 + i, 20)
            Image.fromarray(picture(red, blue, (SIDE, SIDE))).save(tmp_path / "classes" / name / f"{i}.png")
        del box
    found = convscope.localize(classifier(), tmp_path / "classes", runs=tmp_path / "runs")
    assert found.summary["classes_from"] == "labels"
    assert found.summary["scored"] is None
    assert found.summary["mask_threshold"] == 0.2
    boxes = {box.image: (box.class_name, box.box) for box in found.boxes}
    assert boxes["red/1.png"] == ("red", (2, 2, 8, 10))
    assert boxes["blue/1.png"] == ("blue", (1, 12, 6, 20))
    (tmp_path / "classes" / "blue").rename(tmp_path / "classes" / "green")
    other = convscope.localize(classifier(), tmp_path / "classes", runs=tmp_path / "runs")
    assert other.summary["classes_from"] == "answers"
    assert "'green'" in " ".join(other.notes)
    assert {box.class_name for box in other.boxes} == {"red"}  # the larger one: the first answer
    alone = convscope.localize(classifier(), tmp_path / "classes" / "red", runs=tmp_path / "runs", limit=2)
    assert (alone.summary["images"], alone.summary["classes_from"]) == (2, "answers")


def test_several_labels_an_image_have_their_maps(tmp_path: Path) -> None:
    image = picture((2, 2, 8, 9), (1, 12, 5, 20), (SIDE, SIDE))
    lines = ["path,label"]
    for i, labels in enumerate(("blue", "red|blue", "", "blue")):
        image[20, i] = 9
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{labels}")
    (tmp_path / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    several = classifier(task="multi_label", settings={"thresholds": [0.5, 0.5]})
    found = convscope.localize(several, tmp_path / "tags.csv", runs=tmp_path / "runs")
    assert [box.class_name for box in found.boxes] == ["blue", "red", "red", "blue"]
    assert found.boxes[0].box == (1, 12, 5, 20)


def test_a_crop_leaves_out_what_was_not_seen(data: Path, tmp_path: Path) -> None:
    found = convscope.localize(classifier("crop"), data, target="red", runs=tmp_path / "runs")
    assert all(box.box is None or (box.box[1] >= 4 and box.box[3] <= 20) for box in found.boxes)
    assert "the network sees the middle of each image only" in " ".join(found.notes)


def test_a_network_without_a_pool_of_means_is_looked_at_by_gradients(data: Path, tmp_path: Path) -> None:
    found = convscope.localize(classifier(network=by_colour(pooled=False)), data, target="red", runs=tmp_path / "runs")
    assert found.summary["method"] == "grad-cam"
    assert "does not end in global average pooling" in " ".join(found.notes)
    assert found.summary["scored"]["ways"][0]["iou"] == 1.0


def test_a_given_threshold_is_taken(data: Path, tmp_path: Path) -> None:
    found = convscope.localize(classifier(), data, target="red", threshold=0.0, runs=tmp_path / "runs")
    ours, _, whole = found.summary["scored"]["ways"]
    assert found.summary["scored"]["chosen_by"] == "--threshold"
    assert (ours["mask_threshold"], ours["iou"]) == (0.0, whole["iou"])


def flat_network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2)).eval()


def test_what_cannot_be_localized_is_said(data: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"runs": tmp_path / "runs", "target": "red"}
    with pytest.raises(UsageError, match=r"no map of a class can be made of this network: grad-cam finds no"):
        convscope.localize(classifier(network=flat_network()), data, **asked)
    with pytest.raises(UnknownName, match="green"):
        convscope.localize(classifier(), data, runs=tmp_path / "runs", target="green")
    with pytest.raises(UsageError, match="`threshold` is from 0 to 1"):
        convscope.localize(classifier(), data, threshold=1.5, **asked)
    with pytest.raises(UsageError, match="predict --masks-to"):
        convscope.localize(classifier(task="segmentation"), data, **asked)
    painter = classifier(network=nn.Sequential(nn.Conv2d(3, 2, 1)), task="segmentation")
    convscope.predict(painter, data / "images" / "0.png", masks_to=tmp_path / "own")
    assert (tmp_path / "own" / "0.mask.png").exists()
    with pytest.raises(UsageError, match="name a dataset to try it on"):
        convscope.localize(classifier(), **asked)
    for path in (data / "masks").iterdir():
        Image.new("L", (SIDE, 16), 255 if path.stem == "0" else 0).save(path)
    few = convscope.localize(classifier(), data, **asked)
    assert "19 images are not scored: no mask shows an object there." in few.notes
    assert few.summary["scored"]["ways"][0]["mask_threshold"] == 0.2
    assert "too few images" in " ".join(few.notes)


def test_masks_without_an_object_or_without_anything_are_said(data: Path, tmp_path: Path) -> None:
    (data / "classes.txt").write_text("background\nred\nvoid\n", encoding="utf-8")
    for value, match in ((0, "no mask shows an object"), (2, "none of the 20 masks can be used")):
        for path in (data / "masks").iterdir():
            Image.new("L", (SIDE, 16), value).save(path)
        with pytest.raises(DataError, match=match):
            convscope.localize(classifier(), data, target="red", runs=tmp_path / "runs", masks=data / "masks")


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match="can be read"):
        convscope.localize(classifier(), tmp_path / "photos", runs=tmp_path / "runs")
    Image.fromarray(picture((2, 2, 8, 9), (0, 0, 0, 0), (SIDE, SIDE))).save(tmp_path / "photos" / "good.png")
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "photos" / "black.png")
    found = convscope.localize(classifier(), tmp_path / "photos", runs=tmp_path / "runs")
    assert {Path(box.image).name: box.box for box in found.boxes} == {"good.png": (2, 2, 8, 9), "black.png": None}
    told = " ".join(found.notes)
    assert "1 image is left out" in told
    assert "bad.png" in told
    assert "map of 1 image is the same everywhere" in told


def test_test_images_of_a_run_are_opened_and_that_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    random = np.random.default_rng(0)
    for i in range(40):
        kind = ("red", "blue")[i % 2]
        for place in (tmp_path / "photos" / kind, tmp_path / "masks" / kind):
            place.mkdir(parents=True, exist_ok=True)
        top, left = random.integers(0, 12, 2).tolist()
        box = (top, left, top + 8, left + 9)
        pixels = picture(box if kind == "red" else (0,) * 4, box if kind == "blue" else (0,) * 4, (SIDE, SIDE))
        pixels[0, 0] = i
        Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.png")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[box[0] : box[2], box[1] : box[3]] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / kind / f"{i}.png")
    runs = tmp_path / "runs"
    trained: dict[str, Any] = {"model": "resnet20", "width": 4, "image_size": SIDE, "epochs": 1, "flip": "none"}
    convscope.train(tmp_path / "photos", runs=runs, name="r", **trained)
    asked = [
        "localize",
        "r",
        str(tmp_path / "photos"),
        "--masks",
        str(tmp_path / "masks"),
        "--runs",
        str(runs),
        "--json",
    ]
    capsys.readouterr()
    openings = []
    for _ in range(2):
        assert cli.run(asked) == 0
        summary = json.loads(capsys.readouterr().out)
        openings.append(summary["test_openings"])
        assert summary["scored"]["chosen_by"] == "the validation images"
    assert openings == [1, 2]
    log = [json.loads(line) for line in (runs / "r" / "openings.jsonl").read_text("utf-8").splitlines()]
    assert [row["part"] for row in log] == ["test", "test"]
    assert len(THRESHOLDS) == 50
    assert cli.run(asked[:-1]) == 0
    told = capsys.readouterr().out
    assert "whole image" in told
    assert "with no mask to learn from" in told


def test_a_sheet_names_classes_of_any_name_and_shows_what_was_not_seen() -> None:
    names = ("a long name of a class " * 6, "\u0643\u0644\u0628 (\u0635\u063a\u064a\u0631)!", "<b>cat</b>")
    values = np.linspace(0, 1, 20 * 30, dtype=np.float32).reshape(20, 30)
    values[:, :5] = UNSEEN
    grey = np.full((40, 60, 3), 120, np.uint8)
    truth = np.zeros((20, 30), bool)
    truth[5:15, 10:20] = True
    shown = [
        Shown(grey, values, values >= 0.5, (10, 5, 20, 30), 0, truth, Judged(0.3, 0.4, "scoring")),
        Shown(grey, values, values >= 2, None, 1),
        Shown(grey.transpose(1, 0, 2), values.T, values.T >= 0.5, (5, 10, 30, 20), 2),
    ]
    sheet = np.asarray(Image.open(io.BytesIO(overlays([*shown, *shown], names, "A heading").png)).convert("RGB"))
    assert all((sheet == colour).all(-1).sum() > 50 for colour in (BOX, TRUE))
    painted = heat(shown[1])
    assert painted.shape == (157, 236, 3)
    assert (painted[:, :30] < 60).all()  # darker, where nobody looked
    assert painted[-5, -5, 0] > painted[-5, -5, 1] + 80  # the map's colour
    assert (outlined(shown[1]) == 120).all()  # no mask, no box, no truth: the image as it is


def test_parts_that_the_data_tell_choose_and_are_scored(data: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for i in range(20):
            part = ("train", "val", "test")[i % 3]
            (tmp_path / "parts" / part / kind).mkdir(parents=True, exist_ok=True)
            (data / kind / f"{i}.png").rename(tmp_path / "parts" / part / kind / f"{i}.png")
    found = convscope.localize(classifier(), tmp_path / "parts", target="red", runs=tmp_path / "runs")
    used = {Path(box.image).parts[0]: box.judged.used_for for box in found.boxes if box.judged is not None}
    assert used == {"val": "choosing", "test": "scoring"}
    assert found.summary["scored"]["chosen_by"] == "the validation images"
    assert found.summary["test_openings"] is None
