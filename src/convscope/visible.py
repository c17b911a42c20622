"""Names as they may be shown: what would move a cursor, ring a bell or turn the reading direction is written out.

A class, a file or a network may have any name, an escape sequence too.
"""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL, C1, the marks and overrides of direction, line and paragraph separators.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_BYTES = re.compile("[\ud800-\udfff]")  # how Python holds the bytes of a name that are no text
_FORMULA = re.compile("[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_BREAKS = re.compile("[\t\n]")


def visible_lines(text: str) -> str:
    """The text with its control characters written out, as ``\\x1b``; tabs and line feeds stay."""
    return _CONTROL.sub(_written, text)


def visible(text: str) -> str:
    """The text on one line: with tabs, line feeds and bytes that are no text written out too, the last as ``\\xe9``."""
    one_line = _BREAKS.sub(_written, visible_lines(text))
    return _BYTES.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", one_line)


def cell(text: str) -> str:
    """The text as a cell of a table: one that a spreadsheet would compute has an apostrophe before it, as people write.

    Such begin with ``=``, ``+``, ``-`` or ``@``, or with their wide forms or an end of a line; a number is none.
    """
    bare = text.lstrip("'")
    return f"'{text}" if _FORMULA.match(bare) and not _NUMBER.fullmatch(text) else text


def path_cell(path: str) -> str:
    """A path as a cell of a table: ``./=a.png`` for one that a spreadsheet would compute, which is the same file.

    And for one that ``of_cell`` would take for such a cell.
    """
    return f"./{path}" if _FORMULA.match(path) or of_cell(path) != path else path


def of_cell(text: str) -> str:
    """What ``cell`` was given."""
    return text[1:] if text[:1] == "'" and cell(text[1:]) == text else text


def _written(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def visible_json(text: str) -> str:
    """A JSON text with its control characters as ``\\u001b``: they stand in strings only, and mean the same so."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
