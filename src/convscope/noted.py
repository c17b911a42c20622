"""What every report has: the sentences that a user should read, and how a notebook shows it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from .visible import visible


class Noted:
    """A report with ``notes``: sentences that a user should read, as the command line prints them.

    A notebook shows its image, if it has one, the ``TOLD`` entries of its ``summary``, and the notes.
    """

    TOLD: ClassVar[tuple[str, ...]] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to read."""
        return tuple(_summary(self)["notes"])

    def subject(self, kinds: tuple[type, ...]) -> Any:
        """What the report stands for where one of these ``kinds`` is asked for: its run, where it has one."""
        run = getattr(self, "run", None)
        return self if run is None else run

    def told(self) -> Iterable[tuple[str, Any]]:
        """What a notebook shows of the report, by name; a path becomes a link."""
        for name in self.TOLD:
            if _summary(self)[name] is not None:
                yield name.replace("_", " "), _summary(self)[name]
        folder = getattr(self, "folder", None)
        if folder is not None:
            yield "written to", folder

    def _repr_html_(self) -> str:
        png = getattr(self, "_repr_png_", lambda: None)()
        image = f'<img alt="" style="max-width: 100%" src="{_data_uri(png)}">' if png else ""
        rows = "".join(f"<tr><th>{_shown(name)}</th><td>{_shown(value)}</td></tr>" for name, value in self.told())
        table = f"<table>{rows}</table>" if rows else ""
        return image + table + "".join(f"<p>note: {_shown(note)}</p>" for note in self.notes)


def _summary(report: Any) -> Mapping[str, Any]:
    return report.summary


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return f'<a href="{quote(os.fsencode(value.as_posix()))}">{escape(visible(str(value)))}</a>'
    return escape(visible(f"{value:.4g}" if isinstance(value, float) else str(value)))
