"""The data of a run are known by what they hold, not by where they lie."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope import cli
from convscope.datasets.near_copies import looks, near_copies
from convscope.errors import UsageError
from convscope.training.runs import Run

TINY = {"model": "resnet20", "width": 4, "image_size": 16, "epochs": 1, "flip": "none", "augment": "none"}


def photograph(seed: int, size: int = 48) -> Image.Image:
    """Soft shapes with a little grain, as photographs have."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    grain = random.integers(-4, 5, (size, size, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 images of each of 3 classes."""
    for k, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(30):
            photograph(100 * k + i).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def evaluated(data: Path | str) -> dict:
    """The summary of an evaluation of run r."""
    return convscope.evaluate("r", str(data)).summary


def test_the_same_images_elsewhere_are_the_same_data(folder: Path) -> None:
    convscope.train(str(folder), name="r", **TINY)
    own = convscope.evaluate("r").summary
    run = Run(Path(os.environ["CONVSCOPE_RUNS"]) / "r")
    moved = folder.rename(folder.with_name("renamed"))
    table = folder.with_name("same.csv")
    rows = [f"{path},{path.parent.name}" for path in sorted(moved.glob("*/*.png"))]
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    for n, data in enumerate((moved, table), 2):
        again = evaluated(data)
        assert (again["part"], again["n"], again["top1"]) == ("test", own["n"], own["top1"])
        assert again["test_openings"] == n
    assert len(run.openings()) == 3


def test_a_limited_run_knows_its_images_too(folder: Path) -> None:
    convscope.train(str(folder), name="r", limit=60, **TINY)
    own = convscope.evaluate("r").summary["n"]
    assert evaluated(folder.rename(folder.with_name("renamed")))["n"] == own


def test_other_data_tell_how_many_images_are_known(folder: Path) -> None:
    convscope.train(str(folder), name="r", **TINY)
    data = convscope.load_dataset(str(folder))
    other = folder.with_name("other")
    part = {data.origins(int(i)): name for name, index in data.parts.items() for i in index}
    trained = [Path(name) for name, where in part.items() if where == "train"]
    chosen = [Path(name) for name, where in part.items() if where == "val"]
    for n, path in enumerate([*trained[:5], *chosen[:2]]):
        (other / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, other / path.parent / f"copy{n}.png")
    for n, path in enumerate(trained[5:8]):  # saved again as JPEG, brighter, and smaller
        image = Image.open(folder / path)
        altered = [image, image.point(lambda v: min(255, int(1.1 * v))), image.resize((40, 40))][n]
        (other / path.parent).mkdir(parents=True, exist_ok=True)
        altered.save(other / path.parent / f"near{n}.jpg", quality=80)
    for n in range(6):
        (other / ("ant", "bee")[n % 2]).mkdir(parents=True, exist_ok=True)
        photograph(9000 + n).save(other / ("ant", "bee")[n % 2] / f"new{n}.png")
    notes = " ".join(evaluated(other)["notes"])
    assert "among the 16 images of other are 5 that it was trained on and 2 that it was chosen by" in notes
    assert "3 that it has near copies of" in notes


def test_two_folders_of_one_name_keep_their_evaluations(folder: Path, tmp_path: Path) -> None:
    convscope.train(str(folder), name="r", **TINY)
    for place, seed in (("a", 5000), ("b", 6000)):
        (tmp_path / place / "new" / "ant").mkdir(parents=True)
        for i in range(4):
            photograph(seed + i).save(tmp_path / place / "new" / "ant" / f"{i}.png")
    folders = {convscope.evaluate("r", str(tmp_path / place / "new")).folder for place in "abab"}
    assert len(folders) == 2
    assert {json.loads((f / "evaluation.json").read_text())["n"] for f in folders} == {4}


def test_a_training_goes_on_when_its_data_moved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convscope.train(str(folder), name="r", **TINY)
    moved = str(folder.rename(folder.with_name("moved")))
    assert cli.run(["train", moved, "--name", "r", "--resume"]) == 0
    (Path(moved) / "ant" / "0.png").unlink()
    capsys.readouterr()
    assert cli.run(["train", moved, "--name", "r", "--resume"]) == 65
    assert "the data changed since run 'r' began: class 'ant' has" in capsys.readouterr().err
    with pytest.raises(UsageError, match="started with `epochs` 1 and not 2"):
        convscope.train(moved, name="r", resume=True, epochs=2)


def saved(image: Image.Image, quality: int) -> Image.Image:
    """The image as a JPEG of that quality."""
    box = io.BytesIO()
    image.save(box, "JPEG", quality=quality)
    return Image.open(box).convert("RGB")


ALTERED = {
    **{f"JPEG {quality}": lambda image, quality=quality: saved(image, quality) for quality in (95, 85, 75, 60, 50)},
    **{f"size {size}": lambda image, size=size: image.resize((size, size)) for size in (96, 64, 40, 36)},
    **{f"times {f}": lambda image, f=f: image.point(lambda v: min(255, int(f * v))) for f in (0.9, 0.95, 1.05, 1.1)},
    "BMP and back": lambda image: image.copy(),
    "grey": lambda image: image.convert("L"),
    "plus 5": lambda image: image.point(lambda v: min(255, v + 5)),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_saved_again_is_a_near_copy(what: str) -> None:
    images = [photograph(seed) for seed in range(40)]
    one = np.stack([np.asarray(image.resize((48, 48))) for image in images])
    other = np.stack([np.asarray(ALTERED[what](image).convert("RGB").resize((48, 48))) for image in images])
    assert (near_copies(looks(other), looks(one)) == np.arange(40)).mean() > 0.9


def test_other_images_are_none() -> None:
    """Photographs of other things, noise, and images that hold next to nothing."""
    one = np.stack([np.asarray(photograph(seed)) for seed in range(200)])
    assert (near_copies(looks(one[100:]), looks(one[:100])) == -1).all()
    noise = np.random.default_rng(0).integers(0, 256, (50, 48, 48, 3), np.uint8)
    assert (near_copies(looks(noise[25:]), looks(noise[:25])) == -1).all()
    flat = np.full((10, 48, 48, 3), 90, np.uint8) + np.arange(10, dtype=np.uint8)[:, None, None, None]
    assert (near_copies(looks(flat), looks(flat)) == -1).all()
