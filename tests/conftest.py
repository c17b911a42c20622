"""What every test stands on: no test writes outside its own folder, and parallel workers share the processors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no timing", deadline=None)  # a busy machine fails no test
settings.load_profile("no timing")

# Before torch and NumPy are imported, which read these once. Processes that a test starts inherit them.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before any fixture of a test: what it draws must not depend on the tests that ran before it in its worker."""
    import torch

    torch.manual_seed(0)


def _redirect(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("CONVSCOPE_RUNS", str(folder / "runs"))
    patch.setenv("CONVSCOPE_CACHE", str(folder / "cache"))
    patch.delenv("CONVSCOPE_DATA", raising=False)  # a developer's own data must not change an answer


@pytest.fixture(scope="session", autouse=True)
def _no_writing_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures that outlive a test, a training shared by a module for one."""
    with pytest.MonkeyPatch.context() as patch:
        _redirect(patch, tmp_path_factory.mktemp("shared"))
        yield


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and cache of one test, beside its tmp_path and not in it: a test may list what it wrote there."""
    _redirect(monkeypatch, tmp_path_factory.mktemp("convscope"))


@pytest.fixture(scope="session", autouse=True)
def _a_quick_peak() -> Iterator[None]:
    """A machine's peak is measured with small matrices: a second in every training decides nothing here."""
    from convscope import machine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "PEAK_SIDE", 512)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_convolution_is_timed() -> Iterator[None]:
    """Each test has a cache of its own, so each training would time its layers again; tests/test_winograd.py forces."""
    from convscope.convolution import timing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "timed", lambda shape: timing.DIRECT)
        patch.setattr(timing, "timed_row", lambda shape: False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; a test that needs it is skipped where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder}")
    return folder


@pytest.fixture
def shapes_folder(tmp_path: Path) -> Path:
    """A folder of images as a user has one: 20 of each of three shapes, as PNG files in one folder a class."""
    from PIL import Image

    from convscope.datasets.shapes import load_shapes

    box = load_shapes(120)
    assert box.arrays is not None
    for i, (image, label) in enumerate(zip(box.arrays, box.labels, strict=True)):
        name = box.class_names[label]
        if name in ("circle", "ring", "cross"):
            (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"
