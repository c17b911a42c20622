"""Answered images sorted into a folder for each answer: copied or linked, never moved and never written over."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..classifying.prediction import Prediction, Unreadable
from ..errors import DataError, StorageError, UsageError
from ..portable import merged_name, shortened
from ..storage import commit_bytes, file_hash, make_folder, storage_error

_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]')
MOST_OF_A_NAME = 10_000  # images of one name in one folder


def sort_into(
    folder: Path, sources: Sequence[tuple[str, object]], answers: Sequence[Prediction | Unreadable], links: bool
) -> list[str]:
    """Copy each image that was answered, or with ``links`` link it, to ``folder``/answer/name; returns notes.

    Images of one name get numbers; one that is there already, byte for byte, is left. Images that are no files, and
    those that cannot be read, are passed over and counted. Raises UsageError for a place that is a file, DataError for
    an image that can be read no more, StorageError.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder with --copy-to.")
    names = _folders(answer.label for answer in answers if isinstance(answer, Prediction))
    counts: Counter[str] = Counter()
    for (_, source), answer in zip(sources, answers, strict=True):
        if not isinstance(answer, Prediction) or not isinstance(source, Path):
            counts["left out"] += 1
            continue
        _put(source, make_folder(folder / names[answer.label]), links)
        counts[names[answer.label]] += 1
    left_out = counts.pop("left out", 0)
    told = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(20))
    notes = [f"{'linked' if links else 'copied'} to {folder}: {told or 'nothing'}."]
    if left_out:
        notes.append(f"{left_out:,} that cannot be read, or are no files, are not among them.")
    return notes


def _folders(labels: Iterable[str]) -> dict[str, str]:
    """The name of each answer's folder; two answers never share one."""
    found: dict[str, str] = {}
    for label in sorted(set(labels)):
        plain = shortened(_NOT_IN_NAMES.sub("_", label).strip(" .") or "class")
        name, number = plain, 1
        while merged_name(name) in map(merged_name, found.values()):
            number += 1
            name = f"{plain}-{number}"
        found[label] = name
    return found


def _put(source: Path, folder: Path, links: bool) -> None:
    for number in range(1, MOST_OF_A_NAME):
        target = folder / (source.name if number == 1 else f"{source.stem}-{number}{source.suffix}")
        if os.path.lexists(target):
            if _is_same(source, target, links):
                return
            continue
        try:
            if links:
                target.symlink_to(os.path.abspath(source))
            else:
                commit_bytes(target, _bytes(source))
        except OSError as error:
            raise storage_error(target, error) from error
        return
    raise StorageError(f"{folder} holds {MOST_OF_A_NAME:,} images called {source.name}.")


def _bytes(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise DataError(f"{source} cannot be read any more: {error.strerror or error}.") from error


def _is_same(source: Path, target: Path, links: bool) -> bool:
    try:
        if links:
            return target.is_symlink() and target.resolve() == source.resolve()
        return target.stat().st_size == source.stat().st_size and file_hash(target) == file_hash(source)
    except OSError:
        return False
