"""Bytes on disk: whole or untouched whatever happens, and never trusted unread."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from convscope import storage
from convscope.errors import DamagedFile, LockedError, StorageError

TENSORS = {
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "whole": torch.tensor([[1, -2]]),
    "mask": torch.tensor([True, False]),
    "scalar": torch.tensor(3.5),
    "none": torch.empty(0, 4),
    "filters": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
}
META = {"kind": "test", "numbers": [1, 2.5, None], "word": "é"}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.safetensors"
    storage.commit_tensors(path, TENSORS, META)
    return path


def assert_same(path: Path) -> None:
    tensors, meta = storage.read_tensors(path)
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_tensors_come_back_as_they_were(sealed: Path) -> None:
    assert_same(sealed)


def test_equal_tensors_give_equal_bytes_in_any_order(sealed: Path, tmp_path: Path) -> None:
    storage.commit_tensors(tmp_path / "other", dict(reversed(TENSORS.items())), META)
    assert (tmp_path / "other").read_bytes() == sealed.read_bytes()


def test_no_flipped_bit_is_ever_accepted(sealed: Path) -> None:
    whole = sealed.read_bytes()
    dice, refused = random.Random(0), 0
    for _ in range(600):
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        sealed.write_bytes(data)
        try:
            assert_same(sealed)  # a flip in padding may change nothing
        except DamagedFile:
            refused += 1
    assert refused > 550


def test_no_cut_is_ever_accepted(sealed: Path) -> None:
    whole = sealed.read_bytes()
    for length in {*range(40), *range(0, len(whole), 7), len(whole) - 1}:
        sealed.write_bytes(whole[:length])
        with pytest.raises(DamagedFile):
            storage.read_tensors(sealed)


@pytest.mark.parametrize("head", [b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04zip", b"\x1f\x8bgz", b"", b"{}"])
def test_other_files_are_refused_unread(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(head + b"\0" * 50 if head else b"")
    for read in (storage.read_tensors, storage.read_foreign_tensors):
        with pytest.raises(DamagedFile):
            read(path)


def test_a_foreign_safetensors_file_is_read_only_as_one(tmp_path: Path) -> None:
    from safetensors.torch import save

    path = tmp_path / "foreign.safetensors"
    path.write_bytes(save({"a": torch.ones(2)}))
    assert torch.equal(storage.read_foreign_tensors(path)["a"], torch.ones(2))
    with pytest.raises(DamagedFile, match="not one that convscope wrote"):
        storage.read_tensors(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EIO, "rror")])
def test_a_failing_disk_leaves_the_old_content_and_no_rest(
    call: str, number: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    storage.commit_text(path, "old")

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=word) as caught:
        storage.commit_text(path, "new")
    assert caught.value.exit_code == 74
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    monkeypatch.setattr(storage, "file_hash", lambda p, real=storage.file_hash: (calls.append("read back"), real(p))[1])
    storage.commit_text(tmp_path / "file", "x")
    assert calls == ["fsync", "read back", "replace", "fsync"]


def test_what_the_disk_gives_back_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "file_hash", lambda path: "0" * 64)
    with pytest.raises(StorageError, match="other bytes"):
        storage.commit_text(tmp_path / "file", "x")
    assert not os.listdir(tmp_path)


WRITER = """
import sys
from pathlib import Path
from convscope.storage import commit_bytes
for i in range(10**9):
    commit_bytes(Path(sys.argv[1]), bytes([65 + i % 2]) * 200_000)
    print("x", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_one_content_whole(tmp_path: Path) -> None:
    path, dice = tmp_path / "file", random.Random(0)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert path.read_bytes() in (b"A" * 200_000, b"B" * 200_000)
    storage.sweep_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


HOLDER = """
import sys, time
from pathlib import Path
from convscope.storage import lock
with lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(LockedError, match=f"process {child.pid}"), storage.lock(tmp_path, "it"):
        pass
    child.kill()
    child.communicate()
    with storage.lock(tmp_path, "it"):
        pass


def test_only_temporaries_of_the_dead_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a.tmp-{dead.pid}-ffffffff").write_text("x")
    (tmp_path / f".b.tmp-{os.getpid()}-ffffffff").write_text("x")
    (tmp_path / f".c.tmp-{os.getppid()}-ffffffff").write_text("x")
    assert storage.sweep_temporaries(tmp_path) == 1
    assert len(os.listdir(tmp_path)) == 2


def test_a_fresh_folder_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sheet"
    with storage.fresh_folder(target) as place:
        (place / "old").write_text("x")
    with pytest.raises(ZeroDivisionError), storage.fresh_folder(target) as place:
        (place / "half").write_text("x")
        raise ZeroDivisionError
    assert os.listdir(target) == ["old"]
    with storage.fresh_folder(target) as place:
        (place / "new").write_text("x")
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["sheet"]


def test_no_nan_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.to_json({"loss": float("nan")})


def test_lines_and_json_round_trip_and_damage_is_told(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}]
    storage.commit_lines(tmp_path / "log", rows)
    assert storage.read_lines(tmp_path / "log") == rows
    assert storage.read_lines(tmp_path / "none") == []
    (tmp_path / "log").write_text('{"epoch": 1')
    for read in (storage.read_lines, storage.read_json):
        with pytest.raises(DamagedFile):
            read(tmp_path / "log")
