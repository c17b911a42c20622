"""What `transfer` and `similar` write: JSON, images, and one page. Reads results, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing, drawn_names
from ..classifying.classifier import CLASSES
from ..classifying.intervals import SURE, PairedTest
from ..classifying.metrics import Evaluation
from ..datasets.dataset import Dataset
from ..evaluation.drawing import confusion
from ..feature_store.extraction import Extraction
from ..feature_store.store import Features
from ..noted import Noted
from ..storage import commit_json, write_derived
from ..training.continuing import Helped
from ..training.page_report import TOLD, Choice, write_page
from ..training.runs import Run
from . import drawing
from .begun import FINISHED, FOLDER
from .ladder import COSTLY, FCNN, Rung
from .learning_curve import LearningCurve, curve_rows
from .used_filters import ClassFilters

SHOWN = 8  # images of a filter


@dataclass(frozen=True)
class TransferReport(Noted):
    """A finished transfer. ``tests`` compares each rung with the head on the same images; ``test`` is the one look at
    the test images, None without any. A notebook shows the ladder."""

    TOLD = ("data", "sentence", "val_top1", "val_low", "val_high", "test_top1", "test_low", "test_high", "test_n")
    run: Run
    rungs: tuple[Rung, ...]
    best: Rung
    tests: dict[str, PairedTest]
    curve: LearningCurve | None
    test: Evaluation | None
    extraction: Extraction
    filters: tuple[ClassFilters, ...]
    dataset: Dataset
    features: Features
    lasting: tuple[str, ...]  # notes, and
    seconds: float
    continued: Helped | None = None  # how it compares with the transfer that it goes on from
    passing: tuple[str, ...] = ()  # those on this call, which are not kept
    quick: bool = False
    spent: Mapping[str, float] = field(default_factory=dict)  # seconds by what they were spent on: all of them

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Tell what ``--json`` prints last."""
        top1 = self.test.top1 if self.test else None
        return {
            "run": str(self.run.folder),
            "data": self.dataset.name,
            "task": CLASSES,
            "best": self.best.name,
            "val_top1": self.best.top1.value,
            "val_low": self.best.top1.low,
            "val_high": self.best.top1.high,
            "val_n": self.best.top1.n,
            "measured_by": self.best.measured_by,
            "test_top1": top1.value if top1 else None,
            "test_low": top1.low if top1 else None,
            "test_high": top1.high if top1 else None,
            "low": top1.low if top1 else None,
            "high": top1.high if top1 else None,
            "test_n": top1.n if top1 else None,
            "continued": self.continued.to_json() if self.continued else None,
            "left_out": self.left_out,
            "seconds": self.seconds,
            "spent_seconds": dict(self.spent),
            "rungs": [rung.to_json() for rung in self.rungs],
            "paired": {name: asdict(test) for name, test in self.tests.items()},
            "curve": self.curve.to_json() if self.curve else None,
            "filters": [asdict(f) for f in self.filters],
            "filters_decide": self.best.name == "head",
            "features": self.extraction.to_json(),
            "sentence": self.sentence(),
            "notes": [*self.passing, *self.lasting],
        }

    @property
    def left_out(self) -> list[str]:
        """What a transfer can do, and this one did not."""
        climbed = {rung.name for rung in self.rungs}
        missing = [name for name in (FCNN, *COSTLY) if name not in climbed]
        return [*missing, *(["learning curve"] if self.curve is None else [])]

    def sentence(self) -> str:
        """The answer: how good, how fast, whether fine-tuning or more images would help."""
        best = f"{self.best.name}: {_percent(self.best.top1)} by {self.best.measured_by}"
        said = [f"{best}, trained in {_seconds(self.best.seconds)}"]
        head = next(r for r in self.rungs if r.name == "head")
        costly = [r for r in self.rungs if r.name in ("last stage", "full")]
        if costly:
            test = self.tests[max(costly, key=lambda r: self.tests[r.name].difference).name]
            sure = "significant" if test.p < SURE else f"not significant (p = {test.p:.2g})"
            said.append(f"fine-tuning adds {100 * test.difference:+.1f} to the head, {sure}, on {test.n} images")
        if self.curve is not None:
            said.append(self.curve.sentence("the head" if self.best is not head else "it"))
        if self.quick:
            said.append(f"left out: {', '.join(self.left_out)}")
        return "; ".join(said) + "."

    @cached_property
    def leading_filters(self) -> list[int]:
        """The filter that speaks for each class most, in the order of classes, none twice."""
        return list(dict.fromkeys(f.filters[0] for f in self.filters if f.filters))

    @cached_property
    def ladder(self) -> Drawing:
        """Accuracy by rung."""
        steps = [
            drawing.RungBar(r.name, r.top1.value, r.top1.low, r.top1.high, r.seconds, r.parameters, r is self.best)
            for r in self.rungs
        ]
        return drawing.ladder(steps)

    def _repr_png_(self) -> bytes:
        return self.ladder.png


def _percent(top1: Any) -> str:
    return f"{100 * top1.value:.1f} % [{100 * top1.low:.1f}, {100 * top1.high:.1f}]"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def write(report: TransferReport) -> TransferReport:
    """Write the images and the page of a transfer into its run; returns it."""
    folder = report.run.folder / FOLDER
    head = next(r for r in report.rungs if r.name == "head")
    assert head.strength is not None
    images: dict[str, Drawing] = {
        "ladder": report.ladder,
        "path": drawing.path(
            [s.C for s in head.path], [s.top1.value for s in head.path], [s.loss for s in head.path], head.strength
        ),
    }
    if report.leading_filters:
        images["filters"] = drawing.used_filters(_filter_rows(report))
    if report.curve is not None:
        images["curve"] = drawing.learning_curve(*curve_rows(report.curve))
    if report.test is not None:
        if report.test.confusion is not None:
            images["confusion"] = confusion(report.test.confusion, report.test.classes)
        commit_json(folder / "test.json", report.test.to_json())
        if report.test.mistakes:
            images["mistakes"] = drawing.mistaken(report.test, report.dataset)
    for name, image in images.items():
        write_derived(folder / f"{name}.png", image.png)
    told = {
        "summary": _kept(report),
        "leading": report.leading_filters,
        "roofline": report.extraction.roofline(),
        "choices": [asdict(choice) for choice in _choices(report)],
    }
    commit_json(report.run.folder / TOLD, told)
    write_page(report.run)
    return report


def _choices(report: TransferReport) -> list[Choice]:
    """Which images chose what, up to the way that is kept."""
    counts = {part: len(index) for part, index in report.dataset.parts.items()}
    head = next(r for r in report.rungs if r.name == "head")
    rows = [
        Choice("the weights of the backbone", "those who trained it", None),
        Choice("the weights of the head", "training and validation images", counts["train"] + counts["val"]),
        Choice(f"the head's strength, of {len(head.path)}", "images held out in turn by cross-validation", head.top1.n),
    ]
    if any(rung.measured_by == "validation" for rung in report.rungs):
        rows.append(Choice("the epoch of each fine-tuning", "validation images", counts["val"]))
    rows.append(Choice("the way that is kept", f"images held out by {report.best.measured_by}", report.best.top1.n))
    return rows


def finish(report: TransferReport) -> TransferReport:
    """Write the summary, by which a transfer is known to be whole: after everything else; returns the report."""
    commit_json(report.run.folder / FOLDER / FINISHED, _kept(report))
    return report


def _kept(report: TransferReport) -> dict[str, Any]:
    """The summary, without what only concerns this call."""
    return {**report.summary, "notes": list(report.lasting), "choices": [vars(row) for row in _choices(report)]}


def _filter_rows(report: TransferReport) -> list[drawing.FilterRow]:
    """For each class its most used filter, with the images of the largest recorded means of it."""
    index = np.sort(np.concatenate([report.dataset.parts["train"], report.dataset.parts["val"]]))
    values = report.features[index]
    drawn = dict(zip(report.dataset.class_names, drawn_names(report.dataset.class_names)[0], strict=True))
    rows = []
    for found in [f for f in report.filters if f.filters][:20]:
        best = index[np.argsort(-values[:, found.filters[0]], kind="stable")[:SHOWN]]
        names = [report.dataset.class_names[report.dataset.labels[i]] for i in best]
        images = np.asarray(report.dataset.images[best])
        own = [name == found.name for name in names]
        rows.append(drawing.FilterRow(drawn[found.name], found.filters[0], found.shares[0], images, own))
    return rows
