"""The packed file: decoded once, found again by content, whole or not there, and small in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope import storage
from convscope.cache import cache_folder
from convscope.datasets import packing as packed
from convscope.datasets.dataset import assemble
from convscope.datasets.pack import Pack, read_pack
from convscope.datasets.registry import load_dataset
from convscope.datasets.unsplit import Unsplit
from convscope.errors import DamagedFile, DataError, ImageError, StorageError
from convscope.images.preprocess import Preprocess

SOURCE = Path(__file__).resolve().parents[1] / "src"


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path, "PPM")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(40):
        write_image(tmp_path / "images" / ("cat", "dog")[seed % 2] / f"{seed}.ppm", seed)
    return tmp_path / "images"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that were decoded, in the order they were."""
    names: list[str] = []
    real = Preprocess.fit_image

    def spy(self: Preprocess, source: object, where: str | None = None) -> np.ndarray:
        names.append(str(where))
        return real(self, source, where)  # pyrefly: ignore

    monkeypatch.setattr(Preprocess, "fit_image", spy)
    return names


def files() -> list[Path]:
    return sorted((cache_folder() / "images").glob("*"))


def test_each_image_is_decoded_once_and_mapped_from_then_on(folder: Path, decoded: list[str]) -> None:
    first = load_dataset(folder)
    assert sorted(decoded) == sorted(first.origins(i) for i in range(40))
    second = load_dataset(folder)
    assert len(decoded) == 40
    assert np.array_equal(first.images, second.images)
    for data in (first, second):
        assert isinstance(data.images, np.memmap)
        assert not data.images.flags.writeable
    assert second.fingerprint == first.fingerprint
    assert second.preprocess == first.preprocess


def test_it_is_the_pixels_in_order_and_nothing_else(folder: Path) -> None:
    data = load_dataset(folder, image_size=16)
    (path,) = files()
    expected = [Preprocess(16).fit_image(folder / data.origins(i)) for i in range(40)]
    assert path.read_bytes().startswith(np.stack(expected).tobytes())  # and a trailer with their hashes


def test_content_size_and_fit_decide_and_names_do_not(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(**options: object) -> int:
        decoded.clear()
        load_dataset(folder, **options)  # pyrefly: ignore
        return len(decoded)

    assert count() == 40
    assert count(image_size=16) == 40
    assert count(fit="pad") == 40
    assert count(fit="squash") == 40
    assert count() + count(image_size=16) + count(fit="pad") == 0
    assert count(limit=10) == 10
    assert count(limit=10) == 0
    shutil.copytree(folder, folder.parent / "moved", copy_function=shutil.copy)
    decoded.clear()
    load_dataset(folder.parent / "moved")
    assert not decoded
    (folder / "cat").rename(folder / "bird")
    assert count() == 0
    write_image(folder / "bird" / "0.ppm", 777)
    assert count() == 40
    monkeypatch.setattr("convscope.images.preprocess.PIL.__version__", "0.0")  # another decoder may give other pixels
    assert count() == 40


@pytest.mark.parametrize("length", [0, 1, 40 * 64 * 64 * 3 - 1, 40 * 64 * 64 * 3 + 1])
def test_a_file_of_the_wrong_length_is_made_again(folder: Path, decoded: list[str], length: int) -> None:
    whole = load_dataset(folder).images.tobytes()
    (path,) = files()
    path.write_bytes((path.read_bytes() + b"x")[:length])
    assert load_dataset(folder).images.tobytes() == whole
    assert len(decoded) == 80
    assert files() == [path]


def test_an_image_that_was_mended_is_seen(folder: Path) -> None:
    good = (folder / "cat" / "4.ppm").read_bytes()
    (folder / "cat" / "4.ppm").write_bytes(good[:100])
    with pytest.raises(DataError, match=r"1 of 40 .* cat/4\.ppm: truncated"):
        load_dataset(folder)
    assert files() == []
    assert len(load_dataset(folder, bad_images="skip")) == 39
    (folder / "cat" / "4.ppm").write_bytes(good)
    assert len(load_dataset(folder, bad_images="skip")) == 40


def test_bad_images_do_not_make_every_start_decode_again(folder: Path, decoded: list[str]) -> None:
    for name in ("cat/0.ppm", "dog/1.ppm", "dog/39.ppm"):
        (folder / name).write_bytes(b"x")
    decoded.clear()
    first = load_dataset(folder, bad_images="skip")
    assert len(decoded) == 40  # the good ones are not decoded a second time
    decoded.clear()
    again = load_dataset(folder, bad_images="skip")
    assert sorted(decoded) == ["cat/0.ppm", "dog/1.ppm", "dog/39.ppm"]  # the bad alone, which might be read now
    assert again.notes == first.notes
    assert again.fingerprint == first.fingerprint
    assert [again.origins(i) for i in range(37)] == [first.origins(i) for i in range(37)]
    shutil.move(folder / "dog", folder.parent / "dog")
    shutil.move(folder.parent / "dog", folder / "wolf")
    assert "wolf/1.ppm" in " ".join(load_dataset(folder, bad_images="skip").notes)
    with pytest.raises(DataError, match="3 of 40"):
        load_dataset(folder)


def with_trailer(path: Path, **changes: object) -> None:
    """Change what the trailer of a pack says, and seal it again, as somebody would who means harm."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:], "little")
    box = json.loads(data[-8 - length : -8]) | changes
    box.pop("seal")
    text = storage.to_json(box | {"seal": storage.seal_of(box)}).encode()
    path.write_bytes(data[: -8 - length] + text + len(text).to_bytes(8, "little"))


@pytest.mark.parametrize(
    "changes",
    [
        {"bad": [[i, "x"] for i in range(39)], "images": 1},  # good images said to be bad
        {"bad": [[99, "x"]]},
        {"bad": [[-1, "x"]]},
        {"bad": 7},
        {"bad": [[1]]},
        {"bad": [["a", "b"]]},
        {"images": 40},
        {"images": "39"},
        {"size": 32},
        {"hashes": []},
        {"hashes": None},
    ],
)
def test_a_forged_trailer_is_not_believed(folder: Path, changes: dict[str, object]) -> None:
    (folder / "cat" / "0.ppm").write_bytes(b"x")
    first = load_dataset(folder, bad_images="skip")
    pixels = np.array(first.images)
    (path,) = files()
    with_trailer(path, **changes)
    again = load_dataset(folder, bad_images="skip")
    assert again.notes == first.notes
    assert np.array_equal(again.images, pixels)


def test_every_bit_of_a_pack_that_flips_is_seen(folder: Path, decoded: list[str]) -> None:
    """Among 400 places, the last bytes of the file and of the pixels too."""
    first = np.array(load_dataset(folder, image_size=16).images)
    (path,) = files()
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    places = [*random.integers(0, len(whole), 390), *range(len(whole) - 8, len(whole)), first.size - 1, first.size]
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 1 << random.integers(8)
        path.write_bytes(altered)
        assert read_pack(path, 40, 16) is None, place
    path.write_bytes(bytes(len(whole)))
    decoded.clear()
    assert np.array_equal(load_dataset(folder, image_size=16).images, first)
    assert len(decoded) == 40


def test_an_image_that_the_disk_could_not_read_once_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Preprocess.fit_image

    def failing(self: Preprocess, source: object, where: str | None = None) -> np.ndarray:
        if str(source).endswith("cat/4.ppm"):
            raise ImageError(str(where), "cannot be read: input/output error")
        return real(self, source, where)  # pyrefly: ignore

    with monkeypatch.context() as patch:
        patch.setattr(Preprocess, "fit_image", failing)
        assert len(load_dataset(folder, bad_images="skip")) == 39
    assert len(load_dataset(folder, bad_images="skip")) == 40


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more_names_the_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    words = {errno.ENOSPC: "the disk is full", errno.EROFS: "read-only", errno.EACCES: "permission denied"}[code]
    with pytest.raises(StorageError, match=rf"{words}.*CONVSCOPE_CACHE") as caught:
        load_dataset(folder)
    assert caught.value.exit_code == 74
    assert files() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_write_that_fails_half_way_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convscope import storage

    real = open
    monkeypatch.setattr(
        storage, "open", lambda path, mode="r": real("/dev/full" if mode == "wb" else path, mode), raising=False
    )
    with pytest.raises(StorageError, match=r"the disk is full.*CONVSCOPE_CACHE"):
        load_dataset(folder)
    assert files() == []


def test_a_cache_that_is_a_file_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="CONVSCOPE_CACHE"):
        load_dataset(folder)


def test_two_who_pack_at_once_both_succeed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither has the file when it starts: each waits in the middle of its decoding for the other."""
    both, met = threading.Barrier(2, timeout=20), threading.local()
    real = packed.commit

    def commit(*args) -> None:
        if not hasattr(met, "once"):
            met.once = True
            both.wait()
        real(*args)

    monkeypatch.setattr(packed, "commit", commit)
    results: list[bytes] = []
    pair = [threading.Thread(target=lambda: results.append(load_dataset(folder).images.tobytes())) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join(30)
    assert len(results) == 2
    assert results[0] == results[1] == load_dataset(folder).images.tobytes()
    assert len(files()) == 1


def test_two_processes_that_pack_at_once_both_succeed(folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from convscope.datasets.registry import load_dataset as load
import hashlib
here, other = Path(sys.argv[1]), Path(sys.argv[2])
here.touch()
while not other.exists():
    time.sleep(0.005)
print(hashlib.sha256(load({str(folder)!r}, image_size=256).images.tobytes()).hexdigest())
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    pair = [
        subprocess.Popen([sys.executable, "-c", code, *order], env=environment, stdout=subprocess.PIPE, text=True)
        for order in (names, names[::-1])
    ]
    said = [process.communicate(timeout=100)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert (
        said[0] == said[1] == hashlib.sha256(load_dataset(folder, image_size=256).images.tobytes()).hexdigest() + "\n"
    )
    assert len(files()) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    """600 images of 256 x 256 are 118 MB when packed; as one block they would all be in memory at once."""
    for i in range(600):
        path = tmp_path / "images" / ("cat", "dog")[i % 2] / f"{i}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P6 2 1 255 " + i.to_bytes(6, "big"))
    code = f"""
import gc, re, threading
from pathlib import Path
from convscope.datasets import packing as packed
from convscope.datasets.registry import load_dataset
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
packed.BLOCK = 32  # 6 MB
load_dataset({str(tmp_path / "images")!r}, limit=8, image_size=256)  # what is loaded once
before, highest = anonymous(), [0]
data = load_dataset(
    {str(tmp_path / "images")!r}, image_size=256,
    progress=lambda *_: highest.append(anonymous()),
)
assert len(data) == 600
print(max(highest) - before, anonymous() - before)
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    highest, after = map(float, done.stdout.split())
    assert highest < 40
    assert after < 40


def unsplit(count: int = 30) -> Unsplit:
    arrays = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return Unsplit("made", ("a", "b"), np.arange(count) % 2, np.full(count, "", "U5"), 8, arrays=arrays)


def test_arrays_of_the_right_size_are_taken_as_they_are() -> None:
    made = unsplit()
    assert assemble(made).images is made.arrays
    assert not files()


def test_large_arrays_are_packed_and_small_ones_fitted_in_memory(
    decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFAR-10 at 224 pixels is 9 GB."""
    small = assemble(unsplit(), image_size=16)
    assert not files()
    monkeypatch.setattr(packed, "IN_MEMORY", 30 * 16 * 16 * 3 - 1)
    decoded.clear()
    large = assemble(unsplit(), image_size=16)
    assert isinstance(large.images, np.memmap)
    assert np.array_equal(large.images, small.images)
    assert large.fingerprint == small.fingerprint
    assert len(decoded) == 30
    assemble(unsplit(), image_size=16)
    assert len(decoded) == 30


def test_equal_contents_have_equal_keys_wherever_they_lie(folder: Path) -> None:
    shutil.copy(folder / "cat" / "0.ppm", folder / "cat" / "copy.png")
    data = load_dataset(folder)
    origins = {data.origins(i): data.keys[i] for i in range(len(data))}
    assert origins["cat/0.ppm"] == origins["cat/copy.png"]
    assert len(set(origins.values())) == 40
    digest = hashlib.sha256((folder / "cat" / "0.ppm").read_bytes()).digest()
    assert origins["cat/0.ppm"] == int.from_bytes(digest[:8], "little")


def test_progress_tells_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BLOCK", 16)
    steps: list[tuple[str, int, int]] = []
    load_dataset(folder, progress=lambda *step: steps.append(step))
    assert steps == [(what, done, 40) for what in ("reading", "decoding") for done in (16, 32, 40)]


def test_files_are_hashed_in_their_order_whatever_the_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = tuple(sorted(folder.rglob("*.ppm")))
    made = replace(unsplit(40), arrays=None, files=paths)
    whole = packed.digests(made)
    assert [bytes(d) for d in whole] == [hashlib.sha256(p.read_bytes()).digest() for p in paths]
    monkeypatch.setattr(packed, "BLOCK", 7)
    assert np.array_equal(packed.digests(made), whole)


def test_a_pack_that_cannot_be_mapped_is_told_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(np, "memmap", full)
    with pytest.raises(DamagedFile, match=r"x\.u8 cannot be read: Cannot allocate memory\."):
        Pack(1, {}).pixels(tmp_path / "x.u8", 8)
