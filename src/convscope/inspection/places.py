"""What stands in a folder beside its images: leftovers, annotations, links, what is no file. Nothing is opened."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.folder import UNREAD
from ..datasets.part_names import plain_part
from ..datasets.registry import ARCHIVES
from ..images.file_names import is_image_name
from ..visible import visible
from .findings import Finding, Grade, first, some

# Ends of names by what such files are, beside those of images.
_ANNOTATIONS = {".xml": "VOC", ".json": "JSON", ".txt": "text"}
_COCO = re.compile(r"^(instances|captions|person_keypoints)_.*|.*annotations?\.coco", re.IGNORECASE)
PARALLEL = 5  # files of a folder that are named as images elsewhere are
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".filepart", ".opdownload")
_SYSTEM = ("Thumbs.db", "desktop.ini", ".DS_Store", "__MACOSX", ".ipynb_checkpoints", ".thumbnails", "@eaDir")
MAX_ENTRIES = 5_000_000
_Told = tuple[str, Grade, str, list[str], str]  # kind, grade, what, the names, advice


@dataclass
class Places:
    """What a walk has met, each by its name within the root."""

    double: list[str] = field(default_factory=list)  # "._cat.jpg", which a Mac writes beside "cat.jpg"
    system: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    annotations: dict[str, list[str]] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)
    nameless: list[str] = field(default_factory=list)  # without an ending
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)  # links that lead out of the root
    broken: list[str] = field(default_factory=list)  # links that lead nowhere
    linked: list[str] = field(default_factory=list)  # linked folders, which are not entered
    special: list[str] = field(default_factory=list)  # pipes, sockets, devices
    strays: list[str] = field(default_factory=list)  # images right in the root, beside class folders
    empty: list[str] = field(default_factory=list)  # folders without anything in them


def walk(root: Path, used: Collection[str] = ()) -> Places:
    """Walk through all of a folder, entering no link; ``used`` are the paths of files that were taken from it."""
    found = Places()
    real = root.resolve()
    stems = {}
    for number, (folder, entry) in enumerate(_entries(root)):
        if number >= MAX_ENTRIES:
            break
        name = visible(os.path.relpath(entry.path, root))
        if entry.is_symlink():
            _link(found, entry, name, real)
            continue
        if entry.is_dir(follow_symlinks=False):
            if not _listed(Path(entry.path)) and entry.name not in _SYSTEM:
                found.empty.append(name)
            if entry.name in _SYSTEM:
                found.system.append(name)
            continue
        if folder not in stems:
            stems[folder] = _stems(folder)
        if entry.path not in used or is_image_name(entry.name):
            _file(found, entry, name, stems[folder])
    _parallel(found, set().union(*stems.values()))
    found.strays = [name for folder in _above_classes(root) for name in _loose(folder, root, used)]
    inside = {os.path.dirname(path) for path in used}
    found.linked = [n for n in found.linked if not any(_within(path, os.path.join(root, n)) for path in inside)]
    return found


def _above_classes(root: Path) -> list[Path]:
    """The folders whose images are in no class: the root, and parts within it that hold folders."""
    parts = [root / entry.name for entry in _listed(root) if plain_part(entry.name) and os.path.isdir(entry.path)]
    return [f for f in (root, *parts) if any(os.path.isdir(entry.path) for entry in _listed(f))]


def _loose(folder: Path, root: Path, used: Collection[str]) -> list[str]:
    names = [e.name for e in _listed(folder) if is_image_name(e.name) and not e.name.startswith(".")]
    return [visible(os.path.relpath(folder / n, root)) for n in names if os.fspath(folder / n) not in used]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _entries(root: Path) -> Iterator[tuple[Path, os.DirEntry]]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for entry in _listed(folder):
            yield folder, entry
            if entry.is_dir(follow_symlinks=False) and entry.name not in _SYSTEM:
                waiting.append(Path(entry.path))


def _listed(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _stems(folder: Path) -> set[str]:
    """The names of a folder's images without their endings."""
    return {Path(entry.name).stem for entry in _listed(folder) if is_image_name(entry.name)}


def _link(found: Places, entry: os.DirEntry, name: str, root: Path) -> None:
    target = Path(os.path.realpath(entry.path))
    if not target.exists():
        found.broken.append(name)
    elif not target.is_relative_to(root):
        found.outside.append(name)
    elif target.is_dir():
        found.linked.append(name)


def _file(found: Places, entry: os.DirEntry, name: str, stems: set[str]) -> None:
    """Sort one entry that is neither a folder nor a link."""
    end = Path(entry.name).suffix.lower()
    try:
        regular = stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        regular = True
    kinds = (
        (not regular, found.special),
        (entry.name.startswith("._"), found.double),
        (entry.name in _SYSTEM, found.system),
        (end in _UNFINISHED or entry.name.startswith("~$"), found.unfinished),
        (entry.name.startswith("."), found.hidden),
        (is_image_name(entry.name), []),  # an image, which is looked at elsewhere
        (end in UNREAD, found.unread.setdefault(UNREAD.get(end, ""), [])),
        (end in ARCHIVES, found.archives),
        (_is_annotation(end, entry.name, stems), found.annotations.setdefault(_ANNOTATIONS.get(end, ""), [])),
        (not end, found.nameless),
        (True, found.others),
    )
    next(names for is_so, names in kinds if is_so).append(name)


def _is_annotation(end: str, name: str, stems: set[str]) -> bool:
    stem = Path(name).stem
    return end in _ANNOTATIONS and (stem in stems or (end == ".json" and _COCO.fullmatch(stem) is not None))


def _parallel(found: Places, stems: set[str]) -> None:
    """Take files that are named as images of other folders are for annotations: labels/1.txt of images/1.jpg."""
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in found.others:
        folders[os.path.dirname(name), Path(name).suffix.lower()].append(name)
    for (_, end), names in folders.items():
        if end in _ANNOTATIONS and len(names) >= PARALLEL and all(Path(name).stem in stems for name in names):
            found.annotations.setdefault(_ANNOTATIONS[end], []).extend(names)
    told = {name for names in found.annotations.values() for name in names}
    found.others = [name for name in found.others if name not in told]


def place_findings(found: Places) -> Iterator[Finding]:
    """What of it a user should know."""
    told: list[_Told] = [
        ("special", "fault", "pipes, sockets or devices instead of files", found.special, "move them away."),
        ("links-outside", "doubt", "links that lead out of the folder", found.outside, "copy what they point to."),
        ("links-broken", "fault", "links that lead nowhere", found.broken, "mend or remove them."),
        ("unfinished", "fault", "left by uploads or downloads that broke off", found.unfinished, "fetch these again."),
        ("strays", "fault", "images outside the class folders, left out", found.strays, "put each into its folder."),
    ]
    for kind, names in found.unread.items():
        what = f"images of a kind that is not read ({kind}), left out"
        told.append(("unread", "fault", what, names, "save them as JPEG."))
    for kind, names in found.annotations.items():
        what = f"{kind} files that look like annotations of boxes or outlines"
        advice = "classification cannot use them: it takes one class for each image, by folder or table."
        told.append(("annotations", "doubt", what, names, advice))
    more: list[_Told] = [
        ("archives", "doubt", "archives", found.archives, "unpack them if their images belong to the data."),
        ("no-ending", "doubt", "files without an ending, not read", found.nameless, "if they are images, add .jpg."),
        (
            "links-inside",
            "doubt",
            "linked folders, which are not entered",
            found.linked,
            "copy what belongs to the data.",
        ),
        ("empty-folders", "doubt", "empty folders", found.empty, "remove them, or put their images there."),
        ("appledouble", "note", "written by a Mac beside the images themselves, passed over", found.double, ""),
        ("system", "note", "an operating system's own files and folders, passed over", found.system, ""),
        ("hidden", "note", "hidden files, passed over", found.hidden, ""),
        ("other-files", "note", "files not named as an image is, not read", found.others, ""),
    ]
    return (_listed_finding(*one) for one in told + more if one[3])


def _listed_finding(kind: str, grade: Grade, what: str, names: list[str], advice: str) -> Finding:
    return Finding(kind, grade, f"{what}: {len(names):,} ({some(names)}).", len(names), advice, first(names))
