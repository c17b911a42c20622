"""The classes of a dataset, merged and renamed as a table of old names and new ones says."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..errors import UnknownName, UsageError
from ..renaming import as_typed
from ..visible import visible
from .unsplit import Unsplit


def renamed(unsplit: Unsplit, table: Mapping[str, str] | None) -> Unsplit:
    """The images under their new classes, which stand in alphabetical order; a note says what became of which.

    UnknownName for a class that is not there; UsageError for a name that another class has, and where nothing merges.
    """
    if not table:
        return unsplit
    becomes = _resolved(unsplit.class_names, table)
    after = [becomes.get(name, name) for name in unsplit.class_names]
    names = tuple(sorted(set(after)))
    labels = np.array([names.index(name) for name in after], np.int64)[unsplit.labels]
    notes = (*unsplit.notes, f"classes: {_told(unsplit.class_names, becomes)}.")
    return replace(unsplit, class_names=names, labels=labels, notes=notes, called_before=becomes)


def _resolved(names: tuple[str, ...], table: Mapping[str, str]) -> dict[str, str]:
    """The table with its old names as they are written here, and with each class that others join."""
    becomes: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for old, new in table.items():
        groups.setdefault(new, []).append(old)
    for new, old in groups.items():
        there = [found for name in old if (found := _found(names, name)) is not None]
        strange = [name for name in old if _found(names, name) is None]
        if strange == [new] and len(old) == 2:
            raise UsageError(
                f"--merge {as_typed(there, new)} merges one class alone, for there is no class {new!r}: "
                f"--rename {as_typed(there, new)} gives it that name."
            )
        if strange:
            raise UnknownName("class", strange[0], names)
        becomes |= dict.fromkeys(there, visible(new))
    kept = {_alike(name): name for name in names if name not in becomes}
    for new, old in groups.items():
        if _alike(new) not in kept:
            continue
        if len(old) == 1:
            raise UsageError(f"there is a class {new!r} already: --merge {as_typed(old, new)} makes one class of both.")
        becomes[kept[_alike(new)]] = visible(new)
    return becomes


def _found(names: Iterable[str], wanted: str) -> str | None:
    """The name as it is written, or in other Unicode characters that look the same, or with blanks around it."""
    names = list(names)
    alike = [name for name in names if _alike(name) == _alike(wanted)]
    if visible(wanted) in alike:
        return visible(wanted)
    alike = alike or [name for name in names if _alike(name).strip() == _alike(wanted).strip()]
    return alike[0] if len(alike) == 1 else None


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", visible(name))


def _told(names: tuple[str, ...], becomes: Mapping[str, str]) -> str:
    """What became of which, in words."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if name in becomes:
            groups.setdefault(becomes[name], []).append(name)
    said = []
    for new, old in groups.items():
        told = ", ".join(map(repr, old[:8])) + (f" and {len(old) - 8} more" if len(old) > 8 else "")
        said.append(f"{told} {'are' if len(old) > 1 else 'is'} {new!r} now")
    return "; ".join(said)
