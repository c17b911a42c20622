"""The files that a training writes: JSON, images, and one self-contained HTML page a run. Computes nothing.

The objects returned here show themselves as images in a notebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing
from ..canvas.sheets import image_grid, labels_of
from ..datasets.dataset import Dataset
from ..images.augmentation import augment
from ..images.preprocess import to_tensor
from ..noted import Noted
from ..recipes import Augment, Recipe
from ..storage import commit_json, write_derived
from . import drawing
from .estimates import RateRange
from .page_report import SHEET, train_summary, write_page
from .repeated import Together, sentence, together
from .runs import Run

PREVIEW = 8  # images on the augmentation sheet, and variants of each


@dataclass(frozen=True)
class TrainReport(Noted):
    """A finished, or stopped, training: its run and the summary that the command prints as its last line.

    ``notes`` are sentences to read; a notebook shows them under the curves.
    """

    TOLD = ("epochs", "best_epoch", "val_top1", "val_low", "val_high", "val_n")
    run: Run
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    @cached_property
    def curves(self) -> Drawing:
        """Loss, accuracy and rate by epoch."""
        return drawing.curves(self.run.log())

    def _repr_png_(self) -> bytes:
        return self.curves.png


@dataclass(frozen=True)
class RepeatedReport(Noted):
    """Several trainings that differ in their seeds or folds: ``reports`` of each, and what they say together."""

    TOLD = ("val_top1", "val_low", "val_high", "val_n", "spread", "sentence")
    reports: tuple[TrainReport, ...]
    together: Together
    summary: dict[str, Any]


def write_repeated(reports: Sequence[TrainReport], folds: bool) -> RepeatedReport:
    """Tell what repeated trainings say together, and write it beside their runs."""
    found = together([one.summary for one in reports], folds)
    stem = reports[0].run.name.rpartition("-")[0]
    path = reports[0].folder.parent / f"{stem}s.json"
    summary: dict[str, Any] = {
        "runs": [str(one.folder) for one in reports],
        "repeated": "folds" if folds else "seeds",
        "val_top1": found.accuracy.value,
        "val_low": found.accuracy.low,
        "val_high": found.accuracy.high,
        "val_n": found.accuracy.n,
        "values": list(found.values),
        "spread": found.spread,
        "sentence": sentence(found, folds),
        "written": str(path),
    }
    commit_json(path, summary)
    notes = list(dict.fromkeys(note for one in reports for note in one.notes))
    return RepeatedReport(tuple(reports), found, {**summary, "notes": notes})


def write_training(run: Run, notes: Iterable[str] = ()) -> TrainReport:
    """Write curves, summary and the page of a run; returns what the command shows, with what there was to note."""
    summary = train_summary(run)
    report = TrainReport(run, {**summary, "notes": list(notes)})
    write_derived(run.folder / "curves.png", report.curves.png)
    commit_json(run.folder / "summary.json", summary)
    write_page(run)
    return report


def write_rates(run: Run, rates: RateRange) -> None:
    """Write the learning-rate range test that a run began with: ``lr.json`` and ``lr.png``."""
    figures = {"rates": list(rates.rates), "losses": list(rates.losses), "chosen": rates.chosen}
    commit_json(run.folder / "lr.json", figures)
    write_derived(run.folder / "lr.png", drawing.rate_range(rates.rates, rates.losses, rates.chosen).png)


def write_sheet(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    """Write the sheet of augmented images, ``augment.png``, where it is not there yet."""
    path = run.folder / SHEET
    if not path.exists():
        write_derived(path, augmentation_preview(dataset, recipe.augment, recipe.loop.seed).png)


def augmentation_preview(dataset: Dataset, recipe: Augment, seed: int) -> Drawing:
    """The preview sheet: 8 training images, each as it is and as seven epochs would show it."""
    index = dataset.subset("train", PREVIEW)
    originals = to_tensor(np.ascontiguousarray(dataset.images[index]))
    keys = dataset.keys[index]
    columns = [originals] + [augment(originals, recipe, seed, epoch, keys) for epoch in range(PREVIEW - 1)]
    stacked = np.stack([c.permute(0, 2, 3, 1).numpy() for c in columns], axis=1)
    shown, note = labels_of(dataset.class_names, set(dataset.labels[index].tolist()))
    names = [shown[label] for label in dataset.labels[index]]
    heading = f"Augmentation '{recipe.name}': the image, and as seven epochs show it"
    return image_grid(stacked.reshape(-1, *stacked.shape[2:]), [], PREVIEW, heading, names, note)
