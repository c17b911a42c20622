"""Bytes on disk: whole or untouched whatever happens, and never trusted unread."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convscope import folders, locks, storage, tensor_files
from convscope.errors import DamagedFile, LockedError, StorageError

TENSORS = {
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "whole": torch.tensor([[1, -2]]),
    "mask": torch.tensor([True, False]),
    "scalar": torch.tensor(3.5),
    "none": torch.empty(0, 4),
    "odd": torch.tensor([0.1, -0.0, 1e-45, torch.inf]),
    "filters": (torch.arange(48) / 7).reshape(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
}
META = {"kind": "test", "numbers": [1, 2.5, None], "word": "é"}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.safetensors"
    tensor_files.commit_tensors(path, TENSORS, META)
    return path


def assert_same(path: Path) -> None:
    tensors, meta = tensor_files.read_tensors(path)
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert tensor.shape == TENSORS[name].shape
        assert torch.equal(tensor, TENSORS[name])


def test_tensors_come_back_as_they_were(sealed: Path) -> None:
    assert_same(sealed)


def test_shared_and_sliced_tensors_come_back(tmp_path: Path) -> None:
    whole = torch.arange(20.0)
    tensor_files.commit_tensors(
        tmp_path / "x", {"a": whole, "b": whole, "part": whole[4:8], "t": whole.view(4, 5).T}, {}
    )
    tensors, meta = tensor_files.read_tensors(tmp_path / "x")
    assert meta == {}
    assert torch.equal(tensors["a"], whole)
    assert torch.equal(tensors["b"], whole)
    assert torch.equal(tensors["part"], whole[4:8])
    assert torch.equal(tensors["t"], whole.view(4, 5).T)


def test_no_tensors_and_negative_zero_come_back(tmp_path: Path) -> None:
    tensor_files.commit_tensors(tmp_path / "x", {}, {"a": {}, "1": [], "z": None})
    assert tensor_files.read_tensors(tmp_path / "x") == ({}, {"a": {}, "1": [], "z": None})
    tensor_files.commit_tensors(tmp_path / "x", {"x": torch.tensor([-0.0, torch.nan])}, {})
    tensors, _ = tensor_files.read_tensors(tmp_path / "x")
    assert tensors["x"].signbit()[0]
    assert tensors["x"].isnan()[1]


DTYPES = """float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 complex64 bool
int64 int32 int16 int8 uint64 uint32 uint16 uint8""".split()


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Any bits at all: the NaNs of a half-precision weight too."""
    dtype = getattr(torch, name)
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 2 if name == "bool" else 256, 96, np.uint8))
    values = raw.view(dtype)
    tensors = {"all": values, "row": values.reshape(1, -1), "scalar": values[0], "none": values[:0].reshape(0, 2)}
    tensor_files.commit_tensors(tmp_path / "x", tensors, {})
    back, _ = tensor_files.read_tensors(tmp_path / "x")
    assert {n: (t.dtype, t.shape) for n, t in back.items()} == {n: (dtype, t.shape) for n, t in tensors.items()}
    assert torch.equal(back["all"].view(torch.uint8), raw)
    assert torch.equal(back["scalar"].reshape(1).view(torch.uint8), values[:1].view(torch.uint8))


def test_a_conjugate_and_keys_that_are_numbers_come_back(tmp_path: Path) -> None:
    """A lazily conjugated tensor is stored as it reads; JSON has no keys but strings."""
    tensor_files.commit_tensors(tmp_path / "x", {"a": torch.tensor([1 + 2j]).conj()}, {2: "two", 10: "ten"})  # type: ignore[dict-item]
    tensors, meta = tensor_files.read_tensors(tmp_path / "x")
    assert tensors["a"].tolist() == [1 - 2j]
    assert meta == {"2": "two", "10": "ten"}


@pytest.mark.parametrize("tail", [b"\0", b" ", b"x" * 100])
def test_nothing_may_follow(tail: bytes, sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes() + tail)
    with pytest.raises(DamagedFile):
        tensor_files.read_tensors(sealed)


def test_bottomless_json_is_damage_and_not_a_crash(tmp_path: Path) -> None:
    from safetensors.torch import save

    path, deep = tmp_path / "x", "[" * 100_000
    path.write_text(deep)
    for read in (storage.read_json, storage.read_lines):
        with pytest.raises(DamagedFile):
            read(path)
    path.write_bytes(save({"a": torch.ones(1)}, {tensor_files.META_KEY: deep}))
    with pytest.raises(DamagedFile):
        tensor_files.read_tensors(path)


def test_equal_tensors_give_equal_bytes_in_any_order(sealed: Path, tmp_path: Path) -> None:
    tensor_files.commit_tensors(tmp_path / "other", dict(reversed(TENSORS.items())), META)
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
            tensor_files.read_tensors(sealed)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "gzip"])
def test_real_pickles_and_archives_are_refused(kind: str, sealed: Path) -> None:
    if kind in ("zip", "legacy"):
        torch.save({"a": torch.ones(3)}, sealed, _use_new_zipfile_serialization=kind == "zip")
    else:
        whole = sealed.read_bytes()
        sealed.write_bytes(pickle.dumps({"a": whole}) if kind == "pickle" else gzip.compress(whole))
    for read in (tensor_files.read_tensors, tensor_files.read_foreign_tensors):
        with pytest.raises(DamagedFile, match="pickle or an archive"):
            read(sealed)


@pytest.mark.parametrize("change", ["meta", "tensor", "shape", "swapped", "hash"])
def test_a_file_altered_by_hand_is_refused(change: str, sealed: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(sealed, "pt") as handle:
        text = handle.metadata()[tensor_files.META_KEY]
    box, tensors = json.loads(text), dict(TENSORS, filters=TENSORS["filters"].contiguous())
    if change == "meta":
        box["meta"]["kind"] = "other"
    elif change == "tensor":
        tensors["scalar"] = torch.tensor(3.25)
    elif change == "shape":
        tensors["half"] = tensors["half"].reshape(3, 2)
    elif change == "swapped":
        tensors["scalar"], tensors["whole"] = tensors["whole"], tensors["scalar"]
    else:
        box["sha256"]["scalar"] = tensor_files.tensor_hash("scalar", torch.tensor(0.0))
    sealed.write_bytes(save(tensors, {tensor_files.META_KEY: json.dumps(box)}))
    with pytest.raises(DamagedFile, match="damaged"):
        tensor_files.read_tensors(sealed)


@pytest.mark.parametrize("hashes", [None, 5, ["a"]])
def test_a_seal_over_nonsense_is_refused_too(hashes: object, tmp_path: Path) -> None:
    from safetensors.torch import save

    box = {"meta": {}, "sha256": hashes, "seal": tensor_files._seal({}, hashes)}  # type: ignore[arg-type]
    (tmp_path / "x").write_bytes(save({"a": torch.ones(2)}, {tensor_files.META_KEY: json.dumps(box)}))
    with pytest.raises(DamagedFile):
        tensor_files.read_tensors(tmp_path / "x")


@pytest.mark.parametrize("head", [b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04zip", b"\x1f\x8bgz", b"", b"{}"])
def test_other_files_are_refused_unread(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(head + b"\0" * 50 if head else b"")
    for read in (tensor_files.read_tensors, tensor_files.read_foreign_tensors):
        with pytest.raises(DamagedFile):
            read(path)


def test_a_foreign_safetensors_file_is_read_only_as_one(tmp_path: Path) -> None:
    from safetensors.torch import save

    path = tmp_path / "foreign.safetensors"
    path.write_bytes(save({"a": torch.ones(2)}))
    assert torch.equal(tensor_files.read_foreign_tensors(path)["a"], torch.ones(2))
    with pytest.raises(DamagedFile, match="not one that convscope wrote"):
        tensor_files.read_tensors(path)


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


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, "the file would be larger than is allowed here"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, os.strerror(errno.EIO)),
        (None, "as the library says"),
    ],
)
def test_why_something_cannot_be_written_is_told_in_words(number: int | None, reason: str) -> None:
    error = OSError("as the library says") if number is None else OSError(number, os.strerror(number))
    told = storage.storage_error(Path("a/b"), error)
    assert type(told) is StorageError
    assert str(told) == f"cannot write {Path('a/b')}: {reason}. What was there before is untouched."


LIMITED = """
import resource, sys
from pathlib import Path
from convscope.errors import StorageError
from convscope.storage import commit_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    commit_bytes(Path(sys.argv[1]), b"new" * 1000)
except StorageError as error:
    print(error)
"""


def test_a_write_the_system_cuts_short_leaves_the_old_content(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    (tmp_path / "file").write_text("old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "file")], capture_output=True, text=True)
    assert done.stdout.endswith("file would be larger than is allowed here. What was there before is untouched.\n")
    assert done.stderr == ""
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_order_of_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    path, real_fsync, real_replace, real_hash = tmp_path / "file", os.fsync, os.replace, storage.file_hash
    inodes = {}

    def fsync(handle: int) -> None:
        what = os.fstat(handle)
        if stat.S_ISDIR(what.st_mode):
            assert what.st_ino == tmp_path.stat().st_ino
            calls.append("fsync folder")
        else:
            assert what.st_size == 3  # nothing is left in Python's buffer
            inodes["file"] = what.st_ino
            calls.append("fsync file")
        real_fsync(handle)

    def replace(source: Path, target: Path) -> None:
        assert os.stat(source).st_ino == inodes["file"]
        assert (source.parent, target) == (tmp_path, path)
        calls.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(storage, "file_hash", lambda p: (calls.append("read back"), real_hash(p))[1])
    storage.commit_text(path, "xyz")
    assert calls == ["fsync file", "read back", "replace", "fsync folder"]


def test_a_folder_that_cannot_be_synced_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "file", os.fsync
    storage.commit_text(path, "old")

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="is written, but may not outlast a power cut"):
        storage.commit_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.commit_text(path, "old")

    def write(handle: Any) -> str:
        handle.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.commit(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_the_disk_gives_back_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "file_hash", lambda path: "0" * 64)
    with pytest.raises(StorageError, match="other bytes"):
        storage.commit_text(tmp_path / "file", "x")
    assert not os.listdir(tmp_path)


WRITER = """
import sys
from pathlib import Path
from convscope.storage import commit_bytes
assert "torch" not in sys.modules
for i in range(10**9):
    commit_bytes(Path(sys.argv[1]), bytes([65 + i % 2]) * 200_000)
    print("x", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_one_content_whole(tmp_path: Path) -> None:
    path, dice = tmp_path / "file", random.Random(0)
    for _ in range(15):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"x\n"
        time.sleep(dice.uniform(0, 0.02))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert path.read_bytes() in (b"A" * 200_000, b"B" * 200_000)
    storage.sweep_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


HOLDER = """
import sys, time
from pathlib import Path
from convscope.locks import lock
with lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"held\n"
        expected = f"it is in use by process {child.pid} on "
        with pytest.raises(LockedError, match=expected) as caught, locks.lock(tmp_path, "it"):
            pass
        assert caught.value.exit_code == 73
        assert (tmp_path / ".lock-holder").exists()  # whoever was refused has not cleared it away
    finally:
        child.kill()
        child.communicate()
    with locks.lock(tmp_path, "it"):
        assert f"process {os.getpid()} " in (tmp_path / ".lock-holder").read_text()
    assert not (tmp_path / ".lock-holder").exists()


def test_a_lock_is_freed_by_an_exception_even_if_its_holder_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError), locks.lock(tmp_path, "it"):
        patch.setattr(Path, "unlink", fail)
        raise ZeroDivisionError
    with locks.lock(tmp_path, "it"):
        pass


def test_only_temporaries_of_the_dead_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = storage.temporary_beside(tmp_path / "x").name.rpartition("-")[2][:4]
    there = "0000" if here != "0000" else "1111"
    (tmp_path / f".a.tmp-{dead.pid}-{here}ffffffff").write_text("x")
    (tmp_path / f".d.tmp-{dead.pid}-{here}eeeeeeee").mkdir()  # half a folder
    (tmp_path / f".d.tmp-{dead.pid}-{here}eeeeeeee" / "x").write_text("x")
    (tmp_path / f".old.tmp-{os.getpid()}-{there}ffffffff").write_text("x")
    os.utime(tmp_path / f".old.tmp-{os.getpid()}-{there}ffffffff", (0, 0))
    (tmp_path / f".earlier.tmp-{dead.pid}-ffffffff").write_text("x")  # as an earlier version named it
    os.utime(tmp_path / f".earlier.tmp-{dead.pid}-ffffffff", (0, 0))
    others = {f".e.tmp-{dead.pid}", f"f.tmp-{dead.pid}-{here}ffffffff", f".g.tmp-{dead.pid}-notours"}
    others |= {f".h.tmp-x-{here}ffffffff", f".another-machine.tmp-{dead.pid}-{there}ffffffff"}
    others |= {f".b.tmp-{os.getpid()}-{here}ffffffff", f".c.tmp-{os.getppid()}-{here}ffffffff"}
    for name in others:
        (tmp_path / name).write_text("x")
    assert storage.sweep_temporaries(tmp_path) == 4
    assert set(os.listdir(tmp_path)) == others


def test_a_temporary_of_another_machine_that_takes_its_name_meanwhile_is_left_alone(tmp_path: Path) -> None:
    assert not storage._is_left(tmp_path / "gone", os.getpid(), "another machine")


def test_on_windows_only_the_age_of_a_temporary_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    young, old = tmp_path / "young", tmp_path / "old"
    for path in (young, old):
        path.write_text("x")
    os.utime(old, (0, 0))
    mark = storage.machine_mark()
    monkeypatch.setattr(storage.os, "name", "nt")
    monkeypatch.setattr(storage, "is_alive", lambda pid: pytest.fail("a process was asked for"))
    assert (storage._is_left(young, 1, mark), storage._is_left(old, 1, mark)) == (False, True)


def test_who_writes_into_a_folder_sweeps_what_a_kill_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that lives long looks again, once a minute."""
    monkeypatch.setattr(storage, "SWEPT_EVERY", 1e9)
    storage.commit_text(tmp_path / "weights", "x")
    code = "import os, sys; from pathlib import Path; from convscope.storage import *\n"
    code += "commit(Path(sys.argv[1]), lambda handle: os.kill(os.getpid(), 9))"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "weights")])
    assert killed.returncode == -signal.SIGKILL
    left, _ = sorted(os.listdir(tmp_path))
    assert left.startswith(".weights.tmp-")
    storage.commit_text(tmp_path / "another", "x")
    assert sorted(os.listdir(tmp_path)) == [left, "another", "weights"]
    monkeypatch.setattr(storage, "SWEPT_EVERY", 1e-9)
    storage.commit_text(tmp_path / "another", "x")
    assert sorted(os.listdir(tmp_path)) == ["another", "weights"]


def test_what_a_kill_left_does_not_keep_a_folder_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is swept before anybody is told that there is no room."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".big.tmp-{dead.pid}-{storage.machine_mark()}ffffffff"
    left.write_text("x")
    free = lambda place: SimpleNamespace(free=0 if left.exists() else 100)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", free)
    storage.check_free(tmp_path, 100, "it")
    assert not left.exists()
    with pytest.raises(StorageError, match="it needs 1 MiB"):
        storage.check_free(tmp_path, 101, "it")


def test_a_folder_that_is_made_for_a_file_lasts_as_the_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc to ask what was synced")
    monkeypatch.setattr(os, "fsync", fsync)
    storage.commit_text(tmp_path / "a" / "b" / "file", "x")
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    storage.commit_text(tmp_path / "a" / "b" / "other", "x")
    assert len(synced) == 4


def test_what_stands_in_the_way_of_tidying_up_is_no_failure_of_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", fail)
    storage.commit_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("read", [storage.read_json, storage.read_lines, tensor_files.read_tensors])
def test_a_disk_that_fails_while_it_is_read_is_told_with_the_file(
    read: Any, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def read(self, *given: Any) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", lambda *given: Failing())
    with pytest.raises(DamagedFile, match=r"sealed.safetensors cannot be read: Input/output error\."):
        read(sealed)


def test_lines_that_cannot_be_asked_for_are_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    storage.commit_lines(tmp_path / "log.jsonl", [{"a": 1}])
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DamagedFile, match=r"log.jsonl cannot be read: Permission denied\."):
        storage.read_lines(tmp_path / "log.jsonl")


@pytest.mark.parametrize("folder_fails", [False, True])
def test_a_file_of_a_fresh_folder_that_fails_is_told_as_the_folder(
    folder_fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file itself nothing is left, so that neither it nor its temporary folder is to be named as written."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == folder_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError) as caught, folders.fresh_folder(tmp_path / "sheet") as place:
        storage.commit_text(place / "file", "x")
    told = f"cannot write {tmp_path / 'sheet'}: Input/output error. What was there before is untouched."
    assert str(caught.value) == told
    assert not os.listdir(tmp_path)


def test_a_fresh_folder_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sheet"
    with folders.fresh_folder(target) as place:
        (place / "old").write_text("x")
    with pytest.raises(ZeroDivisionError), folders.fresh_folder(target) as place:
        (place / "half").write_text("x")
        raise ZeroDivisionError
    assert os.listdir(target) == ["old"]
    with folders.fresh_folder(target) as place:
        (place / "new").write_text("x")
    assert os.listdir(target) == ["new"]
    assert os.listdir(tmp_path) == ["sheet"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("call", [1, 2])
def test_a_fresh_folder_that_cannot_be_renamed_leaves_the_old_one(
    error: Any, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, real, calls = tmp_path / "sheet", os.replace, []
    with folders.fresh_folder(target) as place:
        (place / "old").write_text("x")

    def replace(source: Path, to: Path) -> None:
        calls.append(source)
        if len(calls) == call:
            raise error
        real(source, to)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)  # as on a system that cannot
    expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), folders.fresh_folder(target) as place:
        (place / "new").write_text("x")
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["sheet"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_file_system_whose_folders_know_no_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """CIFS, shared folders of virtual machines and some of FUSE: the file's own fsync is all there is."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    if code == errno.EIO:  # that is a failing disk
        with pytest.raises(StorageError, match="may not outlast a power cut"):
            storage.commit_bytes(tmp_path / "file", b"x")
    else:
        storage.commit_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new(can_exchange: bool, tmp_path: Path) -> None:
    """The process ends at once, before and after each step that changes a name."""
    code = f"""
import os, sys
from pathlib import Path
from convscope import folders
step, target = int(sys.argv[1]), Path(sys.argv[2])
if not {can_exchange}:
    folders._exchange = lambda one, other: False
left = [step]
def dying(real):
    def call(*words, **more):
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
        result = real(*words, **more)
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
        return result
    return call
folders.os.replace, folders._exchange, folders.discard = map(dying, (os.replace, folders._exchange, folders.discard))
with folders.fresh_folder(target) as place:
    (place / "new").write_text("x")
"""
    seen = []
    for step in range(1, 20):
        target = tmp_path / str(step) / "sheet"
        target.mkdir(parents=True)
        (target / "old").write_text("x")
        words = [sys.executable, "-c", code, str(step), str(target)]
        ended = subprocess.run(
            words, env=os.environ | {"PYTHONPATH": str(Path(storage.__file__).parents[1])}
        ).returncode
        folders.mend_folder(target)
        (name,) = os.listdir(target)
        seen.append(name)
        if ended == 0:
            break
    assert ended == 0
    assert seen[0] == "old"
    assert seen[-1] == "new"
    with folders.fresh_folder(target) as place:
        (place / "third").write_text("x")
    assert os.listdir(target) == ["third"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_is_not_finite_reaches_a_file(number: float, tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.commit_text(path, "old")
    for write in (
        lambda: storage.to_json({"a": [{"loss": number}]}),
        lambda: storage.commit_json(path, [number]),
        lambda: storage.commit_lines(path, [{"loss": 1.0}, {"loss": number}]),
        lambda: tensor_files.commit_tensors(path, {}, {"loss": number}),
    ):
        with pytest.raises(ValueError, match="JSON compliant"):
            write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_is_one_line_in_the_order_given() -> None:
    assert storage.to_json({"b": 0.1, "a": ["é\n", None, True]}) == '{"b": 0.1, "a": ["é\\n", null, true]}'


@pytest.mark.parametrize("text", ["é", "\u2028\x85", "odd \udc80 byte", 'a "quoted"\nline'])
def test_any_name_of_a_file_survives(text: str, tmp_path: Path) -> None:
    storage.commit_json(tmp_path / "json", {text: text})
    assert storage.read_json(tmp_path / "json") == {text: text}
    storage.commit_lines(tmp_path / "lines", [{"a": text}, {"b": text}])
    assert storage.read_lines(tmp_path / "lines") == [{"a": text}, {"b": text}]


def test_lines_and_json_round_trip_and_damage_is_told(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}]
    storage.commit_lines(tmp_path / "log", rows)
    assert storage.read_lines(tmp_path / "log") == rows
    assert storage.read_lines(tmp_path / "none") == []
    (tmp_path / "log").write_text('{"epoch": 1')
    for read in (storage.read_lines, storage.read_json):
        with pytest.raises(DamagedFile):
            read(tmp_path / "log")


@pytest.mark.parametrize("length", [640, 1_152, 1_408, 19_280])
def test_a_header_whose_length_begins_as_a_pickle_or_a_zip_file_does_is_read(length: int, tmp_path: Path) -> None:
    """640 is 80 02, as a pickle begins; 19,280 is "PK"."""
    path, tensors = tmp_path / "a.safetensors", {"a": torch.arange(3.0)}
    for extra in range(max(0, length - 700), length):
        tensor_files.commit_tensors(path, tensors, {"words": "x" * extra})
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            break
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    found, meta = tensor_files.read_tensors(path)
    assert torch.equal(found["a"], tensors["a"])
    assert meta == {"words": "x" * extra}


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02}q\x00", b"\x80\x04\x95", b"\x1f\x8b\x08"])
def test_pickles_and_archives_are_refused_by_name(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(start + bytes(range(200)))
    with pytest.raises(DamagedFile, match="refused unread"):
        tensor_files.read_foreign_tensors(tmp_path / "a.safetensors")


def test_what_can_be_made_again_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "page.html"
    storage.write_derived(path, "na\u00efve \udcff")
    assert path.read_bytes() == "na\u00efve \\udcff".encode()
    storage.write_derived(path, b"\x89PNG")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(StorageError, match="the disk is full"):
        storage.write_derived(path, "newer")
    assert path.read_bytes() == b"\x89PNG"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_what_json_cannot_say_is_null_however_deep_it_lies() -> None:
    nan, infinite = float("nan"), float("inf")
    given = {"a": nan, "b": [1.5, -infinite, {"c": (infinite, 2, "d")}], "e": None, "f": True}
    assert storage.finite(given) == {"a": None, "b": [1.5, None, {"c": [None, 2, "d"]}], "e": None, "f": True}
    assert storage.finite((0.5, nan)) == [0.5, None]


def test_the_room_of_a_disk_is_told_in_mebibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 5 * 2**20 + 7
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda place: type("", (), {"free": free}))
    storage.check_free(tmp_path / "not" / "there", free, "it")
    for size, told in ((free + 1, 6), (6 * 2**20, 6), (6 * 2**20 + 1, 7)):
        with pytest.raises(StorageError) as caught:
            storage.check_free(tmp_path / "not" / "there", size, "it")
        assert str(caught.value) == f"{tmp_path / 'not' / 'there'} has 5 MiB free; it needs {told} MiB."


def refusal(read: Callable[[Path], Any], path: Path) -> str:
    """What is said of a file that is not read."""
    with pytest.raises(DamagedFile) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}', "is damaged: it is not what was written."),
        ('{"a": 1, "seal": null}', "is damaged: it is not what was written."),
        ('{"a": 1, "seal": "0"}', "is damaged: it is not what was written."),
        ("[1]", "is damaged: it does not hold names and values."),
        ('{"format": 4}', "is not of convscope of format 3."),
        ('{"format": 0}', "is not of convscope of format 3."),
        ('{"format": true}', "is not of convscope of format 3."),
        ('{"format": 3}', "is damaged: it is not what was written."),
        ('{"format": 2, "seal": "0"}', "is damaged: it is not what was written."),
    ],
)
def test_what_was_not_written_so_is_told_with_its_path(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert refusal(storage.read_json, path) == f"{path} {said}"


@pytest.mark.parametrize("number", [1, 2])
def test_what_an_earlier_version_wrote_is_told(number: int, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"format": number}), encoding="utf-8")
    assert refusal(storage.read_json, path) == (
        f"{path} was written by an earlier convscope, in format {number}, and this one reads format 3: make it again, "
        "or use the version that wrote it."
    )


def test_what_is_no_json_is_told_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("{", '{"a": NaN}', ""):
        path.write_text(text, encoding="utf-8")
        assert refusal(storage.read_json, path).startswith(f"{path} ")


def test_the_line_that_was_altered_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    storage.commit_lines(path, [{"a": i} for i in range(4)])
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number in range(1, 5):
        changed = [*lines]
        changed[number - 1] = changed[number - 1].replace(f'"a": {number - 1}', '"a": 9')
        path.write_text("".join(changed), encoding="utf-8")
        assert refusal(storage.read_lines, path) == f"{path} is damaged: line {number} is not what was written."


def test_what_can_be_made_again_makes_its_folders_and_is_told_where_it_cannot_be(tmp_path: Path) -> None:
    storage.write_derived(tmp_path / "a" / "b" / "page.html", "x")
    assert (tmp_path / "a" / "b" / "page.html").read_text() == "x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=str(tmp_path / "file" / "page.html")):
        storage.write_derived(tmp_path / "file" / "page.html", "x")


def test_a_file_as_large_as_may_be_is_read_and_a_larger_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    storage.commit_json(path, {"a": "x" * 50})
    size = path.stat().st_size
    monkeypatch.setattr(storage, "MAX_JSON", size)
    assert storage.read_json(path) == {"a": "x" * 50}
    monkeypatch.setattr(storage, "MAX_JSON", size - 1)
    said = f"{path} cannot be read: it is larger than any file of convscope's."
    assert refusal(storage.read_json, path) == refusal(storage.read_lines, path) == said


def test_lines_that_are_no_json_or_are_gone_are_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    storage.commit_lines(path, [{"a": i} for i in range(3)])
    whole = path.read_text(encoding="utf-8")
    path.write_text("".join(whole.splitlines(keepends=True)[:2]), encoding="utf-8")
    assert refusal(storage.read_lines, path) == f"{path} is damaged: its last lines are gone."
    for text in ("{", "[1]", '{"a": NaN, "seal": "0"}'):
        path.write_text(text, encoding="utf-8")
        assert refusal(storage.read_lines, path).startswith(f"{path} ")


def test_a_name_with_a_tilde_is_the_file_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert storage.expanded("~/x") == tmp_path / "home" / "x"
    Path("~").mkdir()
    Path("~/x").write_text("x")
    assert storage.expanded("~/x") == Path("~/x")


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError) as caught:
        storage.make_folder(tmp_path / "file" / "in it")
    reason = os.strerror(errno.ENOTDIR)
    assert (
        str(caught.value)
        == f"cannot write {tmp_path / 'file' / 'in it'}: {reason}. What was there before is untouched."
    )


def test_what_is_written_may_say_what_it_is_called(tmp_path: Path) -> None:
    def write(handle: Any) -> str:
        handle.write(b"x")
        return storage.sha256(b"x")

    storage.commit(tmp_path / "any", write, lambda: "by-content")
    assert os.listdir(tmp_path) == ["by-content"]


def test_json_is_written_to_be_read_by_people_too(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    seal = storage.commit_json(path, {"b": "\u00e9", "a": (1, 2.5)})
    assert (
        path.read_text(encoding="utf-8") == f'{{\n "b": "\u00e9",\n "a": [\n  1,\n  2.5\n ],\n "seal": "{seal}"\n}}\n'
    )
    assert storage.to_json({"b": "\u00e9", "a": [1, None]}) == '{"b": "\u00e9", "a": [1, null]}'
    assert len(seal) == 32
    assert seal == storage.seal_of({"a": [1, 2.5], "b": "\u00e9"})  # in whatever order
    for write in (storage.to_json, storage.seal_of):
        with pytest.raises(ValueError, match="Out of range float"):
            write({"a": float("nan")})
    with pytest.raises(ValueError, match="Out of range float"):
        storage.commit_json(tmp_path / "b.json", {"a": float("inf")})
    assert os.listdir(tmp_path) == ["a.json"]
