"""What is asked of the images that a user names: told from their folder or table, or as the user says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError, UsageError
from ..storage import expanded
from .box_folders import FILES, BoxFolder, find_boxes
from .box_loading import load_boxed
from .label_columns import CLASSIFICATION, MULTI_LABEL, REGRESSION, load_table_of, task_of_table
from .mask_folders import Pairing, find_pairing
from .mask_loading import load_masked
from .named_before import remember
from .options import DatasetOptions
from .registry import DATASETS, check_recorded
from .table import TABLES
from .table_reading import Table, read_table
from .unsplit import Unsplit

SEGMENTATION = "segmentation"
DETECTION = "detection"
ASKED = {
    CLASSIFICATION: "one class of several",
    MULTI_LABEL: "several labels, or none",
    REGRESSION: "a number",
    SEGMENTATION: "the class of each pixel",
    DETECTION: "boxes around objects of some classes",
}


@dataclass(frozen=True)
class Asked:
    """What is asked of the images at ``path``, told before they are loaded: with their masks, boxes, or table."""

    task: str
    path: Path
    pairing: Pairing | None = None
    table: Table | None = None
    boxes: BoxFolder | None = None


def find_asked(data: str, options: DatasetOptions, task: str | None, masks: Path | None) -> Unsplit | None:
    """The images with their targets, where these are not one class each; None where they are.

    The first note says which task it is and why. UsageError or DataError where the data cannot be what is asked.
    """
    asked = what_is_asked(data, options, task, masks)
    if asked is None:
        return None
    skip = options.bad_images == "skip"
    if asked.pairing is not None:
        found = load_masked(asked.path, asked.pairing, options.source(), skip, options.progress)
    elif asked.boxes is not None:
        found = load_boxed(asked.path, asked.boxes, options.source(), skip, options.progress)
    else:
        assert asked.table is not None
        found = load_table_of(asked.task, asked.table, options.source(), skip)
    return with_task(found, asked.task, task)


def what_is_asked(data: str, options: DatasetOptions, task: str | None, masks: Path | None) -> Asked | None:
    """What is asked of the images where that is not one class each, as `find_asked` tells it; None where it is."""
    if masks is not None and task not in (None, SEGMENTATION):
        raise UsageError(f"--masks is for the task segmentation, not {task}.")
    if task == CLASSIFICATION or data in DATASETS:
        if masks is not None or task not in (None, CLASSIFICATION):
            raise UsageError(f"{data} has one class an image: it is for the task classification.")
        return None
    check_recorded(data, options)
    path = expanded(data)
    if path.is_dir() and task in (None, SEGMENTATION, DETECTION):
        return _of_folder(path, options, task, masks)
    if task == DETECTION and path.is_file() and path.suffix.lower() in FILES:
        return _boxes(path, options, task)
    if path.is_file() and path.suffix.lower() in TABLES and masks is None:
        return _of_table(path, options, task)
    if task is not None or masks is not None:
        raise DataError(f"{data} cannot be read for the task {task or SEGMENTATION}: {_wanted(task or SEGMENTATION)}.")
    return None


def _of_folder(path: Path, options: DatasetOptions, task: str | None, masks: Path | None) -> Asked | None:
    """Masks where there are some, else boxes; DataError where the one that is asked for is not there."""
    pairing = None if task == DETECTION else _pairing(path, options, task, masks)
    if pairing is not None:
        return Asked(SEGMENTATION, path, pairing)
    if task == SEGMENTATION:
        raise DataError(
            f"{path} holds no masks that can be told: two folders whose files have the same names, those of one of "
            "few values; or name the masks with --masks."
        )
    return None if masks is not None else _boxes(path, options, task)


def _boxes(path: Path, options: DatasetOptions, task: str | None) -> Asked | None:
    if options.label_from is not None and task is None:
        return None  # the files' names say classes
    found = find_boxes(path, task is not None)
    if found is None and task is not None:
        raise DataError(f"{path} holds no boxes that can be told: {_wanted(DETECTION)}.")
    if found is None:
        return None
    _refuse_classes(options, DETECTION)
    remember(path)
    return Asked(DETECTION, found.files.root, boxes=found)


def _pairing(path: Path, options: DatasetOptions, task: str | None, masks: Path | None) -> Pairing | None:
    place = None if masks is None else expanded(masks)
    if options.label_from is not None and place is None and task is None:
        return None  # the files' names say classes
    pairing = find_pairing(path, place)
    if pairing is None:
        return None
    _refuse_classes(options, SEGMENTATION)
    for named in filter(None, (path, place)):
        remember(named)
    return pairing


def _of_table(path: Path, options: DatasetOptions, task: str | None) -> Asked | None:
    table = read_table(path)
    if task in (SEGMENTATION, DETECTION):
        raise DataError(f"{path} is a table; the task {task} takes {_wanted(task)}.")
    found = task or task_of_table(table, options.source())
    if found == CLASSIFICATION:
        return None
    _refuse_classes(options, found)
    for named in filter(None, (path, options.images, options.corrections)):
        remember(named)
    return Asked(found, path, table=table)


def _refuse_classes(options: DatasetOptions, task: str) -> None:
    """UsageError for an option that says what the classes of images are."""
    for name in ("label_from", "merge", "rename"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} is for the task {CLASSIFICATION}, not {task}.")


def with_task(found: Unsplit, name: str, asked: str | None) -> Unsplit:
    """With the task in the first note, and how to say otherwise where it was told from the data."""
    other = "" if asked is not None else "; --task says otherwise"
    return replace(found, notes=(f"task: {name}, {ASKED[name]}{other}.", *found.notes))


def _wanted(task: str) -> str:
    """What data of a task look like."""
    if task == SEGMENTATION:
        return "a folder of images with a folder of masks"
    if task == DETECTION:
        return (
            "images with a VOC annotation each (.xml), with a YOLO text file each (.txt, beside them or in labels), or "
            "with a COCO file of boxes (.json)"
        )
    return "a table of paths and labels"
