"""Parquet files and datasets of the Hub: paths or whole images, names of classes, parts."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.cache import cache_folder
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UnreachableError, UsageError
from planted_folders import CLASSES, clean, pattern


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    pattern(seed, 24).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path)
    return path


def test_a_file_of_paths_is_a_table(tmp_path: Path) -> None:
    root = clean(tmp_path / "data", each=12)
    files = sorted(root.rglob("*.png"))
    columns = {"file": [str(p.relative_to(root)) for p in files], "species": [p.parent.name for p in files]}
    data = load_dataset(write(root / "t.parquet", columns))
    assert data.class_names == CLASSES
    assert data.fingerprint == load_dataset(root).fingerprint


def test_whole_images_are_read_from_it(tmp_path: Path) -> None:
    columns = {
        "image": [{"bytes": encoded(i), "path": f"{i}.png"} for i in range(30)],
        "label": [("ant", "bee")[i % 2] for i in range(30)],
    }
    path = write(tmp_path / "t.parquet", columns)
    data = load_dataset(path, image_size=24)
    assert data.class_names == ("ant", "bee")
    for i in range(30):
        assert np.array_equal(data.images[i], np.asarray(pattern(i, 24)))
    assert load_dataset(path, image_size=24).fingerprint == data.fingerprint
    assert data.origins(3) == "t, row 4"


def test_an_image_of_it_that_rots_in_the_cache_is_written_again(tmp_path: Path) -> None:
    columns = {"image": [encoded(i) for i in range(20)], "label": [("ant", "bee")[i % 2] for i in range(20)]}
    path = write(tmp_path / "t.parquet", columns)
    wanted = np.array(load_dataset(path, image_size=24).images)
    for held in (cache_folder() / "embedded").rglob("*.image"):
        data = bytearray(held.read_bytes())
        data[len(data) // 2] ^= 1
        held.write_bytes(data)
    assert np.array_equal(load_dataset(path, image_size=24).images, wanted)
    for place, held in enumerate(sorted((cache_folder() / "embedded").rglob("*.image"))):
        assert held.read_bytes() == encoded(place)


def test_of_several_columns_of_images_the_first_is_meant_or_the_one_that_is_named(tmp_path: Path) -> None:
    columns = {
        "image": [encoded(i) for i in range(20)],
        "mask": [encoded(100 + i) for i in range(20)],
        "label": [("ant", "bee")[i % 2] for i in range(20)],
    }
    path = write(tmp_path / "t.parquet", columns)
    for asked, start in ((None, 0), ("image", 0), ("mask", 100)):
        data = load_dataset(path, path_column=asked, image_size=24)
        assert all(np.array_equal(data.images[i], np.asarray(pattern(start + i, 24))) for i in range(20))


def hub(tmp_path: Path, parts: dict[str, range]) -> Path:
    """A folder of Parquet files, as the Hub has them."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee"])})
    for part, seeds in parts.items():
        rows = {"picture": [{"bytes": encoded(i), "path": None} for i in seeds], "kind": [i % 2 for i in seeds]}
        (tmp_path / "set").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / f"{part}-00000.parquet")
    return tmp_path / "set"


def test_a_dataset_of_the_hub_has_names_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = hub(tmp_path, {"train": range(40), "test": range(40, 60)})
    data = load_dataset(f"hf:{folder}", image_size=24, label_column="kind")
    assert data.class_names == ("ant", "bee")
    assert len(data.parts["test"]) == 20
    assert sorted(data.images[data.parts["test"]].mean((1, 2, 3))) == sorted(
        np.asarray(pattern(i, 24)).mean() for i in range(40, 60)
    )


def test_names_of_classes_in_one_file_of_the_hub(tmp_path: Path) -> None:
    folder = hub(tmp_path, {"train": range(30)})
    data = load_dataset(next(folder.glob("*.parquet")), label_column="kind", image_size=24)
    assert data.class_names == ("ant", "bee")


def test_what_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"no\.parquet cannot be read as Parquet"):
        load_dataset(tmp_path / "no.parquet")
    with pytest.raises(UnreachableError, match=r"hf:.* cannot be fetched"):
        load_dataset(f"hf:{tmp_path}/nothing-there")
    path = write(tmp_path / "t.parquet", {"a": [1], "b": ["x"]})
    with pytest.raises(DataError, match="no path"):
        load_dataset(path)


@pytest.mark.parametrize(("name", "data", "extra"), [("pyarrow", "t.parquet", "parquet"), ("datasets", "hf:x", "hf")])
def test_an_extra_that_is_not_installed_is_named(
    name: str, data: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(wanted: str, *rest: Any) -> Any:
        if wanted.split(".")[0] == name:
            raise ImportError(wanted)
        return real(wanted, *rest)

    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=rf"pip install 'convscope\[{extra}\]'"):
        load_dataset(data if data.startswith("hf:") else tmp_path / data)
