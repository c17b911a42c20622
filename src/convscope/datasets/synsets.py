"""ImageNet as it is handed out: folders called by WordNet's numbers, validation images in one folder with a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DamagedFile, DataError
from ..reading import parse_bounded, read_regular_text

SYNSET = re.compile(r"n\d{8}")
IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
SOLUTION = "LOC_val_solution.csv"
KIT = TRUTH, NUMBERS = "ILSVRC2012_validation_ground_truth.txt", "map_clsloc.txt"  # of the development kit
NAMES = ("LOC_synset_mapping.txt", "synset_words.txt", "imagenet_class_index.json")
ABOVE = 3  # folders above the images that such a file may lie in


def beside(folder: Path, name: str) -> Path | None:
    """A file of that name in a folder, or in one of those above it."""
    whole = folder.absolute()
    places = (place / name for place in (whole, *whole.parents[:ABOVE]))
    return next((path for path in places if path.is_file()), None)


def validation_labels(folder: Path, names: Sequence[str]) -> list[str] | None:
    """The class of each file of ImageNet's validation, as WordNet's number; None where the files are none, or no table
    lies beside them. DataError for a table that does not name each of them."""
    if not names or not all(map(IMAGE.fullmatch, names)):
        return None
    path = beside(folder, SOLUTION)
    if path is not None:
        told = _solution(path)
    else:
        path, numbers = beside(folder, TRUTH), beside(folder, NUMBERS)
        if path is None:
            return None
        if numbers is None:
            raise DataError(f"{path} counts classes in an order of its own: lay {NUMBERS} of the same kit beside it.")
        told = _truth(path, numbers)
    found = [told.get(Path(name).stem, "") for name in names]
    if "" in found:
        first = names[found.index("")]
        raise DataError(f"{path} names no class for {found.count('')} of {len(names)} images (the first: {first}).")
    return found


def _solution(path: Path) -> dict[str, str]:
    rows = list(csv.reader(_text(path).splitlines()))[1:]
    told = {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}
    for image, synset in told.items():
        if not SYNSET.fullmatch(synset):
            raise DataError(f"{path}: {synset[:40]!r}, the class of {image[:40]}, is no number of WordNet's.")
    return told


def _truth(path: Path, numbers: Path) -> dict[str, str]:
    """By the number of each line, and the synset that has this number."""
    synsets = {words[1]: words[0] for words in map(str.split, _text(numbers).splitlines()) if len(words) >= 2}
    told = {}
    for line, text in enumerate(_text(path).splitlines(), 1):
        synset = synsets.get(text.strip(), "")
        if not SYNSET.fullmatch(synset):
            raise DataError(f"{path}, line {line}: {text.strip()[:40]!r} is no class of {numbers}.")
        told[f"ILSVRC2012_val_{line:08}"] = synset
    return told


def names_beside(folder: Path) -> dict[str, str] | None:
    """Names by WordNet's number from a table of them; None where there is none."""
    path = next(filter(None, (beside(folder, name) for name in NAMES)), None)
    if path is None:
        return None
    rows = dict(_listed(path) if path.suffix == ".json" else _lines(path))
    if not rows:
        raise DataError(f"{path} names no class: its lines should be as n01440764 tench, Tinca tinca.")
    return rows


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in _text(path).splitlines():
        synset, _, name = line.strip().partition(" ")
        if SYNSET.fullmatch(synset) and name.strip():
            yield synset, name.strip()


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    try:
        box = parse_bounded(_text(path))
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None
    for pair in box.values() if isinstance(box, dict) else ():
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(word, str) for word in pair):
            yield pair[0], pair[1].replace("_", " ")


def _text(path: Path) -> str:
    try:
        return read_regular_text(path)
    except (DamagedFile, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None
