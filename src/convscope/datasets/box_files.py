"""The files under a folder that may tell of boxes: images, and what stands beside them by kind."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError
from ..images.file_names import is_image_name
from .file_list import FileList, FileListing
from .folder import hidden_name

KINDS = {".xml": "xmls", ".txt": "texts", ".json": "jsons", ".yaml": "yamls", ".yml": "yamls"}
LISTS = ("_darknet.labels", "obj.names")


@dataclass(frozen=True)
class BoxFiles:
    """Images under ``root`` and the files of other kinds, all by name; ``named`` says that the user named one."""

    root: Path
    images: FileList | tuple[Path, ...] = ()
    xmls: tuple[Path, ...] = ()
    texts: tuple[Path, ...] = ()
    jsons: tuple[Path, ...] = ()
    yamls: tuple[Path, ...] = ()
    lists: tuple[Path, ...] = ()  # of the names of classes, called as YOLO's tools call them
    named: bool = False

    def inside(self, path: Path) -> str:
        """A path as it is shown: from the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def files_under(root: Path) -> BoxFiles:
    """All of them, without what is hidden; linked folders are not entered."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.")

    images = FileListing()
    found: dict[str, list[Path]] = {kind: [] for kind in ("lists", *KINDS.values())}
    for place, inner, names in os.walk(root, onerror=refuse):
        inner[:] = sorted(name for name in inner if not hidden_name(name))
        shown = sorted(name for name in names if not hidden_name(name))
        images.add(Path(place), filter(is_image_name, shown))
        for name in shown:
            kind = "lists" if name in LISTS else KINDS.get(os.path.splitext(name)[1].lower())
            if kind:
                found[kind].append(Path(place) / name)
    told = any(found.values())  # where nothing tells of boxes, images may be very many, and nobody asks for each
    paths = tuple(images.end()) if told else images.end()
    xmls, texts, jsons, yamls, lists = (tuple(found[k]) for k in ("xmls", "texts", "jsons", "yamls", "lists"))
    return BoxFiles(root, paths, xmls, texts, jsons, yamls, lists)


def files_of(path: Path) -> BoxFiles:
    """The files under the folder of a data.yaml or a COCO file that the user names, of its kind that one alone."""
    root = path.parent.parent if path.parent.name.lower() in ("annotations", "labels") else path.parent
    kind = KINDS[path.suffix.lower()]
    found = replace(files_under(root), named=True)
    if kind == "jsons":
        return replace(found, jsons=(path,), xmls=(), texts=())
    return replace(found, yamls=(path,), jsons=(), xmls=())
