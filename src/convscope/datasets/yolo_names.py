"""What the lists of YOLO's tools say: the names of the classes, and which folders hold which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading import read_regular_text
from ..visible import visible
from .box_files import BoxFiles

MAX_BYTES = 2**20
DEEPEST = 50  # lists in each other, which cost the square of their number
DATA = "data.yaml"
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # as its keys are
UNREADABLE = (OSError, ValueError, RecursionError, LookupError, AttributeError, TypeError, ArithmeticError)  # to PyYAML


def names_of(files: BoxFiles, texts: Sequence[Path]) -> tuple[dict[int, str], Path] | None:
    """The name of each class by its number, and the file that says so; None where nothing does.

    data.yaml or another YAML file with names, else _darknet.labels, classes.txt or obj.names, in the root or near
    the text files. DataError where they cannot be read, contradict each other, or name two classes alike.
    """
    told = [(_yaml_names(path, data), path) for path, data in _data_yamls(files, texts)]
    for names, path in told:
        if names != told[0][0]:
            raise DataError(f"{told[0][1]} and {path} name different classes: keep the one that is right.")
    if told:
        return _checked(told[0][1], told[0][0]), told[0][1]
    near = _near(files, texts)
    for kind in ("_darknet.labels", "classes.txt", "obj.names"):
        lists = [path for path in (*files.lists, *files.texts) if path.name == kind and path.parent in near]
        read = [_lines(path) for path in lists]
        if any(other != read[0] for other in read):
            other = next(path for path, names in zip(lists, read, strict=True) if names != read[0])
            raise DataError(f"{lists[0]} and {other} name different classes: keep the one that is right.")
        if read and read[0]:
            return _checked(lists[0], dict(enumerate(read[0]))), lists[0]
    return None


def parts_told(files: BoxFiles, texts: Sequence[Path]) -> tuple[dict[str, set[Path]], str] | None:
    """The images of each part as data.yaml lists them, where its folders lie inside the root; and that file's name."""
    held: dict[str, set[Path]] = {}
    images = {image.resolve(): image for image in files.images}
    said = _data_yamls(files, texts)
    for path, data in said:
        starts = (path.parent / str(data.get("path") or ""), path.parent, files.root)
        for key, part in PARTS.items():
            given = data.get(key)
            for one in given if isinstance(given, list) else [given]:
                if isinstance(one, str):
                    held.setdefault(part, set()).update(_images_at(images, files.root.resolve(), starts, one))
    held = {part: found for part, found in held.items() if found}
    return (held, said[0][0].name) if len(held) > 1 else None


def keypoints_told(files: BoxFiles, texts: Sequence[Path]) -> int:
    """How many numbers stand behind the box in a line, as kpt_shape in data.yaml has it: points times 2 or 3; else 0.

    A list that cannot be read says nothing here: `names_of` names it.
    """
    try:
        shapes = [data.get("kpt_shape") for _, data in _data_yamls(files, texts)]
    except DataError:
        return 0
    for shape in shapes:
        if isinstance(shape, list) and len(shape) == 2 and all(type(one) is int for one in shape):
            points, each = shape
            return points * each if points > 0 and each in (2, 3) else 0
    return 0


def _images_at(images: Mapping[Path, Path], root: Path, starts: Sequence[Path], told: str) -> set[Path]:
    """The images in a folder, or of a list, that data.yaml names; none where that is not inside the root.

    ``images`` are by their whole paths; the folder may count from any of ``starts``.
    """
    for start in starts:
        try:
            place = (start / told).resolve()
            if not place.is_relative_to(root) or not place.exists():
                continue
        except (OSError, ValueError):
            continue
        if place.is_dir():
            found = {image for whole, image in images.items() if whole.is_relative_to(place)}
        else:
            listed = {_whole(folder / line) for line in _lines(place) for folder in (place.parent, start)}
            found = {images[one] for one in listed if one in images}
        if found and len(found) < len(images):
            return found
    return set()


def _whole(path: Path) -> Path | None:
    """A path without links and dots; None of what is no path, as with a NUL in it."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None


def _near(files: BoxFiles, texts: Sequence[Path]) -> set[Path]:
    """The root, and the folders from those of the text files to two above: DATA/train/labels lies two below DATA."""
    folders = {text.parent for text in texts}
    return {near for one in folders for near in (one, *one.parents[:2]) if near.is_relative_to(files.root)} | {
        files.root
    }


def _data_yamls(files: BoxFiles, texts: Sequence[Path]) -> list[tuple[Path, dict[Any, Any]]]:
    """The YAML files with names, and what they say: the one in the root, else one of each folder near the texts.

    That is data.yaml, else the first with names.
    """
    near = _near(files, texts)
    found: dict[Path, tuple[Path, dict[Any, Any]]] = {}
    for path in sorted(files.yamls, key=lambda path: (path.name != DATA, path)):
        if path.parent in found or not (files.named or path.parent in near):
            continue
        try:
            data = read_yaml(path)
        except DataError:
            if path.name == DATA or files.named:
                raise
            continue
        if isinstance(data, dict) and "names" in data:
            found[path.parent] = (path, data)
            if path.parent == files.root:
                break
    return [found[files.root]] if files.root in found else list(found.values())


def names_in(path: Path) -> tuple[str, ...]:
    """The names of the classes in their order, as a YAML file of YOLO's tools has them. DataError without any."""
    data = read_yaml(path)
    if not isinstance(data, dict) or "names" not in data:
        raise DataError(f"{path} is no list of class names: it has no `names`, as a data.yaml has.")
    found = _checked(path, _yaml_names(path, data))
    if sorted(found) != list(range(len(found))):
        raise DataError(f"{path} names {len(found)} classes, and their numbers are not 0 to {len(found) - 1}.")
    return tuple(found[number] for number in range(len(found)))


def read_yaml(path: Path) -> Any:
    """What a small YAML file holds: plain values only, and none of them twice by a reference. DataError otherwise."""
    import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MB, as no list of classes is.")
        text = read_regular_text(path)
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{path} refers to its own parts (*name), which is not read: write them out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"its lists lie more than {DEEPEST} deep in each other")
        return yaml.safe_load(text)
    except (*UNREADABLE, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(f"{path} cannot be read as YAML: {reason}.") from None


def _yaml_names(path: Path, data: dict[Any, Any]) -> dict[int, str]:
    told = data["names"]
    rows = list(enumerate(told)) if isinstance(told, list) else list(told.items()) if isinstance(told, dict) else None
    if not rows:
        raise DataError(f"{path}: names is neither a list of classes nor one by their numbers.")
    found = {}
    for key, name in rows:
        if any(type(one) is int and abs(one) >= 2**63 for one in (key, name)):  # Python writes out no endless ones
            raise DataError(f"{path}: names holds a number beyond all classes: write names in quotes.")
        number = int(key) if isinstance(key, str) and key.isdecimal() else key
        if type(number) is not int or number < 0:
            raise DataError(f"{path}: names has the key {str(key)[:40]!r}, which is no number of a class.")
        if type(name) not in (str, int, float):
            raise DataError(f"{path}: the name of class {number} is {str(name)[:40]!r} to YAML: write it in quotes.")
        found[number] = str(name)
    return found


def _checked(path: Path, names: dict[int, str]) -> dict[int, str]:
    """Names as they are shown. DataError for an empty one, and for two that are alike."""
    shown = {number: visible(name.strip()) for number, name in names.items()}
    if not all(shown.values()):
        raise DataError(f"{path}: class {next(n for n, name in shown.items() if not name)} has no name.")
    if len(set(shown.values())) < len(shown):
        raise DataError(f"{path} names two classes alike; each needs its own name.")
    return shown


def _lines(path: Path) -> list[str]:
    """The lines of a short text, without the empty ones at its end."""
    try:
        if path.stat().st_size > MAX_BYTES * 100:
            raise DataError(f"{path} is larger than {MAX_BYTES * 100 >> 20} MB, as no list is.")
        return read_regular_text(path).rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
