"""Turns what a view found into HTML: on a server with addresses from the root, in a static site with relative ones."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..canvas.pages import visible_value
from ..spoken import quoted
from ..storage import to_json
from ..transfer_learning.task_report import CALLED
from ..version import __version__

HERE = Path(__file__).parent
STATIC = HERE / "static"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Rendering:
    """How addresses and secrets stand in a page: ``up`` leads to the root of a static site, None on a server."""

    token: str = ""
    nonce: str = ""
    up: str | None = None
    alone: bool = True  # whether nobody but this machine can ask

    def link(self, *parts: str, **query: str | int) -> str:
        """The address of a page: of the root without ``parts``."""
        place = "/".join(quote(str(part), safe="") for part in parts)
        if self.up is not None:
            return f"{self.up}{place or 'index'}.html"
        return f"/{place}" + (f"?{urlencode(query)}" if query else "")

    def file(self, *parts: str) -> str:
        """The address of an image, or of a style sheet or script."""
        place = "/".join(quote(part, safe="/") for part in parts)
        return f"{self.up if self.up is not None else '/'}{place}"

    def asset(self, name: str) -> str:
        """The address of a file of ours, which changes when the file does."""
        return self.file("static", name) + (f"?{asset_hash(name)[:12]}" if self.up is None else "")


@functools.cache
def assets() -> dict[str, Path]:
    """Style sheets and scripts by name: those alone are served."""
    return {p.relative_to(STATIC).as_posix(): p for p in STATIC.rglob("*") if p.suffix in KINDS}


@functools.cache
def asset_hash(name: str) -> str:
    """The SHA-256 of a style sheet or script."""
    return hashlib.sha256(assets()[name].read_bytes()).hexdigest()


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=visible_value,
    )
    made.filters |= {
        "percent": percent,
        "interval": interval,
        "seconds": seconds,
        "figures": figures,
        "moment": moment,
        "json": _json,
        "called": CALLED.__getitem__,
        "quoted": quoted,
    }
    return made


def render(template: str, values: dict[str, Any], how: Rendering) -> str:
    """The HTML of a page."""
    live = how.up is None
    return _environment().get_template(template).render(**values, to=how, live=live, version=__version__)


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage; a dash for None."""
    return "\u2013" if value is None else f"{100 * value:.{digits}f} %"


def interval(low: float | None, high: float | None) -> str:
    """An interval of shares of 1, in percent; nothing for None."""
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return "\u2013"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def figures(value: float | None, digits: int = 3) -> str:
    """A number with so many figures that count; a dash for None."""
    return "\u2013" if value is None else f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def moment(value: str, length: int = 16) -> str:
    """A time of a file, in this machine's zone: the first ``length`` characters of year-month-day hour:minute.

    A dash for what is none, as a file from elsewhere may say.
    """
    try:
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M")[:length]
    except (ValueError, OverflowError, OSError):
        return "\u2013"


def _json(value: Any) -> Any:
    """A value for a ``<script type="application/json">``, which no text in it can leave."""
    from markupsafe import Markup

    text = to_json(value)
    return Markup("".join(f"\\u{ord(c):04x}" if c in "<>&\u2028\u2029" else c for c in text))
