"""The page of a run that was transferred to another task than one class an image, from what its folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..canvas.pages import page, uri
from .runs import Run

TEMPLATE = Path(__file__).with_name("transferred_task.html")
CALLED = {
    "iou": "intersection over union",
    "miou": "mean intersection over union",
    "map": "mean average precision",
    "mae": "mean absolute error",
    "ap50": "average precision (AP50)",
}
SHORT = {"iou": "IoU", "miou": "mIoU", "map": "mAP", "mae": "MAE", "ap50": "AP50"}


def task_page(run: Run, told: dict[str, Any], evaluations: list[dict[str, Any]], left_out: list[str]) -> str:
    """The page from what a transfer ``told``, and the figures of its ``evaluations`` since."""
    folder = run.folder / "transfer"
    return page(
        TEMPLATE,
        name=run.name,
        images={name: uri(folder / f"{name}.png", left_out) for name in told["drawings"]},
        asked_since=[shown(figures) for figures in evaluations],
        left_out=left_out,
        openings=run.openings(),
        **told,
    )


def shown(figures: dict[str, Any]) -> dict[str, Any]:
    """The figure of an evaluation and the ends of its interval, as people write them, and what it is called."""
    metric = figures["metric"]
    told = {key: figures[key] for key in ("data", "part", "n")}
    return told | as_written(metric, *(figures[key] for key in (metric, "low", "high")))


def as_written(metric: str, *figures: float) -> dict[str, Any]:
    """A figure and the ends of its interval, ``(value, low, high)``, as people write them, and what it is called."""
    names = {"metric": metric, "called": CALLED.get(metric, metric), "short": SHORT.get(metric, metric)}
    scale, unit, digits = (1, "", ".3g") if metric == "mae" else (100, " %", ".1f")
    value, low, high = (f"{scale * figure:{digits}}{unit}" for figure in figures)
    return {**names, "value": value, "low": low, "high": high}
