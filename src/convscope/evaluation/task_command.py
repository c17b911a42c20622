"""Evaluate a network of any task on its own test images or on other data, and let it answer images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..canvas.overlays import colours_of, overlaid
from ..canvas.signed import png
from ..classifying.classifier import Classifier
from ..datasets.asked import find_asked
from ..datasets.dataset import Dataset, Undecoded, listing
from ..datasets.named_before import remember
from ..datasets.options import DatasetOptions
from ..errors import DataError, UsageError
from ..images.decoding import decode
from ..storage import expanded, make_folder, write_derived
from ..training.page_report import has_page, write_page
from ..training.runs import Run, data_description, data_difference, runs_folder
from ..workers import Workers
from .box_writing import written_boxes
from .file_stems import stem_of
from .opening import data_asked, home_of, log_look, place_of, seen_notes, source_of
from .options import CompareOptions, EvaluateOptions
from .task_answers import Answer, Mask, Source, answer_images
from .task_report import TaskEvaluationReport, write_task_evaluation
from .task_scoring import evaluate_task, task_of


def read_asked(
    classifier: Classifier, run: str, data: str | Path | None, options: EvaluateOptions | CompareOptions
) -> tuple[Dataset, bool, str | None]:
    """The images and targets named, or a network's own; whether they are its own, and how these have changed."""
    name, own, same = data_asked(classifier, run, data, "evaluate")
    recipe = classifier.provenance.get("recipe", {})
    masks = getattr(options, "masks", None)
    recorded = classifier.provenance.get("transfer", {}).get("masks")
    recorded_masks = None
    if masks is None and same and recorded is not None:
        masks = recorded_masks = Path(recorded)
    elif masks is not None:
        remember(Path(masks))
    source = source_of(
        options, recipe.get("source") if same else None, run, name if data is None else None, recorded_masks
    )
    reading = DatasetOptions(
        data_root=options.data_root,
        bad_images=own.get("bad_images"),
        progress=options.progress,
        recorded_in=run if data is None else None,
        need="classes",
        **source,
    )
    found = find_asked(name, reading, classifier.task, masks)
    assert found is not None
    found = replace(found, sides=own.get("sides") or {})
    corrections = source.get("corrections")
    listed = listing(found, own.get("limit") if same else None, options.progress, corrections and Path(corrections))
    dataset = listed.dataset(Undecoded(listed, classifier.preprocess), classifier.preprocess)
    before = classifier.provenance.get("data", {})
    if dataset.fingerprint == before.get("fingerprint"):
        return dataset, True, None
    return dataset, same, data_difference(before, data_description(dataset)) if same else None


def evaluate_asked(
    classifier: Classifier, found: Run | None, run: str, data: str | Path | None, options: EvaluateOptions
) -> TaskEvaluationReport:
    """Score a network of any task. A look at its own test images is logged in its run."""
    if options.views != "none":
        raise UsageError(f"--views {options.views} is for the task classification, not {classifier.task}.")
    dataset, same, change = read_asked(classifier, run, data, options)
    if change and data is None:
        raise DataError(f"the data changed since {run} was trained: {change}. Name it to evaluate on it as it is.")
    notes = [*dataset.notes, *([f"the data changed since {run} was trained: {change}."] if change else [])]
    part = options.part or ("test" if same or dataset.test_given else "all")
    if same and part in ("train", "all"):
        notes.append("among these are the images that it was trained on.")
    target = found.folder if found else runs_folder(options.runs) / home_of(run)
    n = len(dataset.subset(part, options.limit))
    place, opened = place_of(target, dataset, part, n), None
    if found is not None and same and part in ("test", "all"):  # before the pass: looking cannot be undone
        opened = log_look(found, part, n, place)
    if found is not None and (not same or change):
        notes += seen_notes(found, dataset, dataset.subset(part, options.limit))
    evaluated = evaluate_task(classifier, dataset, part, options.limit, options.progress)
    metric = task_of(classifier).metric(classifier.class_names)
    figures = dict(evaluated.score.figures)
    summary: dict[str, Any] = {
        "run": str(found.folder if found else run),
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "part": part,
        "task": classifier.task,
        "metric": metric,
        "low": figures[f"{metric}_low"],
        "high": figures[f"{metric}_high"],
        **figures,
        "settings": dict(classifier.settings),
        "notes": [*notes, *evaluated.notes],
        "test_openings": opened,
    }
    report = TaskEvaluationReport(evaluated, classifier, target / place, summary)
    made = write_task_evaluation(report, options.progress)
    if found is not None and has_page(found):
        write_page(found)
    return made


@dataclass(frozen=True)
class Wanted:
    """The folders that masks, and boxes, are written to, and who answers; None: nowhere, and this process."""

    masks: Path | None = None
    boxes: Path | None = None
    workers: Workers | None = field(default=None, compare=False)


def answer(
    classifier: Classifier, sources: Sequence[Source], tile: bool, wanted: Wanted
) -> tuple[list[Answer], list[str]]:
    """Answers to images, masks or boxes written to a folder if one is given; and notes."""
    asked = (
        ("--tile", tile, ("segmentation", "detection")),
        ("--masks-to", wanted.masks is not None, ("segmentation",)),
        ("--boxes-to", wanted.boxes is not None, ("detection",)),
    )
    for option, given, tasks in asked:
        if given and classifier.task not in tasks:
            raise UsageError(f"{option} is for the task {' or '.join(tasks)}, not {classifier.task}.")
    answers = answer_images(classifier, sources, tile, wanted.workers)
    if wanted.masks is not None:
        return _written(classifier, sources, answers, expanded(wanted.masks))
    if wanted.boxes is not None:
        return written_boxes(classifier.class_names, sources, answers, expanded(wanted.boxes))
    return answers, []


def _written(
    classifier: Classifier, sources: Sequence[Source], answers: list[Answer], folder: Path
) -> tuple[list[Answer], list[str]]:
    """The answers with their masks on disk: class numbers as a PNG, and colours over the image."""
    make_folder(folder)
    colours, background = colours_of(classifier.class_names)
    found: list[Answer] = []
    taken: set[str] = set()
    for (name, source), one in zip(sources, answers, strict=True):
        if isinstance(one, Mask):
            rgb = source.convert("RGB") if isinstance(source, Image.Image) else decode(source, where=name)
            files = write_mask(folder / stem_of(name, taken), np.asarray(rgb), one.mask, colours, background)
            found.append(replace(one, files=files))
        else:
            found.append(one)
    return found, [told_masks(sum(isinstance(one, Mask) for one in found), folder)]


def write_mask(
    stem: Path, rgb_HW3: np.ndarray, mask_HW: np.ndarray, colours_K3: np.ndarray, background: bool
) -> tuple[str, str]:
    """Write a mask beside ``stem``, class numbers and colours over the image; returns both files."""
    files = (stem.with_name(f"{stem.name}.mask.png"), stem.with_name(f"{stem.name}.overlay.png"))
    write_derived(files[0], png(mask_HW))
    write_derived(files[1], png(overlaid(rgb_HW3, mask_HW, colours_K3, background)))
    return str(files[0]), str(files[1])


def told_masks(count: int, folder: Path) -> str:
    """Where masks are, in a sentence."""
    masks = "1 mask is" if count == 1 else f"{count:,} masks are"
    return f"{masks} in {folder}: class numbers (.mask.png), and over the image (.overlay.png)."
