"""Which image of a folder a file name in a COCO file means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import DataError
from .part_names import plain_part
from .told_boxes import by_name


class ToldNames:
    """The images under ``root`` by what files call them; folders that are told count from their end."""

    def __init__(self, images: Sequence[Path], root: Path) -> None:
        self.root = root
        self._named = by_name(images)
        parents = {image.parent for image in images}
        self._folders = {folder.parts[-k:] for folder in parents for k in range(1, len(folder.parts))}

    def find(self, path: Path, part: str, name: str) -> Path | None:
        """The image that a file calls ``name``; None where it is not there. DataError where it is one of several.

        It is not in another part than the one whose folder is told, or in which the file lies, and in no other folder
        than the one that is told if there is such a folder. Of several it is the one under the file's own folder, or in
        a folder of its ``part``.
        """
        *folders, last = name.replace("\\", "/").split("/")
        told = tuple(folder for folder in folders if folder not in ("", ".", ".."))
        wanted = self._part(path) or _part_of(told)
        found = [image for image in self._named.get(last, ()) if not wanted or self._part(image) in (wanted, None)]
        known = next((told[k:] for k in range(len(told)) if told[k:] in self._folders), ())
        if known:
            found = [image for image in found if image.parent.parts[-len(known) :] == known]
        near = [image for image in found if image.is_relative_to(path.parent)]
        found = near or found
        if len(found) > 1 and part:
            found = [image for image in found if self._part(image) == part] or found
        if len(found) > 1:
            raise DataError(f"{path} names {name}, and that are several images: {found[0]} and {found[1]}.")
        return found[0] if found else None

    def _part(self, path: Path) -> str | None:
        """The part that a folder above a file names, within the root."""
        return _part_of(path.relative_to(self.root).parts[:-1]) if path.is_relative_to(self.root) else None


def _part_of(folders: Iterable[str]) -> str | None:
    return next(filter(None, map(plain_part, folders)), None)
