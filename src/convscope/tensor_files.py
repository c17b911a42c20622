"""Tensors on disk, sealed: one safetensors file with our JSON, a SHA-256 for each tensor and a seal over both.

So weights and their description cannot be torn apart, and a flipped bit is seen before it reaches a network.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DamagedFile, ForeignFile
from .storage import commit_bytes, sha256

if TYPE_CHECKING:
    import numpy as np
    import torch

META_KEY = "convscope"
MAX_HEADER = 16 * 2**20  # bytes; a longer safetensors header is refused unread
FOREIGN = (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")  # how zip files, pickles and gzip begin


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
    """Tell what ``tensor_hash`` gives for the tensor in a map."""
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
