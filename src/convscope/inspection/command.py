"""`convscope doctor`: a dataset, seen through before an hour is wasted on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..classifying.classifier import Classifier
from ..datasets.asked import CLASSIFICATION, DETECTION
from ..datasets.boxes import Boxes
from ..datasets.corrections import corrected, read_corrections, struck_out
from ..datasets.dataset import Listing, check_limit
from ..datasets.options import DatasetOptions
from ..datasets.packing import digests, keys
from ..datasets.registry import DATASETS
from ..datasets.splits import limited
from ..datasets.unsplit import Unsplit
from ..feature_store.extraction import extract
from ..feature_store.options import BackboneOptions
from ..feature_store.recording import backbone_of, store_options
from ..machine import pick_device
from ..options import with_options
from ..progress import Laps
from ..storage import expanded, make_folder
from ..training.request import data_name
from ..training.runs import runs_folder
from ..workers import hired
from . import report
from .asked_data import find_asked_data
from .examination import Asking, Examination, examine, find_data
from .findings import counted
from .options import DoctorOptions
from .report import DoctorReport
from .wrong_boxes import check_boxes, minutes, record_boxes
from .wrong_labels import check_labels

CHECKED = 3000  # images whose labels are judged unasked
BOXES_CHECKED = 100  # images whose boxes are
LEAST, FEWEST = 50, 5  # images in all, and of a class


@with_options(DoctorOptions)
def doctor(data: str | Path, options: DoctorOptions) -> DoctorReport:
    """Look through a dataset: files, images, classes, copies, shortcuts, and labels that are likely wrong.

    Everything is read once and nothing is moved or changed; what leaving out and relabelling would mend is written to a
    corrections file, which every command takes. Raises UsageError or DataError where there is no image to look at.
    """
    laps = Laps()
    name = data_name(str(data))
    asked = find_asked_data(name, _reading(options), options.task, options.masks)
    unsplit, refused = (asked.unsplit, list(asked.findings)) if asked else find_data(name, _reading(options))
    notes = list(unsplit.notes)
    unsplit = _asked_for(unsplit, options)
    notes += [note for note in unsplit.notes if note not in notes]
    folder = report.place_of(runs_folder(options.runs), unsplit.name, name)
    make_folder(folder)  # before the images are read: it may be refused
    place = None if name in DATASETS else expanded(name)  # a folder of such a name is not what is asked about
    with hired(options.engine, options, options.progress) as workers:
        what = replace(Asking(asked.task, asked.used) if asked else Asking(), workers=workers)
        found = examine(unsplit, refused, options.progress, place if place and place.is_dir() else None, what)
        laps.lap("reading images")
        told = _why_not(found, options)
        if told:
            notes.append(told)
        elif found.asking.task in JUDGED:
            found = JUDGED[found.asking.task](found, options)
            laps.lap("boxes" if found.asking.task == DETECTION else "labels")
    summary = report.summary_of(found, name, notes, laps.seconds) | {"folder": str(folder)}
    used = None if options.corrections is None else expanded(options.corrections)
    summary["corrections_file"] = report.corrections_file(folder, used)
    return report.write(DoctorReport(folder, found, summary), () if used is None else read_corrections(used))


def _reading(options: DoctorOptions) -> DatasetOptions:
    """How the data are read; files that are missing from a table are told, and do not stop the doctor."""
    where = {"data_root": options.data_root, "progress": options.progress}
    return DatasetOptions(bad_images="skip", **where, **options.reading())


def _asked_for(unsplit: Unsplit, options: DoctorOptions) -> Unsplit:
    """Those of the images that the limit and the corrections leave."""
    check_limit(options.limit)
    if options.limit is None and options.corrections is None:
        return unsplit
    hashed = digests(unsplit, options.progress)
    if options.corrections is not None:
        path = expanded(options.corrections)
        unsplit, hashed = corrected(unsplit, hashed, read_corrections(path), str(options.corrections), struck_out(path))
    if options.limit is not None and options.limit < len(hashed):
        unsplit = unsplit.take(limited(unsplit.given, unsplit.labels, keys(hashed), options.limit))
    return unsplit


def _why_not(found: Examination, options: DoctorOptions) -> str:
    """Why labels are not judged; empty where they are."""
    good = found.survey.good
    counts = np.bincount(found.survey.unsplit.labels[good])
    masks = any(finding.kind == "masks" and finding.grade == "fault" for finding in found.findings)
    if found.asking.task == DETECTION:
        return _why_no_boxes(found, options)
    if found.asking.task != CLASSIFICATION:
        told = "labels are judged where an image has one class, or boxes: they were not, here."
        return "" if options.labels is None else told
    if options.labels is False:
        return "labels were not judged, as asked."
    if len(good) < LEAST or (counts >= FEWEST).sum() < 2 or masks:
        return "labels were not judged: there are no two classes of enough images."
    if options.labels is None and len(good) > CHECKED:
        return f"labels were not judged: {len(good):,} images take a while; --labels does it."
    return ""


def _why_no_boxes(found: Examination, options: DoctorOptions) -> str:
    """Why boxes are not judged; empty where they are."""
    count, boxes = len(found.survey.good), found.survey.unsplit.targets
    if options.labels is False:
        return "boxes were not judged, as asked."
    if not isinstance(boxes, Boxes):
        return "boxes were not judged: there are none that can be used."
    if count < LEAST:
        return f"boxes were not judged: {counted(count, 'image')} are too few to learn from."
    if options.labels is None and count > BOXES_CHECKED:
        return (
            f"boxes were not judged: {count:,} images take about {counted(minutes(count), 'minute')}; --labels does it."
        )
    return ""


def _with_boxes(found: Examination, options: DoctorOptions) -> Examination:
    """Record maps of all images that can be read, and judge their boxes."""
    listed, backbone = _listed(found, options)
    good = found.survey.good
    device, workers = pick_device(options.device), found.asking.workers
    recorded = record_boxes(listed, backbone, device, options.progress, workers)
    return found.with_boxes(check_boxes(recorded, found.numbers()[good], good, options.progress))


def _listed(found: Examination, options: DoctorOptions) -> tuple[Listing, Classifier]:
    """The images that can be read, and the backbone."""
    wanted = BackboneOptions(
        backbone=options.backbone, weights=options.weights, data_root=options.data_root, progress=options.progress
    )
    good = found.survey.good
    return Listing(found.survey.unsplit.take(good), found.survey.digests[good]), backbone_of(wanted)


def _with_labels(found: Examination, options: DoctorOptions) -> Examination:
    """Record features of all images that can be read, and judge their labels."""
    listed, backbone = _listed(found, options)
    good = found.survey.good
    stored = replace(store_options(BackboneOptions()), workers=found.asking.workers)
    extraction = extract(listed, backbone, stored, pick_device(options.device), options.progress)
    rows = extraction.features.rows[: len(good)]
    usable = np.flatnonzero(rows >= 0)
    if options.progress:
        options.progress("judging labels", 0, 1)
    labels = found.survey.unsplit.labels[good][usable]
    features = np.asarray(extraction.features[usable], np.float32)
    check = check_labels(features, labels, found.numbers()[good][usable], good[usable])
    return found.with_labels(check)


JUDGED = {CLASSIFICATION: _with_labels, DETECTION: _with_boxes}
