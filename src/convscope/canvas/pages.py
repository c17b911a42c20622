"""Pages that need no other file, from the template of a room and the base that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..visible import visible_lines
from . import figures


def page(template: Path, **values: Any) -> str:
    """A page that needs no other file, from the template of a room, which extends ``base.html``."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    folders = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(loader=folders, autoescape=select_autoescape(), trim_blocks=True, finalize=_shown)
    return environment.get_template(template.name).render(values)


def _shown(value: Any) -> Any:
    """What a page shows of a value: of a text, its control characters written out."""
    return visible_lines(value) if type(value) is str else value


def uri(path: Path) -> str | None:
    """A PNG file for the ``src`` of an ``img`` in a page that stands alone; None where it is not there.

    A link is none either: in a folder that somebody sent it may lead anywhere.
    """
    return figures.Drawing(path.read_bytes()).data_uri() if path.is_file() and not path.is_symlink() else None
