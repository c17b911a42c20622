"""Thousands of classes: logits on the disk, no matrix of all classes, pages that stay small, splits in time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import convscope
from convscope.cache import cache_folder
from convscope.classifying import many_rows, metrics, prediction
from convscope.classifying.calibration import calibrate, fit_temperature
from convscope.datasets import splits
from convscope.datasets.unsplit import Unsplit
from convscope.training.page_report import CLASSES

COUNT = 2100


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of 4 x 4 pixels of each of 2,100 classes."""
    root, rows = tmp_path_factory.mktemp("many"), ["path,label"]
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 2, 4 * 4 * 3), np.uint8)
    for k, i in np.ndindex(COUNT, 2):
        (root / f"{k}-{i}.ppm").write_bytes(b"P6 4 4 255 " + pixels[k, i].tobytes())
        rows.append(f"{k}-{i}.ppm,class {k:04}")
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


def test_a_training_and_an_evaluation_stay_small(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[torch.Tensor] = []
    real = many_rows.ManyRows.whole
    monkeypatch.setattr(many_rows, "IN_MEMORY", 2**20)
    monkeypatch.setattr(many_rows.ManyRows, "whole", lambda self: kept.append(real(self)) or kept[-1])
    run = convscope.train(
        str(table), model="alexnet", width=4, image_size=16, epochs=1, batch_size=256, augment="none", name="many"
    )
    found = convscope.evaluate("many")
    assert all(tensor.shape[1] == COUNT for tensor in kept)
    assert found.summary["confusion"] is None
    assert 0 < len(found.summary["confused"]) <= metrics.CONFUSED_KEPT
    assert len(found.summary["classes"]) == COUNT
    folder = Path(run.summary["run"])
    page = (folder / "report.html").read_text()
    assert "Mistaken most" in page
    assert page.count("<tr><td><bdi>class ") <= CLASSES
    assert f"of {COUNT:,} classes, those that are found least and most often" in page
    assert (folder / "report.html").stat().st_size < 1_000_000
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.suffix != ".safetensors"}
    assert max(sizes.values()) < 400 * COUNT + 500_000
    assert not [path for path in cache_folder().iterdir() if path.is_file()]


def test_logits_on_the_disk_are_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [torch.randn(size, 3000, generator=generator) for size in (64, 64, 11)]

    def kept() -> torch.Tensor:
        rows = many_rows.ManyRows(139)
        for block in blocks:
            rows.add(block)
        return rows.whole()

    plain = kept()
    assert plain.untyped_storage().nbytes() == plain.nbytes
    monkeypatch.setattr(many_rows, "IN_MEMORY", 10**6)
    mapped = kept()
    assert torch.equal(plain, mapped)
    assert "(deleted)" in maps(mapped)
    monkeypatch.setattr(many_rows, "_mapped", lambda shape, dtype: None)  # a full disk
    assert torch.equal(plain, kept())


def maps(tensor: torch.Tensor) -> str:
    """What the system says of the memory that a tensor lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= tensor.data_ptr() < high:
            return line
    return ""


def test_figures_do_not_depend_on_how_many_rows_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 40, 500)
    logits = random.normal(0, 1, (500, 40)).astype(np.float32)
    logits[np.arange(500), labels] += 1.5
    names = [str(k) for k in range(40)]

    def figures() -> str:
        heat = fit_temperature(logits, labels)
        assert heat is not None
        return repr((metrics.evaluate(logits, labels, names), heat, calibrate(logits, labels, heat, 500)))

    whole = figures()
    monkeypatch.setattr(metrics, "VALUES_AT_ONCE", 40 * 7)
    assert figures() == whole
    assert not metrics.finite(torch.tensor([[0.0], [float("nan")]]))
    assert metrics.finite(torch.from_numpy(logits))


def test_the_commonest_mistakes_are_those_of_the_matrix() -> None:
    random = np.random.default_rng(1)
    labels, logits = random.integers(0, 9, 400), random.normal(0, 1, (400, 9))
    matrix = metrics.confusion(logits, labels)
    assert matrix is not None
    found = metrics.confused_most(logits, labels, 10)
    cells = sorted(((-matrix[t, g], t, g) for t, g in np.ndindex(9, 9) if t != g and matrix[t, g]))[:10]
    assert [(-pair.n, pair.truth, pair.guess) for pair in found] == cells
    assert all(pair.of == (labels == pair.truth).sum() for pair in found)
    assert json.dumps(metrics.evaluate(logits, labels, list("abcdefghi")).to_json()["confused"])
    (only,) = metrics.confused_most(np.eye(9)[[8]], [0], 10)  # a guess of which no image is
    assert (only.truth, only.guess, only.n, only.of) == (0, 8, 1, 1)


def test_one_view_is_not_kept_twice() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 3), np.uint8)
    plain, mean = prediction.view_logits(network, images, prediction.Preprocess(2), prediction.VIEWS["none"])
    assert plain is mean


def slow_split(labels: np.ndarray, keys: np.ndarray, given: np.ndarray) -> dict[str, set[int]]:
    """What must hold of any split, by sets: every image once, copies together, each class trained on."""
    names = tuple(f"class {k}" for k in range(labels.max() + 1))
    unsplit = Unsplit("many", names, labels, given, 8, arrays=np.zeros((len(labels), 1, 1, 3), np.uint8))
    found = splits.split(unsplit, keys).parts
    sides = {part: set(keys[index].tolist()) for part, index in found.items()}
    assert not sides["train"] & sides["val"] | sides["train"] & sides["test"] | sides["val"] & sides["test"]
    assert set(labels[found["train"]].tolist()) == set(labels.tolist())
    return sides


def test_twenty_one_thousand_classes_of_two_images_are_all_trained_on() -> None:
    labels = np.arange(42_000) % 21_000
    keys = np.random.default_rng(0).integers(0, 2**64, 42_000, dtype=np.uint64)
    sides = slow_split(labels, keys, np.full(42_000, "", "U5"))
    assert sum(map(len, sides.values())) == 42_000
