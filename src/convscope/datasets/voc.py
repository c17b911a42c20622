"""Boxes in the XML of PASCAL VOC, one file an image, as LabelImg and others write it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import numpy as np

from ..errors import DamagedFile, DataError
from ..reading import open_regular, read_regular, read_regular_text
from ..visible import visible
from .box_files import BoxFiles
from .part_names import parts_of_folders
from .told_boxes import Remark, ToldBoxes, ToldImages, by_stem, listed_parts

MAX_BYTES = 10 * 2**20
LOOKED_AT = 60  # XML files by which it is told whether a folder holds boxes
CORNERS = ("xmin", "ymin", "xmax", "ymax")
OFFICIAL = "The VOC20"  # begins the name of the database whose corners are pixels from 1, both of them within the box
PARTS = {"train": "train", "val": "val", "test": "test", "trainval": "train"}
FOLDERS = re.compile(r"^(annotations?|annots?|xmls?|labels?)$", re.IGNORECASE)


class NotVoc(DataError):
    """An XML file of another kind."""


@dataclass(frozen=True)
class VocFile:
    """The objects that a file tells of: their classes, ``corners`` float64 (n, 4) as edges, ``crowd`` bool (n,).

    ``size`` is (width, height) of the image, None where it is not told; ``filename`` as the file has it.
    """

    filename: str
    size: tuple[int, int] | None
    classes: tuple[str, ...]
    corners: np.ndarray
    crowd: np.ndarray


class _Declares(Exception):
    """A file that declares a document type."""


class _Plain(ET.TreeBuilder):
    """Builds no tree of a file with a document type: these declare entities, which grow without bounds."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Refuse it, before anything that it declares is read."""
        raise _Declares("it declares a document type, and such files are not read")


def read_voc(path: Path) -> VocFile:
    """The objects in an XML file. DataError where it cannot be read; NotVoc where it is something else."""
    root = _root(path)
    if root.tag != "annotation" or (root.find("object") is None and root.find("size") is None):
        raise NotVoc(f"{path} is no VOC annotation.")
    rows = [_object(path, number, one) for number, one in enumerate(root.findall("object"), 1)]
    corners = np.array([row[1] for row in rows], np.float64).reshape(-1, 4)
    if (root.findtext("source/database") or "").startswith(OFFICIAL):
        corners[:, :2] -= 1
    return VocFile(
        (root.findtext("filename") or "").strip(),
        _size(path, root),
        tuple(row[0] for row in rows),
        corners,
        np.array([row[2] for row in rows], bool),
    )


def _root(path: Path) -> ET.Element:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MB, as no annotation of an image is.")
        parser = ET.XMLParser(target=_Plain())
        parser.feed(read_regular(path))
        return parser.close()
    except (_Declares, OSError, ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read as XML: {str(error).rstrip('.')}.") from None


def _object(path: Path, number: int, one: ET.Element) -> tuple[str, list[float], bool]:
    name, box = visible((one.findtext("name") or "").strip()), one.find("bndbox")
    if not name:
        raise DataError(f"{path}: object {number} has no name.")
    if box is None:
        raise DataError(f"{path}: object {number} ({name}) has no bndbox.")
    corners = [_number(box.findtext(key)) for key in CORNERS]
    if not all(map(math.isfinite, corners)):
        wrong = CORNERS[next(k for k, value in enumerate(corners) if not math.isfinite(value))]
        told = visible((box.findtext(wrong) or "nothing").strip()[:40])
        raise DataError(f"{path}: {wrong} of object {number} ({name}) is {told}, which is no finite number.")
    return name, corners, _number(one.findtext("difficult")) == 1


def _number(text: str | None) -> float:
    """The number in a text; NaN where there is none."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _size(path: Path, root: ET.Element) -> tuple[int, int] | None:
    width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    if not 1 <= width < 2**31 or not 1 <= height < 2**31:  # left out, or 0, where a tool did not know it
        return None
    return round(width), round(height)


# ------------------------------------------------------------------------------------------------------ whole folders


def holds_voc(files: BoxFiles, asked: bool) -> bool:
    """Whether XML files tell of boxes in the images: of half of them, unless it is asked for or a folder says so."""
    stems = by_stem(files.images)
    likely = [xml for xml in files.xmls if xml.stem in stems] or list(files.xmls)
    chosen = likely[:: max(1, len(likely) // LOOKED_AT)][:LOOKED_AT]
    found = [xml for xml in chosen if _tells(xml, stems)]
    if not found:
        return False
    share = len(found) / len(chosen) * len(likely) / len(files.images)
    return asked or share >= 0.5 or any(FOLDERS.match(xml.parent.name) for xml in found)


def _tells(xml: Path, stems: Mapping[str, Sequence[Path]]) -> bool:
    try:
        return bool(_likely(xml, read_voc(xml).filename, stems))
    except NotVoc:
        return False
    except DataError:
        return xml.stem in stems and _begins_as_voc(xml)


def _begins_as_voc(xml: Path) -> bool:
    """Whether a file that cannot be read is meant as an annotation: what is wrong is told when it is read."""
    try:
        with open_regular(xml) as file:
            return b"<annotation" in file.read(512)
    except (OSError, DamagedFile):
        return False


def voc_images(files: BoxFiles) -> ToldImages:
    """The images that have an annotation, with what it tells. DataError where nothing says whose one is."""
    stems = by_stem(files.images)
    found: dict[Path, tuple[Path, VocFile | str]] = {}
    others, lonely = [], []
    for xml in files.xmls:
        try:
            voc: VocFile | str = read_voc(xml)
        except NotVoc:
            others.append(xml)
            continue
        except DataError as error:
            voc = str(error).rstrip(".")
        image = _image_of(xml, "" if isinstance(voc, str) else voc.filename, stems)
        if image is None:
            (others if isinstance(voc, str) else lonely).append(xml)
            continue
        if image in found:
            raise DataError(f"{found[image][0]} and {xml} are both annotations of {image}: remove one.")
        found[image] = (xml, voc)
    images = tuple(sorted(found))
    read = [found[image][1] for image in images]
    names = tuple(sorted({name for voc in read if isinstance(voc, VocFile) for name in voc.classes}))
    place = {name: i for i, name in enumerate(names)}
    parts, part_notes = _parts(files, images, stems)
    bare = [path for path in files.images if path not in found]
    return ToldImages(
        names, images, tuple(voc if isinstance(voc, str) else _told(voc, place) for voc in read), parts,
        f"{len(images):,} VOC annotation{' is' if len(images) == 1 else 's are'} taken for the boxes of images",
        part_notes, _remarks(files, others, lonely, bare),
    )  # fmt: skip


def _told(voc: VocFile, place: Mapping[str, int]) -> ToldBoxes:
    return ToldBoxes(voc.corners, np.array([place[name] for name in voc.classes], np.int64), voc.crowd, voc.size)


def _remarks(files: BoxFiles, others: list[Path], lonely: list[Path], bare: list[Path]) -> tuple[Remark, ...]:
    return (
        Remark(
            "not-voc",
            tuple(map(files.inside, others)),
            "XML file is no VOC annotation and is ignored",
            "XML files are no VOC annotations and are ignored",
        ),
        Remark(
            "without-image",
            tuple(map(files.inside, lonely)),
            "annotation is of an image that is not there",
            "annotations are of images that are not there",
        ),
        Remark(
            "without-boxes",
            tuple(map(files.inside, bare)),
            "image has no annotation and is left out",
            "images have no annotation and are left out",
        ),
    )


def _likely(xml: Path, filename: str, stems: Mapping[str, Sequence[Path]]) -> Sequence[Path]:
    """The images that an annotation may be of: those of its own name, else of the name it tells, in no folder."""
    return stems.get(xml.stem) or stems.get(Path(_last(filename)).stem, ())


def _image_of(xml: Path, filename: str, stems: Mapping[str, Sequence[Path]]) -> Path | None:
    """Its image: of several of one name the nearest one by folder. DataError where two are as near."""
    likely = _likely(xml, filename, stems)
    if len(likely) < 2:
        return likely[0] if likely else None
    near = [len(Path(os.path.commonpath([xml.parent, image.parent])).parts) for image in likely]
    nearest = [image for image, common in zip(likely, near, strict=True) if common == max(near)]
    exact = [image for image in nearest if image.name == _last(filename)]
    found = exact if len(exact) == 1 else nearest
    if len(found) > 1:
        raise DataError(f"{xml} may be of {found[0]} or of {found[1]}, and nothing tells which: rename one.")
    return found[0]


def _last(filename: str) -> str:
    return re.split(r"[\\/]", filename)[-1]


def _parts(
    files: BoxFiles, images: Sequence[Path], stems: Mapping[str, Sequence[Path]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The parts that the lists in ImageSets/Main give, else those that folders name."""
    lists = {path: PARTS[path.stem] for path in files.texts if path.parts[-3:-1] == ("ImageSets", "Main")
             and path.stem in PARTS}  # fmt: skip
    if "train" in {path.stem for path in lists}:
        lists = {path: part for path, part in lists.items() if path.stem != "trainval"}
    folders = parts_of_folders(images, files.root)
    if not lists:
        return folders, ()
    held: dict[str, set[Path]] = {part: set() for part in PARTS.values()}
    for path, part in lists.items():
        for line in _lines(path):
            named = stems.get(line) or stems.get(line.rsplit(maxsplit=1)[0], ())  # a class's list has -1, 0 or 1 beside
            held[part].update(image for image in named if image.is_relative_to(path.parents[2]))
    return listed_parts(images, held, "ImageSets/Main", folders)


def _lines(path: Path) -> list[str]:
    try:
        text = read_regular_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
