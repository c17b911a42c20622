"""Labels and groups that stand in the names of files, taken out by a regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..errors import DataError, UsageError


def labels_of_paths(paths: Sequence[str], pattern: str) -> list[str]:
    """What ``pattern`` finds in each path: its first group, or all of it. DataError where it finds nothing in some."""
    found = _found(paths, pattern, "--label-from")
    lacking = [path for path, text in zip(paths, found, strict=True) if not text]
    if lacking:
        told = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise DataError(f"--label-from {pattern!r} finds no label in {len(lacking):,} of {len(paths):,} names: {told}.")
    return [text or "" for text in found]


def groups_of_paths(paths: Sequence[str], pattern: str) -> np.ndarray:
    """What ``pattern`` finds in each path; "" where nothing: such an image is a group of its own."""
    found = _found(paths, pattern, "--group")
    if not any(found):
        raise DataError(f"--group {pattern!r} finds nothing in any of {len(paths):,} names, such as {paths[0]}.")
    return np.array([text or "" for text in found])


def _found(paths: Sequence[str], pattern: str, option: str) -> list[str | None]:
    """The first group of the pattern, or its whole match, in the name of each file; in its path if it holds a slash."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{option} {pattern!r} is no regular expression: {error}.") from None
    whole = "/" in pattern
    found: list[str | None] = []
    for path in paths:
        match = compiled.search(path if whole else path.rsplit("/", 1)[-1])
        texts = [] if match is None else [text for text in match.groups() if text is not None] or [match[0]]
        found.append(texts[0] if texts else None)
    return found
