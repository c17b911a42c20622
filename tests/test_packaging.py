"""What is published: a small wheel with all that the package reads and nothing else, and floors that are one each."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from floors import floors

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    monkeypatch.chdir(ROOT)
    (built,) = wheel.WheelBuilder(os.fspath(ROOT)).build(directory=os.fspath(tmp_path), versions=["standard"])
    assert Path(built).stat().st_size < 2_000_000
    names = {name for name in zipfile.ZipFile(built).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    kept = {
        path.relative_to(source).as_posix()
        for path in (source / "convscope").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == kept
    assert {"convscope/py.typed", "convscope/__init__.pyi"} <= names
    assert any(name.endswith(".html") for name in names)


def test_each_floor_is_one_and_above_the_known_holes() -> None:
    lowest = {name: tuple(map(int, version.split("."))) for name, version in floors(ROOT / "pyproject.toml").items()}
    assert lowest["torch"] >= (2, 10), "CVE-2026-24747"
    assert lowest["pillow"] >= (12, 3)
    assert lowest["onnx"] >= (1, 21), "external data through links"


def test_a_requirement_without_a_floor_is_refused(tmp_path: Path) -> None:
    table = '[project]\ndependencies = ["rich"]\n[project.optional-dependencies]\nexport = []\n'
    (tmp_path / "pyproject.toml").write_text(table + "[dependency-groups]\ntest = []\n")
    with pytest.raises(ValueError, match="rich needs one lowest version"):
        floors(tmp_path / "pyproject.toml")
