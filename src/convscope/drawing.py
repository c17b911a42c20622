"""Results as pictures: plain numbers and names in, a PNG out. The only module that draws.

Figures are made without pyplot and always in one style, whatever the user's matplotlib settings say, so the same
result gives the same bytes. Names are drawn as they are: a "$" starts no formula, and a character that no installed
font has becomes a replacement sign. Blue is right or validation, orange is wrong or training; every such pair also
differs in lightness or form (palette of Okabe and Ito 2008, made for colour-blind readers).
"""

from __future__ import annotations

import base64
import functools
import io
import math
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

if TYPE_CHECKING:  # metrics imports torch, which drawing can do without
    from .metrics import Calibration

DPI = 120
BLUE, ORANGE, INK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#767676", "#E4E4E4"
STYLE = {
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
# The first one comes with matplotlib; the others are tried for the writing systems it lacks.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Noto Sans",
    "Arial Unicode MS",
)
_LOCK = threading.Lock()  # matplotlib's settings are one per process


@dataclass(frozen=True)
class Drawing:
    """A finished picture as the bytes of a PNG file; a notebook shows it by itself."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def data_uri(self) -> str:
        """For the ``src`` of an ``img`` in a page that stands alone."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@contextmanager
def _style() -> Iterator[None]:
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"font.family": [name for name, _ in _fonts()]})
        yield


# --- training curves ---------------------------------------------------------------------------------------------


@_style()
def curves(log: Sequence[dict]) -> Drawing:
    """Loss, accuracy and learning rate over the epochs of a training.

    A row is {"epoch", "train_loss", "val_loss", "train_top1", "val_top1", "val_low", "val_high", "lr"}: losses in
    nats, accuracies and their interval as fractions. A value may be missing, None or not finite: it is left out.
    The best epoch is the first of the highest validation accuracy. ValueError: no rows.
    """
    if not log:
        raise ValueError("a log without epochs cannot be drawn")
    has_rate = len(_series(log, "lr")[0]) > 0
    figure = _figure(960, 760 if has_rate else 650, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
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
    return _drawing(figure)


@_style()
def rate_range(rates: Sequence[float], losses: Sequence[float], chosen: float) -> Drawing:
    """A learning-rate range test: the smoothed loss, in nats, over the rate, and where the rate was chosen."""
    figure = _figure(760, 380, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    axes = figure.subplots()
    axes.set_title("Learning-rate range test", weight="bold")
    axes.plot(rates, losses, color=BLUE)
    axes.axvline(chosen, color=ORANGE, linestyle="--")
    axes.annotate(f" chosen: {chosen:g}", (chosen, 1), xycoords=("data", "axes fraction"), color=ORANGE, va="top")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, smoothed")
    return _drawing(figure)


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


# --- confusion ---------------------------------------------------------------------------------------------------


@_style()
def confusion(matrix_KK: np.ndarray | Sequence[Sequence[int]], names: Sequence[str]) -> Drawing:
    """Which class is taken for which: counts (K, K), rows the truth, columns the guess, ``names`` in their order.

    Colour is the share of a row's pictures. The diagonal has its own colour, and the mistakes have their own scale,
    of the root of the share, so that a few in a hundred show. A class without pictures is a grey row. Counts are
    written up to 15 classes, names up to 100. ValueError: not K by K counts for K names.
    """
    matrix = np.asarray(matrix_KK, dtype=np.int64)
    k = len(names)
    if k == 0 or matrix.shape != (k, k):
        raise ValueError(f"a confusion of shape {matrix.shape} does not fit {k} names")
    total, cell = matrix.sum(axis=1, keepdims=True), _cell_pixels(k)
    shares = matrix / np.maximum(total, 1)
    mistakes = np.where(np.eye(k, dtype=bool), 0, shares)
    right = (_fade(BLUE), Normalize(0, 1))
    wrong = (_fade(ORANGE), PowerNorm(0.5, 0, _round_up(mistakes.max())))
    colours = np.where(np.eye(k, dtype=bool)[..., None], right[0](right[1](shares)), wrong[0](wrong[1](mistakes)))
    colours[total[:, 0] == 0] = matplotlib.colors.to_rgba("#EEEEEE")

    size = min(9.5, 0.8 * cell * 72 / DPI)
    labels = [_short(_plain(name), 26) for name in names] if k <= 100 else [""] * k
    figure = _figure(100, 100)
    widest = max(_width(figure, label, size) for label in labels)
    turn = 0 if widest < 0.9 * cell else 45 if k <= 30 else 90  # the names of columns, as level as there is room
    depth = {0: 14, 45: 0.71 * widest + 14, 90: widest}[turn]
    left, below, side = int(widest) + 52, int(depth) + 46, k * cell
    width, height = max(left + side + 150, 420), below + side + 48
    figure.set_size_inches(width / DPI, height / DPI)
    axes = _axes(figure, left, below, side, side)
    axes.imshow(colours, interpolation="nearest", aspect="auto")
    _confusion_names(axes, labels, size, turn)
    if k <= 15:
        _confusion_counts(axes, matrix, colours)
    n = int(matrix.sum())
    headline = f"{n:,} pictures, {100 * np.trace(matrix) / n:.1f} % right" if n else "no pictures"
    figure.text(12 / width, 1 - 14 / height, headline, size=11, weight="bold", va="top")
    bar, gap = min(150, (side - 84) // 2), 56
    for i, ((colour, norm), title) in enumerate([(right, "right, %"), (wrong, "mistaken, %")]):
        box = (left + side + 26, below + side - 28 - bar - i * (bar + gap), 14, bar)
        _colour_bar(_axes(figure, *box), colour, norm, title)
    return _drawing(figure)


def _cell_pixels(k: int) -> int:
    if k <= 4:
        return 100
    return 64 if k <= 15 else max(960 // k, 15 if k <= 100 else 2)


def _round_up(share: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 and 100 %."""
    return next(top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if share <= top + 1e-9)


def _fade(colour: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("fade", ["white", colour])


def _confusion_names(axes: Axes, labels: list[str], size: float, turn: int) -> None:
    k = len(labels)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=size, pad=4)
    axes.set(xlabel="taken for", ylabel="true class")
    axes.spines[:].set(visible=True, color=PALE)
    axes.set(xticks=[], yticks=[])
    if k <= 100:
        side, mode = ("right", "anchor") if turn == 45 else ("center", "default")
        axes.set_xticks(range(k), labels, rotation=turn, ha=side, rotation_mode=mode)
        axes.set_yticks(range(k), labels)
    step = 1 if k <= 30 else 5 if k <= 100 else k  # lines to follow a row by, without filling the picture
    for edge in np.arange(step, k, step) - 0.5:
        axes.axhline(edge, color=PALE, linewidth=0.7)
        axes.axvline(edge, color=PALE, linewidth=0.7)


def _confusion_counts(axes: Axes, matrix: np.ndarray, colours: np.ndarray) -> None:
    for row, column in np.argwhere(matrix > 0):
        text = str(matrix[row, column])
        light = colours[row, column, :3] @ (0.2126, 0.7152, 0.0722) > 0.6
        size = 9.5 if len(text) <= 5 else 8
        axes.text(column, row, text, ha="center", va="center", size=size, color=INK if light else "white")


def _colour_bar(axes: Axes, colour: LinearSegmentedColormap, norm: Normalize, title: str) -> None:
    bar = axes.figure.colorbar(ScalarMappable(norm, colour), cax=axes)
    assert norm.vmax is not None  # both scales are made with their ends
    ticks = [0, norm.vmax / 2, norm.vmax] if title.startswith("right") else [0, norm.vmax / 5, norm.vmax]
    bar.set_ticks(ticks, labels=[f"{100 * tick:g}" for tick in ticks])
    bar.outline.set_edgecolor(PALE)
    axes.tick_params(length=0)
    axes.set_title(title, size=9.5, pad=9)


# --- sheets of pictures ------------------------------------------------------------------------------------------


@_style()
def picture_grid(
    pictures_NHWC: np.ndarray,
    titles: Sequence[str],
    columns: int,
    heading: str | None = None,
    row_labels: Sequence[str] | None = None,
) -> Drawing:
    """A sheet of pictures (N, H, W, 1 or 3) uint8, row by row, each under its title (N of them, or none at all).

    Small pictures are enlarged a whole number of times without smoothing. A title takes two lines at most and is
    broken after an arrow or a space; a row without titles leaves no room for them. ValueError: shapes that do not fit.
    """
    pictures = np.asarray(pictures_NHWC)
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3) or pictures.dtype != np.uint8 or not pictures.size:
        raise ValueError(f"pictures must be uint8 (N, H, W, 1 or 3), not {pictures.dtype} {pictures.shape}")
    n, columns = len(pictures), max(1, min(columns, len(pictures)))
    rows = -(-n // columns)
    if len(titles) not in (0, n) or len(row_labels or ()) not in (0, rows):
        raise ValueError(f"{len(titles)} titles, {len(row_labels or ())} row labels, {n} pictures, {rows} rows")
    figure, margin, gap, line = _figure(100, 100), 12, 10, 18
    cells = [_enlarge(picture, 128 if any(titles) else 96) for picture in pictures]
    high, wide = cells[0].shape[:2]
    texts = [_two_lines(figure, _plain(title), wide) for title in titles] or [""] * n
    label_texts = [_plain(label) for label in row_labels or ()]
    left = margin + max((int(_width(figure, t, 9)) + 10 for t in label_texts), default=0)
    counts = [max(t.count("\n") + bool(t) for t in texts[r * columns : (r + 1) * columns]) for r in range(rows)]
    above = [line * count + 6 * bool(count) for count in counts]
    top, title = margin + (32 if heading else 0), _plain(heading or "")
    width = max(left + columns * (wide + gap) - gap, margin + int(_width(figure, title, 11.5, "bold"))) + margin
    height = top + sum(high + gap + room for room in above) - gap + margin
    figure.set_size_inches(width / DPI, height / DPI)
    figure.text(margin / width, 1 - margin / height, title, size=11.5, weight="bold", va="top")
    y = top
    for row in range(rows):
        y += above[row]
        if label_texts:
            spot = ((left - 10) / width, 1 - (y + high / 2) / height)
            figure.text(*spot, label_texts[row], size=9, ha="right", va="center")
        for i in range(row * columns, min((row + 1) * columns, n)):
            x = left + (i % columns) * (wide + gap)
            figure.figimage(cells[i], x, height - y - high, origin="upper")
            for up, part in enumerate(reversed(texts[i].split("\n"))):  # each on its baseline, so that a row is level
                spot = ((x + wide / 2) / width, 1 - (y - 8 - up * 17) / height)
                figure.text(*spot, part, size=8.5, ha="center", va="baseline")
        y += high + gap
    return _drawing(figure)


def _enlarge(picture_HWC: np.ndarray, target: int) -> np.ndarray:
    """The picture about ``target`` pixels on its longer side, within a thin line: white on white would have no edge."""
    picture = np.broadcast_to(picture_HWC, (*picture_HWC.shape[:2], 3))
    longer = max(picture.shape[:2])
    if longer <= target:
        scale = max(1, target // longer)
        picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    else:
        size = [max(1, round(side * target / longer)) for side in picture.shape[1::-1]]
        picture = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS))
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=0xD0)


# --- calibration -------------------------------------------------------------------------------------------------


@_style()
def calibration(cal: Calibration) -> Drawing:
    """The reliability diagram: how often guesses of each confidence are right, with Wilson's intervals.

    The bars show how far a bin is from honest; the strip below shows how many pictures it rests on.
    """
    filled = [b for b in cal.bins if b.count]
    confidence, accuracy, low, high = (
        np.array([100 * getattr(b, key) for b in filled]) for key in ("confidence", "accuracy", "low", "high")
    )
    figure = _figure(620, 740, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[5, 1])
    upper.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1.2, label="honest")
    step = 100 / len(cal.bins)
    upper.bar(confidence, accuracy - confidence, 0.55 * step, confidence, color=ORANGE, alpha=0.35, label="gap")
    reach = [accuracy - low, high - accuracy]
    upper.errorbar(confidence, accuracy, reach, fmt="o", color=BLUE, elinewidth=1.3, label="accuracy, 95 %")
    upper.set(xlim=(-1, 101), ylim=(-1, 101), ylabel="right, %", xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    count = np.array([b.count for b in filled])
    leaning = float(np.sum(count * (confidence - accuracy)) / count.sum())
    verdict = f"{abs(leaning):.1f} points too {'sure' if leaning > 0 else 'modest'}"
    upper.set_title(f"Calibration error {100 * cal.ece:.1f} %", weight="bold")
    upper.set_title(verdict if abs(leaning) >= 0.05 else "neither too sure nor too modest", loc="right", size=9.5)
    upper.legend(loc="upper left")
    centres = (np.arange(len(cal.bins)) + 0.5) * step
    lower.bar(centres, [b.count for b in cal.bins], 0.88 * step, color=BLUE, alpha=0.6)
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    lower.set(xlabel="confidence, %", ylabel="pictures")
    return _drawing(figure)


# --- text and canvas ---------------------------------------------------------------------------------------------


def _figure(width: int, height: int, layout: LayoutEngine | None = None) -> Figure:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: Figure, *box: float) -> Axes:
    """Axes at left, bottom, width, height in pixels."""
    width, height = figure.get_size_inches() * DPI
    left, bottom, wide, high = box
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def _drawing(figure: Figure) -> Drawing:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # a version there would change the bytes
    return Drawing(buffer.getvalue())


@functools.cache
def _fonts() -> tuple[tuple[str, frozenset[int]], ...]:
    """The fonts of ours that are installed, each with the characters it has."""
    installed = set(font_manager.get_font_names())
    found = [(name, font_manager.findfont(name)) for name in FONTS if name in installed]
    return tuple((name, frozenset(font_manager.get_font(path).get_charmap())) for name, path in found)


def _plain(text: str) -> str:
    """One line without characters that cannot be drawn: invisible ones go, others become the replacement sign."""

    def shown(c: str) -> str:
        if any(ord(c) in charset for _, charset in _fonts()):
            return c
        return "" if unicodedata.category(c) in ("Cc", "Cf", "Mn", "Me") else "\ufffd"

    return "".join(shown(c) for c in " ".join(text.split()))


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _width(figure: Figure, text: str, size: float, weight: str = "normal") -> float:
    """The width of the drawn text in pixels."""
    font = font_manager.FontProperties(size=size, weight=weight)
    assert isinstance(figure.canvas, FigureCanvasAgg)  # _figure gave it one
    return figure.canvas.get_renderer().get_text_width_height_descent(text, font, False)[0]


def _two_lines(figure: Figure, text: str, room: float, size: float = 8.5) -> str:
    """``text`` on one line of ``room`` pixels or on two; what is too long loses its middle, never a trailing number."""

    def fits(part: str) -> bool:
        return _width(figure, part, size) <= room

    def squeeze(part: str) -> str:
        match = re.fullmatch(r"(.*?)(\s[\d.,]+\s?%|→)?", part)
        assert match is not None  # it takes any single line
        body, tail = match.groups("")
        while body and not fits(part):
            body = body[:-1].rstrip()
            part = body + "…" + tail
        return part

    if fits(text):
        return text
    breaks = [m.end() for m in re.finditer(r"→| (?!%)", text)]
    pairs = [(text[:at].rstrip(), text[at:]) for at in breaks]
    for first, second in sorted(pairs, key=lambda pair: not pair[0].endswith("→")):  # an arrow is the best place
        if fits(first) and fits(second):
            return f"{first}\n{second}"
    first, arrow, second = text.partition("→")
    return f"{squeeze(first + arrow)}\n{squeeze(second)}" if second else squeeze(text)
