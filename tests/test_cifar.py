"""CIFAR-10's own files: read whole from a folder or an archive, and nothing in a pickle is ever run."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import struct
import subprocess
import tarfile
import time
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.cache import cache_folder
from convscope.datasets.cifar import ARCHIVE, FOLDER, TRAIN_FILES, read_batch
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UnreachableError


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
    sets = [load_dataset("cifar10", data_root=root) for root in roots]
    assert len({s.fingerprint for s in sets}) == 1
    for s in sets:
        assert np.array_equal(s.images, sets[0].images)
    assert {p: len(i) for p, i in sets[0].parts.items()} == {"train": 178, "val": 22, "test": 40}
    lowest = np.argsort(sets[0].keys[:200])[:22]  # of the training images; official files want 5,000
    assert sets[0].parts["val"].tolist() == sorted(lowest)
    first = batch(0)[b"data"][0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(sets[0].images[0], first)
    assert sets[0].origins(0) == "data_batch_1[0]"
    assert sets[0].origins(200) == "test_batch[0]"


def test_the_environment_says_where_it_is(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(official))
    assert len(load_dataset("cifar10")) == 240


def as_python_2_wrote(box: dict[bytes, Any]) -> bytes:
    """The opcodes of Python 2: byte strings are its texts, and an array is restored from one of them."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<I", len(value)) + value

    rows = box[b"data"]
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    array += b"(K\x01(M" + struct.pack("<H", len(rows)) + b"M\x00\x0ct" + dtype + b"\x89" + text(rows.tobytes()) + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in box[b"labels"]) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + b"q\x02" + labels + b"u."


@pytest.mark.parametrize("layout", ["C", "F"])
def test_every_way_to_write_the_same_file_reads_the_same(layout: Any) -> None:
    """Six protocols of Python 3, whose last asks for a buffer, and NumPy's modules by their older and newer names."""
    box = batch(0)
    box[b"data"] = np.array(box[b"data"], order=layout)
    frozen = box[b"data"].copy(order="K")
    frozen.flags.writeable = False
    files = [pickle.dumps(box | {b"data": rows}, protocol=p) for p in range(6) for rows in (box[b"data"], frozen)]
    files += [file.replace(b"numpy._core.", b"numpy.core.") for file in files if b"\x95" not in file[:4]]
    files.append(as_python_2_wrote(box))
    for file in files:
        images, labels = read_batch(file, "file")
        assert np.array_equal(images, box[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        assert labels.tolist() == box[b"labels"]


def test_a_pipe_in_the_folder_does_not_hang(official: Path) -> None:
    (official / FOLDER / "data_batch_3").unlink()
    os.mkfifo(official / FOLDER / "data_batch_3")
    with pytest.raises(DataError, match="data_batch_3 is no file"):
        load_dataset("cifar10", data_root=official)


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
        Evil(os.system, f"touch {canary}"),
        Evil(subprocess.Popen, ["touch", str(canary)]),
        Evil(__import__, "os"),
        Evil(np.load, str(canary)),
        Evil(np.ndarray.tofile, np.zeros(1, np.uint8), str(canary)),
        {b"data": Evil(exec, f"open({str(canary)!r}, 'w')"), b"labels": []},
    ]
    for thing in hostile:
        for protocol in range(6):
            with pytest.raises(DataError, match="is not a CIFAR-10 file: "):
                read_batch(pickle.dumps(thing, protocol=protocol), "evil")
        with pytest.raises(DataError, match=r"it asks for .*, which no array needs"):
            read_batch(pickle.dumps(thing, protocol=2), "evil")
    touch = b"(S'touch " + str(canary).encode() + b"'\n"
    for code in (b"cos\nsystem\n" + touch + b"tR.", b"cposix\nsystem\n" + touch + b"tR.", touch + b"ios\nsystem\n."):
        with pytest.raises(DataError, match="is not a CIFAR-10 file: it asks for "):
            read_batch(code, "evil")
    time.sleep(0.05)  # for a process that should not have been started
    assert not canary.exists()


def test_the_canary_would_have_sung(tmp_path: Path) -> None:
    """The same pickles do what they say when read without care; else the test above holds nothing."""
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Evil(os.system, f"touch {canary}"), protocol=2))
    assert canary.exists()


def test_an_array_that_lies_about_itself_is_refused() -> None:
    """NumPy restores an array as the file describes it; the file may describe pointers, or more than it holds."""
    rebuild = np.zeros(1).__reduce__()[0]

    def lying(code: str, dtype_state: tuple[Any, ...], shape: tuple[int, ...], raw: bytes) -> bytes:
        dtype = Evil(np.dtype, code, False, True)
        dtype.call += (dtype_state,)
        array = Evil(rebuild, np.ndarray, (0,), b"b")
        array.call += ((1, shape, dtype, False, raw),)
        return pickle.dumps({b"data": array, b"labels": [1] * 10}, protocol=2)

    plain = (3, "|", None, None, None, -1, -1, 0)
    good, _ = read_batch(lying("u1", plain, (10, 3072), b"A" * 30720), "file")
    assert good.shape == (10, 32, 32, 3)
    assert set(good.ravel()) == {ord("A")}
    for code, state, shape, length in (
        ("O8", (3, "|", None, None, None, 8, 1, 63), (10, 3072), 8 * 30720),
        ("V8", (3, "|", None, ("a",), {"a": (np.dtype("O"), 100)}, 8, 1, 0), (4,), 32),
        ("u1", plain, (10, 3072), 30719),
        ("u1", plain, (10**6, 3072), 30720),
        ("u1", plain, (-10, 3072), 30720),
        ("f4", plain, (10, 3072), 4 * 30720),
    ):
        with pytest.raises(DataError, match="is not a CIFAR-10 file"):
            read_batch(lying(code, state, shape, b"A" * length), "file")


def test_nested_lists_do_not_keep_it_busy() -> None:
    """Eight lists in one another, ten times each: 100 million numbers, if one looks. More would be a danger."""
    nested: list[Any] = [0] * 10
    for _ in range(7):
        nested = [nested] * 10
    data = pickle.dumps(batch(0) | {b"labels": nested}, protocol=2)
    started = time.monotonic()
    with pytest.raises(DataError, match="labels"):
        read_batch(data, "file")
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({b"labels": [0] * 39}, "labels are not 40"),
        ({b"labels": [10] * 40}, "from 0 to 9"),
        ({b"labels": [-1] * 40}, "from 0 to 9"),
        ({b"labels": [0.0] * 40}, "from 0 to 9"),
        ({b"labels": np.full(40, 0.5, "f4")}, "not of bytes or whole numbers"),
        ({b"labels": [10**40] * 40}, "from 0 to 9"),
        ({b"labels": [[0]] * 40}, "from 0 to 9"),
        ({b"labels": "x" * 40}, "from 0 to 9"),
        ({b"data": np.zeros((40, 3071), np.uint8)}, "3072"),
        ({b"data": np.zeros((40, 3072), np.int16)}, "3072"),
        ({b"data": np.zeros((40, 3, 32, 32), np.uint8)}, "3072"),
        ({b"data": [1, 2]}, "3072"),
        ({b"data": None}, "3072"),
    ],
)
def test_wrong_content_is_told(change: dict[bytes, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_batch(pickle.dumps(batch(0) | change, protocol=2), "file")


def test_other_pickles_are_told() -> None:
    for box in ([1], "text", 7, None, {b"label_names": [b"cat"]}, {"data": 1, "labels": 2}, {b"fine_labels": [1]}):
        with pytest.raises(DataError, match="it is no table with 'data' and 'labels'"):
            read_batch(pickle.dumps(box, protocol=2), "file")


def test_labels_may_be_an_array() -> None:
    labels = np.arange(40) % 10
    for kind in ("u1", "<i4", ">i8"):
        _, read = read_batch(pickle.dumps(batch(0) | {b"labels": labels.astype(kind)}, protocol=2), "file")
        assert read.tolist() == labels.tolist()
        assert read.dtype == np.int64


def test_truncated_and_missing_files_are_told(official: Path) -> None:
    whole = pickle.dumps(batch(0), protocol=2)
    for length in (0, 1, 100, len(whole) - 1):
        with pytest.raises(DataError, match="is not a CIFAR-10 file"):
            read_batch(whole[:length], "file")
    (official / FOLDER / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3"):
        load_dataset("cifar10", data_root=official)
    with pytest.raises(DataError, match="neither"):
        load_dataset("cifar10", data_root=official.parent)


def test_a_broken_archive_is_told(official: Path, tmp_path: Path) -> None:
    path = tmp_path / ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        archive.add(official / FOLDER / "test_batch", f"{FOLDER}/test_batch")
    with pytest.raises(DataError, match="is missing from it"):
        load_dataset("cifar10", data_root=path)
    for text in (b"", b"<html>", path.read_bytes()[:200]):
        path.write_bytes(text)
        with pytest.raises(DataError, match="not the CIFAR-10 archive"):
            load_dataset("cifar10", data_root=path)


def test_every_flipped_byte_and_every_cut_of_an_archive_is_told(official: Path, tmp_path: Path) -> None:
    path = tmp_path / ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        archive.add(official / FOLDER, f"./{FOLDER}")
    whole = path.read_bytes()
    assert len(load_dataset("cifar10", data_root=path)) == 240
    for place in range(64, len(whole), len(whole) // 25):  # before that stands the archive's name
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        for wrong in (bytes(damaged), whole[:place]):
            path.write_bytes(wrong)
            with pytest.raises(DataError):
                load_dataset("cifar10", data_root=path)


def test_offline_there_are_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        urllib.error.URLError(OSError("Name or service not known")),
        TimeoutError("timed out"),
        http.client.BadStatusLine("x"),
    ):

        def refuse(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("urllib.request.urlopen", refuse)
        with pytest.raises(UnreachableError) as caught:
            load_dataset("cifar10")
        said = str(caught.value)
        assert caught.value.exit_code == 69
        assert "\n" not in said
        assert said.count(". ") == 0
        for way in ("`data_root`", "CONVSCOPE_DATA", str(cache_folder() / "data")):
            assert way in said


def test_what_is_put_into_the_cache_is_found(official: Path) -> None:
    (cache_folder() / "data").mkdir(parents=True)
    (official / FOLDER).rename(cache_folder() / "data" / FOLDER)
    assert len(load_dataset("cifar10")) == 240


class Answer(io.BytesIO):
    """What a server sends, until the line goes dead."""

    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        super().__init__(data)
        self.headers = {"Content-Length": str(len(data))}
        self.error = error

    def read1(self, size: int | None = -1, /) -> bytes:
        if not (data := super().read1(size)) and self.error:
            raise self.error
        return data


def test_a_download_is_kept_when_it_is_the_archive_and_not_else(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        archive.add(official / FOLDER, FOLDER)
    data = (tmp_path / ARCHIVE).read_bytes()
    for answer, said in (
        (Answer(b"<html>no"), "not the CIFAR-10 archive"),
        (Answer(data), "not the CIFAR-10 archive"),
        (Answer(data[:500], TimeoutError("timed out")), "cannot be downloaded .*timed out"),
        (Answer(data[:500], http.client.IncompleteRead(b"")), "cannot be downloaded"),
    ):
        monkeypatch.setattr("urllib.request.urlopen", lambda *a, answer=answer, **k: answer)
        with pytest.raises(UnreachableError, match=said):
            load_dataset("cifar10")
        assert not list((cache_folder() / "data").iterdir())
    monkeypatch.setattr("convscope.datasets.cifar.ARCHIVE_SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr("convscope.datasets.cifar.ARCHIVE_BYTES", len(data))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: Answer(data))
    steps: list[tuple[str, int, int]] = []
    assert len(load_dataset("cifar10", progress=lambda *step: steps.append(step))) == 240
    assert ("downloading", len(data), len(data)) in steps
    monkeypatch.delattr("urllib.request.urlopen")
    assert len(load_dataset("cifar10")) == 240


def test_the_real_one(shared_data: Path) -> None:
    data = load_dataset("cifar10", data_root=shared_data)
    assert {p: len(i) for p, i in data.parts.items()} == {"train": 40_000, "val": 5_000, "test": 5_000}
    assert set(data.counts()["test"].values()) == {500}
    assert np.allclose(data.preprocess.mean, (0.4914, 0.4822, 0.4465), atol=0.003)
    assert np.allclose(data.preprocess.std, (0.2470, 0.2435, 0.2616), atol=0.003)
    assert np.array_equal(np.sort(data.keys[:45_000])[:5_000], np.sort(data.keys[data.parts["val"]]))
    assert data.test_given
