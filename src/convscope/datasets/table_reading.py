"""Tables as people write them: commas, semicolons, tabs or blanks; with a header or none; in UTF-8, UTF-16 or Latin-1.

A table of images is a small thing: it is read whole, and each of its lines is checked before an image is opened.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, nearest
from ..images.file_names import EXTENSIONS, HEIC_EXTENSIONS
from ..reading import read_regular
from ..visible import of_cell

MAX_BYTES = 2**31
LOOKED_AT = 50  # lines by which the sign between cells is told
# Names of columns, as people give them, by what they hold; the first of a row is ours.
NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
        "imagename", "image_name", "image_file", "image_id", "img_id", "id", "relpath", "fname", "picture", "photo",
    ),
    "label": (
        "label", "labels", "class", "classname", "class_name", "category", "target", "species", "breed", "diagnosis",
        "tag", "name", "y",
    ),
    "class_index": ("class_index", "label_index", "class_id", "label_id", "category_id"),
    "split": ("split", "part", "set", "subset", "partition", "fold_name", "phase"),
}  # fmt: skip
_LOOKS_LIKE_PATH = re.compile(
    r"\.(" + "|".join(sorted(e[1:] for e in EXTENSIONS | HEIC_EXTENSIONS)) + r")$", re.IGNORECASE
)


@dataclass(frozen=True)
class Table:
    """The cells of a table, blanks around them taken off: ``header`` names the columns, "1", "2" where there was none.

    ``lines`` says where each row stands in the file, and ``notes`` what a user should know of how it was read.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    lines: list[int]
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def find(self, kind: str, asked: str | None) -> str | None:
        """The column that holds the path, label, class_index or split; DataError where that cannot be told."""
        if asked is not None:
            return self._asked(kind, asked)
        if self.header[0] == "1":
            return self._by_content(kind)
        folded = {_folded(name): name for name in self.header}
        known = [folded[name] for name in map(_folded, NAMES[kind]) if name in folded]
        return known[0] if known else None

    def _asked(self, kind: str, asked: str) -> str:
        if asked in self.header:
            return asked
        alike = [name for name in self.header if _folded(name) == _folded(asked)]
        if len(alike) == 1:
            return alike[0]
        near = nearest(asked, self.header, 1)
        offer = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{self.path} has no column {asked!r} for the {kind}.{offer} It has: {', '.join(self.header)}.")

    def _by_content(self, kind: str) -> str | None:
        """Of a table without a header: the first column of paths, and beside it the one of labels."""
        paths = [name for name in self.header if _mostly_paths(self.column(name))]
        rest = [name for name in self.header if name not in paths]
        if kind == "path":
            return paths[0] if paths else self.header[0] if len(self.header) == 2 else None
        if kind == "label":
            return rest[0] if paths and len(rest) == 1 else self.header[1] if len(self.header) == 2 else None
        return None


def _folded(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name).casefold()


def _mostly_paths(cells: Sequence[str]) -> bool:
    some = cells[:LOOKED_AT]
    return sum(bool(_LOOKS_LIKE_PATH.search(cell)) for cell in some) > len(some) / 2


def read_table(path: Path, blanks: bool = False) -> Table:
    """Read a table from a text file; ``blanks`` around cells may be kept. DataError naming the line that does not fit.

    Empty columns at the end, as spreadsheets leave them, are none.
    """
    text, notes = _text(path)
    sign = _sign(text)
    read = list(_cells(path, text, sign, blanks=blanks))
    width = max((i for _, cells in read for i, cell in enumerate(cells, 1) if cell.strip()), default=0)
    if not width:
        raise DataError(f"{path} is empty: its first line should name the columns.")
    header = _header(path, [of_cell(cell.strip()) for cell in read[0][1][:width]])
    if header[0] == "1":
        notes = (*notes, f"{path.name} has no header: its columns are taken by what they hold.")
    else:
        del read[0]
    for line, cells in read:
        if len(cells[:width]) != len(header):
            told = "1 column" if len(header) == 1 else f"{len(header)} columns"
            raise DataError(
                f"{path}, line {line}: {len(cells)} cells under {told}; a {_WORDS[sign]} within one needs quotes."
            )
    rows = [tuple(map(of_cell, cells[:width])) for _, cells in read]
    return Table(path, header, rows, [line for line, _ in read], notes)


_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}


def _text(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a file in whatever usual encoding it has, and a note where it had to be guessed."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 30} GB, and no table of images.")
        raw = read_regular(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read as a table: {error.strerror or error}.") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return _without_sign(raw.decode("utf-16")), ()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} cannot be read as a table: {error}.") from None
    if b"\0" in raw[:4096]:
        raise DataError(f"{path} cannot be read as a table: it is no text.")
    try:
        return _without_sign(raw.decode("utf-8-sig")), ()
    except UnicodeDecodeError:
        told = f"{path.name} is no UTF-8: it is read as Latin-1 (Windows-1252)."
        return _without_sign(raw.decode("cp1252", errors="replace")), (told,)


def _without_sign(text: str) -> str:
    """The text with its first line empty where a spreadsheet wrote the sign between cells there: "sep=;"."""
    return re.sub(r"\A(\s*)sep=.(?=[ \t]*[\r\n])", r"\1", text)


def _sign(text: str) -> str:
    """The sign between cells: the one that cuts most of the first lines into equally many, two or more."""
    sample = [line for line in text.splitlines()[: 4 * LOOKED_AT] if line.strip()][:LOOKED_AT]
    best, found = 0.0, ","
    for sign in (",", ";", "\t", "|", " "):
        counts = Counter(len(cells) for _, cells in _cells(Path(), "\n".join(sample), sign, strict=False))
        width, lines = counts.most_common(1)[0] if counts else (1, 0)
        first = next((len(cells) for _, cells in _cells(Path(), sample[0], sign, strict=False)), 1) if sample else 1
        score = lines / len(sample) if width > 1 and first == width else 0.0
        if score > best + 1e-9:
            best, found = score, sign
    return found


def _cells(
    path: Path, text: str, sign: str, strict: bool = True, blanks: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The line each row ends on, and its cells; lines without any are no rows."""
    if sign == " ":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _between_blanks(line)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=strict, skipinitialspace=not blanks)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, cells if blanks else stripped
    except csv.Error as error:
        if strict:
            raise DataError(f"{path}, line {reader.line_num}: {error}.") from None


def _between_blanks(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


def _header(path: Path, cells: list[str]) -> tuple[str, ...]:
    """The names of the columns; numbers where the first line is one of an image already."""
    if any(_LOOKS_LIKE_PATH.search(cell) for cell in cells):
        return tuple(str(i + 1) for i in range(len(cells)))
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise DataError(f"{path} has two columns named {twice[0]!r}; rename one.")
    return tuple(cells)


def needs(path: Path, header: Sequence[str], missing: Mapping[str, str]) -> DataError:
    """The error for a table without a column that is needed."""
    told = " and ".join(f"{kind} (say which with {option})" for kind, option in missing.items())
    return DataError(
        f"{path} needs the columns path and label (or class_index); no {told}. It has: {', '.join(header)}."
    )
