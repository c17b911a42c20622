"""What the values in mask files mean: which stands for which class, and which for "nobody says".

Found out from the masks themselves and from a list of classes beside them. Index PNGs, palettes, 0 and 255, grey
JPEGs and colours come out as the same numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, ImageError
from ..images.decoding import stored_values
from ..images.file_names import is_image_name
from ..images.upright import TURNS
from .blurred_masks import NEAR, drawn_greys, flat_greys, is_blurred, nearest_level
from .packing import THREADS

VOID = 255  # in a target: this pixel has no class, and is neither trained on nor scored
MOST_CLASSES = 255
SAMPLED = 200  # masks that are looked at in one go, and by which a list of classes is compared with them
MOST_COLOURS = 64  # of masks without a list of classes
FEW = 0.2  # of such masks, at most, may have more: they are no masks of classes, beside others that are
VOID_NAMES = ("void", "unlabeled", "unlabelled", "ignore", "ignored", "unknown", "undefined", "dontcare", "don't care")
LISTS = ("classes.csv", "class_dict.csv", "labels.csv", "colormap.csv", "classes.txt", "labels.txt", "labelmap.txt")
COLOUR = 1 << 24  # a colour's code is this and its 24 bits; a grey's code is its value


@dataclass(frozen=True)
class Coding:
    """How the codes of pixels become classes: ``codes`` int64 (n,) in order, and ``classes`` uint8 (n,), with VOID."""

    names: tuple[str, ...]
    codes: np.ndarray
    classes: np.ndarray
    notes: tuple[str, ...] = ()

    def decode(self, codes_HW: np.ndarray, where: str) -> np.ndarray:
        """Classes uint8 (h, w) of pixel codes. DataError naming a code that no class has."""
        if codes_HW.dtype == np.uint8:
            return self._decode_greys(codes_HW, where)
        place = np.minimum(np.searchsorted(self.codes, codes_HW), len(self.codes) - 1)
        _refuse_strange(self.codes[place] != codes_HW, codes_HW, where)
        return self.classes[place]

    def _decode_greys(self, codes_HW: np.ndarray, where: str) -> np.ndarray:
        """The same by a table, of values that fit a byte: ten times as fast."""
        table, known = np.zeros(256, np.uint8), np.zeros(256, bool)
        grey = self.codes < 256
        table[self.codes[grey]], known[self.codes[grey]] = self.classes[grey], True
        if not known[values_of(codes_HW)].all():
            _refuse_strange(~known[codes_HW], codes_HW, where)
        return table[codes_HW]


def _refuse_strange(strange_HW: np.ndarray, codes_HW: np.ndarray, where: str) -> None:
    if strange_HW.any():
        told, share = _code_words(int(codes_HW[strange_HW][0])), 100 * float(strange_HW.mean())
        raise DataError(f"{where}: {told} stands for no class ({share:.2g} % of its pixels have none).")


def values_of(codes: np.ndarray) -> np.ndarray:
    """The different values, in order: of bytes by counting, which is faster than sorting."""
    if codes.dtype == np.uint8:
        return np.flatnonzero(np.bincount(codes.ravel(), minlength=256))
    return np.unique(codes)


def mask_codes(path: Path, turn: int = 1) -> np.ndarray:
    """The codes of a mask file's pixels (h, w), upright by its own EXIF orientation, or by ``turn``.

    uint8 where all of them are greys of 8 bits, else int64.
    Palette indices and grey values are codes as they are, in colours too. Raises ImageError.
    """
    header, image = stored_values(path, str(path))
    turned = TURNS.get(header.orientation if header.orientation != 1 else turn)
    if image.mode in ("RGBA", "LA", "PA", "CMYK", "YCbCr"):
        image = image.convert("RGB" if image.mode != "LA" else "L")
    if image.mode == "1":
        image = image.convert("L")
    if turned is not None:
        image = image.transpose(turned)
    values = np.asarray(image)
    if values.ndim == 2:
        return values if values.dtype == np.uint8 else values.astype(np.int64)
    values = values.astype(np.int64)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    return np.where((red == green) & (green == blue), red, COLOUR | red << 16 | green << 8 | blue)


def _values(path: Path) -> list[int]:
    """The values in a mask; none of one that cannot be read, which is told with its fellows once all are read."""
    try:
        return values_of(mask_codes(path)).tolist()
    except ImageError:
        return []


def find_coding(paths: Sequence[Path], folder: Path, strict: bool = True) -> Coding:
    """What the values of these masks mean; a list of classes is looked for in ``folder`` and beside the masks.

    DataError where they are no masks, or, if ``strict``, hold more classes than are named.
    """
    listed = read_class_list(folder, paths[0].parent)
    blurred = any(map(is_blurred, paths))
    greys = _all_greys(paths) if blurred else None
    if greys is not None:
        return _blurred(*greys, listed, paths[0])
    step = max(1, len(paths) // SAMPLED) if listed else 1  # else a class is known by being seen only
    found: set[int] = set()
    spared = 0.0 if listed or blurred or len(paths) < 3 else max(1.0, FEW * len(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), step * SAMPLED):
            chosen = paths[start : start + step * SAMPLED : step]
            for path, codes in zip(chosen, pool.map(_values, chosen), strict=True):
                if len(codes) > MOST_COLOURS and spared >= 1:
                    spared -= 1
                    continue  # no mask of classes, beside others that are: told with its fellows once all are read
                found |= set(codes)
                if blurred and len(found) > MOST_COLOURS:
                    told = "are JPEGs, whose colours are blurred: save the masks as PNG"
                    raise DataError(f"{path} and those beside it {told}.")
                if len(found) > 4096:
                    raise DataError(f"{path} has too many values to be a mask: {len(codes):,}.")
    if not found:
        raise DataError(f"{paths[0]} and those beside it cannot be read.")
    if listed and not strict:
        found &= {*listed.names, 255}
    return _by_list(found, listed, paths[0]) if listed else _by_values(found, paths[0])


# -------------------------------------------------------------------------------------------------- lists of classes


@dataclass(frozen=True)
class ClassList:
    """Names by the code of their pixels, from a file."""

    path: Path
    names: dict[int, str]


def read_class_list(*folders: Path) -> ClassList | None:
    """The list of classes in one of these folders: a CSV of name,r,g,b (or name,index), or a name a line from 0 on.

    A table of images is no such list.
    """
    for path in (folder / name for folder in folders for name in LISTS):
        if not path.is_file():
            continue
        try:
            lines = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
            rows = [[cell.strip() for cell in row] for row in lines if any(map(str.strip, row))]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
        if any(is_image_name(row[0]) for row in rows):
            continue
        names = _listed(path, rows)
        if len(names) > 1:
            return ClassList(path, names)
    return None


def _listed(path: Path, rows: list[list[str]]) -> dict[int, str]:
    first = 1
    if rows and all(len(row) == 1 for row in rows):
        rows = [[row[0], str(number)] for number, row in enumerate(rows)]
    elif rows and not _are_numbers(rows[0][1:]):
        rows, first = rows[1:], 2  # without its header
    names: dict[int, str] = {}
    for line, row in enumerate(rows, first):
        if len(row) not in (2, 4) or not _are_numbers(row[1:]):
            raise DataError(f"{path}, row {line}: {','.join(row)[:60]!r} is neither name,r,g,b nor name,index.")
        numbers = [int(cell) for cell in row[1:]]
        grey = len(set(numbers)) == 1
        code = numbers[0] if grey else COLOUR | numbers[0] << 16 | numbers[1] << 8 | numbers[2]
        if code in names:
            raise DataError(f"{path} gives {_code_words(code)} to two classes, {names[code]!r} and {row[0]!r}.")
        if row[0] in names.values() and not is_void(row[0]):
            raise DataError(f"{path} gives the name {row[0]!r} to two values; each class needs its own.")
        names[code] = row[0]
    return names


def is_void(name: str) -> bool:
    """Whether a class of that name is none."""
    return name.casefold() in VOID_NAMES


def _are_numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(cell.isdecimal() and len(cell) < 6 and int(cell) <= 255 for cell in cells)


# ---------------------------------------------------------------------------------------------- what values stand for


def _all_greys(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """The blocks of one grey and the pixels of each grey of all masks, int64 (256,) both; None if one has colours."""
    blocks, pixels = np.zeros(256, np.int64), np.zeros(256, np.int64)
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(_greys, paths):
            if found is None:
                return None
            blocks += found[0]
            pixels += found[1]
    if not pixels.any():
        raise DataError(f"{paths[0]} and those beside it cannot be read.")
    return blocks, pixels


def _greys(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Of one mask; of one that cannot be read nothing, which is told with its fellows once all are read."""
    try:
        codes = mask_codes(path)
    except ImageError:
        return np.zeros(256, np.int64), np.zeros(256, np.int64)
    if codes.max(initial=0) > 255:
        return None
    return flat_greys(codes), np.bincount(codes.ravel(), minlength=256)


def _blurred(blocks: np.ndarray, pixels: np.ndarray, listed: ClassList | None, example: Path) -> Coding:
    """Each grey of JPEGs is of the class whose own grey is nearest. DataError where greys do not stand apart."""
    levels = drawn_greys(blocks, pixels)
    if levels is None:
        raise DataError(
            f"{example} and those beside it are JPEGs, whose values are blurred, and their greys do not stand apart: "
            "save the masks as PNG."
        )
    stand = sorted(_as_listed(levels, listed)) if listed else levels
    coding = _by_list(set(stand), listed, example) if listed else _by_values(set(stand), example)
    classes = dict(zip(coding.codes.tolist(), coding.classes.tolist(), strict=True))
    own = np.array([classes[code] for code in stand], np.uint8)
    place = nearest_level(levels, VOID)
    table = np.where(place == VOID, np.uint8(VOID), own[np.minimum(place, len(own) - 1)])
    return Coding(coding.names, np.arange(256), table, notes=(_blurred_words(levels),))


def _as_listed(levels: list[int], listed: ClassList) -> set[int]:
    """The codes of a list that levels stand for: those near them, or, where it counts as many, these in order."""
    codes = sorted(code for code in listed.names if code < COLOUR)
    near = [min(codes, key=lambda code: abs(code - level), default=level) for level in levels]
    if all(abs(code - level) <= NEAR for code, level in zip(near, levels, strict=True)) and len(set(near)) == len(near):
        return set(near)
    return set(codes) if codes == list(range(len(levels))) else set(levels)


def _blurred_words(levels: list[int]) -> str:
    if len(levels) == 2:
        cut = (sum(levels) + 1) // 2
        return f"the masks are JPEGs, whose values are blurred: from {cut} on a pixel counts as the second class."
    told = ", ".join(map(str, levels))
    return (
        f"the masks are JPEGs, whose values are blurred: each pixel is of the nearest of {told}, or of none in the "
        "middle third between two; outlines between two of them may show one that lies between."
    )


def _by_list(found: set[int], listed: ClassList, example: Path) -> Coding:
    """The classes of a list, those called void none; a value of 255 that the list leaves out is void too.

    White is the second of two that the list counts.
    """
    codes = listed.names
    if set(codes) == {0, 1} and found == {0, 255}:  # black and white
        codes = {0: codes[0], 255: codes[1]}
    extra = {255} - codes.keys() if 255 in found else set()
    strange = sorted(found - codes.keys() - extra)
    if strange:
        told = ", ".join(map(_code_words, strange[:3]))
        raise DataError(f"the masks beside {example.name} hold {told}, and {listed.path.name} names no class for it.")
    voids = [code for code, name in codes.items() if is_void(name)]
    kept = [code for code in codes if code not in voids]
    return _coding(kept, [codes[code] for code in kept], [*voids, *extra])


def _by_values(found: set[int], example: Path) -> Coding:
    """Classes called by their values: two are background and foreground, 255 beside counted ones is void."""
    values = sorted(found)
    if len(values) > MOST_COLOURS:
        raise DataError(f"{example} and those beside it hold {len(values):,} values: too many for masks of classes.")
    if len(values) < 2:
        raise DataError(f"every mask beside {example.name} has one value only, {_code_words(values[0])}: no class.")
    rest = [value for value in values if value != 255]
    counted = max(rest) < max(2 * len(rest), 32)
    void = [255] if 255 in values and len(rest) > 1 and counted else []
    kept = [value for value in values if value not in void]
    if len(kept) == 2:
        return _coding(kept, ["background", "foreground"], void)
    names = [f"class {value}" if value < COLOUR else f"colour {_hex(value)}" for value in kept]
    return _coding(kept, names, void)


def _coding(kept: Sequence[int], names: Sequence[str], void: Sequence[int]) -> Coding:
    if len(kept) > MOST_CLASSES:
        raise DataError(f"{len(kept)} classes are more than a mask can hold: {MOST_CLASSES}.")
    classes = [*range(len(kept)), *([VOID] * len(void))]
    order = np.argsort([*kept, *void])
    return Coding(tuple(names), np.array([*kept, *void], np.int64)[order], np.array(classes, np.uint8)[order])


def _code_words(code: int) -> str:
    return f"the colour {_hex(code)}" if code >= COLOUR else f"the value {code}"


def _hex(code: int) -> str:
    return f"#{code & 0xFFFFFF:06x}"
