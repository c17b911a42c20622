"""A folder of pictures: one folder a class, or train, val and test folders above them. Classes go by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..decoding import EXTENSIONS
from ..errors import DataError
from .dataset import Unsplit, unequal

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGE_SIZE = 64  # pixels, when none is asked for
LAYOUT = "expected one folder a class (FOLDER/cat/1.jpg), or train, val and test folders above them"


@dataclass
class _Found:
    """What a walk has met so far."""

    files: list[Path] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    hidden: int = 0
    others: list[str] = field(default_factory=list)


def load_folder(root: Path) -> Unsplit:
    """The pictures under ``root``; hidden files and folders are ignored with a count.

    Raises DataError for an empty folder, a single class, an empty class, or a class that training does not know.
    """
    found = _Found()
    folders = _folders(root, found)
    if not folders:
        raise DataError(f"{root} holds no class folders: {LAYOUT}.")
    split = {f.name.lower() for f in folders} <= set(SPLIT_NAMES) and "train" in {
        SPLIT_NAMES[f.name.lower()] for f in folders
    }
    for folder in folders:
        part = SPLIT_NAMES[folder.name.lower()] if split else ""
        for class_folder in _folders(folder, found) if split else [folder]:
            _walk_class(class_folder, part, found)
    return _unsplit(root, found, split)


def _folders(root: Path, found: _Found) -> list[Path]:
    """The folders in ``root`` by name; everything else is counted."""
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from None
    folders = []
    for entry in entries:
        if _hidden(entry.name):
            found.hidden += 1
        elif entry.is_dir():
            folders.append(Path(entry.path))
        else:
            found.others.append(entry.name)
    return folders


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _walk_class(folder: Path, part: str, found: _Found) -> None:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.")

    before = len(found.files)
    for place, inner, names in os.walk(folder, onerror=refuse):
        found.hidden += sum(map(_hidden, (*inner, *names)))
        inner[:] = sorted(n for n in inner if not _hidden(n))
        for name in sorted(names):
            if _hidden(name):
                continue
            if Path(name).suffix.lower() not in EXTENSIONS:
                found.others.append(name)
                continue
            found.files.append(Path(place) / name)
            found.classes.append(folder.name)
            found.parts.append(part)
    if len(found.files) == before:
        raise DataError(f"the class folder {folder} holds no picture; add some or remove the folder.")


def _unsplit(root: Path, found: _Found, split: bool) -> Unsplit:
    names = tuple(sorted(set(found.classes)))
    trained = {c for c, p in zip(found.classes, found.parts, strict=True) if p in ("", "train")}
    strangers = [n for n in names if n not in trained]
    if strangers:
        raise DataError(f"class {strangers[0]!r} of {root} stands in val or test and not in train; classes go by name.")
    if len(names) < 2:
        raise DataError(f"{root} holds one class, {names[0]!r}; a classifier needs two or more: {LAYOUT}.")
    notes = []
    if found.hidden:
        notes.append(f"{found.hidden} hidden files or folders were ignored.")
    if found.others:
        notes.append(
            f"{len(found.others)} files whose names are not a picture's were ignored (the first: {found.others[0]!r})."
        )
    notes += [f"class {n!r} differs from another in letter case alone." for n in unequal(names)]
    number = {name: i for i, name in enumerate(names)}
    return Unsplit(
        name=root.name or str(root),
        class_names=names,
        labels=np.array([number[c] for c in found.classes], np.int64),
        given=np.array(found.parts, "U5"),
        image_size=IMAGE_SIZE,
        files=tuple(found.files),
        root=root,
        notes=tuple(notes),
    )
