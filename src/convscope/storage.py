"""The one way bytes reach disk, and the one way they are trusted again.

Commit protocol: a temporary file beside the target, flush and fsync, re-read and compare its hash, rename over the
target, fsync the folder. A kill or a power cut at any moment leaves the old content or the new, never a mixture.
Tensors are written as one safetensors file whose metadata holds our JSON, a SHA-256 per tensor and a seal over both,
so that weights and their description cannot be torn apart and a flipped bit is seen before it reaches a network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DamagedFile, ForeignFile, LockedError, StorageError

if TYPE_CHECKING:
    import numpy as np
    import torch

META_KEY = "convscope"
MAX_HEADER = 16 * 2**20  # bytes; a longer safetensors header is refused unread
FOREIGN = (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")  # how zip files, pickles and gzip begin
_TEMPORARY = re.compile(r"\..+\.tmp-([0-9]{1,9})-[0-9a-f]{8}")  # what _temporary makes: the process writes into it


def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _storage_error(path: Path, error: OSError) -> StorageError:
    reason = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than is allowed here",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
    }.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"cannot write {path}: {reason}. What was there before is untouched.")


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents where missing; StorageError in one sentence where that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _storage_error(path, error) from error
    return path


def _fsync_folder(path: Path) -> None:
    """Make the new name in the folder of ``path`` outlast a power cut."""
    if os.name == "nt":  # there a folder cannot be opened
        return
    try:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"{path} is written, but may not outlast a power cut: {error.strerror}.") from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{os.urandom(4).hex()}")


def _discard(path: Path) -> None:
    """Remove a temporary file or folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def commit(path: Path, write: Callable[[Any], str]) -> None:
    """Write a file by the commit protocol; ``write(handle)`` puts the bytes and returns their SHA-256.

    Raises StorageError and removes the temporary file; the file that was there before is untouched.
    """
    temporary = _temporary(path)
    try:
        make_folder(path.parent)
        with open(temporary, "wb") as handle:
            expected = write(handle)
            handle.flush()
            os.fsync(handle.fileno())
        if file_hash(temporary) != expected:
            raise StorageError(f"cannot write {path}: the disk gave back other bytes than were written.")
        os.replace(temporary, path)
        _fsync_folder(path)
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        _discard(temporary)


def commit_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` by the commit protocol."""

    def write(handle: Any) -> str:
        handle.write(data)
        return sha256(data)

    commit(path, write)


def commit_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 by the commit protocol.

    What UTF-8 cannot hold, the odd bytes of a file's name, is escaped as JSON escapes it: ``read_json`` gives it back.
    """
    commit_bytes(path, text.encode(errors="backslashreplace"))


def to_json(value: Any) -> str:
    """One line of JSON, keys in the order given; a float that is not finite is an error, never ``NaN`` in a file."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(", ", ": "))


def finite(value: Any) -> Any:
    """JSON values with null for each number that is none or infinite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def commit_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON by the commit protocol."""
    commit_text(path, json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n")


def commit_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one line of JSON a row by the commit protocol."""
    commit_text(path, "".join(to_json(row) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; DamagedFile where it is missing, cut or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file written by ``commit_lines``; an absent file has none."""
    if not path.exists():
        return []
    try:
        # Not splitlines: JSON leaves the other line ends of Unicode as they are inside a string.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces so that memory stays flat."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A with-block that fills a temporary folder and puts it in the place of ``path`` with one rename.

    For derived images, which can be made again: no fsync. An older folder of that name is replaced, and stays as it
    was when anything fails.
    """
    temporary, old = _temporary(path), _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            if path.is_dir():
                os.replace(path, old)
            os.replace(temporary, path)
        except BaseException:  # an interrupt too: what follows discards the old folder
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        _discard(temporary)
        _discard(old)


# ------------------------------------------------------------------------------------------------------- tensors


def tensor_hash(name: str, tensor: torch.Tensor) -> str:
    """The SHA-256 of a tensor with its name, kind and shape."""
    import torch

    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    head = f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode()
    digest = hashlib.sha256(head)
    digest.update(flat.numpy().data)
    return digest.hexdigest()


def _seal(meta: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    return sha256(json.dumps([meta, hashes], sort_keys=True).encode())


def commit_tensors(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    """Write named tensors and ``meta`` (JSON values) as one sealed safetensors file by the commit protocol."""
    from safetensors.torch import save

    meta = json.loads(json.dumps(meta, allow_nan=False))  # as it will be read: the seal knows no keys but strings
    plain = _plain(tensors)
    hashes = {name: tensor_hash(name, t) for name, t in plain.items()}
    text = json.dumps({"meta": meta, "sha256": hashes, "seal": _seal(meta, hashes)}, allow_nan=False)
    commit_bytes(path, save(plain, {META_KEY: text}))


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as safetensors takes them: in memory, contiguous, none sharing it (a module used twice does).

    Sorted by name: equal tensors give equal bytes, in whatever order they were gathered.
    """
    plain: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        own = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        address = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if address in seen else own
        seen.add(address)
    return plain


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the meta of a file written by ``commit_tensors``, every hash verified.

    Raises DamagedFile when the file is truncated, altered, not ours or not safetensors at all; nothing is unpickled.
    """
    data = _read(path)
    tensors = parse_safetensors(data, path)
    try:
        box = json.loads(_header(data).get("__metadata__", {})[META_KEY])
        meta, hashes, seal = box["meta"], box["sha256"], box["seal"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise ForeignFile(f"{path} is a safetensors file, but not one that convscope wrote.") from None
    if not isinstance(hashes, dict) or seal != _seal(meta, hashes) or set(hashes) != set(tensors):
        raise DamagedFile(f"{path} is damaged: its description was altered.")
    for name, tensor in tensors.items():
        if tensor_hash(name, tensor) != hashes[name]:
            raise DamagedFile(f"{path} is damaged: the tensor {name!r} is not what was written.")
    return tensors, meta


_KINDS = {"F32": "<f4", "F16": "<f2", "U8": "u1", "I64": "<i8"}  # of what map_tensors gives back


def map_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a file written by ``commit_tensors`` as read-only memory maps, and its meta, all hashes verified.

    Raises DamagedFile as ``read_tensors`` does; the memory taken does not grow with the file.
    """
    import numpy as np

    try:
        with open(path, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > MAX_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(handle.read(length))
        box = json.loads(header.pop("__metadata__")[META_KEY])
        maps: dict[str, np.ndarray] = {
            name: np.memmap(path, _KINDS[t["dtype"]], "r", 8 + length + t["data_offsets"][0], tuple(t["shape"]))
            for name, t in header.items()
        }
        hashes = {name: _map_hash(name, header[name], values) for name, values in maps.items()}
        whole = box["sha256"] == hashes and box["seal"] == _seal(box["meta"], hashes)
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise DamagedFile(f"{path} is missing, truncated or not ours: {error}.") from error
    if not whole:
        raise DamagedFile(f"{path} is damaged: it is not what was written.")
    return maps, box["meta"]


def _map_hash(name: str, entry: Mapping[str, Any], values: np.ndarray) -> str:
    """What ``tensor_hash`` gives for the tensor in a map."""
    kinds = {"F32": "float32", "F16": "float16", "U8": "uint8", "I64": "int64"}
    digest = hashlib.sha256(f"{name}|torch.{kinds[entry['dtype']]}|{entry['shape']}|".encode())
    digest.update(values.reshape(-1).view("u1").data if values.size else b"")
    return digest.hexdigest()


def read_foreign_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of any safetensors file, ours or not; DamagedFile for everything else, pickles included."""
    return parse_safetensors(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error.strerror}.") from error


def _header(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def parse_safetensors(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file; ``path`` is only for the message."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else MAX_HEADER + 1
    if length > min(MAX_HEADER, len(data) - 8) or data[8:9] != b"{":
        # Only now: a header of 640 bytes begins as a pickle does.
        if data[:2] in FOREIGN:
            raise DamagedFile(f"{path} is a pickle or an archive, not safetensors: it is refused unread.")
        raise DamagedFile(f"{path} is truncated or is not a safetensors file.")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} is truncated or is not a safetensors file: {error}.") from error


# --------------------------------------------------------------------------------------------------------- locks


@contextlib.contextmanager
def lock(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder`` for this process alone; the kernel frees it when the process dies, however it dies.

    Raises LockedError naming the host and process that hold it. Not reliable on every network file system.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    holder = folder / ".lock-holder"
    guard = FileLock(folder / ".lock", thread_local=False)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"{what} is in use by {_read_holder(holder)}; wait, stop it, or choose another name."
        ) from None
    except OSError as error:
        raise _storage_error(folder, error) from error
    try:
        commit_text(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        _discard(holder)
        guard.release()


def _read_holder(path: Path) -> str:
    """Who holds the lock, in words; it may be gone, or not yet written, at this very moment."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def sweep_temporaries(folder: Path) -> int:
    """Remove temporary files that processes which no longer live left in ``folder``; returns how many."""
    removed = 0
    for path in folder.glob(".*.tmp-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            _discard(path)
            removed += 1
    return removed


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill ends a process, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def cache_folder() -> Path:
    """Where packed images and downloads are kept: ``$CONVSCOPE_CACHE``, else the system's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("CONVSCOPE_CACHE")
    return Path(chosen) if chosen else user_cache_path("convscope")
