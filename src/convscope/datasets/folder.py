"""A folder of images: one folder a class, or train, val and test folders above them. Classes go by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError, nearest
from ..images.decoding import EXTENSIONS
from .dataset import alike
from .unsplit import Unsplit

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
IMAGE_SIZE = 64  # pixels, when none is asked for
LAYOUT = "expected one folder a class (FOLDER/cat/1.jpg), or train, val and test folders above them"


@dataclass
class _Found:
    """What a walk has met so far."""

    files: list[Path] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # files that are not named as an image is
    strays: list[str] = field(default_factory=list)  # images outside the class folders
    links: list[str] = field(default_factory=list)  # linked folders that are not entered

    def file(self, name: str) -> None:
        """Count a file that is no image of a class."""
        (self.strays if _is_image(name) else self.others).append(name)


def load_folder(root: Path) -> Unsplit:
    """The images under ``root``; hidden files and folders are ignored with a count.

    Raises DataError for an empty folder, a single class, an empty class, or a class that training does not know.
    """
    found = _Found()
    folders = _folders(root, found)
    if not folders:
        raise DataError(f"{root} holds no class folders: {LAYOUT}.")
    split = _is_split(root, [f.name for f in folders])
    for folder in folders:
        part = SPLIT_NAMES[folder.name.lower()] if split else ""
        for class_folder in _folders(folder, found) if split else [folder]:
            _walk_class(class_folder, part, found)
    return _unsplit(root, found)


def _is_split(root: Path, names: list[str]) -> bool:
    """Tell if the folders are train, val and test. A class may have such a name, as long as nobody has to guess."""
    parts = {SPLIT_NAMES[n.lower()] for n in names if n.lower() in SPLIT_NAMES}
    others = [n for n in names if n.lower() not in SPLIT_NAMES]
    if not others and "train" not in parts:
        raise DataError(f"{root} holds {' and '.join(names)} and no train folder; add one with the training images.")
    if others and len(parts) > 1 and "train" in parts:
        raise DataError(f"{root} holds {' and '.join(sorted(parts))} folders and also {others[0]!r}; move that away.")
    return not others


def _folders(root: Path, found: _Found) -> list[Path]:
    """The folders in ``root`` by name; everything else is counted."""
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from None
    folders = []
    for entry in entries:
        if _hidden(entry.name):
            found.hidden.append(entry.name)
        elif not os.path.isdir(entry.path):  # False for a link to itself, where entry.is_dir() raises
            found.file(entry.name)
        elif entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve()):
            found.links.append(entry.name)  # it leads back to where we are
        else:
            folders.append(Path(entry.path))
    return folders


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _walk_class(folder: Path, part: str, found: _Found) -> None:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.")

    before = len(found.files)
    for place, inner, names in os.walk(folder, onerror=refuse):
        found.hidden += filter(_hidden, (*inner, *names))
        inner[:] = sorted(n for n in inner if not _hidden(n))
        found.links += (n for n in inner if os.path.islink(os.path.join(place, n)))  # os.walk does not enter them
        for name in sorted(n for n in names if not _hidden(n)):
            if not _is_image(name):
                found.others.append(name)
                continue
            found.files.append(Path(place) / name)
            found.classes.append(folder.name)
            found.parts.append(part)
    if len(found.files) == before:
        raise DataError(f"the class folder {folder} holds no image; add some or remove the folder.")


def _unsplit(root: Path, found: _Found) -> Unsplit:
    names = tuple(sorted(set(found.classes)))
    if not names:
        raise DataError(f"{root} holds train, val or test folders without class folders in them: {LAYOUT}.")
    trained = {c for c, p in zip(found.classes, found.parts, strict=True) if p in ("", "train")}
    strangers = [n for n in names if n not in trained]
    if strangers:
        near = nearest(strangers[0], trained, 1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"class {strangers[0]!r} of {root} stands in val or test and not in train; classes go by name.{offer}"
        )
    if len(names) < 2:
        inner = {path.relative_to(root).parts[1:-1] for path in found.files} - {()}
        offer = (
            f" Did you mean {root / names[0]}?" if len(inner) > 1 and not found.parts[0] else ""
        )  # wrapped once more
        raise DataError(f"{root} holds one class, {names[0]!r}; a classifier needs two or more: {LAYOUT}.{offer}")
    number = {name: i for i, name in enumerate(names)}
    return Unsplit(
        name=root.resolve().name or str(root),
        class_names=names,
        labels=np.array([number[c] for c in found.classes], np.int64),
        given=np.array(found.parts, "U5"),
        image_size=IMAGE_SIZE,
        files=tuple(found.files),
        root=root,
        notes=(*_ignored(found), *map(_one_or_two, alike(names))),
    )


def _one_or_two(pair: tuple[str, str]) -> str:
    first, second = pair
    what = "letter case" if first.casefold() == second.casefold() else "how an accent is written"
    return f"classes {first!r} and {second!r} differ in {what} alone: are they one?"


def _ignored(found: _Found) -> Iterator[str]:
    """A sentence for each kind of thing that was passed over."""
    for names, one, many in (
        (found.hidden, "hidden file or folder was", "hidden files or folders were"),
        (found.others, "file whose name is not an image's was", "files whose names are not an image's were"),
        (found.strays, "image outside the class folders was", "images outside the class folders were"),
        (found.links, "linked folder was", "linked folders were"),
    ):
        if names:
            what, first = (one, "") if len(names) == 1 else (many, "the first: ")
            yield f"{len(names)} {what} ignored ({first}{names[0]!r})."
