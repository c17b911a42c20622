"""Draw how a training went: loss, accuracy and rate by epoch, and the range test before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..canvas.figures import BLUE, GREY, ORANGE, Drawing, finished, in_style, new_figure


@in_style()
def curves(log: Sequence[dict]) -> Drawing:
    """Loss, accuracy and learning rate over the epochs of a training.

    A row is {"epoch", "train_loss", "val_loss", "train_top1", "val_top1", "val_low", "val_high", "lr"}: losses in
    nats, accuracies and their interval as fractions. A value may be missing, None or not finite: it is left out.
    The best epoch is the first of the highest validation accuracy. ValueError: no rows.
    """
    if not log:
        raise ValueError("a log without epochs cannot be drawn")
    has_rate = len(_series(log, "lr")[0]) > 0
    figure = new_figure(960, 760 if has_rate else 650, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    loss, accuracy, *rate = figure.subplots(2 + has_rate, sharex=True, height_ratios=[3, 3, 0.8][: 2 + has_rate])
    loss.set_title("Loss", weight="bold")
    accuracy.set_title("Accuracy, %", weight="bold")
    for axes, name, scale in ((loss, "loss", 1), (accuracy, "top1", 100)):
        axes.margins(y=0.1)
        _line(axes, _series(log, f"train_{name}", scale), "training", ORANGE, "--")
        _line(axes, _series(log, f"val_{name}", scale), "validation", BLUE)
    _band(accuracy, log)
    _mark_best(log, loss, accuracy)
    for axes in rate:
        _rate_strip(axes, log)
    last = (loss, accuracy, *rate)[-1]
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    epochs = [row["epoch"] for row in log]
    pad = max(0.02 * (epochs[-1] - epochs[0]), 0.5 if len(log) == 1 else 0.1)
    last.set_xlim(min(epochs) - pad, max(epochs) + pad)
    handles = {h.get_label(): h for axes in (loss, accuracy) for h in axes.get_legend_handles_labels()[0]}
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=4)
    return finished(figure)


@in_style()
def rate_range(rates: Sequence[float], losses: Sequence[float], chosen: float) -> Drawing:
    """A learning-rate range test: the smoothed loss, in nats, over the rate, and where the rate was chosen."""
    figure = new_figure(760, 380, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    axes = figure.subplots()
    axes.set_title("Learning-rate range test", weight="bold")
    axes.plot(rates, losses, color=BLUE)
    axes.axvline(chosen, color=ORANGE, linestyle="--")
    axes.annotate(f" chosen: {chosen:g}", (chosen, 1), xycoords=("data", "axes fraction"), color=ORANGE, va="top")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, smoothed")
    return finished(figure)


def _series(log: Sequence[dict], key: str, scale: float = 1) -> tuple[list[int], list[float]]:
    pairs = [(row["epoch"], row.get(key)) for row in log]
    kept = [(epoch, scale * value) for epoch, value in pairs if value is not None and math.isfinite(value)]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _line(axes: Axes, series: tuple[list[int], list[float]], label: str, color: str, linestyle: str = "-") -> None:
    x, y = series
    if x:
        marker, size = "o" if len(x) <= 30 else None, 4.5 if len(x) == 1 else 3
        axes.plot(x, y, label=label, color=color, linestyle=linestyle, marker=marker, markersize=size)


def _band(axes: Axes, log: Sequence[dict]) -> None:
    keys = ("val_top1", "val_low", "val_high")
    rows = [row for row in log if all(row.get(key) is not None for key in keys)]
    x = [row["epoch"] for row in rows]
    middle, low, high = (np.array([100 * row[key] for row in rows]) for key in keys)
    if len(rows) == 1:  # a band of one epoch has no width
        axes.errorbar(x, middle, [middle - low, high - middle], color=BLUE, capsize=4, label="95 % interval")
    elif rows:
        axes.fill_between(x, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95 % interval")


def _mark_best(log: Sequence[dict], loss: Axes, accuracy: Axes) -> None:
    epochs, values = _series(log, "val_top1", 100)
    if not values:
        return
    value, epoch = max(values), epochs[int(np.argmax(values))]
    row = next(row for row in log if row["epoch"] == epoch)
    low, high = row.get("val_low"), row.get("val_high")
    between = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    accuracy.set_title(f"best: {value:.1f} %{between} in epoch {epoch}", loc="right", color=BLUE)
    points = [(accuracy, value)]
    if row.get("val_loss") is not None and math.isfinite(row["val_loss"]):
        points.append((loss, row["val_loss"]))
    for axes, height in points:
        if len(log) > 1:
            axes.axvline(epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axes.plot(epoch, height, "o", color=BLUE, markersize=8, markeredgecolor="white", markeredgewidth=1.5, zorder=5)


def _rate_strip(axes: Axes, log: Sequence[dict]) -> None:
    x, y = _series(log, "lr")
    axes.plot(x, y, color=GREY, marker="o" if len(x) == 1 else None, markersize=4.5)
    axes.set_title("Learning rate", weight="bold")
    top = max(y)
    axes.set_ylim(0, 1.15 * top or 1)
    axes.set_yticks(*(([0, top], ["0", f"{top:.3g}"]) if top else ([0], ["0"])))
