"""All checks of a dataset, one after the other, on one pass over its images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.asked import CLASSIFICATION
from ..datasets.boxes import Boxes
from ..datasets.corrections import LEAVE_OUT, RELABEL, Correction
from ..datasets.folder import IMAGE_SIZE, hidden_name
from ..datasets.masks import Masks
from ..datasets.options import DatasetOptions
from ..datasets.packing import keys
from ..datasets.registry import find_images
from ..datasets.shard_files import ShardFiles
from ..datasets.splits import split, too_few, with_validation
from ..datasets.targets import LabelSets
from ..datasets.unsplit import Unsplit
from ..errors import DataError
from ..images.file_names import is_image_name
from ..progress import Progress
from ..workers import Workers
from .box_findings import box_findings, box_rows, shown_in
from .class_names import folder_findings, group_findings, lacking_findings, name_findings, part_findings
from .copy_findings import Clash, Copies, class_clash, copy_findings, extra_copies, find_copies, same_group
from .findings import STOPS, Finding, in_order
from .kinds import blank, ending_findings, file_findings, image_findings
from .mask_findings import mask_rows, mask_use_findings, object_findings
from .mask_survey import MaskSurvey, survey_masks
from .masks import mask_findings, mask_folders
from .places import place_findings, walk
from .shortcut import shortcut_findings
from .survey import Survey, survey
from .target_clash import target_clash
from .target_findings import target_findings, target_rows
from .wrong_boxes import BoxCheck, box_check_findings
from .wrong_labels import LabelCheck, label_findings


@dataclass(frozen=True)
class Asking:
    """What is asked of images, which files beside them were read for it, and who reads them, if not this process."""

    task: str = CLASSIFICATION
    used: frozenset[str] = frozenset()
    workers: Workers | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Examination:
    """What was found in a dataset, the gravest first, and what it rests on."""

    survey: Survey
    copies: Copies
    parts: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    labels: LabelCheck | None = None
    asking: Asking = Asking()
    masks: MaskSurvey | None = None
    boxes: BoxCheck | None = None

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.grade == "fault"]

    def corrections(self) -> list[Correction]:
        """What would mend it, as far as leaving out and relabelling go; each may be struck out by the user."""
        seen = self.survey
        rows: dict[int, Correction] = {}

        def put(i: int, action: str, reason: str, label: str = "") -> None:
            digest = seen.digests[i].tobytes().hex()
            rows.setdefault(i, Correction(digest, action, label, reason, seen.unsplit.origin(i)))

        for i, reason in seen.reasons.items():
            if not seen.is_gone(i):
                put(i, LEAVE_OUT, f"cannot be read: {reason}")
        for folder in mask_folders(seen) if self.asking.task == CLASSIFICATION else ():
            for i in folder.index if folder.within and folder.named else ():
                put(i, LEAVE_OUT, "a mask of an image beside it")
        for i, reason in extra_copies(seen, self.copies, seen.unsplit.given.tolist(), self.clash):
            put(i, LEAVE_OUT, reason)
        for i in blank(seen) if self.asking.task == CLASSIFICATION else ():
            put(int(i), LEAVE_OUT, "a single grey or colour")
        for i, name, reason in self._relabelled():
            put(i, RELABEL, reason, name)
        by_digest: dict[str, Correction] = {}
        for _, row in sorted(rows.items(), key=lambda item: (item[1].action != LEAVE_OUT, item[0])):
            by_digest.setdefault(row.digest, row)
        return list(by_digest.values())

    def _relabelled(self) -> Iterator[tuple[int, str, str]]:
        """The images whose labels are likely wrong, each with a likelier one, and why."""
        check = self.labels
        if check is None:
            return
        for place in check.doubtful:
            name = self.survey.unsplit.class_names[check.likeliest[place]]
            yield int(check.index[place]), name, f"{check.chance[place]:.0%} sure of {name}"

    def with_labels(self, check: LabelCheck) -> Examination:
        """The same, with the labels that are likely wrong."""
        unsplit = self.survey.unsplit
        more = label_findings(check, unsplit.class_names, self.survey.names(check.index), unsplit.labels[check.index])
        return replace(self, findings=in_order([*self.findings, *more]), labels=check)

    def with_boxes(self, check: BoxCheck) -> Examination:
        """The same, with the boxes that are likely missing or of another class."""
        unsplit = self.survey.unsplit
        assert isinstance(unsplit.targets, Boxes)
        more = box_check_findings(check, unsplit.targets, unsplit.origin)
        return replace(self, findings=in_order([*self.findings, *more]), boxes=check)

    @property
    def clash(self) -> Clash:
        """When two copies contradict each other."""
        return target_clash(self.survey, self.masks) or class_clash(self.survey)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What each class or label has, or how numbers are spread; none where an image has one class."""
        targets = self.survey.unsplit.targets
        if isinstance(targets, Boxes):
            return box_rows(targets)
        return mask_rows(self.masks) if self.masks is not None else target_rows(targets)

    def numbers(self) -> np.ndarray:
        """A number for each image, the same for copies and within a group."""
        groups = self.survey.unsplit.groups
        together = [] if groups is None else same_group(groups)
        return self.copies.numbered(len(self.survey), together)


def find_data(data: str, options: DatasetOptions) -> tuple[Unsplit, list[Finding]]:
    """The images of ``data``, and why training would refuse them."""
    refused: list[Finding] = []
    try:
        unsplit = find_images(data, options)
    except DataError as error:
        if not os.path.isdir(os.path.expanduser(data)):
            raise
        refused = [Finding("refused", "fault", str(error), 1, STOPS)]
        unsplit = _as_it_is(data, options)
    return unsplit, refused


def _as_it_is(data: str, options: DatasetOptions) -> Unsplit:
    """The images of a folder that training refuses: with its classes if they can be told, else by their folders."""
    try:
        return find_images(data, replace(options, need="classes"))
    except DataError:
        root = Path(data).expanduser()
        files = [
            Path(place) / name
            for place, _, names in os.walk(root)
            for name in sorted(names)
            if is_image_name(name) and not hidden_name(name)
        ]
        if not files:
            raise
    folders = [str(path.parent.relative_to(root)) for path in files]
    names = tuple(sorted(set(folders)))
    labels = np.array([names.index(folder) for folder in folders], np.int64)
    given = np.full(len(files), "", "U5")
    return Unsplit(root.resolve().name, names, labels, given, IMAGE_SIZE, files=tuple(files), root=root)


def examine(
    unsplit: Unsplit,
    refused: list[Finding],
    progress: Progress | None = None,
    folder: Path | None = None,
    asking: Asking = Asking(),
) -> Examination:
    """Run every check but that of labels, which needs features. ``folder`` is what else stands there, looked at too."""
    masks = survey_masks(unsplit.targets, progress) if isinstance(unsplit.targets, Masks) else None
    if masks is not None:
        unsplit = replace(unsplit, targets=masks.masks)
    seen = survey(unsplit, progress, asking.workers)
    if unsplit.validation is not None:
        unsplit = replace(unsplit, given=with_validation(unsplit, keys(seen.digests), unsplit.validation))
        seen = replace(seen, unsplit=unsplit)
    parts = split(unsplit, keys(seen.digests)).parts
    copies = find_copies(seen, progress) if len(seen.good) else Copies([], [])
    found = Examination(seen, copies, parts, tuple(refused), asking=asking, masks=masks)
    return replace(found, findings=in_order([*refused, *_findings(found, folder)]))


def _findings(found: Examination, folder: Path | None) -> Iterator[Finding]:
    seen = found.survey
    unsplit = seen.unsplit
    yield from file_findings(seen)
    refused = any(finding.kind == "refused" for finding in found.findings)
    told = too_few(unsplit.name, found.parts) if len(seen.good) and not refused else ""
    if told:
        yield Finding("refused", "fault", told, 1, "training stops there.")
    if folder is not None and not isinstance(unsplit.files, ShardFiles):  # nothing else lies beside shards
        yield from place_findings(walk(folder, {os.fspath(path) for path in unsplit.files} | found.asking.used))
    yield from _of_classes(found) if found.asking.task == CLASSIFICATION else _of_targets(found)
    yield from ending_findings(seen)
    fitted = found.asking.task == CLASSIFICATION  # of other tasks images are padded
    yield from (finding for finding in image_findings(seen) if fitted or finding.kind != "fit")


def _of_classes(found: Examination) -> Iterator[Finding]:
    """What there is to say where each image has one class."""
    seen = found.survey
    masks = list(mask_findings(seen))
    yield from masks
    yield from name_findings(seen.unsplit)
    yield from group_findings(seen.unsplit)
    yield from folder_findings(seen.unsplit)
    yield from part_findings(seen.unsplit, found.parts)
    yield from copy_findings(seen, found.copies, found.parts, found.clash)
    if not any(finding.grade == "fault" for finding in masks):
        yield from shortcut_findings(seen, found.numbers())


def _of_targets(found: Examination) -> Iterator[Finding]:
    """What there is to say where images have masks, boxes, labels or numbers."""
    seen, masks = found.survey, found.masks
    targets = seen.unsplit.targets
    if masks is not None:
        yield from mask_use_findings(seen, masks)
        yield from object_findings(seen, masks)
    yield from target_findings(seen)
    if masks is not None:
        yield from lacking_findings(seen.unsplit, found.parts, masks.names, masks.present)
    if isinstance(targets, Boxes):
        yield from box_findings(seen, targets)
        yield from lacking_findings(seen.unsplit, found.parts, targets.names, shown_in(targets))
    if isinstance(targets, LabelSets):
        yield from lacking_findings(seen.unsplit, found.parts, targets.names, targets.values > 0)
    if targets is not None:
        yield from name_findings(seen.unsplit)
    yield from copy_findings(seen, found.copies, found.parts, found.clash)
