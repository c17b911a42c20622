"""What is published: a small wheel with all that the package reads and nothing else, and floors that are one each."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

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


# The version that mends the last hole that concerns us: docs/log.md lists them.
MENDED = {
    "datasets": "5.0.1",
    "filelock": "4.2.1",
    "h11": "0.16",
    "onnx": "1.21",
    "pillow": "13",
    "pillow-heif": "1.8.1",
    "starlette": "1.3",
    "torch": "2.10",
}


def test_each_floor_is_one_and_above_the_known_holes() -> None:
    lowest = floors(ROOT / "pyproject.toml")
    assert {name for name, version in MENDED.items() if Version(lowest[name]) < Version(version)} == set()


def test_what_is_tested_is_above_each_floor() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in lines) if pin}
    lowest = floors(ROOT / "pyproject.toml")
    assert len(tested.keys() & lowest.keys()) > 30
    assert {n for n in tested.keys() & lowest.keys() if Version(tested[n]) < Version(lowest[n])} == set()


def test_a_requirement_without_a_floor_is_refused(tmp_path: Path) -> None:
    table = '[project]\ndependencies = ["rich"]\n[project.optional-dependencies]\nexport = []\n'
    (tmp_path / "pyproject.toml").write_text(table + "[dependency-groups]\ntest = []\n")
    with pytest.raises(ValueError, match="rich needs one lowest version"):
        floors(tmp_path / "pyproject.toml")
