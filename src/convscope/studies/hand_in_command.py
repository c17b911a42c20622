"""Compare hand-ins: many people's outcomes of the lecture's claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..given import takes_what_is_meant
from ..noted import Noted
from .hand_ins import HandIn, read_hand_ins, side_by_side


@dataclass(frozen=True)
class HandInReport(Noted):
    """Hand-ins side by side; ``refused`` files are not among them. ``summary`` is printed."""

    TOLD = ("hand_ins",)
    hand_ins: tuple[HandIn, ...]
    summary: dict[str, Any]


@takes_what_is_meant
def compare_hand_ins(files: str | Path | Iterable[str | Path]) -> HandInReport:
    """Put outcomes of `convscope study` side by side: JSON files, or folders that hold them, one a person.

    A file that was edited by hand, has no seal or is of another kind is refused by name, and the others go on.
    UsageError where there is no JSON file.
    """
    given = [files] if isinstance(files, (str, Path)) else list(files)
    found, refused = read_hand_ins(given)
    return HandInReport(tuple(found), side_by_side(found, refused))
