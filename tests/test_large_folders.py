"""Folders of very many files: listed without being read, read once, remembered by size and time, small in memory."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.cache import cache_folder
from convscope.datasets import asked, dataset, file_index, packing, registry
from convscope.datasets.dataset import Listing, listing
from convscope.datasets.file_index import NOTE
from convscope.datasets.file_list import FileList, FileListing
from convscope.datasets.folder import load_folder
from convscope.datasets.options import DatasetOptions
from convscope.datasets.registry import list_images, load_dataset
from convscope.errors import DataError, StorageError
from convscope.images.preprocess import Preprocess

COUNT = 120


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)).save(path, "PPM")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(COUNT):
        write_image(tmp_path / "images" / ("cat", "dog", "emu")[seed % 3] / f"{seed}.ppm", seed // 2)
    return tmp_path / "images"  # every image twice


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty files are very many, and what was written a moment ago is settled."""
    for module in (file_index, dataset):
        monkeypatch.setattr(module, "LARGE", 50)
    monkeypatch.setattr(file_index, "FRESH", -(10**12))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read, each time that it was."""
    paths: list[Path] = []
    real_hash, real_content, real_fit = packing.file_hash, packing._content, Preprocess.fit_image

    def hashed(path: Path) -> str:
        paths.append(path)
        return real_hash(path)

    def content(path: Path) -> bytes | None:
        paths.append(path)
        return real_content(path)

    def fit(self: Preprocess, source: object, where: str | None = None) -> np.ndarray:
        if isinstance(source, Path):
            paths.append(source)
        return real_fit(self, source, where)  # pyrefly: ignore

    monkeypatch.setattr(packing, "file_hash", hashed)
    monkeypatch.setattr(packing, "_content", content)
    monkeypatch.setattr(Preprocess, "fit_image", fit)
    return paths


def provisional(folder: Path, limit: int | None = None) -> Listing:
    return listing(registry.find_images(str(folder), DatasetOptions()), limit, unread=True)


def test_a_small_folder_is_split_by_content_at_once(folder: Path) -> None:
    found = provisional(folder)
    assert not found.provisional
    assert np.array_equal(found.digests, list_images(folder).digests)
    assert not (cache_folder() / "files").exists()


@pytest.mark.usefixtures("large")
def test_a_large_folder_is_listed_and_split_without_reading_a_file(folder: Path, read: list[Path]) -> None:
    found = provisional(folder)
    data = found.dataset(None, Preprocess(8))
    assert found.provisional
    assert read == []
    assert NOTE in data.notes
    assert sum(map(len, data.parts.values())) == COUNT
    assert all(len(data.parts[part]) for part in ("train", "val", "test"))
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    assert np.array_equal(provisional(moved).digests, found.digests)


@pytest.mark.usefixtures("read")
def test_the_dataset_is_the_one_of_a_small_folder_to_the_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    small = load_dataset(folder, image_size=16)
    packs = {path.name: path.read_bytes() for path in (cache_folder() / "images").iterdir()}
    monkeypatch.setenv("CONVSCOPE_CACHE", str(folder.parent / "other"))
    request.getfixturevalue("large")
    for _ in range(2):
        data = load_dataset(folder, image_size=16)
        assert data.fingerprint == small.fingerprint
        assert data.notes == small.notes
        assert np.array_equal(data.images, small.images)
        assert np.array_equal(data.keys, small.keys)
        assert {p: i.tolist() for p, i in data.parts.items()} == {p: i.tolist() for p, i in small.parts.items()}
        assert {path.name: path.read_bytes() for path in (cache_folder() / "images").iterdir()} == packs
    sides = {int(data.keys[i]): part for part, index in data.parts.items() for i in index}
    assert len(sides) == COUNT // 2  # both copies on one side


@pytest.mark.usefixtures("large")
def test_each_file_is_read_once_and_then_asked_for_its_time(folder: Path, read: list[Path]) -> None:
    load_dataset(folder)
    assert sorted(read) == sorted(folder.rglob("*.ppm"))
    read.clear()
    load_dataset(folder)
    list_images(folder)
    assert read == []
    load_dataset(folder, image_size=16)  # decoded anew, its hash known
    assert len(read) == COUNT


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kept_times", [False, True])
def test_a_file_that_changed_is_seen(folder: Path, read: list[Path], kept_times: bool) -> None:
    before = list_images(folder)
    path = folder / "cat" / "0.ppm"
    times = path.stat()
    write_image(path, 999)  # of the same size
    if kept_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    read.clear()
    after = list_images(folder)
    assert read == [path]
    assert (before.digests != after.digests).any(1).sum() == 1
    (folder / "dog" / "1.ppm").unlink()
    write_image(folder / "emu" / "new.ppm", 1000)
    read.clear()
    assert len(list_images(folder)) == COUNT
    assert read == [folder / "emu" / "new.ppm"]


def test_what_was_written_a_moment_ago_is_not_trusted(
    folder: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_index, "LARGE", 50)
    list_images(folder)
    list_images(folder)
    assert len(read) == 2 * COUNT


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("damage", ["cut", "altered", "emptied", "folder"])
def test_a_damaged_index_is_as_none(folder: Path, read: list[Path], damage: str) -> None:
    whole = list_images(folder).digests
    (path,) = (cache_folder() / "files").iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"cut": bytes(content[:-7]), "altered": bytes(content)}.get(damage, b""))
    if damage == "folder":
        path.unlink()
        path.mkdir()
    read.clear()
    assert np.array_equal(list_images(folder).digests, whole)
    assert len(read) == COUNT


@pytest.mark.usefixtures("large")
def test_a_bad_image_is_told_and_left_out_as_in_a_small_folder(folder: Path) -> None:
    (folder / "cat" / "0.ppm").write_bytes(b"x")
    (folder / "cat" / "3.ppm").unlink()
    (folder / "cat" / "3.ppm").symlink_to("nowhere")
    with pytest.raises(DataError, match=rf"2 of {COUNT} images cannot be read: cat/0\.ppm: .*; cat/3\.ppm: "):
        load_dataset(folder)
    for _ in range(2):
        data = load_dataset(folder, bad_images="skip")
        assert len(data) == COUNT - 2
        assert "2 images cannot be read and are left out: cat/0.ppm" in " ".join(data.notes)
    (folder / "cat" / "3.ppm").unlink()
    write_image(folder / "cat" / "3.ppm", 3)
    write_image(folder / "cat" / "0.ppm", 0)
    assert len(load_dataset(folder)) == COUNT


@pytest.mark.usefixtures("large")
def test_a_limit_reads_only_what_it_leaves(folder: Path, read: list[Path]) -> None:
    for limit in (30, 60):  # fewer than very many, and very many still
        read.clear()
        first = load_dataset(folder, limit=limit)
        assert len(set(read)) == limit
        assert f"the {limit} images of --limit are chosen by their names" in " ".join(first.notes)
        second = load_dataset(folder, limit=limit)
        assert second.fingerprint == first.fingerprint
        assert {first.origins(i) for i in range(limit)} == {
            provisional(folder, limit).unsplit.origin(i) for i in range(limit)
        }
        assert list(np.bincount(first.labels)) == [limit // 3] * 3


@pytest.mark.usefixtures("large")
def test_a_table_of_very_many_lines_too(folder: Path, read: list[Path]) -> None:
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.ppm"))]
    table = folder / "images.csv"
    table.write_text("\n".join(["path,label", *lines, lines[0]]))
    small = load_dataset(folder)
    read.clear()
    data = load_dataset(table)
    assert len(read) == 1 + COUNT  # decoded, their hashes known
    assert len(data) == 1 + COUNT
    assert set(data.keys) == set(small.keys)


def test_packing_without_room_says_how_much_and_what_helps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 5 << 20))
    with pytest.raises(StorageError) as caught:
        load_dataset(folder, image_size=256)
    assert str(caught.value) == (
        f"{cache_folder() / 'images'} has 5 MiB free; what is made of the images, at 256 pixels, needs 23 MiB. Set "
        "CONVSCOPE_CACHE to a folder with room, or take a smaller `image_size`."
    )
    assert len(load_dataset(folder, image_size=64)) == COUNT


def test_how_much_will_be_packed_is_said_before_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, int, int]] = []
    load_dataset(folder, progress=lambda *step: said.append(step))
    assert {what for what, _, _ in said} == {"reading", "decoding"}
    monkeypatch.setattr(packing, "TOLD", 10**6)
    said.clear()
    load_dataset(folder, image_size=128, progress=lambda *step: said.append(step))
    told = [step for step in said if step[0] != "reading"]
    assert told[0] == (f"decoding, 0.0059 GB into {cache_folder()}", 0, COUNT)
    assert told[-1] == (told[0][0], COUNT, COUNT)


# ------------------------------------------------------------------------------------------------------- the list


def test_a_list_of_files_is_a_tuple_of_paths(tmp_path: Path) -> None:
    names = {"a": ["1.png", "ü \udcff.png"], "b/c": ["2.png"], "d": []}
    written = FileListing()
    for folder, inside in names.items():
        assert written.add(tmp_path / folder, inside) == len(inside)
    files = written.end()
    paths = [tmp_path / folder / name for folder, inside in names.items() for name in inside]
    assert list(files) == paths
    assert files == tuple(paths)
    assert files != paths[:2]
    assert (files[-1], files[np.int64(0)], len(files)) == (paths[-1], paths[0], 3)
    assert list(files[1:]) == paths[1:]
    assert list(files.take(np.array([2, 0]))) == [paths[2], paths[0]]
    assert [os.fsdecode(path) for path in files.paths()] == list(map(str, paths))
    assert not FileListing().end()
    with pytest.raises(IndexError):
        files[3]


def test_three_thousand_files_take_little_memory_and_no_file_is_opened(tmp_path: Path, read: list[Path]) -> None:
    count, classes = 3000, 30
    for k in range(classes):
        (tmp_path / f"n{k:08}").mkdir()
        for i in range(count // classes):
            (tmp_path / f"n{k:08}" / f"n{k:08}_{i}.JPEG").touch()
    load_folder(tmp_path)  # what is loaded once
    tracemalloc.start()
    try:
        asked.find_asked(str(tmp_path), DatasetOptions(), None, None)
        unsplit = load_folder(tmp_path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(unsplit.files, FileList)
    assert kept < 120 * count
    assert most < 500 * count
    assert read == []
