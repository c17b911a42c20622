"""Shards for tests: tars as WebDataset writes them, and the samples that go into them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from planted_folders import CLASSES, pattern

Files = Sequence[tuple[str, bytes]]


def encoded(seed: int, side: int = 24, kind: str = "PNG") -> bytes:
    """The bytes of an image unlike that of any other seed."""
    file = io.BytesIO()
    pattern(seed, side).save(file, kind)
    return file.getvalue()


def samples(first: int, count: int, side: int = 24, kind: str = "PNG") -> list[tuple[str, bytes]]:
    """Images ``first`` to ``first + count``, each with a label of one of three classes, as files of a tar."""
    end = {"PNG": "png", "JPEG": "jpg"}[kind]
    found = []
    for i in range(first, first + count):
        found += [(f"{i:06d}.{end}", encoded(i, side, kind)), (f"{i:06d}.cls", CLASSES[i % 3].encode())]
    return found


def tar_bytes(files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these files; times with a fraction, as WebDataset has them, make an extended header of each."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000.5
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write a tar of these files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files, form))
    return path


def write_shards(folder: Path, shards: int = 4, each: int = 15, side: int = 24, kind: str = "PNG") -> Path:
    """So many tars of so many images; returns their folder."""
    for number in range(shards):
        write_tar(folder / f"train-{number:04d}.tar", samples(number * each, each, side, kind))
    return folder


def as_folder(folder: Path, count: int, side: int = 24, kind: str = "PNG") -> Path:
    """The same images as ``write_shards`` writes, one folder a class, in a train folder."""
    for (name, data), (_, label) in zip(*[iter(samples(0, count, side, kind))] * 2, strict=True):
        place = folder / "train" / label.decode() / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder
