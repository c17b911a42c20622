"""Masks in every format are the same targets, and what is wrong with one is said with its file's name."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.mask_coding import VOID, find_coding, mask_codes, read_class_list
from convscope.datasets.mask_folders import Pairing, find_pairing
from convscope.datasets.mask_loading import load_masked
from convscope.datasets.mask_pack import MaskPack
from convscope.datasets.masks import Masks
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DataError, UsageError
from convscope.images.placing import fit_mask, place_of
from convscope.images.preprocess import Preprocess
from convscope.images.upright import TURNS

WIDTH, HEIGHT, COUNT = 20, 14, 3
COLOURS = [(0, 0, 0), (200, 30, 30), (30, 200, 30)]


def truths(classes: int) -> list[np.ndarray]:
    """Masks uint8 (HEIGHT, WIDTH) that no turn leaves as they are; each shows every class."""
    made = []
    for i in range(COUNT):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2 : 6 + i, 3:9] = 1
        mask[4:7, 9 : 12 + i] = 1
        if classes > 2:
            mask[10:13, 12:19] = 2
        made.append(mask)
    return made


def photograph(folder: Path, name: str, size: tuple[int, int] = (WIDTH, HEIGHT), exif: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    image.save(folder / name, exif=oriented(exif))


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def written(root: Path, masks: list[np.ndarray], save: Callable[[np.ndarray, Path], None], ending: str = "png") -> None:
    """Images with their masks beside them, as ``save`` writes these."""
    (root / "masks").mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        photograph(root / "images", f"{i}.png")
        save(mask, root / "masks" / f"{i}.{ending}")


def read(root: Path, **options: bool) -> Unsplit:
    pairing = find_pairing(root)
    assert pairing is not None
    return load_masked(root, pairing, **options)


def masks_of(found: Unsplit) -> list[np.ndarray]:
    assert isinstance(found.targets, Masks)
    return [found.targets.read(i) for i in range(len(found.targets))]


def same(found: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


# --------------------------------------------------------------------------------------------------------- formats


def as_index(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask).save(path)


def as_palette(mask: np.ndarray, path: Path) -> None:
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([v for colour in COLOURS for v in colour])
    image.save(path)


def as_sixteen_bits(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint16)).save(path)


def as_colours(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(np.array(COLOURS, np.uint8)[mask]).save(path)


def as_transparent(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(np.array(COLOURS, np.uint8)[mask]).convert("RGBA").save(path)


def as_white(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(255 * mask).save(path)


def as_one_bit(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask > 0).save(path)


def as_white_colour(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(np.stack([255 * mask] * 3, 2)).save(path)


def as_jpeg(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(255 * mask).save(path, quality=95)


def as_one_grey_bit(mask: np.ndarray, path: Path, bits: int = 1) -> None:
    """A grey PNG of so many bits a pixel, which Pillow reads as brightness and does not write."""
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    box = io.BytesIO()
    image.save(box, "PNG", bits=bits)
    path.write_bytes(grey_header(box.getvalue()))


def as_two_grey_bits(mask: np.ndarray, path: Path) -> None:
    as_one_grey_bit(mask, path, 2)


def as_four_grey_bits(mask: np.ndarray, path: Path) -> None:
    as_one_grey_bit(mask, path, 4)


def grey_header(data: bytes) -> bytes:
    """The same PNG, its colour type 0 (grey) in place of 3 (palette) and without its palette."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    place, parts = 8, [data[:8]]
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            body = body[:9] + b"\0" + body[10:]
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            parts.append(chunk(kind, body))
        place += 12 + length
    return b"".join(parts)


def coco(root: Path, masks: list[np.ndarray], outline: Callable[[np.ndarray], list[list[int]] | dict]) -> None:
    """A COCO file beside the images."""
    annotations = [
        {"id": 10 * i + k, "image_id": i, "category_id": 40 + k, "segmentation": outline(mask == k)}
        for i, mask in enumerate(masks)
        for k in range(1, 3)
        if (mask == k).any()
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(len(masks))]
    names = [{"id": 41, "name": "class 1"}, {"id": 42, "name": "class 2"}]
    for i in range(len(masks)):
        photograph(root / "images", f"{i}.png")
    data = {"images": images, "annotations": annotations, "categories": names}
    (root / "coco.json").write_text(json.dumps(data))


def polygons(there: np.ndarray) -> list[list[int]]:
    """Each run of pixels in a row as the rectangle around it."""
    made = []
    for y, row in enumerate(there):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        made += [[x0, y, x1, y, x1, y + 1, x0, y + 1] for x0, x1 in edges.reshape(-1, 2).tolist()]
    return made


def runs(there: np.ndarray) -> dict:
    """Lengths down the columns, beginning with what is not there."""
    flat = there.T.ravel()
    ends = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


@pytest.mark.parametrize("save", [as_index, as_palette, as_sixteen_bits, as_two_grey_bits, as_four_grey_bits])
def test_three_classes_by_number_are_the_same_targets(save: Callable, tmp_path: Path):
    written(tmp_path, truths(3), save)
    found = read(tmp_path)
    assert found.targets.names == ("class 0", "class 1", "class 2")
    assert same(masks_of(found), truths(3))
    assert found.targets.counts(np.arange(2)) == {"class 0": 2, "class 1": 2, "class 2": 2}


@pytest.mark.parametrize("save", [as_colours, as_transparent])
@pytest.mark.parametrize("header", ["", "name,r,g,b\n"])
def test_three_colours_with_a_list_are_the_same_targets(save: Callable, header: str, tmp_path: Path):
    written(tmp_path, truths(3), save)
    rows = "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip(("sky", "leaf", "pot"), COLOURS, strict=True))
    (tmp_path / "classes.csv").write_text(header + rows)
    found = read(tmp_path)
    assert found.targets.names == ("sky", "leaf", "pot")
    assert same(masks_of(found), truths(3))


def test_colours_without_a_list_are_called_by_themselves(tmp_path: Path):
    written(tmp_path, truths(3), as_colours)
    assert read(tmp_path).targets.names == ("class 0", "colour #1ec81e", "colour #c81e1e")


@pytest.mark.parametrize("save", [as_index, as_white, as_one_bit, as_one_grey_bit, as_white_colour, as_palette])
def test_one_object_is_the_same_targets_in_each_format(save: Callable, tmp_path: Path):
    written(tmp_path, truths(2), save)
    found = read(tmp_path)
    assert found.targets.names == ("background", "foreground")
    assert same(masks_of(found), truths(2))


@pytest.mark.parametrize("save", [as_index, as_white, as_one_bit, as_white_colour])
def test_two_names_a_line_are_those_of_black_and_white_too(save: Callable, tmp_path: Path):
    written(tmp_path, truths(2), save)
    (tmp_path / "classes.txt").write_text("background\nleaf\n")
    found = read(tmp_path)
    assert found.targets.names == ("background", "leaf")
    assert same(masks_of(found), truths(2))


def test_a_grey_jpeg_of_two_values_is_cut_at_half(tmp_path: Path):
    large = [np.kron(mask, np.ones((8, 8), np.uint8)) for mask in truths(2)]
    written(tmp_path, large, as_jpeg, "jpg")
    found = read(tmp_path)
    assert found.targets.names == ("background", "foreground")
    assert same(masks_of(found), large)
    assert any("JPEG" in note for note in found.notes)


@pytest.mark.parametrize("outline", [polygons, runs])
def test_outlines_are_the_same_targets(outline: Callable, tmp_path: Path):
    coco(tmp_path, truths(3), outline)
    found = read(tmp_path)
    assert found.targets.names == ("background", "class 1", "class 2")
    assert same(masks_of(found), truths(3))


def test_a_small_object_lies_on_a_large_one(tmp_path: Path):
    mask = np.ones((HEIGHT, WIDTH), np.uint8)
    coco(tmp_path, [mask], polygons)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"].insert(
        0, {"id": 99, "image_id": 0, "category_id": 42, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]}
    )
    (tmp_path / "coco.json").write_text(json.dumps(data))
    mask[2:5, 2:5] = 2
    assert same(masks_of(read(tmp_path)), [mask])


def test_a_polygon_holds_the_pixels_whose_centres_it_holds(tmp_path: Path):
    """Against a test of each centre by the angles that the corners are seen at."""
    rng = np.random.default_rng(0)
    coco(tmp_path, truths(3)[:1], polygons)
    data = json.loads((tmp_path / "coco.json").read_text())
    for _ in range(5):
        corners = rng.uniform((-3, -3), (WIDTH + 3, HEIGHT + 3), (3, 2))
        data["annotations"] = [{"id": 1, "image_id": 0, "category_id": 41, "segmentation": [corners.ravel().tolist()]}]
        (tmp_path / "coco.json").write_text(json.dumps(data))
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        sides = []
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            sides.append((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0)
        wanted = (sides[0] == sides[1]) & (sides[1] == sides[2])
        pairing = find_pairing(tmp_path)
        assert pairing is not None
        masks = load_masked(tmp_path, pairing).targets
        assert np.array_equal(masks.read(0), wanted)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"counts": [3, 5], "size": [HEIGHT, WIDTH]}, "lengths of 8 pixels"),
        ({"counts": [-3, 283], "size": [HEIGHT, WIDTH]}, "lengths of 280 pixels"),
        ({"counts": "abc", "size": [HEIGHT, WIDTH]}, "compressed run lengths"),
        ([[1, 2, 3, 4]], "fewer than three points"),
        ([[1, 2, 3, 4, 5]], "fewer than three points"),
        ([[0, 0, float("nan"), 4, 5, 6]], "no finite number"),
        ([[0, 0, float("inf"), 4, 5, 6]], "no finite number"),
        ("none", "no COCO file"),
    ],
)
def test_an_outline_that_is_none_is_refused(change: object, told: str, tmp_path: Path):
    coco(tmp_path, truths(3), polygons)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"][0]["segmentation"] = change
    (tmp_path / "coco.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=told):
        read(tmp_path)


# -------------------------------------------------------------------------------------------- upright, size, place


UPSIDE = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # what undoes each turn


def stored(mask: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels of a file that shows the mask once it is turned upright."""
    if orientation == 1:
        return mask
    return np.asarray(Image.fromarray(mask).transpose(TURNS[UPSIDE[orientation]]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("own", [False, True])
def test_a_mask_turns_with_its_image(orientation: int, own: bool, tmp_path: Path):
    """Drawn on the pixels as they are stored; whether the mask says its orientation itself or not."""
    (tmp_path / "masks").mkdir()
    size = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    for i, mask in enumerate(truths(3)):
        photograph(tmp_path / "images", f"{i}.png", size, orientation)
        image = Image.fromarray(stored(mask, orientation))
        image.save(tmp_path / "masks" / f"{i}.png", exif=oriented(orientation if own else 1))
    assert same(masks_of(read(tmp_path)), truths(3))


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_mask_that_was_drawn_upright_stays(orientation: int, tmp_path: Path):
    (tmp_path / "masks").mkdir()
    for i, mask in enumerate(truths(3)):
        photograph(tmp_path / "images", f"{i}.png", (HEIGHT, WIDTH), orientation)
        as_index(mask, tmp_path / "masks" / f"{i}.png")
    assert same(masks_of(read(tmp_path)), truths(3))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_outlines_turn_with_their_image(orientation: int, tmp_path: Path):
    turned = [stored(mask, orientation) for mask in truths(3)]
    coco(tmp_path, turned, polygons)
    data = json.loads((tmp_path / "coco.json").read_text())
    for i, mask in enumerate(turned):
        photograph(tmp_path / "images", f"{i}.png", mask.shape[::-1], orientation)
        data["images"][i] |= {"width": mask.shape[1], "height": mask.shape[0]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    assert same(masks_of(read(tmp_path)), truths(3))


def test_a_mask_of_another_size_is_that_of_the_same_shape(tmp_path: Path):
    large = [np.kron(mask, np.ones((3, 3), np.uint8)) for mask in truths(3)]
    written(tmp_path, large, as_index)
    found = read(tmp_path)
    assert same(masks_of(found), large)
    fitted = found.targets.fitted(0, Preprocess(size=WIDTH, fit="pad"))
    assert np.array_equal(fitted[3 : 3 + HEIGHT], truths(3)[0])
    assert (fitted[:3] == VOID).all()


def test_a_mask_of_another_shape_is_named_and_refused(tmp_path: Path):
    masks = truths(3)
    masks[1] = masks[1][:, :HEIGHT]
    written(tmp_path, masks, as_index)
    with pytest.raises(DataError, match=r"1 of 3 masks cannot be used: .*1\.png: the mask is 14 x 14, and its image"):
        read(tmp_path)
    found = read(tmp_path, skip=True)
    assert [path.name for path in found.files] == ["0.png", "2.png"]
    assert same(masks_of(found), [masks[0], masks[2]])
    assert "1 image is left out for the mask" in found.notes[-1]


def test_outlines_of_another_shape_are_named_and_refused(tmp_path: Path):
    coco(tmp_path, truths(3), polygons)
    photograph(tmp_path / "images", "1.png", (40, 14))
    with pytest.raises(DataError, match=r"1 of 3 masks cannot be used: .*1\.png.* 20 x 14, and its image is 40 x 14"):
        read(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["images"][1] |= {"width": 10**9, "height": 7 * 10**8}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    photograph(tmp_path / "images", "1.png")
    with pytest.raises(DataError, match="cannot be used"):
        read(tmp_path)


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_masks_lie_where_their_images_lie(fit: str, tmp_path: Path):
    """An image of two colours and its mask are cut alike by the two ways they come."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        width, height = rng.integers(20, 200, 2).tolist()
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2, : width // 3] = 1
        preprocess = Preprocess(size=64, fit=fit)
        pixels = preprocess.fit_image(Image.fromarray(np.stack([mask * 255] * 3, 2)), "x")
        fitted = fit_mask(mask, (width, height), preprocess, VOID)
        place = place_of(preprocess, (width, height))
        seen = pixels[place.window][..., 0]
        sure = (seen < 10) | (seen > 245)
        assert np.array_equal(fitted[place.window][sure], (seen > 127)[sure])
        outside = np.ones((64, 64), bool)
        outside[place.window] = False
        assert (fitted[outside] == VOID).all()
        assert len(np.unique(pixels[outside])) <= 1
    with pytest.raises(UsageError, match="--fit crop"):
        place_of(Preprocess(size=64, fit="crop"), (10, 10))


def test_fitted_masks_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path, truths(3), as_index)
    masks, preprocess = read(tmp_path).targets, Preprocess(size=16, fit="pad")
    wanted = masks.all_fitted(np.arange(3), preprocess)
    assert np.array_equal(MaskPack(masks, preprocess)[np.array([2, 0, 2])], wanted[[2, 0, 2]])
    monkeypatch.setattr(Masks, "all_fitted", lambda *_: pytest.fail("the cache was not read"))
    again = MaskPack(masks, preprocess)
    assert np.array_equal(again[np.arange(3)], wanted)
    monkeypatch.undo()
    as_index(1 - truths(2)[0], tmp_path / "masks" / "0.png")
    assert not np.array_equal(MaskPack(read(tmp_path).targets, preprocess)[np.arange(3)], wanted)
    next(again.folder.glob("*.safetensors")).write_bytes(b"cut")
    as_index(truths(3)[0], tmp_path / "masks" / "0.png")
    assert np.array_equal(MaskPack(read(tmp_path).targets, preprocess)[np.arange(3)], wanted)


def test_a_digest_is_of_the_mask_and_of_what_its_values_mean(tmp_path: Path):
    written(tmp_path, truths(3), as_index)
    plain = read(tmp_path).targets.digests()
    assert len({one.tobytes() for one in plain}) == COUNT
    (tmp_path / "classes.txt").write_text("sky\nleaf\npot\n")
    named = read(tmp_path).targets
    assert not (named.digests() == plain).all(1).any()
    assert np.array_equal(named.take(np.array([2, 0])).digests(), named.digests()[[2, 0]])


# ------------------------------------------------------------------------------------------------------ void, values


def test_255_beside_numbers_is_void(tmp_path: Path):
    masks = truths(3)
    masks[0][0] = masks[2][5:8, :4] = 255
    written(tmp_path, masks, as_index)
    found = read(tmp_path)
    assert found.targets.names == ("class 0", "class 1", "class 2")
    assert same(masks_of(found), masks)
    assert VOID == 255


def test_what_a_list_calls_void_is_void_under_any_number(tmp_path: Path):
    written(tmp_path, truths(3), as_index)
    (tmp_path / "classes.csv").write_text("sky,0\nVoid,1\npot,2\n")
    found = read(tmp_path)
    assert found.targets.names == ("sky", "pot")
    assert same(masks_of(found), [np.array([0, VOID, 1], np.uint8)[mask] for mask in truths(3)])


def test_a_mask_that_is_all_void_is_left_out_with_a_note(tmp_path: Path):
    masks = [*truths(3), np.full((HEIGHT, WIDTH), 255, np.uint8)]
    written(tmp_path, masks, as_index)
    found = read(tmp_path)
    assert len(found.files) == len(found.targets) == COUNT
    assert found.notes[-1].startswith("1 image is left out for the mask")
    assert "3.png: all of it is void" in found.notes[-1]


def test_masks_that_are_all_void_are_refused(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("sky\nleaf\n")
    written(tmp_path, [np.full((HEIGHT, WIDTH), 255, np.uint8)] * 2, as_index)
    with pytest.raises(DataError, match="none of the 2 masks can be used"):
        read(tmp_path)


def test_a_value_that_no_class_has_is_named_with_its_file(tmp_path: Path):
    masks = truths(3)
    masks[1][0, :5] = 7
    written(tmp_path, masks, as_index)
    (tmp_path / "classes.txt").write_text("sky\nleaf\npot\n")
    with pytest.raises(DataError, match=r"hold the value 7, and classes\.txt names no class for it"):
        read(tmp_path)
    images = [tmp_path / "images" / f"{i}.png" for i in range(3)]
    files = [tmp_path / "masks" / f"{i}.png" for i in range(3)]
    (tmp_path / "classes.txt").unlink()
    coding = find_coding([files[0], files[2]], tmp_path)
    with pytest.raises(DataError, match=r"1\.png: the value 7 stands for no class \(1\.8 % of its pixels have none\)"):
        Masks(coding.names, tuple(images), tuple(files), coding).read(1)


def test_a_rare_class_is_found_whichever_mask_shows_it(tmp_path: Path):
    many = [truths(3)[i % 3].copy() for i in range(450)]
    many[301][0, 0] = 3
    (tmp_path / "masks").mkdir()
    for i, mask in enumerate(many):
        as_index(mask, tmp_path / "masks" / f"{i:03}.png")
    files = sorted((tmp_path / "masks").iterdir())
    assert find_coding(files, tmp_path).names == ("class 0", "class 1", "class 2", "class 3")


def test_photographs_are_no_masks(tmp_path: Path):
    rng = np.random.default_rng(2)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="too many values"):
        find_coding(sorted(tmp_path.glob("*.png")), tmp_path)
    for i in range(2):
        Image.fromarray(rng.integers(0, 200, (80, 90), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=r"hold 200 values: too many for masks"):
        find_coding(sorted(tmp_path.glob("*.png")), tmp_path)


def test_one_value_alone_is_no_class(tmp_path: Path):
    written(tmp_path, [np.full((HEIGHT, WIDTH), 4, np.uint8)] * 2, as_index)
    with pytest.raises(DataError, match="one value only, the value 4"):
        read(tmp_path)


def test_large_numbers_keep_their_order(tmp_path: Path):
    written(tmp_path, [np.array([3, 700, 40000], np.uint16)[mask] for mask in truths(3)], as_sixteen_bits)
    found = read(tmp_path)
    assert found.targets.names == ("class 3", "class 700", "class 40000")
    assert same(masks_of(found), truths(3))
    assert mask_codes(tmp_path / "masks" / "0.png").dtype == np.int64


# ------------------------------------------------------------------------------------------------- lists of classes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,r,g,b\nsky,0,0,0\nleaf,0,0,0\n", "gives the value 0 to two classes, 'sky' and 'leaf'"),
        ("sky,1,2,3\nleaf,1,2,3\n", "gives the colour #010203 to two classes"),
        ("sky,0\nleaf,1\nsky,2\n", "gives the name 'sky' to two values"),
        ("sky\nleaf\nsky\n", "gives the name 'sky' to two values"),
        ("sky,0,0,0\nleaf,1,2\n", "row 2: 'leaf,1,2' is neither"),
        ("name,r,g,b\nsky,0,0,0\nleaf,1,2\n", "row 3: 'leaf,1,2' is neither"),
        ("sky,0\nleaf,256\n", "row 2: 'leaf,256' is neither"),
        ("sky,0\nleaf," + "9" * 5000 + "\n", "row 2"),
        ('sky,0\n"' + "x" * 200_000 + '",1\n', "cannot be read"),
    ],
)
def test_a_list_that_does_not_tell_classes_apart_is_refused(text: str, told: str, tmp_path: Path):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(DataError, match=told) as caught:
        read_class_list(tmp_path)
    assert "classes.csv" in str(caught.value)


def test_void_may_stand_for_several_colours(tmp_path: Path):
    (tmp_path / "classes.csv").write_text("sky,0\nvoid,1\nleaf,2\nvoid,3\n")
    listed = read_class_list(tmp_path)
    assert listed is not None
    assert listed.names == {0: "sky", 1: "void", 2: "leaf", 3: "void"}


def test_a_list_is_looked_for_beside_the_masks_too(tmp_path: Path):
    written(tmp_path, truths(3), as_index)
    (tmp_path / "masks" / "classes.txt").write_text("\ufeffsky\n\nleaf\npot\n", encoding="utf-8")
    assert read(tmp_path).targets.names == ("sky", "leaf", "pot")
    assert read_class_list(tmp_path) is None


def test_a_list_of_two_names_the_halves_of_jpegs(tmp_path: Path):
    large = [np.kron(mask, np.ones((8, 8), np.uint8)) for mask in truths(2)]
    written(tmp_path, large, as_jpeg, "jpg")
    (tmp_path / "classes.txt").write_text("soil\nplant\n")
    pairing = find_pairing(tmp_path)
    assert isinstance(pairing, Pairing)
    assert load_masked(tmp_path, pairing).targets.names == ("soil", "plant")


# ------------------------------------------------------------------------------------------------------ saved as JPEG


def blocks(classes: int) -> list[np.ndarray]:
    """The truths in blocks of 24 pixels, which a JPEG keeps apart."""
    return [np.kron(mask, np.ones((24, 24), np.uint8)) for mask in truths(classes)]


def grey_jpeg(*greys: int, quality: int = 85) -> Callable[[np.ndarray, Path], None]:
    return lambda mask, path: Image.fromarray(np.array(greys, np.uint8)[mask]).save(path, quality=quality)


def read_named(root: Path) -> Unsplit:
    pairing = find_pairing(root, root / "masks")
    assert pairing is not None
    return load_masked(root, pairing)


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_three_greys_of_a_jpeg_are_three_classes(quality: int, tmp_path: Path):
    """They were two once: all from 128 on was the second."""
    written(tmp_path, blocks(3), grey_jpeg(0, 128, 255, quality=quality), "jpg")
    found = read_named(tmp_path)
    assert found.targets.names == ("class 0", "class 128", "class 255")
    assert any("nearest of 0, 128, 255" in note for note in found.notes)
    for mask, truth in zip(masks_of(found), blocks(3), strict=True):
        assert (mask == truth).mean() > 0.97
        assert ((mask == truth) | (mask == VOID)).mean() > 0.985


def test_a_jpeg_under_another_ending_is_one_all_the_same(tmp_path: Path):
    def save(mask: np.ndarray, path: Path) -> None:
        Image.fromarray(np.array([0, 255], np.uint8)[mask]).save(path, "JPEG", quality=75)

    written(tmp_path, blocks(2), save)
    assert read_named(tmp_path).targets.names == ("background", "foreground")


def test_two_dark_greys_of_a_jpeg_are_not_both_background(tmp_path: Path):
    written(tmp_path, blocks(2), grey_jpeg(0, 100), "jpg")
    found = read_named(tmp_path)
    assert same([m > 0 for m in masks_of(found)], [t > 0 for t in blocks(2)])
    assert any("from 50 on" in note for note in found.notes)


@pytest.mark.parametrize("greys", [(0, 1, 2), (0, 10, 20), (7, 7, 7)])
def test_greys_of_a_jpeg_that_do_not_stand_apart_are_refused(greys: tuple[int, ...], tmp_path: Path):
    """And as PNGs, as is advised, they are read."""
    written(tmp_path, blocks(3), grey_jpeg(*greys), "jpg")
    with pytest.raises(DataError, match="do not stand apart: save the masks as PNG"):
        read_named(tmp_path)
    if len(set(greys)) == 3:
        shutil.rmtree(tmp_path / "masks")
        written(tmp_path, blocks(3), lambda mask, path: Image.fromarray(np.array(greys, np.uint8)[mask]).save(path))
        assert same(masks_of(read_named(tmp_path)), blocks(3))


def test_colours_of_a_jpeg_are_refused_and_read_from_a_png(tmp_path: Path):
    def save(mask: np.ndarray, path: Path) -> None:
        Image.fromarray(np.array(COLOURS, np.uint8)[mask]).save(path, quality=60)

    large = [np.kron(mask, np.ones((5, 5), np.uint8)) for mask in truths(3)]
    written(tmp_path, large, save, "jpg")
    with pytest.raises(DataError, match="colours are blurred: save the masks as PNG"):
        read_named(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    written(tmp_path, large, save)
    assert len(read_named(tmp_path).targets.names) == 3


def test_soft_outlines_of_black_and_white_are_cut_at_half(tmp_path: Path):
    """Mattes of hair: the greys between are many and none of them a class."""
    soft = [np.kron(mask * 255, np.ones((24, 24), np.uint8)) for mask in truths(2)]
    for mask in soft:
        mask[:8, :400] = np.linspace(30, 225, 25, dtype=np.uint8).repeat(16)
    written(tmp_path, soft, lambda mask, path: Image.fromarray(mask).save(path, quality=90), "jpg")
    assert read_named(tmp_path).targets.names == ("background", "foreground")


def test_a_list_names_the_greys_of_jpegs(tmp_path: Path):
    written(tmp_path, blocks(3), grey_jpeg(0, 128, 255), "jpg")
    (tmp_path / "classes.txt").write_text("sky\nleaf\npot\n")
    assert read_named(tmp_path).targets.names == ("sky", "leaf", "pot")
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.csv").write_text("sky,0\nvoid,126\npot,255\n")
    found = read_named(tmp_path)
    assert found.targets.names == ("sky", "pot")
    assert {VOID, 0, 1} == set(np.unique(masks_of(found)[0]).tolist())
    (tmp_path / "classes.csv").write_text("sky,0\npot,255\n")
    with pytest.raises(DataError, match=r"hold the value 128, and classes\.csv names no class"):
        read_named(tmp_path)


def test_a_webp_without_loss_is_as_exact_as_a_png(tmp_path: Path):
    written(tmp_path, truths(3), lambda mask, path: Image.fromarray(mask).save(path, lossless=True), "webp")
    assert same(masks_of(read_named(tmp_path)), truths(3))
