"""Shards: the same data set as a folder of the same images, read where they lie, and refused by name where torn."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope.cache import cache_folder
from convscope.datasets import shard_index, shard_places
from convscope.datasets.dataset import Dataset
from convscope.datasets.registry import list_images, load_dataset
from convscope.datasets.shipped import Shipped
from convscope.datasets.tar_headers import TarRefused, tar_files
from convscope.errors import DataError, ImageError, StorageError, UnreachableError, UsageError
from convscope.images.decoding import decode
from convscope.images.members import Member
from convscope.inspection.survey import survey
from planted_folders import CLASSES
from written_shards import as_folder, encoded, samples, tar_bytes, write_shards, write_tar


def same(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets hold the same images under the same labels in the same parts, in whatever order."""
    order, others = np.argsort(one.keys), np.argsort(other.keys)
    pixels = all(np.array_equal(one.images[i], other.images[j]) for i, j in zip(order, others, strict=True))
    return pixels and one.fingerprint == other.fingerprint and one.preprocess == other.preprocess


def test_shards_are_the_data_set_that_a_folder_of_their_images_is(tmp_path: Path) -> None:
    data = load_dataset(write_shards(tmp_path / "shards"), image_size=24)
    assert data.class_names == CLASSES
    assert len(data) == 60
    assert same(data, load_dataset(as_folder(tmp_path / "folder", 60), image_size=24))
    assert data.origins(17) == "train-0001.tar/000017.png"


@pytest.mark.parametrize(
    "named", ["shards/train-{0000..0003}.tar", "shards/*.tar", "shards", "shards/train-000{0,1,2,3}.tar"]
)
def test_shards_are_named_in_braces_by_a_glob_or_by_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    write_shards(tmp_path / "shards", each=6)
    monkeypatch.chdir(tmp_path)
    found = list_images(named)
    assert [path.name for path in found.unsplit.files] == [f"{i:06d}.png" for i in range(24)]


def test_one_tar_is_a_data_set(tmp_path: Path) -> None:
    data = load_dataset(write_tar(tmp_path / "pets.tar", samples(0, 30)))
    assert (data.name, len(data)) == ("pets", 30)
    assert not data.test_given


def test_a_tar_of_a_folder_of_classes_has_the_classes_of_its_folders(tmp_path: Path) -> None:
    files = [(f"./pets/{CLASSES[i % 3]}/{i}.png", encoded(i)) for i in range(30)]
    data = load_dataset(write_tar(tmp_path / "pets.tar", files))
    assert data.class_names == CLASSES


def test_parts_go_by_the_names_of_shards(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "validation", "test")):
        write_tar(tmp_path / "s" / f"pets-{part}-000.tar", samples(100 * number, 12))
    data = load_dataset(tmp_path / "s")
    assert {part: len(index) for part, index in data.parts.items()} == {"train": 12, "val": 12, "test": 12}
    for number, part in enumerate(("train", "val")):
        write_tar(tmp_path / "f" / part / "000.tar", samples(100 * number, 12))
    assert len(load_dataset(tmp_path / "f").parts["val"]) == 12


def test_shards_of_a_test_alone_are_evaluated_and_not_trained_on(tmp_path: Path) -> None:
    folder = write_tar(tmp_path / "s" / "test-0.tar", samples(0, 12)).parent
    assert len(load_dataset(folder, need="classes").parts["test"]) == 12
    with pytest.raises(DataError, match=r"no shard to train on.* add those of train-\*"):
        load_dataset(folder)
    write_tar(folder / "train-0.tar", samples(100, 30))
    assert {part: len(index) > 2 for part, index in load_dataset(folder).parts.items()} == dict.fromkeys(
        ("train", "val", "test"), True
    )


def test_shards_of_one_class_are_told_and_trained_with_another(tmp_path: Path) -> None:
    one = [(f"{i}.{end}", data) for i in range(20) for end, data in (("png", encoded(i)), ("cls", b"ant"))]
    write_tar(tmp_path / "a.tar", one)
    with pytest.raises(DataError, match=r"holds one class, 'ant'; a classifier needs two or more"):
        load_dataset(tmp_path)
    write_tar(tmp_path / "b.tar", samples(100, 20))
    assert load_dataset(tmp_path).class_names == ("ant", *CLASSES)


def test_a_shard_that_was_cut_off_is_fetched_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", samples(0, 30))
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(DataError, match=r"it was cut off; fetch it again"):
        load_dataset(path)
    path.write_bytes(whole)
    assert len(load_dataset(path)) == 30


def numbered(path: Path) -> Path:
    files = [pair for i in range(30) for pair in ((f"{i}.png", encoded(i)), (f"{i}.cls", str(i % 3).encode()))]
    return write_tar(path, files)


def test_numbers_are_those_of_the_names_beside_the_shards(tmp_path: Path) -> None:
    path = numbered(tmp_path / "t.tar")
    assert load_dataset(path).class_names == ("0", "1", "2")
    (tmp_path / "classes.json").write_text(json.dumps({"0": "ant", "1": "bee", "2": "wasp"}))
    assert load_dataset(path).class_names == ("ant", "bee", "wasp")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert load_dataset(path).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("said", "told"),
    [('["a", "b"]', r"gives 2 names, and a shard asks for class 2"), ("7", r"is no list of names"), ("{", r"no list")],
)
def test_names_beside_the_shards_that_do_not_fit_are_told(tmp_path: Path, said: str, told: str) -> None:
    (tmp_path / "classes.json").write_text(said)
    with pytest.raises(DataError, match=told):
        load_dataset(numbered(tmp_path / "t.tar"))


@pytest.mark.parametrize(
    ("end", "label"),
    [("txt", "{}\n"), ("json", '{{"id": 3, "label": "{}"}}'), ("json", '"{}"'), ("json", '{{"class": "{}"}}')],
)
def test_labels_stand_in_text_and_in_json(tmp_path: Path, end: str, label: str) -> None:
    files = []
    for i in range(30):
        files += [(f"{i}.png", encoded(i)), (f"{i}.{end}", label.format(CLASSES[i % 3]).encode())]
    assert load_dataset(write_tar(tmp_path / "t.tar", files)).class_names == CLASSES


def test_labels_are_found_in_names(tmp_path: Path) -> None:
    files = [(f"{CLASSES[i % 3]}.{i}.png", encoded(i)) for i in range(30)]
    path = write_tar(tmp_path / "t.tar", [(name.replace(".", "_", 1), data) for name, data in files])
    assert load_dataset(path, label_from="^([a-z]+)_").class_names == CLASSES


def test_what_is_not_taken_is_counted(tmp_path: Path) -> None:
    files = [*samples(0, 30), ("000001.wav", b"x"), ("000002.wav", b"x"), ("._000001.png", b"x"), ("99.cls", b"ants")]
    data = load_dataset(write_tar(tmp_path / "t.tar", files))
    assert "2 files that are neither images nor labels were ignored (the first: 000001.wav in t.tar)." in data.notes
    assert "1 hidden file was ignored (._000001.png in t.tar)." in data.notes
    assert "1 label without an image was ignored (99 in t.tar)." in data.notes


def test_a_second_image_under_a_key_with_a_longer_ending_is_no_image_of_it(tmp_path: Path) -> None:
    files = [("000001.depth.png", encoded(900)), *samples(0, 30), ("000002.depth.png", encoded(901))]
    found = list_images(write_tar(tmp_path / "t.tar", files))
    assert sorted(path.name for path in found.unsplit.files) == [f"{i:06d}.png" for i in range(30)]
    assert any(note.startswith("2 files that are neither images nor labels") for note in found.unsplit.notes)


def test_names_with_dots_are_images_of_their_own_where_there_are_no_labels(tmp_path: Path) -> None:
    files = [(f"{CLASSES[i % 3]}/photo.{i}.png", encoded(i)) for i in range(30)]
    assert len(load_dataset(write_tar(tmp_path / "t.tar", files))) == 30


def test_a_shard_is_read_from_its_front_to_its_end_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_shards(tmp_path / "shards", each=6)
    first = list_images(folder)
    monkeypatch.setattr(shard_index, "tar_files", None)
    again = list_images(folder)
    assert np.array_equal(first.digests, again.digests)
    assert [str(p) for p in first.unsplit.files] == [str(p) for p in again.unsplit.files]


def test_an_index_that_rots_is_made_again(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", each=6)
    wanted = list_images(folder).digests
    for held in (cache_folder() / "shards").iterdir():
        data = bytearray(held.read_bytes())
        data[len(data) // 2] ^= 1
        held.write_bytes(data)
    assert np.array_equal(list_images(folder).digests, wanted)


def test_a_shard_that_changes_between_is_told_and_never_misread(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", samples(0, 30))
    found = list_images(path)
    write_tar(path, samples(500, 31))
    with pytest.raises(ImageError, match=r"its shard was changed since it was listed"):
        decode(found.unsplit.files[0])
    assert len(list_images(path)) == 31


def test_long_names_sizes_and_old_tars_are_read(tmp_path: Path) -> None:
    long = f"{'a' * 90}/{'b' * 90}"
    files = [(f"{long}/{name}", data) for name, data in samples(0, 12)]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert list_images(write_tar(tmp_path / f"{form}.tar", files, form)).unsplit.origin(3).endswith("b/000003.png")
    old = write_tar(tmp_path / "old.tar", samples(0, 12), tarfile.USTAR_FORMAT)
    assert len(list_images(old)) == 12


# ----------------------------------------------------------------------------------------------------- labels missing


def unlabelled(path: Path) -> Path:
    return write_tar(path, [file for file in samples(0, 30) if file[0] not in ("000003.cls", "000004.cls")])


def test_images_without_a_label_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 30 images have no label \(.cls, .json or .txt\), the first: 000003.png"):
        load_dataset(unlabelled(tmp_path / "t.tar"))
    data = load_dataset(tmp_path / "t.tar", bad_images="skip")
    assert len(data) == 28
    assert any(
        "2 of 30 images have no label" in note and note.endswith("; such images are left out.") for note in data.notes
    )
    assert data.origins(3) == "t.tar/000005.png"


def test_images_need_no_label_where_only_images_are_wanted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [(f"{i}.png", encoded(i)) for i in range(6)])
    assert len(list_images(path, need="images")) == 6
    with pytest.raises(DataError, match=r"6 of 6 images have no label"):
        load_dataset(path, bad_images="skip")


def test_an_image_in_the_middle_that_cannot_be_read_is_named_or_left_out(tmp_path: Path) -> None:
    files = samples(0, 30)
    files[20] = (files[20][0], b"\x89PNG\r\n\x1a\n" + bytes(50))
    path = write_tar(tmp_path / "t.tar", files)
    for stream in (False, True):
        with pytest.raises(DataError, match=r"1 of 30 images cannot be read: t.tar/000010.png"):
            load_dataset(path, stream=stream)
        data = load_dataset(path, bad_images="skip", stream=stream)
        assert len(data) == 29
        assert any("t.tar/000010.png" in note for note in data.notes)


# ----------------------------------------------------------------------------------------------------- what is refused


def with_member(kind: bytes, name: str = "x", link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    head = info.tobuf(tarfile.GNU_FORMAT)
    whole = tar_bytes(samples(0, 6))
    return head + whole


def extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(records)
    return info.tobuf() + records + bytes(-len(records) % 512) + tar_bytes(samples(0, 6), tarfile.USTAR_FORMAT)


def with_size(size: int) -> bytes:
    info = tarfile.TarInfo("000.png")
    info.size = size
    return tar_bytes(samples(0, 6))[:-10240] + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


WHOLE = tar_bytes(samples(0, 6), tarfile.USTAR_FORMAT)
END = len(WHOLE.rstrip(b"\0")) + 511 & ~511

REFUSED = {
    "no tar": (b"hello world " * 100, "it is no tar"),
    "empty": (b"", "without the end mark"),
    "short": (b"abc", "without the end mark"),
    "zeros": (bytes(10240), "it begins with zeros"),
    "cut in an image": (WHOLE[:700], r"'000000.png' in it should have [\d,]+ bytes and 188 are there: it was cut off"),
    "cut between": (WHOLE[:END], "ends behind '000005.cls' without the end mark"),
    "cut in a header": (WHOLE[: END + 100], "without the end mark"),
    "zeros in the middle": (WHOLE[:END] + bytes(1024) + WHOLE, "something follows its end mark"),
    "a flipped header": (WHOLE[:END] + b"x" * 512 + bytes(1024), r"the header at byte [\d,]+ is damaged"),
    "a hard link": (with_member(tarfile.LNKTYPE, "a.png", "/etc/passwd"), "'a.png' in it is a link"),
    "a symbolic link": (with_member(tarfile.SYMTYPE, "a.png", "../../x"), "'a.png' in it is a link"),
    "a device": (with_member(tarfile.CHRTYPE, "a.png"), "'a.png' in it is a device"),
    "a pipe": (with_member(tarfile.FIFOTYPE, "a.png"), "'a.png' in it is a pipe"),
    "a sparse file": (with_member(tarfile.GNUTYPE_SPARSE, "a.png"), "'a.png' in it is a file with holes"),
    "another volume": (with_member(b"M", "a.png"), "the rest of a file of another volume"),
    "an unknown kind": (with_member(b"~", "a.png"), "of a kind that is not known"),
    "a sparse file of pax": (extended(b"22 GNU.sparse.major=1\n"), "is a file with holes"),
    "an absolute path": (tar_bytes([("/etc/x.png", b"1")]), "'/etc/x.png' in it is a path that leads elsewhere"),
    "a path upwards": (tar_bytes([("a/../../x.png", b"1")]), "is a path that leads elsewhere"),
    "a path upwards by pax": (
        extended(b"14 path=../x.p\n"[:0] + b"17 path=../x.png\n"),
        "is a path that leads elsewhere",
    ),
    "a name for all": (extended(b"12 path=x.p\n", tarfile.XGLTYPE), "gives one name or size to all files"),
    "a broken record": (extended(b"99 path=x\n"), "the extended header at byte 512 is damaged"),
    "a record without a length": (extended(b"path=x\n"), "the extended header at byte 512 is damaged"),
    "a size in words": (extended(b"13 size=many\n"), "has the size 'many'"),
    "a huge size": (with_size(1 << 40), r"'000.png' in it should have 1,099,511,627,776 bytes"),
    "two of a name": (tar_bytes([*samples(0, 6), ("000001.png", encoded(77))]), "'000001.png' stands in it twice"),
    "two labels": (tar_bytes([*samples(0, 6), ("000001.cls", b"x")]), "'000001.cls' stands in it twice"),
    "two images": (tar_bytes([*samples(0, 6), ("000001.jpg", b"x")]), "the key '000001' in it has two images"),
    "a label of bytes": (tar_bytes([("1.png", b"x"), ("1.cls", b"\xff\xfe\x00")]), "'1.cls' in it is no text"),
    "a long label": (tar_bytes([("1.png", b"x"), ("1.cls", b"a" * 500)]), "which is no class's name"),
    "a label of megabytes": (tar_bytes([("1.png", b"x"), ("1.json", bytes(2 << 20))]), "more than any label"),
    "no json": (tar_bytes([("1.png", b"x"), ("1.json", b"{")]), "'1.json' in it is no JSON"),
    "no image": (tar_bytes([("1.cls", b"x")]), "holds no image"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), r"compressed \(gzip\).*unpack it"),
    "zstandard": (b"\x28\xb5\x2f\xfd" + bytes(600), r"compressed \(zstd\).*unpack it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_shard_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    data, told = REFUSED[name]
    write_shards(tmp_path / "s", shards=1, each=12)
    (tmp_path / "s" / "train-0001.tar").write_bytes(data)
    with pytest.raises(DataError, match=told) as caught:
        load_dataset(tmp_path / "s")
    assert "train-0001.tar" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_header_of_many_records_takes_no_time(tmp_path: Path) -> None:
    records = b"".join(b"%d a=%d\n" % (len(b"%d" % i) + 6, i) if i < 10 else b"7 a=10\n" for i in range(10, 140_000))
    (tmp_path / "t.tar").write_bytes(extended(records))
    assert len(list_images(tmp_path / "t.tar")) == 6
    (tmp_path / "u.tar").write_bytes(extended(bytes(2 << 20)))
    with pytest.raises(DataError, match=r"says that it has 2,097,152 bytes"):
        list_images(tmp_path / "u.tar")


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("train-{0000..0004}.tar", r"names 5 shards, and 1 are missing: train-0004.tar"),
        ("train-{0004..0001}.tar", r"names no shards"),
        ("train-{0000..9999999}.tar", r"more than 100,000"),
        ("train-{0}.tar", r"braces hold a range"),
        ("test-*.tar", r"no file matches"),
        ("*.png", r"is no shard"),
        ("t.tar.gz", r"is compressed.*unpack it"),
        ("gone.tar", r"does not exist"),
    ],
)
def test_shards_that_are_not_there_are_told(tmp_path: Path, named: str, told: str) -> None:
    write_shards(tmp_path, each=6)
    (tmp_path / "a.png").write_bytes(encoded(0))
    (tmp_path / "t.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises((DataError, UsageError), match=told):
        load_dataset(str(tmp_path / named))


def test_a_tar_beside_the_folders_that_it_unpacked_to_is_no_shard(tmp_path: Path) -> None:
    as_folder(tmp_path, 30)
    write_tar(tmp_path / "all.tar", samples(0, 30))
    assert load_dataset(tmp_path).origins(0).startswith("train/ants")


def test_tars_and_parquet_files_are_not_mixed(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"mixed: name one kind"):
        load_dataset(tmp_path)
    assert len(load_dataset(f"{tmp_path}/*.tar")) == 15


# ------------------------------------------------------------------------------------------------------------ elsewhere


def test_shards_in_a_store_are_read_by_ranges(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    here = write_shards(tmp_path / "shards", each=6)
    store = fsspec.filesystem("memory")
    for path in here.iterdir():
        store.pipe(f"/set/{path.name}", path.read_bytes())
    try:
        wanted = load_dataset(here, image_size=24)
        for named in ("memory://set/train-{0000..0003}.tar", "memory://set/*.tar", "memory://set"):
            data = load_dataset(named, image_size=24)
            assert same(data, wanted)
        assert data.origins(0) == "train-0000.tar/000000.png"
        with pytest.raises(DataError, match=r"memory://set/train-0004.tar does not exist"):
            load_dataset("memory://set/train-{0000..0004}.tar")
        with pytest.raises(UsageError, match=r"names no shard"):
            load_dataset("memory://set/*.zip")
    finally:
        store.store.clear()


class Failing:
    """A store that answers what it holds, and fails when it is read."""

    def __init__(self, store: Any, error: Exception) -> None:
        self.store, self.error, self.asked = store, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def cat_file(self, *_: Any, **__: Any) -> bytes:
        self.asked += 1
        raise self.error

    open = cat_file


@pytest.mark.parametrize("error", [RuntimeError("no credentials"), OSError("gone"), FileNotFoundError()], ids=repr)
def test_a_store_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.pipe("/failing/t.tar", tar_bytes(samples(0, 12)))
    failing = Failing(store, error)
    monkeypatch.setattr(shard_places, "store_of", lambda address: (failing, address.removeprefix("memory:/")))
    try:
        with pytest.raises((DataError, UnreachableError), match=r"memory://failing/t.tar (cannot be reached|does not)"):
            list_images("memory://failing/t.tar")
        monkeypatch.undo()
        found = list_images("memory://failing/t.tar").unsplit.files[0]
        monkeypatch.setattr(shard_places, "store_of", lambda address: (failing, address))
        with pytest.raises(ImageError, match=r"000000.png: cannot be read: its shard cannot be fetched"):
            decode(found)
    finally:
        store.store.clear()


def test_a_chunk_is_fetched_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.pipe("/once/t.tar", tar_bytes(samples(0, 60)))
    fetched = []
    whole = type(store).cat_file
    monkeypatch.setattr(type(store), "cat_file", lambda *given, **how: fetched.append(how) or whole(*given, **how))
    try:
        data = load_dataset("memory://once/t.tar", image_size=24)
        assert len(data) == 60
        assert len(fetched) == 1
    finally:
        store.store.clear()


@given(st.data())
def test_no_damage_does_anything_but_refuse_or_change_an_image(data: st.DataObject) -> None:
    whole = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "zero", "again"]))
        if kind == "flip":
            whole[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del whole[at : at + data.draw(st.sampled_from([1, 512, 5000]))]
        elif kind == "zero":
            whole[at : at + 512] = bytes(len(whole[at : at + 512]))
        else:
            whole[at:at] = whole[at : at + 1024]
        if not whole:
            break
    try:
        found = list(tar_files(io.BytesIO(whole), len(whole)))
    except TarRefused:
        return
    assert all(0 < file.start <= file.start + file.length <= len(whole) for file in found)


def test_files_by_their_address_and_addresses_that_are_not_read(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    path = write_tar(tmp_path / "t.tar", samples(0, 30))
    assert len(load_dataset(f"file://{path}")) == 30
    with pytest.raises(UsageError, match=r"addresses begin with file://"):
        load_dataset("ssh://somewhere/t.tar")
    with pytest.raises((UsageError, UnreachableError), match=r"s3://nowhere/t.tar cannot be re"):
        load_dataset("s3://nowhere/t.tar")


# -------------------------------------------------------------------------------------------------------------- parquet


def write_parquet(path: Path, first: int, count: int, label: str = "label") -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(i), "path": f"{i}.png"} for i in range(first, first + count)]
    labels = [CLASSES[i % 3] for i in range(first, first + count)]
    parquet.write_table(arrow.table({"image": images, label: labels}), path, row_group_size=7)
    return path


def test_parquet_shards_are_the_same_data_set(tmp_path: Path) -> None:
    for number in range(4):
        write_parquet(tmp_path / "p" / f"train-{number}.parquet", number * 15, 15)
    data = load_dataset(tmp_path / "p", image_size=24)
    assert same(data, load_dataset(write_shards(tmp_path / "tars"), image_size=24))
    assert data.origins(17) == "train-1.parquet, row 3"
    assert data.images[17].shape == (24, 24, 3)


def test_parquet_shards_that_do_not_fit_are_told(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "p" / "train-0.parquet", 0, 12).parent
    write_parquet(folder / "train-1.parquet", 12, 12, label="class")
    with pytest.raises(DataError, match=r"train-1.parquet has the columns image, class, and train-0.parquet has"):
        load_dataset(folder)
    (folder / "train-1.parquet").write_bytes((folder / "train-0.parquet").read_bytes()[:-60])
    with pytest.raises(DataError, match=r"train-1.parquet cannot be read as Parquet"):
        load_dataset(folder)


def test_a_cache_without_room_for_parquet_shards_is_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write_parquet(tmp_path / "p" / f"{number}.parquet", number * 15, 15)
    full, roomy = str(cache_folder()), shutil.disk_usage

    def free(place: Path) -> SimpleNamespace:
        return SimpleNamespace(free=10 if full.startswith(str(place)) else roomy(place).free)

    monkeypatch.setattr(shutil, "disk_usage", free)
    with pytest.raises(StorageError, match=r"Set CONVSCOPE_CACHE to a folder with room"):
        list_images(tmp_path / "p")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(shutil, "disk_usage", roomy)
    assert len(list_images(tmp_path / "p")) == 30


def test_a_member_is_a_path_with_bytes(tmp_path: Path) -> None:
    found = list_images(write_tar(tmp_path / "t.tar", samples(0, 6))).unsplit.files[2]
    assert isinstance(found, Member)
    assert (found.name, found.suffix, found.stem) == ("000002.png", ".png", "000002")
    assert found.read_bytes() == encoded(2)
    assert found.is_file()
    assert found.stat().st_size == len(encoded(2))


def test_the_images_of_shards_are_read_where_only_their_paths_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "shards", each=3)
    monkeypatch.chdir(tmp_path)
    unsplit = list_images("shards").unsplit
    sent = pickle.dumps((Shipped.of(unsplit), Shipped(list(unsplit.files), folder=str(tmp_path))))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for shipped in pickle.loads(sent):
        assert np.array_equal(np.asarray(decode(shipped.source(4))), np.asarray(decode(encoded(4))))
        assert shipped.files(np.array([0, 4])) == [str(tmp_path / f"shards/train-000{i}.tar") for i in (0, 1)]


def test_a_survey_looks_at_the_images_of_shards_as_at_files(tmp_path: Path) -> None:
    shards, folder = write_shards(tmp_path / "shards"), as_folder(tmp_path / "folder", 60)
    found, alike = (survey(list_images(data).unsplit) for data in (shards, folder))
    assert found.reasons == {}
    assert sorted(map(bytes, found.digests)) == sorted(map(bytes, alike.digests))
