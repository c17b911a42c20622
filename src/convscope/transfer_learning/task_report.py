"""What a transfer to a task writes: JSON, images, and one page. Reads results, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.boxed import boxed
from ..canvas.figures import Drawing, drawn_names
from ..canvas.overlays import class_colours, colours_of, overlaid
from ..classifying.classifier import Classifier
from ..classifying.intervals import Interval
from ..datasets.boxes import Boxes
from ..datasets.dataset import Dataset
from ..datasets.masks import Masks
from ..evaluation.task_report import drawings
from ..evaluation.task_scoring import TaskEvaluated
from ..feature_store.extraction import Extraction
from ..noted import Noted
from ..storage import commit_json, write_derived
from ..tasks.paired import PairedFigure
from ..tasks.task import Task
from ..training.page_report import TOLD, Choice, write_page
from ..training.runs import Run
from ..training.task_page import CALLED
from . import drawing
from .begun import FINISHED, FOLDER
from .fine_tuning import REACHES
from .learning_curve import LearningCurve, curve_rows
from .pixel_filters import Firing
from .recorded_targets import TaskRung
from .task_curve import curve_json
from .task_filters import Deciding
from .used_filters import ClassVotes

DRAWN_CLASSES = 20


@dataclass(frozen=True)
class TaskReport(Noted):
    """A finished transfer to a task. ``paired`` compares rungs image by image; ``test`` is the one look at the test
    images, None without any."""

    TOLD = ("data", "sentence", "task")
    run: Run
    task: Task
    rungs: tuple[TaskRung, ...]
    best: TaskRung
    paired: dict[str, PairedFigure]
    test: TaskEvaluated | None
    classifier: Classifier
    extraction: Extraction
    dataset: Dataset
    lasting: tuple[str, ...]
    passing: tuple[str, ...] = ()
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    deciding: Deciding | None = None  # the filters that speak for each class
    curve: LearningCurve | None = None  # by training images in all

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @property
    def metric(self) -> str:
        """The name of the first figure."""
        return self.task.metric(self.classifier.class_names)

    @property
    def filters(self) -> tuple[ClassVotes, ...]:
        """The filters that speak for each class; none where nobody looked for them."""
        return self.deciding.classes if self.deciding else ()

    @property
    def called(self) -> str:
        """The first figure in words."""
        return CALLED[self.metric]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Tell what ``--json`` prints last."""
        figure = self.test.score.figure if self.test else None
        best = self.best.score.figure
        return {
            "run": str(self.run.folder),
            "data": self.dataset.name,
            "task": self.task.name,
            "metric": self.metric,
            self.metric: figure.value if figure else None,
            "low": figure.low if figure else None,
            "high": figure.high if figure else None,
            "test_n": figure.n if figure else None,
            "best": self.best.name,
            "val_value": best.value,
            "val_low": best.low,
            "val_high": best.high,
            "val_n": best.n,
            "measured_by": self.best.measured_by,
            "left_out": self.left_out,
            "seconds": self.seconds,
            "spent_seconds": dict(self.spent),
            "rungs": [rung.to_json() for rung in self.rungs],
            "paired": {name: found.to_json() for name, found in self.paired.items()},
            "test": dict(self.test.score.figures) if self.test else None,
            "settings": dict(self.best.settings),
            "filters": [found.to_json() for found in self.filters],
            "filters_of": self.deciding.rung if self.deciding else None,
            "curve": curve_json(self.curve) if self.curve else None,
            "features": self.extraction.to_json(),
            "sentence": self.sentence(),
            "notes": [*self.passing, *self.lasting],
        }

    @property
    def left_out(self) -> list[str]:
        """What such a transfer can do, and this one did not."""
        climbed = {rung.name for rung in self.rungs}
        return [name for name in (*(kind.name for kind in self.task.heads), *REACHES) if name not in climbed]

    def sentence(self) -> str:
        """The answer: how good, how fast, and whether fine-tuning helped."""
        best = self.best
        said = [
            f"{best.name}: {self.called} {self.words(best.score.figure)} on validation images, trained in "
            f"{best.seconds:.1f} s"
        ]
        costly = [name for name in REACHES if name in self.paired]
        if costly:
            found = self.paired[costly[-1]]
            better = "is better than" if found.difference > 0 else "is worse than"
            sure = f"{costly[-1]} {better} the head" if found.sure else f"{costly[-1]} and the head do not differ"
            scale = 1 if self.task.better == "lower" else 100
            said.append(
                f"{sure} {found.words}: {scale * found.difference:+.2f} [{scale * found.low:+.2f}, "
                f"{scale * found.high:+.2f}], p = {found.p:.2g}, n = {found.n}"
            )
        if self.curve is not None:
            said.append(self.curve.sentence("it" if self.best is self.rungs[0] else "the head"))
        return "; ".join(said) + "."

    def words(self, figure: Interval) -> str:
        """A figure with its interval, as people write it."""
        if self.task.better == "lower":
            return f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"
        return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def write(report: TaskReport) -> TaskReport:
    """Write the images and the page into the run; returns the report."""
    folder = report.run.folder / FOLDER
    images: dict[str, Drawing] = {}
    if report.test is not None:
        images = drawings(report.classifier, report.test)
        commit_json(folder / "test.json", dict(report.test.score.figures))
    images |= _filter_drawings(report)
    if report.curve is not None:
        images["curve"] = drawing.learning_curve(*curve_rows(report.curve), "training images", f"{report.called}, %")
    for name, image in images.items():
        write_derived(folder / f"{name}.png", image.png)
    told = {
        "summary": _kept(report),
        "names": list(report.classifier.class_names),
        "called": report.called,
        "compared": next((found.words for found in report.paired.values()), "image by image"),
        "words": [report.words(rung.score.figure) for rung in report.rungs],
        "test_words": report.words(report.test.score.figure) if report.test else None,
        "asks": report.task.asks,
        "roofline": report.extraction.roofline(),
        "drawings": list(images),
        "choices": [asdict(choice) for choice in _choices(report)],
    }
    commit_json(report.run.folder / TOLD, told)
    write_page(report.run)
    return report


def _filter_drawings(report: TaskReport) -> dict[str, Drawing]:
    """Of classes of pixels a drawing each, by the number of the class; of labels and numbers one of all."""
    deciding, names, dataset = report.deciding, report.classifier.class_names, report.dataset
    if deciding is None:
        return {}
    drawn = drawn_names([found.name for found in deciding.classes])[0]
    truth = "its boxes" if isinstance(dataset.targets, Boxes) else "the mask"
    firing = zip(drawn, deciding.classes, deciding.firing, strict=False)
    pixels = [(name, found, fired) for name, found, fired in firing if fired][:DRAWN_CLASSES]
    images = {
        f"filters-{names.index(found.name)}": drawing.firing(name, _firing_rows(report, found, fired), truth)
        for name, found, fired in pixels
    }
    rows = []
    for name, found, best in zip(drawn, deciding.classes, deciding.strongest, strict=False):
        if best is not None:
            exciting = np.asarray(dataset.images[best.index])
            rows.append(drawing.FilterRow(name, found.votes[0].filter, found.votes[0].adds, exciting, best.own))
    return images | ({"filters": drawing.used_filters(rows[:DRAWN_CLASSES])} if rows else {})


def _firing_rows(report: TaskReport, found: ClassVotes, firing: Sequence[Firing]) -> list[drawing.FiringRow]:
    """Where the filters of a class fire, beside the masks or boxes."""
    rows = []
    for vote, fired in zip(found.votes, firing, strict=False):
        images = np.asarray(report.dataset.images[fired.index])
        over = np.stack([_true(report, int(i), image) for i, image in zip(fired.index, images, strict=True)])
        rows.append(drawing.FiringRow(f"{vote.layer} {vote.filter}", vote.adds, images, fired.maps, over))
    return rows


def _true(report: TaskReport, i: int, image_SS3: np.ndarray) -> np.ndarray:
    """An image with its mask or its boxes over it."""
    targets, names, preprocess = report.dataset.targets, report.classifier.class_names, report.dataset.preprocess
    if isinstance(targets, Boxes):
        colours = class_colours(len(names), False)
        return boxed(image_SS3, targets.fitted(i, preprocess), colours[targets.boxes[i].labels])
    assert isinstance(targets, Masks)
    return overlaid(image_SS3, targets.fitted(i, preprocess), *colours_of(names))


def _choices(report: TaskReport) -> list[Choice]:
    """Which images chose what."""
    counts = {part: len(index) for part, index in report.dataset.parts.items()}
    rows = [
        Choice("the weights of the backbone", "those who trained it", None),
        Choice("the weights of the head", "training images", counts["train"]),
        Choice("the way that is kept, strengths, thresholds and half widths", "validation images", counts["val"]),
    ]
    return [*rows, Choice("nothing", "test images", counts["test"])] if counts["test"] else rows


def finish(report: TaskReport) -> TaskReport:
    """Write the summary, by which a transfer is known to be whole: after everything else; returns the report."""
    commit_json(report.run.folder / FOLDER / FINISHED, _kept(report))
    return report


def _kept(report: TaskReport) -> dict[str, Any]:
    """The summary, without what only concerns this call."""
    return {**report.summary, "notes": list(report.lasting), "choices": [vars(row) for row in _choices(report)]}
