"""Near copies: found in every position and with every border, and by the quick way as by the slow one."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from convscope.inspection.borders import without_border
from convscope.inspection.copies import (
    ALIKE,
    ALIKE_FINE,
    POSITIONS,
    Pair,
    exact_pairs,
    groups_of,
    near_pairs,
    placed,
    steps_of,
)
from convscope.inspection.copy_findings import find_copies
from convscope.inspection.survey import look_at, survey
from convscope.inspection.thumbnails import CELLS, SIDE, Thumbnails, means, thumbnail
from planted_folders import pattern


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def thumbnails(images: list[Image.Image]) -> Thumbnails:
    found = Thumbnails()
    for i, image in enumerate(images):
        _, drawn = look_at(image, 0, str(i))
        found.add(drawn, [i] * len(drawn))
    return found


CHANGES = {
    "saved again": lambda image: saved(image, 60),
    "half the size": lambda image: image.resize((24, 24)),
    "twice the size": lambda image: image.resize((96, 96), Image.Resampling.BICUBIC),
    "stretched": lambda image: image.resize((90, 40)),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.rotate(90),
    "turned and mirrored": lambda image: ImageOps.mirror(image.rotate(270)),
    "white border": lambda image: ImageOps.expand(image, 7, (255, 255, 255)),
    "black bars": lambda image: ImageOps.expand(image, (0, 9), (0, 0, 0)),
    "border, saved": lambda image: saved(ImageOps.expand(image, 8, (200, 30, 40)), 85),
    "brighter": lambda image: image.point(lambda v: min(255, v + 40)),
    "darker": lambda image: image.point(lambda v: max(0, v - 40)),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_a_copy_and_others_are_none(change: str) -> None:
    images = [pattern(i) for i in range(30)]
    pairs = near_pairs(thumbnails([*images, CHANGES[change](images[7])]))
    assert [(pair.first, pair.second) for pair in pairs] == [(7, 30)]
    assert ALIKE_FINE < pairs[0].alike < 1


def test_the_quick_way_finds_what_the_slow_one_finds() -> None:
    """All pairs in all positions, one by one."""
    random = np.random.default_rng(3)
    images = [pattern(i) for i in range(24)]
    images += [change(images[n]) for n, change in enumerate(CHANGES.values())]
    images += [Image.blend(images[0], images[k], float(random.uniform(0, 0.5))) for k in range(1, 20)]
    found = thumbnails(images)
    cells, fine, owners = torch.from_numpy(found.cells), torch.from_numpy(found.fine), found.owners
    slow = set()
    for i in range(len(owners)):
        for j in range(i + 1, len(owners)):
            for position in range(len(POSITIONS)):
                coarse = torch.cosine_similarity(
                    steps_of(cells[i : i + 1]), steps_of(placed(cells[j : j + 1], position))
                )
                finer = torch.cosine_similarity(steps_of(fine[i : i + 1]), steps_of(placed(fine[j : j + 1], position)))
                if coarse > ALIKE and finer > ALIKE_FINE and owners[i] != owners[j]:
                    slow.add(tuple(sorted((int(owners[i]), int(owners[j])))))
    assert {(pair.first, pair.second) for pair in near_pairs(found)} == slow
    assert len(slow) > len(CHANGES)


def test_cells_are_the_means_of_the_pixels_they_cover() -> None:
    image = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(image)[None], CELLS)[0].numpy()
    matrix = means(CELLS)
    assert np.allclose(matrix @ image @ matrix.T, expected, atol=1e-6)
    assert thumbnail(image) is image


def test_a_border_is_told_from_an_image() -> None:
    image = np.asarray(pattern(1))
    assert without_border(image) is None
    assert without_border(np.full((20, 20, 3), 9, np.uint8)) is None
    framed = np.full((60, 70, 3), 250, np.uint8)
    framed[5:53, 10:58] = image
    rows, columns = without_border(framed) or (slice(0), slice(0))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (5, 53, 10, 58)


def test_images_of_one_grey_are_copies_of_none() -> None:
    flat = [Image.new("RGB", (40, 40), (v, v, v)) for v in (10, 10, 200)]
    assert near_pairs(thumbnails([*flat, pattern(0)])) == []


def test_exact_copies_and_groups() -> None:
    digests = np.array([[1] * 32, [2] * 32, [1] * 32, [3] * 32, [1] * 32], np.uint8)
    pairs = exact_pairs(digests)
    assert [(p.first, p.second) for p in pairs] == [(0, 2), (0, 4)]
    assert all(pair.exact for pair in pairs)
    assert groups_of([*pairs, Pair(3, 4, 0.95)]) == [[0, 2, 3, 4]]


def test_images_that_look_alike_by_nature_are_no_copies() -> None:
    from convscope.datasets.digits import load_digits

    copies = find_copies(survey(load_digits().take(np.arange(800))))
    assert copies.alike_anyway > 20
    assert len(copies.near) < 20
