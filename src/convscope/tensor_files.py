"""Tensors on disk, sealed: one safetensors file with our JSON, a SHA-256 for each tensor and a seal over both.

So weights and their description cannot be torn apart, and a flipped bit is seen before it reaches a network.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import DamagedFile, ForeignFile
from .reading import open_regular, parse_bounded
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
    tensors, described = _parse_tensors(_read(path), path)
    header = _sealed_header(described, path)
    for name, tensor in tensors.items():
        if tensor_hash(name, tensor) != header.hashes[name]:
            raise DamagedFile(f"{path} is damaged: the tensor {name!r} is not what was written.")
    return tensors, header.meta


@dataclass(frozen=True)
class SealedHeader:
    """What a file written by ``commit_tensors`` says of itself: the meta, and dtype and shape of each tensor."""

    meta: dict[str, Any]
    tensors: dict[str, tuple[str, tuple[int, ...]]]  # "F32", (64, 3, 3, 3)
    hashes: dict[str, str]


def read_header(path: Path) -> SealedHeader:
    """What a file of ours says of itself, its seal verified, without reading a tensor.

    Raises DamagedFile or ForeignFile as ``read_tensors`` does.
    """
    with open_regular(path) as handle:
        _, header = _read_header(handle, path.stat().st_size, path)
    return _sealed_header(header, path)


def is_whole(path: Path) -> bool:
    """Tell whether what a file says of itself is what was written."""
    try:
        read_header(path)
    except DamagedFile:
        return False
    return True


def _sealed_header(header: dict[str, Any], path: Path) -> SealedHeader:
    try:
        box = parse_bounded(header.pop("__metadata__", {})[META_KEY])
        meta, hashes, seal = box["meta"], box["sha256"], box["seal"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise ForeignFile(f"{path} is a safetensors file, but not one that convscope wrote.") from None
    if not isinstance(meta, dict) or not isinstance(hashes, dict) or set(hashes) != set(header):
        raise DamagedFile(f"{path} is damaged: its description was altered.")
    if seal != _seal(meta, hashes):
        raise DamagedFile(f"{path} is damaged: its description was altered.")
    return SealedHeader(meta, {n: (t["dtype"], tuple(t["shape"])) for n, t in header.items()}, hashes)


_KINDS = {"F32": "<f4", "F16": "<f2", "U8": "u1", "I64": "<i8"}  # of what map_tensors gives back


def map_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a file written by ``commit_tensors`` as read-only memory maps, and its meta, all hashes verified.

    Raises DamagedFile as ``read_tensors`` does; the memory taken does not grow with the file.
    """
    import numpy as np

    with open_regular(path) as handle:
        length, header = _read_header(handle, path.stat().st_size, path)
    try:
        box = parse_bounded(header.pop("__metadata__")[META_KEY])
        maps: dict[str, np.ndarray] = {
            name: np.memmap(path, _KINDS[t["dtype"]], "r", 8 + length + t["data_offsets"][0], tuple(t["shape"]))
            for name, t in header.items()
        }
        hashes = {name: _map_hash(name, header[name], values) for name, values in maps.items()}
        whole = box["sha256"] == hashes and box["seal"] == _seal(box["meta"], hashes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
    """The bytes of a file, once its header has told as many: one that is longer is none, and may not fit in memory."""
    with open_regular(path) as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        length, header = _read_header(handle, size, path)
        told = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        if told != size - 8 - length:
            raise DamagedFile(f"{path} is {size - 8 - length - told:,} bytes longer than its header says.")
        handle.seek(0)
        return handle.read()


def _read_header(handle: BinaryIO, size: int, path: Path) -> tuple[int, dict[str, Any]]:
    """The length of a safetensors header in bytes, and what it says; DamagedFile for what is none of ``size`` bytes."""
    start = handle.read(9)
    length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else MAX_HEADER + 1
    if length > min(MAX_HEADER, size - 8) or start[8:9] != b"{":
        # Only now: a header of 640 bytes begins as a pickle does.
        if start[:2] in FOREIGN:
            raise DamagedFile(f"{path} is a pickle or an archive, not safetensors: it is refused unread.")
        raise DamagedFile(f"{path} is truncated or is not a safetensors file.")
    try:
        header = parse_bounded("{" + handle.read(length - 1).decode())
        for name, entry in header.items():
            if name != "__metadata__":
                _check_entry(entry, size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{path} is truncated or is not a safetensors file: {error}.") from error
    return length, header


def _check_entry(entry: dict[str, Any], room: int) -> None:
    """ValueError, KeyError or TypeError where a tensor's dtype, shape and place are none in ``room`` bytes."""
    begin, end = entry["data_offsets"]
    whole = [begin, end, *entry["shape"]]
    if not isinstance(entry["dtype"], str) or not all(type(n) is int and n >= 0 for n in whole):
        raise ValueError("a tensor without dtype, shape or place")
    if not begin <= end <= room:
        raise ValueError("a tensor ends behind the file")


def parse_safetensors(data: bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file; ``path`` is only for the message."""
    return _parse_tensors(data, path)[0]


def _parse_tensors(data: bytes, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors, and the header that describes them."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    _, header = _read_header(io.BytesIO(data), len(data), path)
    try:
        return load(data), header
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} is truncated or is not a safetensors file: {error}.") from error
