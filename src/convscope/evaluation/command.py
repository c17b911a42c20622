"""Evaluate a classifier on a dataset, and predict what is on images."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..classifying.calibration import Calibrated
from ..classifying.classifier import CLASSES, Classifier
from ..classifying.intervals import Interval
from ..classifying.prediction import UNMIRRORED, find_views
from ..classifying.prediction import predict as predict_images
from ..datasets.dataset import Dataset
from ..datasets.remote import RemotePath, remote_files
from ..datasets.shard_places import is_address, is_pattern, is_shard_name, is_shards
from ..datasets.shards import images_of_shards
from ..errors import DamagedFile, DataError, UsageError
from ..given import takes_what_is_meant
from ..images.file_names import is_image_name
from ..images.from_memory import Held, held_images
from ..images.members import Member
from ..options import with_data_and_options, with_images_and_options
from ..progress import Progress, counted
from ..storage import commit_bytes, commit_text, expanded
from ..training.page_report import has_page, write_page
from ..training.request import data_name
from ..training.runs import Run, runs_folder
from ..training.seen import Seen, count_seen
from ..workers import check_asked, hired
from . import report
from .opening import answers_of, home_of, log_look, open_classifier, place_of, read_data
from .options import EvaluateOptions, PredictOptions
from .refusing import refusing
from .scoring import Evaluated, calibrated, translation
from .scoring import evaluate as evaluate_classifier
from .sorting import sort_into
from .task_command import Wanted, answer, evaluate_asked
from .task_report import TaskEvaluationReport

MOST_LOOKED_AT = 10**9  # pairs of a test image and another, of which nearly equal ones are counted


@with_data_and_options(EvaluateOptions)
def evaluate(
    run: str | Classifier, data: str | Path | None, options: EvaluateOptions
) -> report.EvaluationReport | TaskEvaluationReport:
    """Evaluate a RUN, or a classifier, on a dataset's part; without ``data`` on the run's own test images.

    The part is "test" for the data it was trained on and for data that came with a test part, else "all". Looking at
    a run's own test images is logged in it, and what was found is written there. ``views`` is a name of VIEWS: views at
    test time, whose mean is scored too.
    """
    find_views(options.views)
    classifier, found = open_classifier(run, options.runs, options.model, options.weights, True, options.device)
    run = run if isinstance(run, str) else home_of(run)
    if classifier.task != CLASSES:
        return evaluate_asked(classifier, found, run, data, options)
    if options.masks is not None:
        raise UsageError(f"--masks is for the task segmentation, and {run} tells one class an image.")
    dataset, same, change = read_data(classifier, run, data, "evaluate", options)
    notes = [*dataset.notes]
    if change and data is None:
        raise _changed(run, change, classifier, dataset)
    if change:
        notes.append(f"the data changed since {run} was trained: {change}.")
    chosen = options.part or ("test" if same or dataset.test_given else "all")
    answers, told_of = answers_of(found, classifier)
    notes += told_of
    if same and (chosen in ("train", "all") or (chosen == "val" and len(answers.keys))):
        notes.append("among these are the images that it was trained on.")
    target = found.folder if found else runs_folder(options.runs) / home_of(run)
    if same and not change and data is not None and _is_elsewhere(classifier, data):
        notes.append(f"by their content these are the images that {run} was trained on: its own parts are kept.")
    index = dataset.subset(chosen, options.limit)
    opened, place = None, place_of(target, dataset, chosen, len(index))
    seen = _seen(found, dataset, index, own=same and not change, part=chosen)
    if seen is not None and (not same or change):
        notes += [note for note in [seen.note(dataset.name)] if note]
    if found is not None and same and chosen in ("test", "all"):  # before the pass: looking cannot be undone
        opened = log_look(found, chosen, len(index), place)
    views, unmirrored = _allowed_views(classifier, options.views)
    told = counted(options.progress, "evaluating")
    evaluated = evaluate_classifier(classifier, dataset, chosen, options.limit, views, told)
    at_temperature = calibrated(classifier, evaluated, options.limit, answers)
    summary = {
        "run": str(found.folder if found else run),
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "part": chosen,
        **evaluated.scores.to_json(),
        "known_duplicates": None if seen is None else seen.train + seen.val + seen.near,
        "views": views,
        **_view_figures(evaluated),
        **_calibration_figures(at_temperature),
        "notes": [*notes, *unmirrored, *evaluated.notes],
        "test_openings": opened,
    }
    result = report.write_evaluation(report.EvaluationReport(evaluated, target / place, summary, at_temperature))
    if found is not None and has_page(found):
        write_page(found)
    return result


def _changed(run: str, change: str, classifier: Classifier, dataset: Dataset) -> DataError:
    way = "Name it to evaluate on it as it is."
    try:
        translation(classifier.class_names, dataset.class_names)
    except DataError:
        way = "Train again: it does not know all classes."
    return DataError(f"the data changed since {run} was trained: {change}. {way}")


def _seen(run: Run | None, dataset: Dataset, index: np.ndarray, own: bool, part: str) -> Seen | None:
    """What a run has seen of the images at ``index``; None where no run says it, or where they are its training.

    None for very many images too, for which looking for near copies takes long.
    """
    if run is None or (own and (part != "test" or len(index) * len(dataset) > MOST_LOOKED_AT)):
        return None
    try:
        return count_seen(run.folder, dataset, index)
    except DamagedFile:
        if own:  # only a count would be lost
            return None
        raise


def _is_elsewhere(classifier: Classifier, data: str | Path) -> bool:
    return data_name(str(data)) != classifier.provenance["recipe"]["data"]["name"]


def _allowed_views(classifier: Classifier, views: str) -> tuple[str, list[str]]:
    """The views, without mirrored ones where the network saw none: a mirror image may mean another thing."""
    flip = classifier.provenance.get("recipe", {}).get("augment", {}).get("flip")
    if flip != "none" or "flip" not in views:
        return views, []
    return UNMIRRORED[views], [f"this network was trained without mirrored images, so --views {views} leaves them out."]


def _view_figures(evaluated: Evaluated) -> dict[str, float | None]:
    """The figures with test-time views, null where there were none."""
    scores = evaluated.view_scores
    values = (scores.top1.value, scores.top1.low, scores.top1.high, scores.loss) if scores else (None,) * 4
    return dict(zip(("views_top1", "views_low", "views_high", "views_loss"), values, strict=True))


def _calibration_figures(found: Calibrated | None) -> dict[str, Any]:
    """The temperature, and the calibration error with its interval before and after; null where there is none."""
    if found is None:
        plain = ("temperature", "temperature_n", "ece_low", "ece_high")
        ends = (f"{name}{end}" for name in ("calibrated_ece", "ece_lowered") for end in ("", "_low", "_high"))
        return dict.fromkeys((*plain, *ends, "calibrated"))
    return {
        "temperature": found.temperature,
        "temperature_n": found.fitted_on,
        "ece_low": found.before.low,
        "ece_high": found.before.high,
        **_ends("calibrated_ece", found.after),
        **_ends("ece_lowered", found.lowered),
        "calibrated": [asdict(row) for row in found.reliability.bins],
    }


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


Source = tuple[str, Path | bytes | Image.Image]  # an image's name, and where it is


def find_images(
    images: Iterable[str | Path | Held], standard_input: bytes | None = None, progress: Progress | None = None
) -> list[Source]:
    """Files, folders (their images, by name), globs, shards, ``-`` for standard input, and images in memory.

    A file that does not exist is kept, so that its answer says so; UsageError for a pattern without any match.
    """
    found: list[Source] = []
    for image in images:
        if isinstance(image, (str, Path)):
            found += [("-", standard_input or b"")] if image == "-" else _find_files(str(image), progress)
        else:
            for held in held_images(image):
                found.append((os.fsdecode(getattr(held, "filename", "") or f"image {len(found) + 1}"), held))
    return found


def _find_files(pattern: str, progress: Progress | None) -> list[Source]:
    if is_shards(pattern) and (is_shard_name(pattern) or not is_pattern(pattern)):
        return [(str(path), path) for path in images_of_shards(pattern, progress)]
    if is_address(pattern):
        return [(file.url, file) for file in remote_files(pattern)]
    path = expanded(pattern)
    if os.path.isdir(path):
        inside = sorted(p for p in path.rglob("*") if is_image_name(p.name) and not p.name.startswith("."))
        if not inside:
            raise UsageError(f"the folder {path} holds no image.")
        return [(str(p), p) for p in inside]
    if not os.path.exists(path) and any(c in pattern for c in "*?["):
        matches = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
        if not matches:
            raise UsageError(f"no file matches {pattern!r}.")
        return [(str(p), p) for p in matches]
    return [(str(path), path)]


def _check_here(found: list[Source], options: PredictOptions) -> None:
    """UsageError where images that are elsewhere, or within a shard, would be copied or drawn on."""
    asked = next((name for name in ("copy_to", "masks_to", "boxes_to") if getattr(options, name) is not None), None)
    if asked is None:
        return
    option, sources = f"--{asked.replace('_', '-')}", [source for _, source in found]
    if any(isinstance(source, RemotePath) for source in sources):
        raise UsageError(f"{option} takes images on this machine: copy them here first.")
    if any(isinstance(source, Member) for source in sources):
        raise UsageError(f"{option} takes images that are files: unpack the shard first.")


def _without_copies(found: list[Source], named: set[str], options: PredictOptions) -> tuple[list[Source], list[str]]:
    """The images but for those that an earlier call copied, and a note. UsageError where that are all.

    Copies lie in COPY_TO/ANSWER/NAME, and were not ``named`` one by one.
    """
    if options.copy_to is None:
        return found, []
    place = os.path.join(os.path.abspath(expanded(options.copy_to)), "")

    def is_copy(source: object) -> bool:
        path = os.path.abspath(source) if isinstance(source, Path) else ""
        return path.startswith(place) and os.sep in path[len(place) :] and path not in named

    rest = [one for one in found if not is_copy(one[1])]
    if len(rest) == len(found):
        return found, []
    if not rest:
        raise UsageError(f"all these images lie in {options.copy_to}: name another folder with --copy-to.")
    return rest, [f"{len(found) - len(rest):,} images in {options.copy_to}, where images are copied to, are left out."]


@with_images_and_options(PredictOptions)
def predict(
    run: str | Classifier, images: str | Path | Held | Iterable[str | Path | Held], options: PredictOptions
) -> report.Predictions:
    """The classifier's answer for each image, one or several; those that cannot be read are named with the reason.

    ``images`` are files, folders and globs, or images in memory: Pillow's, arrays (H, W, 3), tensors (3, H, W), of
    uint8 or of floats from 0 to 1. ``views`` is a name of VIEWS: with more than one, the mean of the views is the
    answer. Where the likeliest class has less than ``min_probability``, or the image is less familiar than a share
    ``coverage`` of the validation images, the answer is ``unknown``. ``csv`` is a file to write them to, and
    ``copy_to`` a folder into which images are copied by their answers. The answers are a list with ``notes``.
    """
    if options.top < 1:
        raise UsageError(f"--top {options.top} asks for no answer; it must be 1 or more.")
    if options.links and options.copy_to is None:
        raise UsageError("--links says how --copy-to sorts images: name its folder.")
    check_asked(options.engine, options)
    if options.csv is not None:
        report.check_replaced(expanded(options.csv))
    classifier, home = open_classifier(run, options.runs, options.model, options.weights, True, options.device)
    find_views(options.views)
    given = [images] if isinstance(images, (str, Path, Held)) else list(images)
    found = find_images(given, options.standard_input, options.progress)
    _check_here(found, options)
    if classifier.task != CLASSES or options.tile or options.masks_to is not None or options.boxes_to is not None:
        return _asked(classifier, found, options)
    found, passed = _without_copies(
        found, {os.path.abspath(one) for one in given if isinstance(one, str | Path)}, options
    )
    views, unmirrored = _allowed_views(classifier, options.views)
    refuse = refusing(classifier, home, run if isinstance(run, str) else home_of(run), options)
    told = counted(options.progress, "predicting")
    with hired(options.engine, options, options.progress) as workers:
        found_answers = predict_images(classifier, found, options.top, views, refuse.known, told, workers)
    answers = refuse.applied(found_answers)
    notes = [*passed, *unmirrored, *refuse.notes]
    if options.copy_to is not None:
        notes += sort_into(expanded(options.copy_to), found, answers, options.links)
    made = report.Predictions(answers, notes)
    if options.csv is not None:
        commit_text(expanded(options.csv), made.csv())
    return made


def _asked(classifier: Classifier, found: list[Source], options: PredictOptions) -> report.Predictions:
    """The answers of a network of another task than one class an image. UsageError for options that are for classes."""
    if classifier.task != CLASSES:
        usual = PredictOptions()
        for name in ("min_probability", "coverage", "known", "unknown", "copy_to", "links", "top", "views"):
            if getattr(options, name) != getattr(usual, name):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} is for the task classification, not {classifier.task}.")
    with hired(options.engine, options, options.progress) as workers:
        wanted = Wanted(options.masks_to, options.boxes_to, workers)
        answers, notes = answer(classifier, found, options.tile, wanted)
    made = report.Predictions(answers, notes)
    if options.csv is not None:
        commit_text(expanded(options.csv), made.csv())
    return made


# ----------------------------------------------------------------------------------------------------------- demo


@takes_what_is_meant
def save_example(dataset: Dataset, folder: str | Path, part: str = "test") -> tuple[Path, str]:
    """Write one image of a part as a PNG file, and return it with its class: something to predict."""
    i = int(dataset.subset(part, 1)[0])
    box = io.BytesIO()
    Image.fromarray(np.asarray(dataset.images[i])).save(box, "PNG")
    path = expanded(folder) / "example.png"
    commit_bytes(path, box.getvalue())
    return path, dataset.class_names[dataset.labels[i]]
