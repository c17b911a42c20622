"""The files that a training writes: JSON, images, and one self-contained HTML page a run. Computes nothing.

The objects returned here show themselves as images in a notebook.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..canvas.figures import Drawing, drawn_names
from ..canvas.pages import page, uri
from ..canvas.sheets import image_grid, labels_of
from ..datasets.dataset import Dataset
from ..errors import UsageError
from ..images.augmentation import augment
from ..images.preprocess import to_tensor
from ..noted import Noted
from ..recipes import Augment, Recipe
from ..storage import commit_json, read_json, write_derived
from . import drawing
from .continuing import CONTINUED
from .estimates import RateRange
from .runs import Run

TEMPLATE = Path(__file__).with_name("report.html")

PAGE = "report.html"
SHEET = "augment.png"
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


def train_summary(run: Run) -> dict[str, Any]:
    """The figures of a run so far: rates are fractions of 1, ``percent_of_peak`` is 0 to 100 (docs/json.md)."""
    log, timing = run.log(), run.timing()
    if not log or not timing:
        raise UsageError(f"run {run.name!r} has no finished epoch yet.")
    best = max(log, key=lambda row: (row["val_top1"], -row["epoch"]))
    total = {key: sum(row[key] for row in timing) for key in timing[0] if key.endswith("seconds") or key == "gflop"}
    images = sum(row["images"] for row in timing)
    peak = sum(row["peak_gflop_per_second"] * row["compute_seconds"] for row in timing) / total["compute_seconds"]
    rate = total["gflop"] / total["compute_seconds"]
    return {
        "run": str(run.folder),
        "epochs": log[-1]["epoch"],
        "best_epoch": best["epoch"],
        **{key: best[key] for key in ("val_top1", "val_low", "val_high", "val_n", "val_loss")},
        "images_per_second": images / (total["data_seconds"] + total["compute_seconds"]),
        **total,
        "gflop_per_second": rate,
        "peak_gflop_per_second": peak,
        "percent_of_peak": 100 * rate / peak,
        "winograd": len(run.recipe().convolution.tiles),
        "continued": read_json(run.folder / CONTINUED) if (run.folder / CONTINUED).exists() else None,
    }


def roofline(summary: dict[str, Any]) -> str:
    """The roofline line: what was computed, how close to the peak of this machine, and where the time went."""
    shares = ("data", "compute", "evaluation", "saving", "compile")
    spent = ", ".join(f"{'forward-backward' if s == 'compute' else s} {summary[f'{s}_seconds']:.1f} s" for s in shares)
    rest = max(0.0, summary["seconds"] - sum(summary[f"{s}_seconds"] for s in shares))
    fewer = f", of {summary['winograd']} convolutions as if they were direct," if summary["winograd"] else ""
    return (
        f"roofline: {summary['gflop'] / 1000:.2f} TFLOP{fewer} at {summary['gflop_per_second']:.0f} GFLOP/s, "
        f"{summary['percent_of_peak']:.0f} % of the {summary['peak_gflop_per_second']:.0f} GFLOP/s that a matrix "
        f"product reached in this run; {spent}, the rest {rest:.1f} s"
    )


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


def has_page(run: Run) -> bool:
    """Whether a run has an epoch, and so a page."""
    return bool(run.log() and run.timing())


def _class_names(run: Run) -> list[str]:
    return list(next(iter(run.description()["data"]["counts"].values()), ()))


def write_page(run: Run) -> Path:
    """Write ``report.html`` from what the run's folder holds: one file that needs no other."""
    evaluations = []
    for path in sorted(run.folder.glob("evaluate/*/evaluation.json")):
        images = {n: uri(path.with_name(f"{n}.png")) for n in ("confusion", "mistakes", "calibration")}
        evaluations.append({"name": path.parent.name, "figures": read_json(path), "images": images})
    summary = train_summary(run)
    names = _class_names(run)
    html = page(
        TEMPLATE,
        names=names,
        numbers=drawn_names(names)[1],
        run=run,
        description=run.description(),
        options=run.recipe().flat(),
        summary=summary,
        roofline=roofline(summary),
        curves=uri(run.folder / "curves.png"),
        augmentation=uri(run.folder / SHEET),
        evaluations=evaluations,
        openings=run.openings(),
    )
    write_derived(run.folder / PAGE, html)
    return run.folder / PAGE
