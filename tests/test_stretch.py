"""``stretch``: each image's darkest value is 0 and its brightest 255, wherever images are read."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import assemble
from convscope.datasets.registry import load_dataset
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DamagedFile, UsageError
from convscope.feature_store.options import BackboneOptions
from convscope.feature_store.recording import backbone_of
from convscope.images.decoding import decode
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture

GRID = np.linspace(0, 1, 256).reshape(16, 16)
WHOLE = np.rint(GRID * 255)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(low: float, high: float, dtype: object) -> Image.Image:
    values = low + GRID * (high - low)
    return Image.fromarray((values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype))


def colours(low: int, high: int) -> Image.Image:
    values = np.rint(low + GRID * (high - low)).astype(np.uint8)
    return Image.fromarray(np.dstack([values, np.full_like(values, low), values[::-1]]))


STRETCHED = {
    "8 bits": saved(grey(100, 130, np.uint8)),
    "12 bits of 16": saved(grey(0, 4095, np.uint16)),
    "narrow 16 bits": saved(grey(30_000, 30_255, np.uint16)),
    "16 bits in a TIFF": saved(grey(1000, 1510, np.uint16), "TIFF"),
    "16 bits in a PGM": saved(grey(7, 900, np.uint16), "PPM"),
    "32 bits": saved(grey(0, 60_000, np.int32), "TIFF"),
    "signed": saved(grey(-500, 60_000, np.int32), "TIFF"),
    "floats to 1": saved(grey(0.2, 0.3, np.float32), "TIFF"),
    "floats": saved(grey(-7, 3000, np.float32), "TIFF"),
    "a whole range": saved(grey(0, 255, np.uint8)),
}


@pytest.mark.parametrize("name", STRETCHED)
def test_the_darkest_is_0_and_the_brightest_255_at_the_depth_of_the_file(name: str):
    found = np.asarray(decode(STRETCHED[name], stretch=True)).astype(int)
    step = 9 if name == "8 bits" else 1  # 31 values are spread over 256
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found[..., 1] - WHOLE).max() <= step
    assert np.array_equal(found, np.asarray(Preprocess(16, stretch=True).fit_image(STRETCHED[name])))
    if name != "8 bits":
        assert len(np.unique(found)) > 250


def test_white_is_zero_is_turned_over_first():
    raw = saved(grey(1000, 1510, np.uint16), "TIFF", tiffinfo={262: 0})
    assert np.abs(np.asarray(decode(raw, stretch=True))[..., 0].astype(int) - (255 - WHOLE)).max() <= 1


def test_colours_keep_their_balance():
    found = np.asarray(decode(saved(colours(50, 100)), stretch=True))
    assert (found[..., 1] == 0).all()
    assert found[..., 0].max() == found[..., 2].max() == 255


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_value_stays_as_it_is(value: int):
    for image in (Image.new("RGB", (4, 4), (value,) * 3), Image.fromarray(np.full((4, 4), value * 257, np.uint16))):
        assert (np.asarray(decode(saved(image), stretch=True)) == value).all()


def test_transparency_counts_as_white():
    layer = Image.fromarray(np.full((4, 4, 4), (55, 55, 55, 255), np.uint8))
    layer.putpixel((0, 0), (9, 9, 9, 0))
    found = np.asarray(decode(saved(layer), stretch=True))
    assert found[0, 0].tolist() == [255] * 3
    assert (found[1:] == 0).all()


def test_it_travels_with_the_preprocess_and_packs_of_others_are_not_taken():
    plain, stretched = Preprocess(16), Preprocess(16, stretch=True)
    assert Preprocess.from_dict(stretched.to_dict()) == stretched
    old = {name: value for name, value in plain.to_dict().items() if name != "stretch"}
    assert Preprocess.from_dict(old) == plain, "written before it was there"
    assert plain.decoding_key() != stretched.decoding_key()
    assert "stretch" not in plain.decoding_key(), "packs that lie there are still good"
    with pytest.raises(UsageError, match="stretch is true or false"):
        Preprocess(16, stretch=1)  # type: ignore[arg-type]
    with pytest.raises(DamagedFile):
        Preprocess.from_dict(old | {"stretch": "yes"})


def test_images_in_memory_are_stretched_too():
    arrays = np.random.default_rng(0).integers(10, 20, (8, 16, 16, 3), dtype=np.uint8)
    unsplit = Unsplit("ours", ("a", "b"), np.arange(8) % 2, np.full(8, "train"), 16, arrays=arrays)
    data = assemble(unsplit, stretch=True)
    assert data.preprocess.stretch
    assert all((image.min(), image.max()) == (0, 255) for image in data.images)
    assert not assemble(unsplit).preprocess.stretch


def test_a_backbone_stretches_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch):
    architecture = Architecture("resnet20", 16, {"width": 4})
    made = Classifier(architecture.build(2, seed=0), ("a", "b"), Preprocess(16), architecture, {})
    monkeypatch.setattr(Classifier, "pretrained", lambda *named: made)
    assert backbone_of(BackboneOptions(stretch=True)).preprocess.stretch
    assert not backbone_of(BackboneOptions()).preprocess.stretch


@pytest.mark.skipif("stretch" not in inspect.signature(load_dataset).parameters, reason="load_dataset takes no stretch")
def test_a_run_remembers_it_from_the_command_on(tmp_path: Path):
    rng = np.random.default_rng(0)
    for name, low in (("a", 0), ("b", 2000)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            values = rng.integers(low, low + 2000, (16, 16), dtype=np.uint16)
            Image.fromarray(values).save(tmp_path / "data" / name / f"{i}.png")
    asked = {"model": "resnet20", "width": 4, "epochs": 1, "image_size": 16, "runs": tmp_path / "runs"}
    convscope.train(tmp_path / "data", name="r", stretch=True, **asked)
    found = Classifier.load(tmp_path / "runs" / "r" / "classifier.safetensors")
    assert found.preprocess.stretch
    assert found.preprocess.mean[0] == pytest.approx(0.5, abs=0.05)
