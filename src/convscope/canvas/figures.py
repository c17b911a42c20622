"""The canvas that all drawings share: one style, text that is drawn as it is, and the finished PNG."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import logging
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine

from .ticks import make_legible

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
FSI, PDI = "\u2068", "\u2069"  # around a name of its own direction, so that what is beside it keeps its place
_SHAPES = hasattr(
    ft2font, "__libraqm_version__"
)  # an older matplotlib writes Arabic from left to right, letter by letter
_LOCK = threading.Lock()  # matplotlib's settings are one per process


@dataclass(frozen=True)
class Drawing:
    """A finished image as the bytes of a PNG file; a notebook shows it by itself."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def data_uri(self) -> str:
        """For the ``src`` of an ``img`` in a page that stands alone."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@contextmanager
def in_style() -> Iterator[None]:
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"font.family": [name for name, _ in (*fonts(), *_FURTHER)]})
        yield


def new_figure(width: int, height: int, layout: LayoutEngine | None = None) -> Figure:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, *box: float) -> Axes:
    """Axes at left, bottom, width, height in pixels."""
    width, height = figure.get_size_inches() * DPI
    left, bottom, wide, high = box
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def finished(figure: Figure) -> Drawing:
    make_legible(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # a version there would change the bytes
    return Drawing(buffer.getvalue())


@functools.cache
def fonts() -> tuple[tuple[str, frozenset[int]], ...]:
    """The fonts of ours that are installed, each with the characters it has."""
    installed = set(font_manager.get_font_names())
    found = [(name, font_manager.findfont(name)) for name in FONTS if name in installed]
    return tuple((name, frozenset(font_manager.get_font(path).get_charmap())) for name, path in found)


_FURTHER: list[tuple[str, frozenset[int]]] = []  # fonts of others that a character was found in


@functools.cache
def _others() -> tuple[tuple[str, frozenset[int]], ...]:
    """All other fonts that are installed; read once, when a character is in none of ours."""
    ours, found = {name for name, _ in fonts()}, {}
    logging.getLogger("matplotlib.font_manager").addFilter(_no_weight)
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.name, entry.weight, entry.fname)):
        if entry.name in ours or entry.name in found or re.search("emoji|last ?resort", entry.name, re.IGNORECASE):
            continue
        with contextlib.suppress(Exception):  # whatever is wrong with somebody's font, the others do
            font = font_manager.get_font(font_manager.findfont(entry.name, fallback_to_default=False))
            found[entry.name] = frozenset(font.get_charmap()) if font.scalable else frozenset()
    logging.getLogger("matplotlib.font_manager").removeFilter(_no_weight)
    return tuple(found.items())


def _no_weight(record: logging.LogRecord) -> bool:
    """Whether a line of matplotlib's is about something else than a font without a normal weight."""
    return "font weight" not in record.getMessage()


@functools.cache
def can_draw(character: str) -> bool:
    """Tell, within a drawing, whether an installed font has a character; one of others is used from now on."""
    if any(ord(character) in charset for _, charset in (*fonts(), *_FURTHER)):
        return True
    if unicodedata.category(character)[0] == "C":
        return False
    font = next((font for font in _others() if ord(character) in font[1]), None)
    if font is not None:
        _FURTHER.append(font)
        matplotlib.rcParams["font.family"] = [*matplotlib.rcParams["font.family"], font[0]]
    return font is not None


def numbered(names: Sequence[str]) -> tuple[list[str], str]:
    """The names of classes as they are drawn, and what is told beside the drawing.

    A name with a character that no installed font has stands there as its class's number, from 1.
    """
    unknown = [i for i, name in enumerate(names) if not all(map(_can_write, _visible(name)))]
    drawn = [f"class {i + 1}" if i in unknown else plain(_bare(name)) for i, name in enumerate(names)]
    return drawn, ", ".join(f"class {i + 1} is {names[i]}" for i in unknown)


def drawn_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Do what `numbered` does, for reports, outside a drawing."""
    with in_style():
        return numbered(names)


def in_words(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """The sentences with the names of classes in them as they are drawn."""
    changed = {name: drawn for name, drawn in zip(names, drawn_names(names)[0], strict=True) if name not in ("", drawn)}
    if not changed:
        return list(sentences)
    pattern = re.compile("|".join(re.escape(name) for name in sorted(changed, key=len, reverse=True)))
    return [pattern.sub(lambda match: changed[match[0]], sentence) for sentence in sentences]


def _can_write(character: str) -> bool:
    return can_draw(character) and (_SHAPES or not leftward(character))


def leftward(text: str) -> bool:
    """Whether something in a text is read from right to left."""
    return any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def _bare(text: str) -> str:
    return text.replace(FSI, "").replace(PDI, "")


def _visible(text: str) -> list[str]:
    return [c for c in text if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Mn", "Me")]


def plain(text: str) -> str:
    """One line without characters that cannot be drawn: invisible ones go, others become the replacement sign.

    What is read from right to left is kept apart from what stands beside it, as one name unless marks are there.
    """

    def shown(c: str) -> str:
        if c in (FSI, PDI) or can_draw(c):
            return c
        return "" if unicodedata.category(c) in ("Cc", "Cf", "Mn", "Me") else "\ufffd"

    line = "".join(shown(c) for c in " ".join(text.split()))
    return f"{FSI}{line}{PDI}" if FSI not in line and leftward(line) else line


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else _with_dots(text[: limit - 1])


def _with_dots(beginning: str) -> str:
    return beginning.rstrip() + "…" + PDI * (beginning.count(FSI) - beginning.count(PDI))


def text_width(figure: Figure, text: str, size: float, weight: str = "normal") -> float:
    """The width of the drawn text in pixels."""
    font = font_manager.FontProperties(size=size, weight=weight)
    assert isinstance(figure.canvas, FigureCanvasAgg)  # new_figure gave it one
    return figure.canvas.get_renderer().get_text_width_height_descent(text, font, False)[0]


def cut(figure: Figure, text: str, room: float, size: float) -> str:
    """``text`` without its end where it is wider than so many pixels."""
    if not text or text_width(figure, text, size) <= room:
        return text
    low, high = 0, len(text) - 1  # characters that are surely not too many, and may be
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_width(figure, _with_dots(text[:middle]), size) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return _with_dots(text[:low])


def cut_apart(figure: Figure, names: Sequence[str], room: float, size: float, others: bool = True) -> list[str]:
    """The drawn names of classes within ``room`` pixels each; those that are cut to the same get their numbers.

    Without ``others`` only these are cut: it is for whoever finds the room for the rest.
    """
    short = [cut(figure, name, room, size) for name in names]
    found = []
    for i, name in enumerate(names):
        if short[i] != name and short.count(short[i]) > 1:
            number = f" ({i + 1})"
            found.append(cut(figure, name, room - text_width(figure, number, size), size) + number)
        else:
            found.append(short[i] if others else name)
    return found


def wrapped(figure: Figure, text: str, room: float, size: float, weight: str = "normal") -> list[str]:
    """``text`` in lines of at most so many pixels, broken at spaces; a single word that is wider is cut."""
    lines: list[str] = []
    whole = re.sub(f"{FSI}[^{PDI}]*{PDI}", lambda name: name[0].replace(" ", "\u00a0"), text)
    space, wide = text_width(figure, "n n", size, weight) - text_width(figure, "nn", size, weight), 0.0
    for word in whole.split(" "):
        own = text_width(figure, word, size, weight)
        if lines and wide + space + own <= room:
            lines[-1], wide = f"{lines[-1]} {word}", wide + space + own
        else:
            lines.append(cut(figure, word, room, size))
            wide = own
    return lines


def two_lines(figure: Figure, text: str, room: float, size: float = 8.5) -> str:
    """``text`` on one line of ``room`` pixels or on two; what is too long loses its middle, never a trailing number."""

    def fits(part: str) -> bool:
        return text_width(figure, part, size) <= room

    def squeeze(part: str) -> str:
        match = re.fullmatch(r"(.*?)(\s[\d.,]+(?:\s?%)?|→)?", part)
        assert match is not None  # it takes any single line
        body, tail = match.groups("")
        while body and not fits(part):
            body = body[:-1].rstrip()
            part = _with_dots(body) + tail
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
