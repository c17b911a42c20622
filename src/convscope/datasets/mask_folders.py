"""Which images have a mask, found out from the folders themselves, whatever these are called.

Two folders belong together if their files have the same names and those of one are of few values; or one folder holds
both, and what is added to a name tells them apart; or a COCO file beside the images outlines their objects.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DamagedFile, DataError, ImageError
from ..images.decoding import read_header, stored_values
from ..images.file_names import is_image_name
from ..reading import read_regular_text
from .coco_files import MAX_BYTES, OUTLINED, counted_images, named_image, not_there
from .folder import hidden_name
from .part_names import plain_part
from .polygons import Outlines, read_coco

LOOKED_AT = 5  # files of a folder by which it is told whether they are masks
FEW = 64  # values of a mask
MOST = 0.8  # of a folder's masks that must have an image of their name
MOST_FOLDERS = 60  # with images, of data that are looked through for masks: classes may be a thousand
CLASSES = 3  # so many folders that belong to one of masks equally well are classes, as this is then
SHOWN = 5
ADDED = re.compile(
    r"[\s_.-]+(masks?|gt|labels?|seg(mentation)?s?|anno(t|tation)?s?|matte|alpha|l|p|ground[\s_-]?truth|instances?)"
    r"([\s_.-]*\d{1,3})?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Pairing:
    """Images with their masks: ``pairs`` of paths, and what was taken for what, in words."""

    pairs: tuple[tuple[Path, Path | Outlines], ...]
    told: str
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the classes of outlines
    without_mask: tuple[Path, ...] = ()  # images that lie among those that have one
    without_image: tuple[Path, ...] = ()  # masks whose image is not there


def bare(stem: str) -> str:
    """A file's name without what is added to it for a mask: "cat_12_mask" and "cat_12" are one."""
    return ADDED.sub("", stem).casefold() or stem.casefold()


def find_pairing(root: Path, masks: Path | None = None) -> Pairing | None:
    """The images under ``root`` and their masks, those in ``masks`` (a folder, or a COCO file) if one is named.

    None where nothing there looks like it. DataError where the named place has none.
    """
    if masks is not None and masks.is_file():
        return _outlined(root, masks)
    if masks is not None and not masks.is_dir():
        raise DataError(f"{masks}, the masks, does not exist.")
    found = _files(root)
    if masks is not None:
        return _with_folder(root, found, masks)
    told = [p for p in sorted(root.glob("*.json")) + sorted(root.glob("annotations/*.json")) if _is_coco(p)]
    if told:
        return _outlined(root, *told)
    return _sibling_folders(root, found) or _within_folders(root, found)


# ------------------------------------------------------------------------------------------------------ finding pairs


def _files(root: Path) -> Mapping[Path, Mapping[str, Path]]:
    """The images in each folder under ``root``, itself too, by their names without the ending."""
    found: dict[Path, Mapping[str, Path]] = {}
    places = []
    for place, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not hidden_name(name))
        if any(is_image_name(n) and not hidden_name(n) for n in names):
            places.append(Path(place))
            if len(places) <= MOST_FOLDERS:
                found[places[-1]] = _by_stem(places[-1], names)
    return found if len(places) <= MOST_FOLDERS else _ManyFolders(places)


def _by_stem(folder: Path, names: Iterable[str]) -> Mapping[str, Path]:
    images = sorted(name for name in names if is_image_name(name) and not hidden_name(name))
    return _ByStem(folder, {os.path.splitext(name)[0]: name for name in images})


class _ByStem(Mapping[str, Path]):
    """The images in a folder by their names without the ending; a path is made when it is asked for."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        self._folder, self._names = folder, names

    def __getitem__(self, stem: str) -> Path:
        return self._folder / self._names[stem]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _ManyFolders(Mapping[Path, Mapping[str, Path]]):
    """The images in each of very many folders, listed anew whenever one is asked for, and kept nowhere."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = dict.fromkeys(folders)

    def __getitem__(self, folder: Path) -> Mapping[str, Path]:
        return _by_stem(folder, os.listdir(folder))

    def __iter__(self) -> Iterator[Path]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


def looks_like_masks(files: list[Path]) -> bool:
    """Whether a few of these files, taken evenly, are of the same few values, or of two with what a JPEG blurs between.

    A drawing with soft edges may have few values too, but another one has others. A third may be damaged, or
    resampled: these are named when the masks are read.
    """
    chosen = files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]
    found = [values for path in chosen if (values := _few_values(path)) is not None]
    bad = len(chosen) - len(found)
    return len(found) > 2 * bad and len(set().union(*found)) <= FEW


def _few_values(path: Path) -> set[tuple[int, ...]] | None:
    """The values of what may be a mask; none of a JPEG of two, and None of what is no mask."""
    try:
        header = read_header(path)
        _, image = stored_values(path)
    except ImageError:
        return None
    values = np.asarray(image)
    if header.format in ("JPEG", "WEBP"):
        step = max(1, math.isqrt(values.shape[0] * values.shape[1] // 1_000_000))
        values, grey = values[::step, ::step], np.asarray(image.convert("L"))[::step, ::step]
        colourless = values.ndim == 2 or float(np.ptp(values.astype(np.int16), axis=2).mean()) < 3.0
        return set() if colourless and float(((grey < 24) | (grey > 231)).mean()) >= 0.97 else None
    flat = values.reshape(-1, values.shape[2]) if values.ndim == 3 else values.reshape(-1, 1)
    found = np.unique(flat[:: max(1, len(flat) // 200_000)], axis=0)
    return set(map(tuple, found.tolist())) if len(found) <= FEW else None


def _sibling_folders(root: Path, found: Mapping[Path, Mapping[str, Path]]) -> Pairing | None:
    """Folders of masks, each with the folder that has its files' names and is nearest by its own name."""
    if len(found) > MOST_FOLDERS:
        return None
    stems = {folder: {bare(stem) for stem in files} for folder, files in found.items()}
    masked = {f for f in _named_alike(stems) if f != root and looks_like_masks(list(found[f].values()))}
    pairs: list[tuple[Path, Path]] = []
    told, notes = [], []
    alone: list[Alone] = []
    for folder in sorted(masked):
        theirs = {bare(stem): path for stem, path in found[folder].items()}
        near = {
            other: (len(theirs.keys() & stems[other]), _nearness(folder, other))
            for other in found
            if other not in masked
        }
        best = max(near, key=lambda other: near[other], default=None)
        if best is None or list(near.values()).count(near[best]) >= CLASSES:
            continue
        mine = {bare(stem): path for stem, path in found[best].items()}
        shared = sorted(theirs.keys() & mine.keys())
        if len(shared) < MOST * len(theirs):
            continue
        pairs += [(mine[name], theirs[name]) for name in shared]
        told.append(f"{_name(folder, root)!r} is taken for the masks of {_name(best, root)!r}")
        notes += _lonely(mine, theirs, _name(best, root), _name(folder, root))
        alone.append(_alone(mine, theirs))
    if len({image for image, _ in pairs}) < max(1, len(pairs)):  # none, or two folders for one: those are classes
        return None
    return _paired(pairs, f"{'; '.join(told)}: {len(pairs):,} pairs", notes, alone)


def _named_alike(stems: Mapping[Path, set[str]]) -> list[Path]:
    """The folders whose files have the names of another's: the only ones that are opened."""
    return [
        one for one, mine in stems.items()
        if any(len(mine & theirs) >= MOST * len(mine) for other, theirs in stems.items() if other != one)
    ]  # fmt: skip


def _nearness(folder: Path, other: Path) -> tuple[int, int]:
    """How near two folders stand: what their paths share, and whether one's name begins with the other's."""
    common = len(Path(os.path.commonpath([folder, other])).parts)
    parts = {plain_part(name) or "" for name in folder.parts} & {plain_part(name) or "" for name in other.parts}
    begins = folder.name.casefold().startswith(other.name.casefold())
    return 2 * begins + len(parts - {""}), common


def _within_folders(root: Path, found: Mapping[Path, Mapping[str, Path]]) -> Pairing | None:
    """Images and masks in the same folder, told apart by what is added to a name."""
    pairs: list[tuple[Path, Path]] = []
    notes: list[str] = []
    alone: list[Alone] = []
    for folder, files in found.items():
        if not any(map(ADDED.search, files)):
            continue
        groups: dict[str, dict[bool, Path]] = defaultdict(dict)
        for stem, path in files.items():
            groups[bare(stem)][bare(stem) != stem.casefold()] = path
        here = [(pair[False], pair[True]) for pair in groups.values() if len(pair) == 2]
        if len(here) >= MOST * sum(True in pair for pair in groups.values()) and looks_like_masks([m for _, m in here]):
            pairs += here
            mine, theirs = ({name: pair[k] for name, pair in groups.items() if k in pair} for k in (False, True))
            notes += _lonely(mine, theirs, *2 * (_name(folder, root),)) if here else ()
            alone += [_alone(mine, theirs)] if here else []
    if not pairs:
        return None
    example = pairs[0][1].name
    return _paired(pairs, f"files such as {example!r} are taken for masks: {len(pairs):,} pairs", notes, alone)


def _with_folder(root: Path, found: Mapping[Path, Mapping[str, Path]], masks: Path) -> Pairing:
    """The images under ``root`` with the masks of their names in the folder that was named."""
    inside = masks.resolve()
    drawn = [path for files in _files(masks).values() for path in files.values()]
    taken = {path.resolve() for path in drawn}
    images = [
        path
        for folder, files in found.items()
        if not folder.resolve().is_relative_to(inside)
        for path in files.values()
        if path.resolve() not in taken
    ]
    names = [bare(path.stem) for path in drawn]
    by_part = len(set(names)) < len(names)  # one mask a name is that of one image, in whatever folder
    theirs, mine = _by_name(drawn, masks, by_part), _by_name(images, root, by_part)
    shared = sorted(theirs.keys() & mine.keys())
    if not shared:
        raise DataError(f"no file in {masks} has the name of an image in {root}.")
    notes = _lonely(mine, theirs, str(root), str(masks))
    told = f"{masks} is taken for the masks of {root}: {len(shared):,} pairs"
    return _paired([(mine[name], theirs[name]) for name in shared], told, notes, [_alone(mine, theirs)])


def _by_name(paths: list[Path], base: Path, by_part: bool) -> dict[str, Path]:
    """Files by their bare name, and by the part that a folder names. DataError where that is no one file."""
    found: dict[str, Path] = {}
    for path in paths:
        folders = path.relative_to(base).parts[:-1] if by_part else ()
        part = next(filter(None, map(plain_part, folders)), "")
        name = f"{part}/{bare(path.stem)}" if part else bare(path.stem)
        if name in found:
            told = f"{found[name]} and {path} have one name, so nothing tells which mask is whose"
            raise DataError(f"{told}: name one folder of images.")
        found[name] = path
    return found


Alone = tuple[list[Path], list[Path]]  # images without a mask, masks without an image


def _alone(mine: Mapping[str, Path], theirs: Mapping[str, Path]) -> Alone:
    images, masks = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
    return [mine[name] for name in images], [theirs[name] for name in masks]


def _paired(pairs: list[tuple[Path, Path]], told: str, notes: Iterable[str], alone: list[Alone]) -> Pairing:
    images, masks = ([path for both in alone for path in both[k]] for k in (0, 1))
    return Pairing(tuple(pairs), told, tuple(notes), without_mask=tuple(images), without_image=tuple(masks))


def _lonely(mine: Mapping[str, Path], theirs: Mapping[str, Path], images: str, masks: str) -> Iterator[str]:
    """Sentences about images without a mask, and masks without an image."""
    for lacking, what, where in (
        (sorted(mine.keys() - theirs.keys()), "without a mask", images),
        (sorted(theirs.keys() - mine.keys()), "without an image", masks),
    ):
        if lacking:
            names = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            kind = "image" if what == "without a mask" else "mask"
            many = f"1 {kind} of {where!r} is" if len(lacking) == 1 else f"{len(lacking):,} {kind}s of {where!r} are"
            yield f"{many} {what} and left out: {names}."


def _name(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)


# ----------------------------------------------------------------------------------------------------------- outlines


def _is_coco(path: Path) -> bool:
    """Whether a JSON file holds images, annotations and categories, and outlines among them: not boxes alone."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return False
        text = read_regular_text(path, "replace")
    except (OSError, DamagedFile):
        return False
    if not all(f'"{key}"' in text for key in ("images", "annotations", "categories")) or not OUTLINED.search(text):
        return False
    try:
        return any(
            one.objects and any(o.polygons or o.runs for o in one.objects) for one in read_coco(path)[1].values()
        )
    except DataError:
        return True  # it is meant as one: what is wrong is told when it is read


def _outlined(root: Path, *paths: Path) -> Pairing:
    """The images of COCO files, found by their names under ``root``. DataError where that is no one image or class."""
    told = [read_coco(path) for path in paths]
    names = told[0][0]
    where = " and ".join(path.name for path in paths)
    if any(other != names for other, _ in told):
        raise DataError(f"{where} outline different classes: say with --masks which file is meant.")
    files: dict[str, list[Path]] = defaultdict(list)
    every = [path for folder in _files(root).values() for path in folder.values()]
    for path in every:
        files[path.name].append(path)
    pairs: dict[Path, Outlines] = {}
    count = sum(len(outlines) for _, outlines in told)
    for name, one in sorted((pair for _, outlines in told for pair in outlines.items()), key=lambda pair: pair[0]):
        image = named_image(name, files[Path(name).name], where)
        if image in pairs:
            raise DataError(f"{where} outline {image} twice: say with --masks which file is meant.")
        if image is not None:
            pairs[image] = one
    if not pairs:
        raise DataError(f"{where} names {counted_images(count)}, and none of them is in {root}.")
    notes = not_there(count - len(pairs), where)
    told_of = f"{where} is taken for outlines of {counted_images(len(pairs))}"
    return Pairing(tuple(pairs.items()), told_of, notes, names, tuple(path for path in every if path not in pairs))
