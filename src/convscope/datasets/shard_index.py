"""What lies where in a tar of images: read once from its front to its end, and kept by its path, size and time.

That one reading tells names, places and labels, takes the hash of each image and sees a torn shard. From then on a tar
is a table of images any of which can be read alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..cache import cache_folder
from ..errors import DamagedFile, DataError
from ..images.file_names import is_image_name
from ..reading import parse_bounded
from ..storage import sha256
from ..tensor_files import commit_tensors, map_tensors
from ..visible import visible
from .shard_places import Shard, is_address, reaching
from .tar_headers import TarFile, TarRefused, shown, tar_files

VERSION = "1"  # of what an index says, raised when that changes
LABELS = (".cls", ".json", ".txt")  # what says an image's class, the first of several
JSON_KEYS = ("label", "class", "cls", "class_name", "category")
MAX_LABEL, MAX_JSON_LABEL = 200, 1 << 20  # characters of a class's name; bytes of the JSON of one image
PIECE = 1 << 20
EXAMPLES = 3  # names that are kept of what was left out
LeftOut = dict[str, tuple[int, tuple[str, ...]]]  # by kind: how many, and the first names


@dataclass(frozen=True)
class ShardIndex:
    """The images of one shard, in its order. ``labels`` are texts, "" for an image without one.

    ``names`` holds all names one behind the other, that of an image from ``ends[i, 0]`` to ``ends[i, 1]``; ``left_out``
    counts what else there is: "unread" files, "hidden" ones, and "imageless" labels, each with its first names.
    """

    names: bytes
    ends: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    digests: np.ndarray
    labels: list[str]
    left_out: LeftOut

    def __len__(self) -> int:
        return len(self.starts)

    def name(self, i: int) -> str:
        """What image ``i`` is called."""
        return self.names[self.ends[i, 0] : self.ends[i, 1]].decode("utf-8", "surrogateescape")


@dataclass
class Gathered:
    """What an index is made of, image by image."""

    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)

    def add(self, name: str, place: tuple[int, int], digest: bytes, label: str) -> None:
        """Add an image: ``place`` is its first byte and how many there are."""
        self.names.append(name)
        self.places.append(place)
        self.digests.append(digest)
        self.labels.append(label)

    def index(self) -> ShardIndex:
        """The whole."""
        raw = [name.encode("utf-8", "surrogateescape") for name in self.names]
        last = np.cumsum([len(name) for name in raw], dtype=np.int64)
        first = last - np.array([len(name) for name in raw], np.int64)
        starts, lengths = np.array(self.places, np.int64).reshape(-1, 2).T
        digests = np.frombuffer(b"".join(self.digests), np.uint8).reshape(-1, 32)
        ends = np.stack([first, last], axis=1)
        return ShardIndex(b"".join(raw), ends, starts, lengths, digests, self.labels, self.left_out)


def index_of(shard: Shard) -> ShardIndex:
    """The images of a tar, read now or before. DataError, which names the shard and what in it, for what is no set."""
    place = index_place(shard, "tar")
    kept = read_index(place)
    if kept is not None:
        return kept
    try:
        with reaching(shard.path) if is_address(shard.path) else nullcontext(), shard.open() as handle:
            found = _read_tar(handle, shard)
    except TarRefused as error:
        raise DataError(f"{shard.path} cannot be read as a shard: {error}.") from None
    except OSError as error:
        raise DataError(f"{shard.path} cannot be read: {error.strerror or error}.") from None
    if not len(found):
        raise DataError(f"{shard.path} holds no image: a shard holds files such as 0001.jpg and 0001.cls.")
    keep_index(place, found)
    return found


def index_place(shard: Shard, kind: str) -> Path:
    """Where the index of a shard is kept, by what the shard is."""
    name = sha256(f"{VERSION}|{kind}|{shard.identity}".encode(errors="surrogateescape"))
    return cache_folder() / "shards" / f"{name[:40]}.safetensors"


def read_index(place: Path) -> ShardIndex | None:
    """The index that was kept; None where there is none, or it is damaged: it can be made again."""
    try:
        maps, said = map_tensors(place)
        labels = json.loads(maps["labels"].tobytes())
        left_out = {kind: (count, tuple(names)) for kind, (count, names) in said["left_out"].items()}
        names = maps["names"].tobytes()
        return ShardIndex(names, maps["ends"], maps["starts"], maps["lengths"], maps["digests"], labels, left_out)
    except (DamagedFile, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_index(place: Path, index: ShardIndex) -> None:
    """Keep an index for the next time."""
    import torch

    arrays = {name: getattr(index, name) for name in ("ends", "starts", "lengths", "digests")}
    arrays["names"] = np.frombuffer(index.names, np.uint8)
    arrays["labels"] = np.frombuffer(json.dumps(index.labels).encode(), np.uint8)
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    commit_tensors(place, tensors, {"left_out": index.left_out})


def leave_out(left_out: LeftOut, kind: str, name: str) -> None:
    """Count a file that is not taken; its name is kept while there are few."""
    count, names = left_out.get(kind, (0, ()))
    left_out[kind] = (count + 1, (*names, visible(name)[:120])[:EXAMPLES])


# ------------------------------------------------------------------------------------------------------------ a tar


@dataclass
class _Sample:
    """What stands under one key."""

    images: dict[str, tuple[TarFile, bytes]] = field(default_factory=dict)  # with their hashes, by their names
    labels: dict[str, str] = field(default_factory=dict)


def _read_tar(handle: BinaryIO, shard: Shard) -> ShardIndex:
    """Read a tar from its front to its end."""
    samples: dict[str, _Sample] = {}
    gathered = Gathered()
    for file in tar_files(handle, shard.size):
        key, ending = _key(file.name)
        if any(part.startswith(".") or part == "__MACOSX" for part in file.name.split("/")):
            leave_out(gathered.left_out, "hidden", file.name)
        elif is_image_name(file.name):
            _take_image(samples.setdefault(key, _Sample()), file, handle)
        elif ending in LABELS:
            _take_label(samples.setdefault(key, _Sample()), file, (key, ending), handle)
        else:
            leave_out(gathered.left_out, "unread", file.name)
    labelled = any(sample.labels for sample in samples.values())
    for key, sample in samples.items():
        if not sample.images:
            leave_out(gathered.left_out, "imageless", key)
        label = next((sample.labels[kind] for kind in LABELS if sample.labels.get(kind)), "")
        for file, digest in _of_key(key, sample, gathered.left_out) if labelled else sample.images.values():
            gathered.add(file.name, (file.start, file.length), digest, label)
    return gathered.index()


def _of_key(key: str, sample: _Sample, left_out: LeftOut) -> list[tuple[TarFile, bytes]]:
    """The image of a key: of several the one with a plain ending, ".jpg" and not ".depth.jpg"; TarRefused for two."""
    named = list(sample.images)
    plain = [name for name in named if _key(name)[1].count(".") == 1] if len(named) > 1 else named
    if len(named) > 1 and len(plain) != 1:
        first, second = (plain or named)[:2]
        raise TarRefused(f"the key {shown(key)} in it has two images, {shown(first)} and {shown(second)}")
    for name in named:
        if name not in plain:
            leave_out(left_out, "unread", name)
    return [sample.images[name] for name in plain]


def _key(name: str) -> tuple[str, str]:
    """A name up to the first dot of its last part, and the rest in small letters: what has one key is one sample."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{ending}".lower()


def _take_image(sample: _Sample, file: TarFile, handle: BinaryIO) -> None:
    """Note an image and its hash."""
    if file.name in sample.images:
        raise TarRefused(f"{shown(file.name)} stands in it twice")
    digest = hashlib.sha256()
    for piece in _pieces(handle, file):
        digest.update(piece)
    sample.images[file.name] = (file, digest.digest())


def _pieces(handle: BinaryIO, file: TarFile) -> Iterator[bytes]:
    left = file.length
    while left:
        piece = handle.read(min(left, PIECE))
        if not piece:
            raise TarRefused(f"{shown(file.name)} in it could not be read to its end")
        left -= len(piece)
        yield piece


def _take_label(sample: _Sample, file: TarFile, key: tuple[str, str], handle: BinaryIO) -> None:
    """Note what says an image's class; nothing where a JSON has no such key."""
    if key[1] in sample.labels:
        raise TarRefused(f"{shown(file.name)} stands in it twice")
    if file.length > MAX_JSON_LABEL:
        raise TarRefused(f"{shown(file.name)} in it has {file.length:,} bytes, more than any label")
    data = b"".join(_pieces(handle, file))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TarRefused(f"{shown(file.name)} in it is no text in UTF-8") from None
    label = _of_json(text, file.name) if key[1] == ".json" else text.strip()
    if key[1] == ".txt" and (len(label) > MAX_LABEL or "\n" in label):
        label = ""  # a caption, and no class
    if len(label) > MAX_LABEL or "\0" in label:
        raise TarRefused(f"{shown(file.name)} in it has {len(label):,} characters, which is no class's name")
    sample.labels[key[1]] = label


def _of_json(text: str, name: str) -> str:
    try:
        said = parse_bounded(text)
    except ValueError:
        raise TarRefused(f"{shown(name)} in it is no JSON") from None
    if not isinstance(said, dict):
        return str(said) if isinstance(said, str | int) and not isinstance(said, bool) else ""
    found = (said[key] for key in JSON_KEYS if key in said)
    return next((str(value).strip() for value in found if type(value) in (str, int)), "")
