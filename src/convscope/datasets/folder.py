"""A folder of images: one folder a class, or train, val and test folders above them. Classes go by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DataError, nearest
from ..images.file_names import HEIC_EXTENSIONS, is_image_name
from ..recipes import Source
from .file_list import FileListing
from .part_names import likely_part, plain_part, with_eval_told
from .patterns import groups_of_paths, labels_of_paths
from .renamed import renamed
from .synsets import KIT, validation_labels
from .unsplit import Unsplit, alike

USUAL = ("train", "training", "val", "valid", "validation", "test")  # names of parts that need no note
# Ends of the names of images that are not read, by kind.
UNREAD = {**dict.fromkeys(HEIC_EXTENSIONS, "HEIC"), ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".svg": "SVG"}
UNREAD |= {".psd": "Photoshop", ".xcf": "GIMP", ".pdf": "PDF", ".eps": "EPS", ".ico": "icons", ".tga": "Targa"}
UNREAD |= {".dcm": "DICOM", ".exr": "OpenEXR", ".hdr": "Radiance"}
UNREAD |= dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), "raw photographs")
Need = Literal["training", "classes", "images"]  # what a folder's images are wanted for
THREADS = 8  # that list folders at once: a disk on the network answers each of them late
IMAGE_SIZE = 64  # pixels, when none is asked for
LAYOUT = "expected one folder a class (FOLDER/cat/1.jpg), or train, val and test folders above them"


@dataclass
class _Found:
    """What a walk has met so far."""

    need: Need = "training"
    files: FileListing = field(default_factory=FileListing)
    classes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # files that are not named as an image is
    strays: list[str] = field(default_factory=list)  # images outside the class folders
    links: list[str] = field(default_factory=list)  # linked folders that are not entered
    empty: list[str] = field(default_factory=list)  # class folders without an image

    def file(self, name: str) -> None:
        """Count a file that is no image of a class."""
        (self.strays if is_image_name(name) else self.others).append(name)

    def take_class(self, walked: _Found, folder: Path, part: str) -> None:
        """Add what a walk through a class folder has met; DataError where it is no class to train on."""
        count = len(walked.files)
        if not count and self.need == "training":
            raise DataError(f"the class folder {folder} holds no image; add some or remove the folder.")
        if not count:
            self.empty.append(folder.name)
        self.files.join(walked.files)
        self.classes += [folder.name] * count
        self.parts += [part] * count
        self.hidden += walked.hidden
        self.others += walked.others
        self.links += walked.links


def load_folder(root: Path, need: Need = "training", source: Source | None = None) -> Unsplit:
    """The images under ``root``; hidden files and folders are ignored with a count.

    ``source`` may say that classes stand in file names (``label_from``), what stays on one side (``group``), and which
    classes are merged or renamed.

    ``need`` says what they are wanted for: "training" raises DataError for an empty folder, a single class, an empty
    class, or a class that training does not know; "classes" takes these, with a note, and "images" takes a folder
    without classes too.
    """
    source = source or Source()
    unsplit = _by_names(root, source.label_from, need) if source.label_from else _by_folders(root, need)
    unsplit = renamed(unsplit, source.renamed)
    if need == "training":
        _check_for_training(root, unsplit)
    unsplit = replace(unsplit, notes=(*unsplit.notes, *map(one_or_two, alike(unsplit.class_names))))
    if source.group is None:
        return unsplit
    paths = [path.relative_to(root).as_posix() for path in unsplit.files]
    return replace(unsplit, groups=groups_of_paths(paths, source.group))


def _by_names(root: Path, pattern: str, need: Need) -> Unsplit:
    """Classes by what the names of files say; a folder right under the root may be a part."""
    found, walked = _Found(need), _walked(root)
    paths = [path.relative_to(root) for path in walked.files.end()]
    if not paths:
        raise DataError(f"{root} holds no image.")
    found.files, found.hidden, found.others, found.links = walked.files, walked.hidden, walked.others, walked.links
    found.classes = labels_of_paths([path.as_posix() for path in paths], pattern)
    found.parts = [(plain_part(path.parts[0]) or "") if len(path.parts) > 1 else "" for path in paths]
    return _unsplit(root, found, ())


def _by_folders(root: Path, need: Need) -> Unsplit:
    """Classes by folders."""
    found = _Found(need)
    folders = _folders(root, found)
    if not folders and _take_validation(root, "", found, 0):
        return _unsplit(root, found, ())
    if not folders and need == "images" and found.strays:
        return _flat(root, found)
    if not folders:
        raise DataError(f"{root} holds no class folders: {LAYOUT}.")
    parts = _parts(root, [f.name for f in folders], need)
    if parts is None:
        _refuse_parts(root, folders)
    inside = {folder: _class_folders(folder, parts[folder.name], found) if parts else [folder] for folder in folders}
    class_folders = [(one, parts[folder.name] if parts else "") for folder in folders for one in inside[folder]]
    with ThreadPoolExecutor(THREADS) as pool:
        walks = pool.map(_walked, (folder for folder, _ in class_folders))
        for (folder, part), walked in zip(class_folders, walks, strict=True):
            found.take_class(walked, folder, part)
    unusual = [name for name in parts or {} if name.lower() not in USUAL]
    notes = (f"taken for parts: {', '.join(f'{n} is {parts[n]}' for n in unusual)}.",) if parts and unusual else ()
    return _unsplit(root, found, notes)


def _class_folders(folder: Path, part: str, found: _Found) -> list[Path]:
    """The class folders of a part; none of ImageNet's validation, whose images lie in one folder and are taken."""
    place, before = _unwrapped(folder), len(found.strays)
    inside = _folders(place, found)
    if not inside:
        _take_validation(place, part, found, before)
    return inside


def _take_validation(place: Path, part: str, found: _Found, before: int) -> bool:
    """Take the images that were met in a folder, after so many others, by a table of ImageNet's, if there is one."""
    names = found.strays[before:]
    labels = validation_labels(place, names)
    if labels is None:
        return False
    del found.strays[before:]
    found.files.add(place, names)
    found.classes += labels
    found.parts += [part] * len(names)
    return True


def _parts(root: Path, names: list[str], need: Need) -> dict[str, str] | None:
    """The part of each folder, where they are parts; None where they are classes.

    A class may have such a name, as long as nobody has to guess: ``train_station`` beside ``test_tube`` is one.
    """
    plain = {n: part for n in names if (part := plain_part(n))}
    parts = plain
    if len(plain) < len(names):  # names with other words in them must look like parts, too
        likely = {n: part for n in names if (part := plain_part(n) or likely_part(n))}
        if len(likely) == len(names) and all(_holds_only_folders(root / n) for n in names):
            parts = likely
    parts = with_eval_told(list(parts), parts)
    others = [n for n in names if n not in parts]
    if not others and "train" not in parts.values() and need == "training":
        raise DataError(f"{root} holds {' and '.join(names)} and no train folder; add one with the training images.")
    kinds = set(parts.values())
    if others and len(kinds) > 1 and "train" in kinds:
        raise DataError(f"{root} holds {' and '.join(sorted(parts))} folders and also {others[0]!r}; move that away.")
    return None if others else parts


def _holds_only_folders(folder: Path) -> bool:
    names = _listed(folder)
    inner = [n for n in names if os.path.isdir(folder / n)]
    return bool(inner) and not any(is_image_name(n) for n in names if n not in inner)


def _listed(folder: Path) -> list[str]:
    """The names in a folder, by name; none where it may not be read, which is told when it is walked."""
    try:
        return sorted(n for n in os.listdir(folder) if not hidden_name(n))
    except OSError:
        return []


def _unwrapped(folder: Path) -> Path:
    """A part's folder, or the only one in it, where that holds the classes: ``seg_train/seg_train/cat``."""
    inner = [folder / name for name in _listed(folder)]
    if len(inner) == 1 and inner[0].is_dir() and not inner[0].is_symlink() and _holds_only_folders(inner[0]):
        return _unwrapped(inner[0])
    return folder


def _refuse_parts(root: Path, folders: list[Path]) -> None:
    """DataError where every "class" holds the same folders, two or more, and no image: they look like parts."""
    if len(folders) < 2 or not all(_holds_only_folders(folder) for folder in folders):
        return
    inner = [{name for name in _listed(folder) if (folder / name).is_dir()} for folder in folders]
    common = sorted(set.intersection(*inner))
    if len(common) < 2 or any(len(common) < 0.8 * len(names) for names in inner):
        return
    shown = ", ".join(common[:3]) + (", ..." if len(common) > 3 else "")
    first = " and ".join(f.name for f in folders[:2])
    raise DataError(
        f"{first} in {root} both hold {shown} and no image of their own: are they parts? Then call them train, val and "
        "test. If they are classes, put their images right into them, or name each image's class in a CSV table."
    )


def _flat(root: Path, found: _Found) -> Unsplit:
    """All images of a folder without classes, as one class of its name."""
    files = tuple(root / name for name in found.strays)
    found.strays = []
    return Unsplit(
        name=root.resolve().name or str(root),
        class_names=(root.resolve().name or str(root),),
        labels=np.zeros(len(files), np.int64),
        given=np.full(len(files), "", "U5"),
        image_size=IMAGE_SIZE,
        files=files,
        root=root,
        notes=(f"{root} holds no class folders: its {len(files)} images are taken as they are.", *_ignored(found)),
    )


def _folders(root: Path, found: _Found) -> list[Path]:
    """The folders in ``root`` by name; everything else is counted."""
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from None
    folders = []
    for entry in entries:
        if hidden_name(entry.name):
            found.hidden.append(entry.name)
        elif not os.path.isdir(entry.path):  # False for a link to itself, where entry.is_dir() raises
            found.file(entry.name)
        elif entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve()):
            found.links.append(entry.name)  # it leads back to where we are
        else:
            folders.append(Path(entry.path))
    return folders


def hidden_name(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _walked(folder: Path) -> _Found:
    """The images under a folder, and what else lies there."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.")

    found = _Found()
    for place, inner, names in os.walk(folder, onerror=refuse):
        found.hidden += filter(hidden_name, (*inner, *names))
        inner[:] = sorted(n for n in inner if not hidden_name(n))
        found.links += (n for n in inner if os.path.islink(os.path.join(place, n)))  # os.walk does not enter them
        shown = sorted(n for n in names if not hidden_name(n))
        images = list(filter(is_image_name, shown))
        found.files.add(Path(place), images)
        if len(images) < len(shown):
            found.others += (n for n in shown if not is_image_name(n))
    return found


def _unsplit(root: Path, found: _Found, notes: tuple[str, ...]) -> Unsplit:
    names = tuple(sorted(set(found.classes)))
    if not names:
        what = "an image in class folders" if found.empty else "class folders in its train, val or test folders"
        raise DataError(f"{root} is without {what}: {LAYOUT}.")
    number = {name: i for i, name in enumerate(names)}
    return Unsplit(
        name=root.resolve().name or str(root),
        class_names=names,
        labels=np.array([number[c] for c in found.classes], np.int64),
        given=np.array(found.parts, "U5"),
        image_size=IMAGE_SIZE,
        files=found.files.end(),
        root=root,
        notes=(*notes, *_ignored(found)),
    )


def _check_for_training(root: Path, unsplit: Unsplit) -> None:
    """DataError for a class that stands in no training folder, and for a single class."""
    names = unsplit.class_names
    trained = {names[label] for label in np.unique(unsplit.labels[np.isin(unsplit.given, ("", "train"))])}
    strangers = [n for n in names if n not in trained]
    if strangers:
        near = nearest(strangers[0], trained, 1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"class {strangers[0]!r} of {root} stands in val or test and not in train; classes go by name.{offer}"
        )
    if len(names) < 2:
        inner = {path.relative_to(root).parts[1:-1] for path in unsplit.files} - {()}
        wrapped = len(inner) > 1 and not unsplit.given[0] and not unsplit.called_before  # once more
        offer = f" Did you mean {root / names[0]}?" if wrapped else ""
        raise DataError(f"{root} holds one class, {names[0]!r}; a classifier needs two or more: {LAYOUT}.{offer}")


def one_or_two(pair: tuple[str, str]) -> str:
    """Ask whether two classes are one, whose names differ in what is easily overlooked."""
    first, second = pair
    what = "letter case" if first.casefold() == second.casefold() else "how an accent is written"
    return f"classes {first!r} and {second!r} differ in {what} alone: are they one?"


def _ignored(found: _Found) -> Iterator[str]:
    """A sentence for each kind of thing that was passed over."""
    kinds = Counter(UNREAD[end] for name in found.others if (end := Path(name).suffix.lower()) in UNREAD)
    if kinds:
        told = ", ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common())
        total = kinds.total()
        heic = " (HEIC is read with pip install 'convscope[heic]')" if "HEIC" in kinds else ""
        yield (
            f"{total:,} images of kinds that are not read were left out: {told}; save them as JPEG or PNG first{heic}."
        )
    others = [name for name in found.others if Path(name).name not in KIT]  # which was read
    found.others = [name for name in others if Path(name).suffix.lower() not in UNREAD]
    for names, one, many in (
        (found.hidden, "hidden file or folder was", "hidden files or folders were"),
        (found.others, "file whose name is not an image's was", "files whose names are not an image's were"),
        (found.strays, "image outside the class folders was", "images outside the class folders were"),
        (found.links, "linked folder was", "linked folders were"),
        (found.empty, "class folder without an image was", "class folders without an image were"),
    ):
        if names:
            what, first = (one, "") if len(names) == 1 else (many, "the first: ")
            yield f"{len(names)} {what} ignored ({first}{names[0]!r})."
