"""Folders, tables and the packed file that their pictures become."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets import load
from convscope.errors import DataError, StorageError
from convscope.images import Preprocess
from convscope.storage import cache_folder


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path, "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(60):
        picture(tmp_path / "pictures" / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "pictures"


def test_one_folder_a_class(folder: Path) -> None:
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert data.pictures.shape == (60, 64, 64, 3)
    assert {data.origins(i).split("/")[0] for i in np.flatnonzero(data.labels == 1)} == {"dog"}
    for i in (0, 31, 59):
        expected = data.preprocess.picture(folder / data.origins(i))
        assert np.array_equal(data.pictures[i], expected)


def test_train_and_test_folders_above(folder: Path) -> None:
    (folder.parent / "split" / "test").mkdir(parents=True)
    folder.rename(folder.parent / "split" / "train")
    root = folder.parent / "split"
    for seed in range(100, 110):
        picture(root / "test" / ("dog", "cat")[seed % 2] / f"{seed}.png", seed)
    data = load(root)
    assert len(data.parts["test"]) == 10
    assert all(data.origins(i).startswith("test/") for i in data.parts["test"])
    assert data.test_given
    assert len(data.parts["val"]) > 2
    picture(root / "test" / "bird" / "1.png", 500)
    with pytest.raises(DataError, match="'bird'"):
        load(root)


def test_what_is_no_picture_is_ignored_with_a_count(folder: Path) -> None:
    (folder / ".ipynb_checkpoints").mkdir()
    picture(folder / ".ipynb_checkpoints" / "x.png", 0)
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "LICENCE").write_text("x")
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    assert len(data) == 60
    assert any(note.startswith("2 hidden") for note in data.notes)
    assert any(note.startswith("2 files whose names") for note in data.notes)


def test_folders_that_do_not_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="class folders"):
        load(tmp_path / "none")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no picture"):
        load(folder)
    (folder / "empty").rmdir()
    picture(folder / "Cat" / "1.png", 99)
    assert any("letter case" in note for note in load(folder).notes)
    picture(tmp_path / "one" / "only" / "1.png", 1)
    with pytest.raises(DataError, match="one class, 'only'"):
        load(tmp_path / "one")


def test_odd_names_nested_folders_and_loops(folder: Path) -> None:
    names = ["with space.png", "émoji 🐈.png", "new\nline.png", "-dash.png", "UPPER.PNG"]
    for seed, name in enumerate(names):
        picture(folder / "cat" / "deep" / "er" / name, 200 + seed)
    (folder / "cat" / "loop").symlink_to(folder)
    assert len(load(folder)) == 65


def test_a_bad_picture_is_named_or_left_out_without_shifting_labels(folder: Path) -> None:
    (folder / "cat" / "10.png").write_bytes((folder / "cat" / "10.png").read_bytes()[:100])
    (folder / "dog" / "11.png").write_text("<html>")
    with pytest.raises(
        DataError, match=r"2 of 60 pictures cannot be read: cat/10\.png.*dog/11\.png.*--bad-pictures skip"
    ):
        load(folder)
    data = load(folder, bad_pictures="skip")
    assert len(data) == 58
    assert any("cat/10.png" in note for note in data.notes)
    for i in range(58):
        assert np.array_equal(data.pictures[i], data.preprocess.picture(folder / data.origins(i)))
        assert data.origins(i).startswith(data.class_names[data.labels[i]])


def test_pictures_are_decoded_once_and_again_only_when_something_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = Preprocess.picture
    monkeypatch.setattr(Preprocess, "picture", lambda self, *a: (calls.append(1), real(self, *a))[1])

    def decoded(**options) -> int:
        calls.clear()
        load(folder, **options)
        return len(calls)

    assert [decoded(), decoded(), decoded(image_size=16), decoded(image_size=16), decoded(fit="pad")] == [
        60,
        0,
        60,
        0,
        60,
    ]
    picture(folder / "cat" / "0.png", 777)
    assert decoded() == 60
    (packed,) = [p for p in (cache_folder() / "pictures").glob("*.u8") if p.stat().st_size == 60 * 16 * 16 * 3]
    packed.write_bytes(packed.read_bytes()[:-1])
    picture(folder / "cat" / "0.png", 0)
    assert decoded(image_size=16) == 60


def test_a_full_disk_names_the_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"the disk is full.*CONVSCOPE_CACHE"):
        load(folder)
    assert not list(cache_folder().rglob("*.u8*"))


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_a_table_with_names_and_one_with_numbers(folder: Path) -> None:
    rows = [(f"cat/{i}.png", "cat") for i in range(0, 60, 2)] + [(f"dog/{i}.png", "a dog") for i in range(1, 60, 2)]
    data = load(table(folder, "path,label\n" + "".join(f"{p},{n}\n" for p, n in rows), "utf-8-sig"))
    assert data.class_names == ("a dog", "cat")
    assert len(data) == 60
    numbered = "path,class_index,split\n" + "".join(
        f"{p},{2 * (n == 'cat')},{'test' if i % 3 else ''}\n" for i, (p, n) in enumerate(rows)
    )
    (folder / "classes.txt").write_text("dog\nbird\ncat\nfish\n")
    data = load(table(folder, numbered))
    assert data.class_names == ("dog", "bird", "cat", "fish")
    assert data.counts()["test"] == {"dog": 20, "bird": 0, "cat": 20, "fish": 0}
    (folder / "classes.txt").unlink()
    assert load(table(folder, numbered)).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs the columns"),
        ("path,colour\na,b\n", "path, colour"),
        ("path,label\n", "holds no picture"),
        ("path,label\ncat/0.png,\n", "line 2"),
        ("path,label\ncat/0.png,cat\n", "one class"),
        ("path,class_index\ncat/0.png,1\ndog/1.png,x\n", "line 3"),
        ("path,label,split\ncat/0.png,cat,train\ndog/1.png,dog,later\n", "line 3.*'later'"),
        ("path,label\ncat/0.png,cat\ndog/none.png,dog\n", "dog/none.png: does not exist"),
    ],
)
def test_a_table_that_does_not_do_names_the_line(text: str, said: str, folder: Path) -> None:
    with pytest.raises(DataError, match=said):
        load(table(folder, text))
