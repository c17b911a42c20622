"""Pages that need no other file, from the template of a room and the base that all share."""

from __future__ import annotations

import functools
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedFile
from ..spoken import quoted
from ..visible import visible_lines
from . import figures

PNG = b"\x89PNG\r\n\x1a\n"  # how one begins


def page(template: Path, names: Sequence[str] = (), **values: Any) -> str:
    """A page that needs no other file, from the template of a room, which extends ``base.html``.

    The filter ``told`` keeps the ``names`` of classes in a sentence apart from what stands beside them, where they are
    read from right to left.
    """
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    folders = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(loader=folders, autoescape=select_autoescape(), trim_blocks=True, finalize=visible_value)
    leftward = sorted({name for name in names if figures.leftward(name)}, key=len, reverse=True)
    environment.filters["told"] = functools.partial(_told, leftward)
    environment.filters["quoted"] = quoted
    return environment.get_template(template.name).render(values)


def _told(names: Sequence[str], text: str) -> Any:
    from markupsafe import Markup

    parts = [text] if not names else re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    shown = (Markup("<bdi>{}</bdi>" if i % 2 else "{}").format(visible_lines(part)) for i, part in enumerate(parts))
    return Markup("").join(shown)


def visible_value(value: Any) -> Any:
    """What a page shows of a value: of a text, its control characters written out."""
    return visible_lines(value) if type(value) is str else value


def uri(path: Path, left_out: list[str] | None = None) -> str | None:
    """A PNG file for the ``src`` of an ``img`` in a page that stands alone; None where it is not there.

    A link is none either: in a folder that somebody sent it may lead anywhere. Where it is not as drawn, this is told
    to what the page has ``left_out``, which it shows by that name; DamagedFile where nobody asks what that is.
    """
    if not path.is_file() or path.is_symlink():
        return None
    data = path.read_bytes()
    if not is_whole_png(data):
        told = f"{path} is damaged: remove it, and it is left out until it is drawn anew."
        if left_out is None:
            raise DamagedFile(told)
        left_out.append(told)
        return None
    return figures.Drawing(data).data_uri()


def is_whole_png(data: bytes) -> bool:
    """Whether each piece of a PNG file has its checksum, and the last one is there."""
    place = len(PNG)
    while data.startswith(PNG) and place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[place + 4 : end])):
            return False
        if kind == b"IEND":
            return end + 4 == len(data)
        place = end + 4
    return False
