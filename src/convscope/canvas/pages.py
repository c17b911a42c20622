"""Pages that need no other file, from the template of a room and the base that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import figures


def page(template: Path, **values: Any) -> str:
    """A page that needs no other file, from the template of a room, which extends ``base.html``."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    folders = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(loader=folders, autoescape=select_autoescape(), trim_blocks=True)
    return environment.get_template(template.name).render(values)


def uri(path: Path) -> str | None:
    """A PNG file for the ``src`` of an ``img`` in a page that stands alone; None where it is not there."""
    return figures.Drawing(path.read_bytes()).data_uri() if path.exists() else None
