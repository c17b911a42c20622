"""Boxes in three formats are the same targets, in pixels of the upright image, and fit into a square and back."""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convscope.datasets.boxes import Boxes, ImageBoxes, back
from convscope.errors import DataError, UsageError
from convscope.images.decoding import decode, read_header
from convscope.images.preprocess import Preprocess
from planted_boxes import (
    FORMS,
    NAMES,
    Planted,
    as_coco,
    as_voc,
    as_yolo,
    assert_same,
    photograph,
    planted,
    read,
    stored,
    told,
    voc_text,
)

TURNED = Planted("turned", (64, 48), (("bee", 8.0, 16.0, 24.0, 40.0), ("ant", 40.0, 4.0, 60.0, 12.0)))


# ---------------------------------------------------------------------------------------------------- equal, upright


def test_all_formats_tell_the_same(tmp_path: Path):
    images = planted(12, parts=("train", "train", "val", "test"))
    found = {form: read(write(tmp_path / form, images)) for form, write in FORMS.items()}
    for form, one in found.items():
        assert_same(one, images)
        assert one.targets.names == NAMES, form
        assert one.notes[0] == "task: detection, boxes around objects of some classes; --task says otherwise."
        parts = {path.stem: str(part) for path, part in zip(one.files, one.given, strict=True)}
        assert parts == {image.name: image.part for image in images}, form
        assert one.class_names == ("image",)
        assert not one.labels.any()
    assert "taken for the boxes" in found["voc"].notes[1]


def test_boxes_of_a_crowd_are_known(tmp_path: Path):
    images = [replace(one, crowd=tuple(range(0, len(one.boxes), 2))) for one in planted(8)]
    assert any(one.crowd for one in images)
    for write in (as_voc, as_coco):
        assert_same(read(write(tmp_path / write.__name__, images)), images)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_that_exif_turns_has_its_boxes_upright(form: str, orientation: int, tmp_path: Path):
    one = replace(TURNED, orientation=orientation)
    found = read(FORMS[form](tmp_path / "data", [one]))
    assert_same(found, [one])
    pixels = np.asarray(decode(found.files[0])).astype(int)
    reddest = (pixels[..., 0] > 180) & (pixels[..., 1] < 110)
    for left, top, right, bottom in found.targets.boxes[0].corners.astype(int).tolist():
        inside = reddest[top + 2 : bottom - 2, left + 2 : right - 2]
        assert inside.mean() > 0.95, "the rectangle lies elsewhere"


@pytest.mark.parametrize("place", ["before its pixels", "after its pixels", "before and after"])
def test_boxes_lie_on_a_png_that_is_turned_wherever_that_is_told(place: str, tmp_path: Path):
    one = replace(TURNED, orientation=6)
    as_coco(tmp_path, [one])
    (jpeg,) = tmp_path.rglob("*.jpg")
    plain = Image.open(jpeg).convert("RGB")
    plain.info.clear()
    made = io.BytesIO()
    plain.save(made, "PNG")
    data = made.getvalue()
    pixels, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    told_as = {orientation: png_exif(orientation) for orientation in (1, 6)}
    first, last = {
        "before its pixels": (told_as[6], b""),
        "after its pixels": (b"", told_as[6]),
        "before and after": (told_as[1], told_as[6]),
    }[place]
    jpeg.write_bytes(data[:pixels] + first + data[pixels:end] + last + data[end:])
    header = read_header(jpeg)
    assert (header.format, header.orientation, header.upright_size) == ("PNG", 6, decode(jpeg).size)
    assert_same(read(tmp_path), [one])


def png_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    checked = b"eXIf" + block
    return struct.pack(">I", len(block)) + checked + struct.pack(">I", zlib.crc32(checked))


@pytest.mark.parametrize("form", ["voc", "coco"])
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_stored_image_turn_with_it(form: str, scale: int, orientation: int, tmp_path: Path):
    one = replace(TURNED, orientation=orientation)
    drawn = []
    for name, left, top, right, bottom in one.boxes:  # where the rectangle lies in the file, by looking
        canvas = np.zeros((one.size[1], one.size[0]), np.uint8)
        canvas[int(top) : int(bottom), int(left) : int(right)] = 1
        rows, columns = np.nonzero(np.asarray(stored(Image.fromarray(canvas), orientation)))
        corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        drawn.append((name, *(scale * float(value) for value in corners)))
    size = (scale * one.size[1], scale * one.size[0])
    FORMS[form](tmp_path / "data", [replace(one, size=size, told=size, boxes=tuple(drawn), orientation=1)])
    (image,) = (tmp_path / "data").rglob("*.jpg")
    photograph(image, one)
    assert_same(read(tmp_path / "data"), [one])


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_boxes_of_an_image_of_another_size_are_scaled_and_of_another_shape_left_out(form: str, tmp_path: Path):
    small, odd = Planted("small", (60, 40), (("ant", 3.0, 4.0, 30.0, 20.0),)), Planted("odd", (60, 40), TURNED.boxes)
    large = replace(small, size=(120, 80), boxes=(("ant", 6.0, 8.0, 60.0, 40.0),), told=(120, 80))
    FORMS[form](tmp_path / "data", [large, replace(odd, told=(80, 80)), replace(small, name="other")])
    (image,) = (tmp_path / "data").rglob("small.jpg")
    photograph(image, small)
    found = read(tmp_path / "data")
    assert_same(found, [small, replace(small, name="other")])
    (note,) = [note for note in found.notes if "another shape" in note]
    assert note.endswith("of another shape: odd.jpg (80 x 80, and the image is 60 x 40).")


@pytest.mark.parametrize("size", ["<width>0</width><height>0</height>", "", "<width>x</width>"])
def test_an_annotation_without_a_size_is_of_upright_pixels(size: str, tmp_path: Path):
    as_voc(tmp_path, [TURNED])
    path = tmp_path / "Annotations" / "turned.xml"
    text = path.read_text().replace("<width>64</width><height>48</height>", size)
    path.write_text(text)
    assert_same(read(tmp_path), [TURNED])


def test_corners_of_the_challenge_count_from_one_and_of_others_are_edges(tmp_path: Path):
    as_voc(tmp_path, [TURNED])
    path = tmp_path / "Annotations" / "turned.xml"
    path.write_text(voc_text(TURNED, database="The VOC2007 Database"))
    moved = [(name, left - 1, top - 1, right, bottom) for name, left, top, right, bottom in TURNED.boxes]
    assert_same(read(tmp_path), [replace(TURNED, boxes=tuple(moved))])
    path.write_text(voc_text(TURNED, database="My VOC2007"))
    assert_same(read(tmp_path), [TURNED])


# ------------------------------------------------------------------------------------------ what is left out, and cut


@pytest.mark.parametrize("form", FORMS)
def test_flat_boxes_and_ones_outside_are_left_out_and_ones_that_reach_out_are_cut(form: str, tmp_path: Path):
    boxes = (
        ("ant", 10.0, 10.0, 20.0, 20.0),
        ("bee", 30.0, 30.0, 30.0, 35.0),
        ("bee", 30.0, 30.0, 35.0, 30.0),
        ("wasp", 70.0, 10.0, 90.0, 20.0),
        ("wasp", -20.0, -10.0, 0.0, 20.0),
        ("ant", -10.0, 30.0, 20.0, 60.0),
        ("ant", 50.0, 30.0, 60.3, 40.3),
    )
    one = Planted("a", (60, 40), boxes)
    found = read(FORMS[form](tmp_path, [one]))
    left = (boxes[0], ("ant", 0.0, 30.0, 20.0, 40.0), ("ant", 50.0, 30.0, 60.0, 40.0))
    assert_same(found, [replace(one, boxes=left)])
    assert "2 boxes have no width or height and are left out: a.jpg (bee)." in found.notes
    assert "2 boxes lie outside their images and are left out: a.jpg (wasp)." in found.notes
    assert "1 box reaches over the edge of its image and is cut there: a.jpg (ant)." in found.notes
    assert found.targets.names == NAMES


def test_a_note_names_three_at_the_most(tmp_path: Path):
    images = [Planted(f"{i}", boxes=(("ant", 1.0, 1.0, 1.0, 9.0), ("bee", 1.0, 1.0, 9.0, 9.0))) for i in range(9)]
    found = read(as_voc(tmp_path, images))
    (note,) = [note for note in found.notes if "no width" in note]
    assert note.startswith("9 boxes have no width or height and are left out: 0.jpg (ant), 1.jpg (ant), 2.jpg")
    assert note.endswith("2.jpg (ant), ....")
    assert len(found.notes) <= 4


def test_corners_that_are_turned_round_are_no_box(tmp_path: Path):
    one = Planted("a", boxes=(("ant", 20.0, 10.0, 10.0, 30.0), ("bee", 1.0, 1.0, 9.0, 9.0)))
    assert told(read(as_coco(tmp_path, [one]))) == {"a": [("bee", 1.0, 1.0, 9.0, 9.0, False)]}


def test_images_without_a_box_are_kept_and_a_folder_of_them_alone_is_refused(tmp_path: Path):
    bare = [Planted(f"bare{i}") for i in range(3)]
    for form, write in FORMS.items():
        found = read(write(tmp_path / form, [*bare, TURNED]))
        assert_same(found, [*bare, TURNED])
        assert {found.targets.told(i) for i in range(4)} == {"no box", "1 ant, 1 bee"}
    for form, write in FORMS.items():
        with pytest.raises(DataError, match=r"none of the 3 images|holds no boxes"):
            read(write(tmp_path / f"bare {form}", bare), "detection")


@pytest.mark.parametrize("form", FORMS)
def test_five_hundred_boxes_in_an_image(form: str, tmp_path: Path):
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 50, 500), random.uniform(0, 30, 500)
    boxes = [(NAMES[k % 3], float(x[k]), float(y[k]), float(x[k] + 5), float(y[k] + 5)) for k in range(500)]
    one = Planted("crowded", (60, 40), tuple(boxes))
    found = read(FORMS[form](tmp_path, [one]))
    assert_same(found, [one])
    assert found.targets.told(0) == "167 ant, 167 bee, 166 wasp"


# ------------------------------------------------------------------------------------------------------------ targets


def targets() -> Boxes:
    first = ImageBoxes((60, 40), np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0, 1]), np.array([False, True]))
    second = ImageBoxes((60, 40), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))
    third = ImageBoxes((60, 40), np.array([[1.0, 2, 3, 4]] * 3), np.array([1, 1, 0]), np.zeros(3, bool))
    return Boxes(("RBC", "WBC"), (first, second, third))


def test_targets_are_counted_told_and_taken():
    boxes = targets()
    assert len(boxes) == 3
    assert boxes.counts(np.arange(3)) == {"RBC": 2, "WBC": 1}
    assert boxes.counts(np.array([0])) == {"RBC": 1, "WBC": 0}
    assert boxes.counts(np.array([1])) == {"RBC": 0, "WBC": 0}
    assert [boxes.told(i) for i in range(3)] == ["1 RBC, 1 crowd", "no box", "2 WBC, 1 RBC"]
    assert [boxes.take(np.array([2, 0])).told(i) for i in range(2)] == ["2 WBC, 1 RBC", "1 RBC, 1 crowd"]
    difficult = Boxes(boxes.names, tuple(replace(one, crowd=np.ones(len(one), bool)) for one in boxes.boxes))
    assert difficult.counts(np.arange(3)) == {"RBC": 0, "WBC": 0}
    assert [difficult.told(i) for i in range(3)] == ["no box, 2 crowds", "no box", "no box, 3 crowds"]
    assert len(boxes.take(np.array([True, False, True]))) == 2


def test_a_hash_is_of_classes_by_name_corners_and_crowds_and_of_no_order():
    boxes = targets()
    first = boxes.boxes[0]
    digests = boxes.digests()
    assert digests.shape == (3, 32)
    assert digests.dtype == np.uint8
    assert digests[1].tobytes() == hashlib.sha256(b"").digest()
    renamed = Boxes(("WBC", "RBC"), (replace(first, labels=1 - first.labels),)).digests()[0]
    turned = Boxes(boxes.names, (ImageBoxes(first.size, first.corners[::-1], first.labels[::-1], first.crowd[::-1]),))
    assert (renamed == digests[0]).all()
    assert (turned.digests()[0] == digests[0]).all()
    for other in (
        replace(first, corners=first.corners + 1e-9),
        replace(first, labels=1 - first.labels),
        replace(first, crowd=~first.crowd),
    ):
        assert (Boxes(boxes.names, (other,)).digests()[0] != digests[0]).any()


@st.composite
def images_with_boxes(draw: st.DrawFn) -> Planted:
    width, height = draw(st.integers(2, 400)), draw(st.integers(2, 400))
    boxes = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=5)):
        spans = []
        for side in (width, height):
            low, high = sorted(draw(st.lists(st.floats(0, side), min_size=2, max_size=2)))
            spans.append((low, high) if high - low > 1e-3 else (0.0, float(side)))
        boxes.append((name, spans[0][0], spans[1][0], spans[0][1], spans[1][1]))
    boxes.append(("bee", 0.0, 0.0, float(width), float(height)))  # the data are none without any
    return Planted("one", (width, height), tuple(boxes))


@pytest.mark.parametrize("form", FORMS)
@given(one=images_with_boxes())
@settings(max_examples=40)
def test_boxes_survive_a_round_trip(form: str, one: Planted):
    with tempfile.TemporaryDirectory() as folder:
        assert_same(read(FORMS[form](Path(folder) / "data", [one])), [one])


@given(one=images_with_boxes(), size=st.integers(1, 600), fit=st.sampled_from(["pad", "squash"]))
def test_fitting_and_bringing_back_are_inverse(one: Planted, size: int, fit: str):
    corners = np.array([box[1:] for box in one.boxes])
    boxes = Boxes(
        NAMES, (ImageBoxes(one.size, corners, np.zeros(len(corners), np.int64), np.zeros(len(corners), bool)),)
    )
    preprocess = Preprocess(size=size, fit=fit)
    fitted = boxes.fitted(0, preprocess)
    assert fitted.min() >= 0
    assert fitted.max() <= size + 1e-9
    assert np.allclose(back(fitted, one.size, preprocess), corners, rtol=0, atol=1e-6)
    assert back(np.array([-9.0, -9, size + 9, size + 9]), one.size, preprocess).tolist() == [[0, 0, *one.size]]


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (61, 37)])
def test_a_fitted_box_lies_where_the_network_sees_it(fit: str, size: tuple[int, int]):
    corners = np.array([[10.0, 6.0, 40.0, 30.0]])
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[6:30, 10:40] = 255
    preprocess = Preprocess(size=96, fit=fit)
    boxes = Boxes(("ant",), (ImageBoxes(size, corners, np.zeros(1, np.int64), np.zeros(1, bool)),))
    left, top, right, bottom = boxes.fitted(0, preprocess)[0]
    seen = preprocess.fit_image(Image.fromarray(pixels))[..., 0] > 190
    rows, columns = np.nonzero(seen)
    assert np.allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [left, top, right, bottom], atol=1
    )


def test_a_crop_is_refused():
    with pytest.raises(UsageError, match="choose pad or squash"):
        targets().fitted(0, Preprocess(size=32, fit="crop"))


# ---------------------------------------------------------------------------------------------------------- real data


def test_blood_cells(shared_data: Path):
    root = shared_data / "bccd"
    if not root.is_dir():
        pytest.skip("there is no folder bccd in the shared data")
    found = read(root)
    boxes = found.targets
    assert len(found.files) == 364
    assert sum(map(len, boxes.boxes)) == 4888 - 2
    assert {part: int((found.given == part).sum()) for part in ("train", "val", "test")} == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    assert boxes.names == ("Platelets", "RBC", "WBC")
    many = np.bincount(np.concatenate([one.labels for one in boxes.boxes]))
    assert many.tolist() == [361, 4155 - 2, 372]
    for one in boxes.boxes:
        left, top, right, bottom = one.corners.T
        assert one.size == (640, 480)
        assert ((left >= 0) & (left < right) & (right <= 640) & (top >= 0) & (top < bottom) & (bottom <= 480)).all()
    (note,) = [note for note in found.notes if "left out" in note]
    assert note.startswith("2 boxes have no width or height and are left out: BloodImage_00338")


def test_yolo_writes_shares_with_six_digits_and_no_note_is_made_of_that(tmp_path: Path):
    one = Planted("a", (640, 480), (("ant", 320.7, 100.3, 640.0, 480.0),))
    as_yolo(tmp_path, [one])
    (text,) = (tmp_path / "labels").rglob("*.txt")
    label, *shares = text.read_text().split()
    text.write_text(" ".join([label, *(f"{float(share) + 1e-6:.6f}" for share in shares)]))
    found = read(tmp_path)
    assert_same(found, [one], within=0.002)
    assert not [note for note in found.notes if "cut" in note]
