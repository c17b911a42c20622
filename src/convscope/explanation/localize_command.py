"""Masks and boxes out of the map of a class, for every image, scored where there are masks: nobody marked a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..canvas.overlays import class_colours
from ..classifying.classifier import CLASSES, Classifier
from ..datasets.asked import find_asked
from ..datasets.dataset import Dataset, Listing, Undecoded, listing
from ..datasets.masks import Masks
from ..datasets.named_before import remember
from ..datasets.options import DatasetOptions
from ..datasets.registry import find_images
from ..errors import DataError, ImageError, UsageError
from ..evaluation.file_stems import stem_of
from ..evaluation.opening import data_asked, home_of, log_look, open_classifier, source_of
from ..evaluation.task_command import told_masks, write_mask
from ..options import with_data_and_options
from ..portable import shortened
from ..storage import expanded, make_folder
from ..training.page_report import has_page, write_page
from ..training.runs import Run, runs_folder
from .boxes import box_of
from .localize_drawing import Shown
from .localize_report import ANSWER, BoxRow, LocalizeReport, write_localized
from .localizing import (
    Halves,
    Looked,
    find_halves,
    find_method,
    find_targets,
    inputs_of,
    looking,
    pixels_of,
)
from .options import LocalizeOptions
from .overlap import MAP, ZHOU
from .scored_maps import Scores, score_maps, truth_of

SHOWN = 8  # images on the sheet


@with_data_and_options(LocalizeOptions)
def localize(run: str | Classifier, data: str | Path | None, options: LocalizeOptions) -> LocalizeReport:
    """Turn the map of a class into a mask and a box for each image, and score them where ``data`` have masks.

    The class is ``target``, else the label that an image has, else the network's first answer. Without ``data`` they
    are those that the run was trained on. Thresholds are chosen on images that are not scored. UsageError for a network
    of another task than classes or labels, or one of which no map can be made.
    """
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold is from 0 to 1, as a scaled map is, not {options.threshold:g}.")
    classifier, found = open_classifier(run, options.runs, options.model, options.weights, True, options.device)
    run = run if isinstance(run, str) else home_of(run)
    if classifier.task not in (CLASSES, "multi_label"):
        more = "; convscope predict --masks-to writes its own masks" if classifier.task == "segmentation" else ""
        raise UsageError(f"{run} was trained for the task {classifier.task}, and no class has a map there{more}.")
    work = _opened(classifier, found, run, data, options)
    halves = find_halves(work.listed, work.dataset, work.own, options.limit) if work.masks is not None else None
    index = work.dataset.subset("all", options.limit) if halves is None else halves.both
    opened = None
    if halves is not None and found is not None and work.own:  # before the pass: looking cannot be undone
        opened = log_look(found, halves.part, len(halves.scored), f"localize/{work.folder.name}", ANSWER)
    summary = {**_looked(work, index, options), "test_openings": opened}
    scores = _scores(work, halves, options)
    summary |= _at(scores, options) | {"scored": None if scores is None else scores.to_json()}
    rows = _rows(work, scores, summary, None if options.masks_to is None else expanded(options.masks_to))
    summary |= {"notes": work.notes, "folder": str(work.folder)}
    shown = _shown(work, scores, summary, options)
    made = write_localized(LocalizeReport(work.folder, summary, tuple(rows)), shown, classifier.class_names)
    if opened is not None and found is not None and has_page(found):
        write_page(found)  # which says how often its test images were looked at
    return made


@dataclass
class _Work:
    """What is looked at, and what was seen there so far."""

    classifier: Classifier
    place: str
    listed: Listing
    dataset: Dataset
    own: bool
    folder: Path
    notes: list[str]
    looked: list[Looked]

    @property
    def masks(self) -> Masks | None:
        """Those of the data, if any."""
        return self.dataset.targets if isinstance(self.dataset.targets, Masks) else None


def _opened(
    classifier: Classifier, found: Run | None, run: str, data: str | Path | None, options: LocalizeOptions
) -> _Work:
    """List the images that are named, or the network's own, with masks or labels if they have any."""
    name, own, same = data_asked(classifier, run, data, "try")
    recipe = classifier.provenance.get("recipe", {})
    if options.masks is not None:
        remember(Path(options.masks))
    source = source_of(options, recipe.get("source") if same else None, run, name if data is None else None)
    reading = DatasetOptions(
        data_root=options.data_root,
        bad_images="skip",
        progress=options.progress,
        recorded_in=run if data is None else None,
        need="images",
        **source,
    )
    unsplit = find_asked(name, reading, None, options.masks) or find_images(name, reading)
    unsplit = replace(unsplit, sides=own.get("sides") or {}) if same else unsplit
    corrections = source.get("corrections")
    limit = own.get("limit") if same else None
    listed = listing(unsplit, limit, options.progress, corrections and Path(corrections))
    images = Undecoded(listed, classifier.preprocess)
    dataset = listed.dataset(images, classifier.preprocess, fold=own.get("fold") if same else None)
    same = same or dataset.fingerprint == classifier.provenance.get("data", {}).get("fingerprint")
    home = found.folder if found else runs_folder(options.runs) / home_of(run)
    folder = home / "localize" / shortened(dataset.name)
    place = str(found.folder if found else run)
    notes = [note for note in dataset.notes if not note.startswith("task: ")]  # nothing is learned here
    return _Work(classifier, place, listed, dataset, same, folder, notes, [])


def _looked(work: _Work, index: np.ndarray, options: LocalizeOptions) -> dict[str, Any]:
    """Make the map of each image; the first part of the summary."""
    targets, told = find_targets(work.classifier, work.dataset, options.target)
    method, make, more = find_method(work.classifier.network, _first_inputs(work, index))
    work.notes += (*told, *more)
    if work.classifier.preprocess.fit == "crop":
        work.notes.append("the network sees the middle of each image only: what it does not see is in no mask and box.")
    faults: list[str] = []
    work.looked += looking(work.classifier, make, work.listed, index, targets, faults, options.progress)
    if not work.looked:
        raise DataError(f"none of the {len(index):,} images of {work.dataset.name} has a map: {faults[0]}.")
    if faults:
        many = "1 image is" if len(faults) == 1 else f"{len(faults):,} images are"
        work.notes.append(f"{many} left out: {'; '.join(faults[:3])}{'; ...' if len(faults) > 3 else ''}.")
    return {
        "run": work.place,
        "data": work.dataset.name,
        "fingerprint": work.dataset.fingerprint,
        "images": len(work.looked),
        "method": method,
        "classes_from": targets.told,
    }


def _first_inputs(work: _Work, index: np.ndarray) -> Tensor:
    """The first image that can be read, by which it is told how maps are made. DataError where none can."""
    fault = ""
    for i in map(int, index):
        try:
            return inputs_of(work.classifier, work.listed, i)[0]
        except ImageError as error:
            fault = fault or str(error)
    raise DataError(f"none of the {len(index):,} images of {work.dataset.name} can be read: {fault}")


def _scores(work: _Work, halves: Halves | None, options: LocalizeOptions) -> Scores | None:
    """What the maps are worth against the masks, if there are any."""
    if work.masks is None or halves is None:
        return None
    tell = options.progress or (lambda what, done, total: None)
    scores = score_maps(work.classifier, work.looked, work.masks, halves, options.object, options.threshold, tell)
    without = len(work.looked) - len(scores.judged)
    if without:
        many = "1 image is" if without == 1 else f"{without:,} images are"
        work.notes.append(f"{many} not scored: no mask shows an object there.")
    if not scores.chosen_n:
        work.notes.append(f"too few images show an object to choose a threshold by some of them: it is {ZHOU:g}.")
    return scores


def _at(scores: Scores | None, options: LocalizeOptions) -> dict[str, float]:
    """The thresholds of masks and of boxes."""
    if scores is not None:
        return {"mask_threshold": scores.ways[MAP].mask_at, "box_threshold": scores.ways[MAP].box_at}
    return dict.fromkeys(("mask_threshold", "box_threshold"), ZHOU if options.threshold is None else options.threshold)


# ---------------------------------------------------------------------------------------------------------- each image


def _rows(work: _Work, scores: Scores | None, at: dict[str, Any], masks_to: Path | None) -> list[BoxRow]:
    """The box of each image in its own pixels, and its mask in a folder where one is given."""
    rows, taken, blank = [], set[str](), 0
    if masks_to is not None:
        make_folder(masks_to)
    for place, one in enumerate(work.looked):
        values = one.values(work.classifier)
        box, mask = box_of(values >= np.float32(at["box_threshold"])), values >= np.float32(at["mask_threshold"])
        name, source = work.listed.unsplit.origin(one.index), work.listed.source(one.index)
        judged = None if scores is None else scores.judged.get(place)
        target = work.classifier.class_names[one.target]
        blank += box is None
        rows.append(BoxRow(name, target, one.size, box, float(mask.mean()), judged))
        if masks_to is not None:
            stem = masks_to / stem_of(name, taken)
            write_mask(stem, pixels_of(source), mask.astype(np.uint8), class_colours(2, True), True)
    if masks_to is not None:
        work.notes.append(told_masks(len(rows), masks_to))
    if blank:
        many = "1 image is" if blank == 1 else f"{blank:,} images are"
        work.notes.append(f"the map of {many} the same everywhere: there is no box.")
    return rows


def _shown(work: _Work, scores: Scores | None, at: dict[str, Any], options: LocalizeOptions) -> list[Shown]:
    """The scored images whose masks are best and worst, or the first images where none is scored."""
    if scores is None:
        return [_one_shown(work, one, at) for one in work.looked[:SHOWN]]
    judged = {place: one for place, one in scores.judged.items() if one.used_for == "scoring"}
    ranked = sorted(judged, key=lambda place: -judged[place].mask)
    half = SHOWN // 2
    chosen = ranked if len(ranked) <= SHOWN else ranked[:half] + ranked[-half:]
    assert work.masks is not None
    shown = []
    for place in chosen:
        truth = truth_of(work.classifier, work.masks, work.looked[place], options.object)
        one = _one_shown(work, work.looked[place], at)
        shown.append(replace(one, true_hw=truth.objects_hw, judged=judged[place]))
    return shown


def _one_shown(work: _Work, one: Looked, at: dict[str, Any]) -> Shown:
    values = one.values(work.classifier, one.shape)
    mask, box = values >= np.float32(at["mask_threshold"]), box_of(values >= np.float32(at["box_threshold"]))
    pixels = pixels_of(work.listed.source(one.index))
    return Shown(pixels, values, mask, box, one.target)
