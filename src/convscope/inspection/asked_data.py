"""Data that ask more than one class of an image: loaded whole, with what a training would refuse told as findings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..datasets.asked import DETECTION, REGRESSION, SEGMENTATION, Asked, what_is_asked, with_task
from ..datasets.label_columns import load_table_of, measures, number_of, other_columns, target_column
from ..datasets.mask_coding import Coding
from ..datasets.mask_folders import Pairing, bare
from ..datasets.mask_loading import coding_of, paired
from ..datasets.options import DatasetOptions
from ..datasets.polygons import Outlines
from ..datasets.registry import DATASETS
from ..datasets.table import TABLES
from ..datasets.table_reading import Table, read_table
from ..datasets.unsplit import Unsplit
from ..errors import DataError
from ..images.file_names import is_image_name
from ..recipes import Source
from ..storage import expanded
from ..visible import visible
from .box_remarks import read_boxes
from .findings import STOPS, Finding, are, counted, first, some
from .masks import CALLED

MOST = 0.8  # of a folder's images that must have a mask, or stand beside some that have, unless the task is named
NO_CLASSES = Coding((), np.zeros(0, np.int64), np.zeros(0, np.uint8))
NUMBERS = 0.8  # of a column's cells that must be numbers for the others to be taken for mistakes


@dataclass(frozen=True)
class AskedData:
    """Images with their targets, and what was found while these were read; ``used`` are the other files read."""

    task: str
    unsplit: Unsplit
    findings: tuple[Finding, ...] = ()
    used: frozenset[str] = field(default_factory=frozenset)


def find_asked_data(data: str, options: DatasetOptions, task: str | None, masks: Path | None) -> AskedData | None:
    """The images with their targets where they are not one class each; None where they are, or are to be taken so.

    UsageError or DataError as `find_asked` raises them, where not even the images can be told.
    """
    mixed = _mixed_numbers(data, options) if task is None and masks is None else None
    asked = mixed or what_is_asked(data, options, task, masks)
    if asked is None:
        return None
    if asked.boxes is not None:
        unsplit, findings = read_boxes(asked.path, asked.boxes, options)
        used = frozenset(map(os.fspath, (*asked.boxes.used, *asked.boxes.files.images)))
        return AskedData(DETECTION, with_task(unsplit, DETECTION, task), findings, used)
    if asked.pairing is None:
        return _of_table(asked, options, task, mixed is not None)
    if task is None and masks is None and _mostly_without(asked.path, asked.pairing):
        return None
    return _of_masks(asked.path, asked.pairing, options, task, masks)


# -------------------------------------------------------------------------------------------------------------- masks


def _mostly_without(root: Path, pairing: Pairing) -> bool:
    """Whether most images lie in folders without masks: those with some are then a few strays among classes."""
    known = {path for pair in pairing.pairs for path in pair if isinstance(path, Path)}
    known |= {*pairing.without_mask, *pairing.without_image}
    every = [
        Path(place) / name
        for place, _, names in os.walk(root)
        for name in names
        if is_image_name(name) and not name.startswith(".")
    ]
    others = sum(path not in known for path in every)
    return others > (1 - MOST) * (others + len(pairing.pairs))


def _of_masks(root: Path, pairing: Pairing, options: DatasetOptions, task: str | None, named: Path | None) -> AskedData:
    findings = [*_lie(root, pairing, task is not None or named is not None)]
    coding = None
    for strict in (True, False):  # what a list does not name is then told mask by mask
        try:
            coding = coding_of(root, pairing, strict)
            break
        except DataError as error:
            if strict:
                findings.append(Finding("refused", "fault", str(error), 1, STOPS))
    unsplit, masks = paired(root, pairing, coding or NO_CLASSES, options.source())
    unsplit = with_task(replace(unsplit, targets=masks if coding else None), SEGMENTATION, task)
    files = [path for _, path in pairing.pairs if isinstance(path, Path)]
    used = {os.fspath(path) for path in (*files, *pairing.without_mask, *pairing.without_image)}
    return AskedData(SEGMENTATION, unsplit, tuple(findings), frozenset(used))


def _lie(root: Path, pairing: Pairing, named: bool) -> Iterator[Finding]:
    """How images and masks lie, and which of them are alone; ``named`` says that the user has said so."""
    said = named or all(_is_called(image, mask) for image, mask in pairing.pairs)
    advice = "" if named else "if folders are classes, --task classification looks at them so."
    grade = "note" if said else "doubt"
    yield Finding("masks", grade, f"{visible(pairing.told)}.", len(pairing.pairs), advice)
    for paths, kind, one, lacks, mend in (
        (pairing.without_mask, "without-mask", "image", "mask", "draw their masks, or move them away"),
        (pairing.without_image, "without-image", "mask", "image", "add their images, or move them away"),
    ):
        if paths:
            names = [visible(str(p.relative_to(root) if p.is_relative_to(root) else p)) for p in paths]
            many = counted(len(paths), one)
            told = f"{many} {'has' if len(paths) == 1 else 'have'} no {lacks} and {are(len(paths))} left out"
            yield Finding(kind, "doubt", f"{told}: {some(names)}.", len(paths), f"{mend}.", first(names))


def _is_called(image: Path, mask: Path | Outlines) -> bool:
    """Whether names say that it is a mask: scans in black and white may have the numbers of photographs."""
    if isinstance(mask, Outlines):
        return True
    added = mask.stem != image.stem and bare(mask.stem) != mask.stem.casefold()
    return added or any(CALLED.search(part) for part in mask.parts[-3:-1])


# -------------------------------------------------------------------------------------------------------------- tables


def _mixed_numbers(data: str, options: DatasetOptions) -> Asked | None:
    """A table whose column is one of numbers but for some cells, which a training would take for names of classes."""
    path = expanded(data)
    if data in DATASETS or path.suffix.lower() not in TABLES or not path.is_file() or options.label_from:
        return None
    table = read_table(path)
    column = _number_column(table, options.source()) if table.rows else None
    cells = [cell for cell in table.column(column) if cell] if column else []
    numbers = [cell for cell in cells if number_of(cell) is not None]
    mixed = NUMBERS * len(cells) <= len(numbers) < len(cells)
    return Asked(REGRESSION, path, table=table) if mixed and measures(numbers) else None


def _number_column(table: Table, source: Source) -> str | None:
    """The column of the number: the one that is named, or else the only one beside the paths."""
    rest = other_columns(table, source)
    return target_column(table, source) or (rest[0] if len(rest) == 1 else None)


def _of_table(asked: Asked, options: DatasetOptions, task: str | None, mixed: bool) -> AskedData:
    table, findings = asked.table, []
    assert table is not None
    if asked.task == REGRESSION:
        table, findings = _numbers_alone(table, options, mixed)
    unsplit = with_task(load_table_of(asked.task, table, options.source(), skip=True), asked.task, task)
    return AskedData(asked.task, unsplit, tuple(findings))


def _numbers_alone(table: Table, options: DatasetOptions, mixed: bool) -> tuple[Table, list[Finding]]:
    """The lines of a table whose cell is a number or empty, and what is said of the others."""
    column = _number_column(table, options.source())
    if column is None:
        return table, []  # which is told when it is loaded
    cells = table.column(column)
    bad = [i for i, cell in enumerate(cells) if cell and number_of(cell) is None]
    empty = [i for i, cell in enumerate(cells) if not cell]
    findings = []
    if bad:
        names = [f"line {table.lines[i]}: {visible(cells[i][:40])!r}" for i in bad]
        why = ", so that the column is not taken for one of numbers" if mixed else ""
        told = (
            f"{counted(len(bad), 'cell')} of {visible(column)!r} {are(len(bad))} no finite number{why}: {some(names)}."
        )
        mend = "write numbers there, or leave the cells empty."
        findings.append(Finding("not-numbers", "fault", told, len(bad), mend, first(names)))
    if empty:
        names = [f"line {table.lines[i]}" for i in empty]
        told = f"{counted(len(empty), 'line')} without a number {are(len(empty))} left out: {some(names)}."
        findings.append(Finding("missing-numbers", "doubt", told, len(empty), "", first(names)))
    kept = [i for i in range(len(cells)) if i not in set(bad)]
    rows, lines = [table.rows[i] for i in kept], [table.lines[i] for i in kept]
    return Table(table.path, table.header, rows, lines, table.notes), findings
