"""The images of a diagnosis: a gradient's way through a network, a training seen from inside, a batch norm at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..canvas.figures import BLUE, GREY, INK, ORANGE, Drawing, axes_at, finished, in_style, new_figure, plain, shorten

WIDTH = 900
LABELS = 30  # names along an axis at most
ROW = 12  # px of a layer in a heat map, where there is room
GAP = 76  # px below a heat map


@dataclass(frozen=True)
class Way:
    """A gradient's way through F factors, the first at the images: ``norms`` (F + 1,) where each factor is given its
    input, and last at the logits; for each factor ``gain`` on average and at most (``bound``), and of a block with an
    identity skip the ``least`` singular value of I + J_F, else NaN. Any of the last three may be empty."""

    names: Sequence[str]
    norms: Sequence[float]
    gain: Sequence[float] = ()
    bound: Sequence[float] = ()
    least: Sequence[float] = ()


_PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}")


@in_style()
def factors(ways: Sequence[tuple[str, Way]]) -> Drawing:
    """The gradient by depth, and what each factor does to it: one way, or two, as at the start and after training."""
    figure = new_figure(WIDTH, 760)
    upper, lower = figure.add_axes((0.09, 0.65, 0.89, 0.30)), figure.add_axes((0.09, 0.22, 0.89, 0.35))
    colours = (ORANGE, BLUE) if len(ways) > 1 else (BLUE,)
    names = ways[0][1].names
    x = np.arange(len(names))
    for number, ((label, way), colour) in enumerate(zip(ways, colours, strict=True)):
        norms = _shown(way.norms, 1e-45)
        style = "--" if len(ways) > 1 and number == 0 else "-"
        upper.plot(np.arange(len(norms)), norms, style, marker="o", markersize=3, color=colour, label=label)
        if way.gain:
            moved = x + (number - (len(ways) - 1) / 2) * 0.3
            gain, bound = (_shown(v, 1e-6) for v in (way.gain, way.bound))
            lower.vlines(moved, gain, bound, color=colour, alpha=0.35, linewidth=3)
            lower.plot(moved, gain, "o", markersize=4.5, color=colour, label=f"{label}: a random gradient")
            lower.plot(moved, bound, "_", markersize=7, color=colour, label=f"{label}: at most (spectral norm)")
            if not np.isnan(way.least).all():
                lower.plot(moved, way.least, "v", markersize=4.5, color=colour, label=f"{label}: I + J at least")
    upper.set_title("The gradient's norm where each factor is given its input: it comes from the right")
    lower.set_title("What a factor does to a gradient that comes to it: 1 leaves its length alone")
    for axes in (upper, lower):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PLAIN)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(-0.7, len(names) + 0.2)
    upper.legend(loc="best", fontsize=8)
    if ways[0][1].gain:
        figure.legend(*lower.get_legend_handles_labels(), loc="lower center", ncols=len(ways), fontsize=8)
    lower.axhline(1, color=INK, linewidth=0.8)
    every = -(-len(names) // LABELS)
    upper.set_xticks(x[::every], [""] * len(x[::every]))
    lower.set_xticks(x[::every], [shorten(plain(n), 16) for n in names[::every]], rotation=60, ha="right", fontsize=8)
    return finished(figure)


def _shown(values: Sequence[float], least: float) -> np.ndarray:
    """On a log scale: nothing below ``least``, and no point for what is no finite number."""
    found = np.array(values, float)
    return np.where(np.isfinite(found), np.maximum(found, least), np.nan)


# A quantity's name, title, and the fixed ends of its scale, the same in every image.
SCALES: dict[str, tuple[str, float, float]] = {
    "scale": ("What layers output: standard deviation", 2.0**-12, 2.0**6),
    "gradient": ("The gradient at their outputs: root mean square", 2.0**-36, 2.0**-6),
    "update": ("Updates: change of a weight over the weight", 2.0**-20, 1.0),
    "dead": ("Dead channels of rectifiers: share", 0.0, 1.0),
}


@in_style()
def watched(steps: Sequence[int], layers: dict[str, Sequence[str]], values: dict[str, np.ndarray]) -> Drawing:
    """A training from inside, on scales that never change: for each quantity of SCALES layers by steps, (T, L)."""
    shown = [name for name in SCALES if name in values and values[name].size]
    heights = [max(110, min(260, ROW * len(layers[name]))) for name in shown]
    height = max(300, min(1200, 60 + sum(h + GAP for h in heights)))
    squeeze = (height - 60 - GAP * len(shown)) / max(1, sum(heights))
    figure, top = new_figure(WIDTH, height), 40.0
    for name, wanted in zip(shown, heights, strict=True):
        tall = wanted * squeeze
        axes = figure.add_axes((0.17, 1 - (top + tall) / height, 0.72, tall / height))
        _heat(axes, name, steps, layers[name], values[name])
        bar = figure.add_axes((0.905, 1 - (top + tall) / height, 0.015, tall / height))
        figure.colorbar(axes.images[0], cax=bar)
        if SCALES[name][1] > 0:
            bar.yaxis.set_major_locator(LogLocator(2, numticks=6))
            bar.yaxis.set_major_formatter(_PLAIN)
            bar.minorticks_off()
        bar.tick_params(labelsize=7)
        top += tall + GAP
    return finished(figure)


def _heat(axes: Axes, name: str, steps: Sequence[int], layers: Sequence[str], values: np.ndarray) -> None:
    title, low, high = SCALES[name]
    scale = LogNorm(low, high) if low > 0 else Normalize(low, high)
    table = np.clip(values.T.astype(float), low, high)
    box = (steps[0] - 0.5, steps[-1] + 0.5, len(layers) - 0.5, -0.5)
    axes.imshow(table, aspect="auto", interpolation="nearest", cmap="viridis", norm=scale, extent=box)
    axes.grid(False)
    axes.set_title(title)
    every = -(-len(layers) // 16)
    axes.set_yticks(range(0, len(layers), every), [shorten(plain(n), 20) for n in layers[::every]], fontsize=7)
    axes.set_xlabel("step", fontsize=8, labelpad=1)
    axes.tick_params(axis="x", labelsize=8)


@dataclass(frozen=True)
class NormImage:
    """A batch norm's channel: values before, after and at test, and for batch sizes the noise they bring."""

    title: str
    before: np.ndarray
    after: np.ndarray
    tested: np.ndarray
    sizes: Sequence[int]
    noise: Sequence[float]
    spread: Sequence[float]


@in_style()
def norm(view: NormImage) -> Drawing:
    """Distributions before and after a batch norm, in training and at test time, and what small batches do."""
    figure = new_figure(WIDTH, 360)
    boxes = ((0.06, 0.26), (0.39, 0.26), (0.74, 0.24))
    first, second, third = (figure.add_axes((left, 0.16, wide, 0.62)) for left, wide in boxes)
    figure.text(0.06, 0.93, plain(view.title), size=9, color=INK)
    first.hist(view.before, bins=60, color=GREY)
    first.set_title("what it is given")
    low, high = np.percentile(np.concatenate([view.after, view.tested]), [0.1, 99.9])
    bins = np.linspace(low, high, 61).tolist()
    second.hist(
        view.after, bins=bins, color=ORANGE, histtype="step", linewidth=1.8, label="these images' mean and scale"
    )
    second.hist(view.tested, bins=bins, color=BLUE, alpha=0.35, label="running ones (test)")
    second.set_title("what it outputs")
    second.set_ylim(top=1.4 * second.get_ylim()[1])
    second.legend(fontsize=7.5, loc="upper right")
    for axes in (first, second):
        axes.set_yticks([])
    third.plot(view.sizes, view.noise, "o-", color=ORANGE, label="noise in what is output")
    third.plot(view.sizes, view.spread, "s--", color=BLUE, label="spread of the mean")
    third.set_xscale("log")
    third.set_xticks(list(view.sizes), [str(s) for s in view.sizes])
    third.minorticks_off()
    third.set_ylim(0, 1.4 * max(*view.noise, *view.spread, 1e-9))
    third.set_xlabel("images in a batch")
    third.set_title("small batches, in sigmas")
    third.legend(fontsize=7.5)
    return finished(figure)


@in_style()
def course(
    steps: Sequence[float], losses: np.ndarray, level: np.ndarray, marks: Sequence[tuple[float, str]]
) -> Drawing:
    """A training's loss by step with the level it moves about, both (S,), and steps at which something happened."""
    figure = new_figure(WIDTH, 340)
    axes = axes_at(figure, 70, 50, 810, 270)
    axes.plot(steps, np.where(np.isfinite(losses), losses, np.nan), color=GREY, linewidth=0.8, label="told loss")
    axes.plot(steps, np.where(np.isfinite(level), level, np.nan), color=INK, linewidth=1.6, label="median of five")
    for step, words in marks:
        axes.axvline(step, color=ORANGE, linewidth=1.2)
        late = step > steps[0] + 0.75 * (
            steps[-1] - steps[0]
        )  # its words stand to the left, or they would leave the image
        offset, side = ((-4, -12), "right") if late else ((4, -12), "left")
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(words, (step, 1), offset, ha=side, fontsize=8, **place)
    axes.set_xlabel("step", fontsize=8, labelpad=1)
    axes.set_ylabel("loss, nats", fontsize=8)
    axes.legend(loc="best", fontsize=8)
    return finished(figure)
