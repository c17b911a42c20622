"""What a page leaves out because its file is damaged: who reads the file tells it here, and the page says it above."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..errors import DamagedFile

_told: ContextVar[list[str] | None] = ContextVar("told", default=None)  # of the request that is being answered


@contextmanager
def left_out(path: Path, *quietly: type[Exception]) -> Iterator[None]:
    """A with-block that ends where the file is damaged, which is told, or is not there.

    Errors that are passed over ``quietly`` are those of a file that another version wrote.
    """
    try:
        yield
    except DamagedFile as error:
        told = _told.get()
        if told is not None and path.exists():
            told.append(str(error))
    except quietly:
        pass


def with_problems(view: Callable[..., dict[str, Any]], *given: Any, **asked: Any) -> dict[str, Any]:
    """The values of a view, and among its ``problems`` what it left out."""
    told: list[str] = []
    token = _told.set(told)
    try:
        values = view(*given, **asked)
    finally:
        _told.reset(token)
    problems = [*values.get("problems", ()), *told]
    return values | ({"problems": [*dict.fromkeys(problems)]} if problems else {})
