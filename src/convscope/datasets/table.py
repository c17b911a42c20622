"""A table of images: a path and a label a line, as names or class indices, and if wanted a part and a group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..images.file_names import EXTENSIONS, HEIC_EXTENSIONS
from ..recipes import Source
from .folder import IMAGE_SIZE, Need, one_or_two
from .part_names import plain_part
from .patterns import groups_of_paths, labels_of_paths
from .renamed import renamed
from .table_reading import Table, needs, read_table
from .unsplit import Unsplit, alike

MAX_CLASSES = 100_000
SHOWN = 20  # missing files that are named
TABLES = (".csv", ".tsv", ".txt", ".tab")


def load_table(path: Path, need: Need = "training", source: Source | None = None, skip: bool = False) -> Unsplit:
    """The images a table names, paths relative to the table's folder or to the folder ``images`` of ``source``.

    With ``class_index`` the names are the lines of ``classes.txt`` beside the table where it exists, else the numbers;
    a name that stands there twice gets its number behind it. Lines without a label are left out and counted. Raises
    DataError naming the line that does not fit, or all files that are missing, unless these are to be ``skip``ped.
    """
    return images_of_table(read_table(path), need, source or Source(), skip)


def images_of_table(table: Table, need: Need, source: Source, skip: bool = False) -> Unsplit:
    """The images that a table names; it may have been read from anywhere."""
    path = table.path
    if not table.rows:
        raise DataError(f"{path} holds no image.")
    where = table.find("path", source.path_column)
    what = None if source.label_from else table.find("label", source.label_column)
    index = None if what or source.label_from else table.find("class_index", None)
    missing = {} if where else {"path": "--path-column"}
    missing |= {} if what or index or source.label_from or need == "images" else {"label": "--label-column"}
    if where is None or missing:
        raise needs(path, table.header, missing)
    table, notes = _labelled(table, where, what or index)
    files = table_files(table, where, source, skip)
    names, labels, more = _classes(table, what, index, source, files)
    unsplit = Unsplit(
        name=path.stem,
        class_names=names,
        labels=np.array(labels, np.int64),
        given=table_parts(table),
        image_size=IMAGE_SIZE,
        files=files,
        root=path.parent,
        notes=(*table.notes, *notes, *more),
        groups=table_groups(table, files, source),
    )
    unsplit = renamed(unsplit, source.renamed)
    names = unsplit.class_names
    if len(names) < 2 and need == "training":
        raise DataError(f"{path} names one class, {names[0]!r}; a classifier needs two or more.")
    return replace(unsplit, notes=(*unsplit.notes, *map(one_or_two, alike(names))))


def _labelled(table: Table, where: str, what: str | None) -> tuple[Table, list[str]]:
    """The lines that have a label, and a note of the others; a line without a path is an error."""
    for line, cell in zip(table.lines, table.column(where), strict=True):
        if not cell:
            raise DataError(f"{table.path}, line {line}: {where} is empty.")
    if what is None:
        return table, []
    kept = [i for i, cell in enumerate(table.column(what)) if cell]
    left_out = len(table.rows) - len(kept)
    if not left_out:
        return table, []
    if not kept:
        raise DataError(f"{table.path}: the column {what} is empty on every line.")
    first = next(line for line, cell in zip(table.lines, table.column(what), strict=True) if not cell)
    lines = "line has" if left_out == 1 else "lines have"
    note = f"{left_out:,} {lines} no label and {'is' if left_out == 1 else 'are'} left out (the first: line {first})."
    rows, numbers = [table.rows[i] for i in kept], [table.lines[i] for i in kept]
    return Table(table.path, table.header, rows, numbers, table.notes), [note]


def _classes(
    table: Table, what: str | None, index: str | None, source: Source, files: Sequence[Path]
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """The names of the classes, the number of each image's class, and notes."""
    if index is not None:
        cells = zip(table.lines, table.column(index), strict=True)
        labels = [_index(table.path, line, cell) for line, cell in cells]
        names, notes = indexed_names(table.path, labels)
        return names, labels, notes
    if source.label_from is not None:
        raw = labels_of_paths([p.as_posix() for p in files], source.label_from)
    else:
        raw = table.column(what) if what is not None else [table.path.stem] * len(table.rows)
    names = tuple(sorted(set(raw)))
    number = {name: i for i, name in enumerate(names)}
    return names, [number[text] for text in raw], _commas(names) if what is not None else ()


def _commas(names: Sequence[str]) -> tuple[str, ...]:
    """A note of names that may be lists of labels; none where no name has a comma."""
    found = [name for name in names if "," in name]
    if not found:
        return ()
    many = (
        "1 class has a comma in its name" if len(found) == 1 else f"{len(found):,} classes have a comma in their names"
    )
    return (f"{many} ({found[0]!r}): if these are several labels of an image, write | or ; between them.",)


def table_groups(table: Table, files: Sequence[Path], source: Source) -> np.ndarray | None:
    """What stays on one side: a column of that name, or what a pattern finds in the paths."""
    if source.group is None:
        return None
    plain = re.fullmatch(r"[\w\s-]+", source.group) is not None  # a column's name, and no pattern
    if plain or source.group in table.header:
        column = table.find("group", source.group)
        assert column is not None  # else it was refused
        return np.array(table.column(column))
    return groups_of_paths([path.as_posix() for path in files], source.group)


# --------------------------------------------------------------------------------------------------------- the files


def table_files(table: Table, where: str, source: Source, skip: bool) -> tuple[Path, ...]:
    """The file of each line; DataError naming those that are missing."""
    base = table.path.parent if source.images is None else Path(source.images).expanduser()
    if not base.is_dir():
        raise DataError(f"{base}, the folder of images, does not exist.")
    found = [_file(base, cell, source.suffix) for cell in table.column(where)]
    names: dict[Path, list[str]] = {}
    found = [path or _ends_in_blanks(base, cell, names) for path, cell in zip(found, table.column(where), strict=True)]
    missing = [
        (line, cell) for line, cell, path in zip(table.lines, table.column(where), found, strict=True) if not path
    ]
    if missing and not skip:
        told = ", ".join(f"{cell} (line {line})" for line, cell in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        hint = "" if source.images else " If the images lie elsewhere, name their folder with --images."
        verb = "is" if len(missing) == 1 else "are"
        raise DataError(f"{len(missing):,} of {len(found):,} files {verb} missing in {base}: {told}{more}.{hint}")
    return tuple(path or base / cell for path, cell in zip(found, table.column(where), strict=True))


def _file(base: Path, cell: str, suffix: str | None) -> Path | None:
    """The file that a cell names: as it stands, with the suffix, with an image's ending, or by a foreign path's end."""
    for name in _spellings(cell):
        path = base / name
        if suffix is not None:
            ended = path.with_name(path.name + (suffix if suffix.startswith(".") else f".{suffix}"))
            if _is_there(ended):
                return ended
        if _is_there(path):
            return path
        if path.suffix.lower() not in EXTENSIONS | HEIC_EXTENSIONS:
            known = sorted(EXTENSIONS | HEIC_EXTENSIONS)
            ends = [*known, *(end.upper() for end in known)]
            ended_paths = (path.with_name(path.name + end) for end in ends)
            existing = next(filter(_is_there, ended_paths), None)
            if existing is not None:
                return existing
    return None


def _ends_in_blanks(base: Path, cell: str, names: dict[Path, list[str]]) -> Path | None:
    """The one file that a cell names but for blanks around it, which reading a table takes off.

    ``names`` holds what lies in the folders that were looked into before.
    """
    place = base
    for part in cell.split("/"):
        if not (place / part).exists():
            if place not in names:
                names[place] = [entry.name for entry in place.iterdir()] if place.is_dir() else []
            alike = [name for name in names[place] if name.strip() == part.strip()]
            if len(alike) != 1:
                return None
            part = alike[0]
        place = place / part
    return place if _is_there(place) else None


def _is_there(path: Path) -> bool:
    """Whether anything but a folder has that path; False for one that cannot be one."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _spellings(cell: str) -> list[str]:
    """A path as it stands; with the slashes of Windows turned; and, of one from another machine, ever shorter ends."""
    turned = cell.replace("\\", "/")
    spelled = [cell] if turned == cell else [cell, turned]
    foreign = re.match(r"[A-Za-z]:/", turned) or turned.startswith("/")
    parts = re.sub(r"^[A-Za-z]:", "", turned).strip("/").split("/")
    return spelled + ["/".join(parts[i:]) for i in range(len(parts))] if foreign else spelled


# ---------------------------------------------------------------------------------------------------- classes, parts


def _index(path: Path, line: int, text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(MAX_CLASSES)) or int(text) >= MAX_CLASSES:
        raise DataError(f"{path}, line {line}: class_index {text[:40]!r} is not a number from 0 to {MAX_CLASSES - 1}.")
    return int(text)


def indexed_names(path: Path, labels: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes by their index, and notes."""
    beside = path.with_name("classes.txt")
    if not beside.is_file():
        if len(set(labels)) < 2:
            return (str(labels[0]),), ()
        return tuple(str(i) for i in range(max(labels) + 1)), ()
    try:
        text = beside.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{beside} cannot be read: {error}.") from None
    names = tuple(line.strip() for line in text.rstrip().split("\n"))  # not splitlines, which knows nine more line ends
    if "" in names:
        raise DataError(f"{beside}, line {names.index('') + 1}: a class without a name.")
    if len(names) <= max(labels):
        raise DataError(f"{beside} gives {len(names)} names, and {path.name} asks for class {max(labels)}, from 0.")
    apart = told_apart(names)
    shown = ", ".join(repr(name) for name in apart if name not in names)
    if len(set(apart)) < len(names):
        twice = min(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{beside} gives the name {twice!r} to several classes; each needs its own.")
    if apart == names:
        return names, ()
    return apart, (f"{beside.name} names several classes alike; they are told apart by their numbers: {shown}.",)


def told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes, those that stand there twice with their number behind."""
    count = Counter(names)
    return tuple(f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(names))


def table_parts(table: Table) -> np.ndarray:
    """The part that each line gives its image, str (N,); "" where it gives none."""
    part = _part_column(table)
    cells = zip(table.lines, table.column(part), strict=True) if part else ()
    given = [_part(table.path, line, cell) for line, cell in cells]
    return np.array(given or [""] * len(table.rows), "U5")


def _part_column(table: Table) -> str | None:
    """The column that says each image's part: one called split, or one like it that says nothing else."""
    found = table.find("split", None)
    if found is None or found.casefold() == "split":
        return found
    return found if all(plain_part(cell) for cell in table.column(found) if cell) else None


def _part(path: Path, line: int, cell: str) -> str:
    part = plain_part(cell)
    if cell and part is None:
        raise DataError(f"{path}, line {line}: split {cell!r} is none of train, val and test.")
    return part or ""
