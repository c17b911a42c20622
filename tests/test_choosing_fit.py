"""`--fit auto`: a crop where little is lost, a squash where all have one shape, else a border; and it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.datasets.choosing_fit import choose_fit, edges_kept, fit_costs
from convscope.datasets.registry import load_dataset
from planted_folders import pattern


def folder(root: Path, shapes: list[tuple[int, int]], middle: bool = False) -> Path:
    """Images of these sizes in two classes, with patterns all over, or in the middle square alone."""
    for i, size in enumerate(shapes * 6):
        side = min(size)
        image = Image.new("RGB", size, (90, 90, 90))
        if middle:
            image.paste(pattern(i).resize((side, side)), ((size[0] - side) // 2, (size[1] - side) // 2))
        else:
            image = pattern(i).resize(size)
        path = root / ("ants", "bees")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root


CASES = {
    "squares": ([(64, 64), (90, 90)], False, "crop"),
    "nearly squares": ([(64, 60), (60, 64)], False, "crop"),
    "all in the middle": ([(120, 64), (64, 120)], True, "crop"),
    "one shape": ([(96, 64), (48, 32)], False, "squash"),
    "many shapes": ([(120, 64), (64, 120)], False, "pad"),
    "slim": ([(64, 160)], False, "pad"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_fit_is_what_costs_least(case: str, tmp_path: Path) -> None:
    shapes, middle, fit = CASES[case]
    data = load_dataset(folder(tmp_path, shapes, middle), fit="auto", image_size=24)
    assert data.preprocess.fit == fit
    assert any(note.startswith(f"--fit auto takes {fit}: ") for note in data.notes)
    assert np.array_equal(data.images, load_dataset(tmp_path, fit=fit, image_size=24).images)


def test_edges_are_counted_where_they_are() -> None:
    image = np.zeros((10, 20), np.float32)
    image[:, 12] = 100  # within the middle square, columns 5 to 14
    assert edges_kept(image) == 1.0
    image[:, 2] = 100
    assert edges_kept(image) == pytest.approx(0.5)
    assert edges_kept(np.zeros((4, 9), np.float32)) == 1.0
    assert edges_kept(np.ones((5, 5), np.float32)) == 1.0


def test_the_costs_are_those_of_the_sides() -> None:
    costs = fit_costs(np.array([[200.0, 100.0]] * 3), np.array([0.4, 0.5, 0.9]))
    assert (costs.crop_area, costs.crop_edges, costs.stretch, costs.shapes) == (0.5, 0.5, 2.0, 1.0)


@pytest.mark.slow
def test_a_transfer_and_features_take_it_too(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", [(96, 64)])
    recorded = convscope.features(root, fit="auto", engine="torch", image_size=32)
    assert recorded.notes[0].startswith("--fit auto takes squash")
    made = convscope.transfer(root, fit="auto", engine="torch", image_size=32, runs=tmp_path / "runs")
    assert made.run.classifier().preprocess.fit == "squash"
    assert any(note.startswith("--fit auto takes squash") for note in made.notes)


def test_images_that_cannot_be_read_decide_nothing(tmp_path: Path) -> None:
    root = folder(tmp_path, [(96, 64)])
    (root / "ants" / "bad.png").write_bytes(b"x")
    data = load_dataset(root, fit="auto", image_size=16, bad_images="skip")
    assert data.preprocess.fit == "squash"


def test_arrays_are_looked_at_as_well() -> None:
    from convscope.datasets.digits import load_digits

    assert choose_fit(load_digits())[0] == "crop"
