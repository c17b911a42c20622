"""Files and folders that the user has named on this machine: no other is read because a run's record names it.

A run may come from anybody, and its record says where its data lay. What a user typed once is remembered by an empty
file in the cache, named by the hash of the path, so that no list of folders is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ..cache import cache_folder
from ..errors import UsageError
from ..storage import expanded
from .shard_places import is_address


def remember(path: Path) -> None:
    """Note that the user named ``path``; where the cache cannot be written, it will have to be named again."""
    place = _place(path)
    with suppress(OSError):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


def check_named(places: Mapping[str, str | Path | None], record: str) -> None:
    """UsageError where only the record of ``record`` (a run) names one of the ``places``, each under how to name it."""
    unsaid = {option: place for option, place in places.items() if place is not None and not _place(place).exists()}
    if unsaid:
        one = len(unsaid) == 1
        raise UsageError(
            f"{_listed(unsaid.values())} {'is' if one else 'are'} named by {record} and by nobody on this machine, so "
            f"{'it is' if one else 'they are'} not read unasked: name {'it' if one else 'them'} with "
            f"{_listed(unsaid)} if that is meant."
        )


def _listed(words: Iterable[str | Path]) -> str:
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def _place(path: str | Path) -> Path:
    whole = str(path) if is_address(str(path)) else os.path.abspath(expanded(path))
    return cache_folder() / "named" / hashlib.sha256(os.fsencode(whole)).hexdigest()[:40]
