"""CIFAR-10's own files: read whole from a folder or an archive, and nothing in a pickle is ever run."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.datasets import load
from convscope.datasets.cifar import ARCHIVE, FOLDER, TRAIN_FILES, read_batch
from convscope.errors import DataError


def batch(seed: int, count: int = 40) -> dict[bytes, Any]:
    dice = np.random.default_rng(seed)
    rows = dice.integers(0, 256, (count, 3072), np.uint8)
    return {
        b"data": rows,
        b"labels": [i % 10 for i in range(count)],
        b"batch_label": b"x",
        b"filenames": [b"a"] * count,
    }


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A small folder in the official layout, written as the original was."""
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    for seed, name in enumerate((*TRAIN_FILES, "test_batch")):
        (folder / name).write_bytes(pickle.dumps(batch(seed), protocol=2))
    return folder.parent


def test_folder_and_archive_are_the_same(official: Path, tmp_path: Path) -> None:
    (tmp_path / "archived").mkdir()
    with tarfile.open(tmp_path / "archived" / ARCHIVE, "w:gz") as archive:
        archive.add(official / FOLDER, FOLDER)
    roots = [official, official / FOLDER, tmp_path / "archived", tmp_path / "archived" / ARCHIVE]
    sets = [load("cifar10", data_root=root) for root in roots]
    assert len({s.fingerprint for s in sets}) == 1
    for s in sets:
        assert np.array_equal(s.pictures, sets[0].pictures)
    assert {p: len(i) for p, i in sets[0].parts.items()} == {"train": 178, "val": 22, "test": 40}
    first = batch(0)[b"data"][0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(sets[0].pictures[0], first)
    assert sets[0].origins(0) == "data_batch_1[0]"
    assert sets[0].origins(200) == "test_batch[0]"


def test_the_environment_says_where_it_is(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(official))
    assert len(load("cifar10")) == 240


class Evil:
    """What a hostile pickle holds: a call that is made when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = [
        Evil(eval, f"open({str(canary)!r}, 'w')"),
        Evil(open, str(canary), "w"),
        Evil(getattr, Path(str(canary)), "touch"),
        Evil(np.memmap, str(canary), "u1", "w+", 0, (4,)),
    ]
    for thing in hostile:
        with pytest.raises(DataError, match="is not a CIFAR-10 file: it asks for"):
            read_batch(pickle.dumps(thing, protocol=2), "evil")
    with pytest.raises(DataError):
        read_batch(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.", "evil")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({b"labels": [0] * 39}, "labels are not 40"),
        ({b"labels": [10] * 40}, "from 0 to 9"),
        ({b"labels": [-1] * 40}, "from 0 to 9"),
        ({b"data": np.zeros((40, 3071), np.uint8)}, "3072"),
        ({b"data": np.zeros((40, 3072), np.int16)}, "3072"),
        ({b"data": [1, 2]}, "3072"),
    ],
)
def test_wrong_content_is_told(change: dict[bytes, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_batch(pickle.dumps(batch(0) | change, protocol=2), "file")


def test_truncated_and_missing_files_are_told(official: Path) -> None:
    whole = pickle.dumps(batch(0), protocol=2)
    for length in (0, 1, 100, len(whole) - 1):
        with pytest.raises(DataError, match="is not a CIFAR-10 file"):
            read_batch(whole[:length], "file")
    (official / FOLDER / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3"):
        load("cifar10", data_root=official)
    with pytest.raises(DataError, match="neither"):
        load("cifar10", data_root=official.parent)


def test_a_broken_archive_is_told(official: Path, tmp_path: Path) -> None:
    path = tmp_path / ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        archive.add(official / FOLDER / "test_batch", f"{FOLDER}/test_batch")
    with pytest.raises(DataError, match="is missing from it"):
        load("cifar10", data_root=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not the CIFAR-10 archive"):
        load("cifar10", data_root=path)


def test_a_download_of_anything_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from convscope.errors import UnreachableError
    from convscope.storage import cache_folder

    class Answer(io.BytesIO):
        headers = {"Content-Length": "9"}  # noqa: RUF012

    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: Answer(b"<html>no"))
    with pytest.raises(UnreachableError, match="not the CIFAR-10 archive"):
        load("cifar10")
    assert not list((cache_folder() / "data").iterdir())


def test_the_real_one(shared_data: Path) -> None:
    data = load("cifar10", data_root=shared_data)
    assert {p: len(i) for p, i in data.parts.items()} == {"train": 40_000, "val": 5_000, "test": 5_000}
    assert set(data.counts()["test"].values()) == {500}
    assert np.allclose(data.preprocess.mean, (0.4914, 0.4822, 0.4465), atol=0.003)
    assert np.allclose(data.preprocess.std, (0.2470, 0.2435, 0.2616), atol=0.003)
