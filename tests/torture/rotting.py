"""What rot is tried on: a file that is whole, how commands read it, and what they read of it while it is."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convscope.errors import ConvscopeError, DamagedFile
from convscope.page.routes import ROUTES, Page
from convscope.page.served import Served
from convscope.storage import finite, read_json
from convscope.tensor_files import tensor_hash
from kill_points import CALLS, SECONDS

Told = tuple[Any, str]  # what is used of a file, and what is said to the user on the way


@dataclasses.dataclass
class Sound:
    """A file that is read again, and its reader, which raises where it refuses.

    ``made_again`` says that it is a cache: what is read may be equal because it was made anew. ``named`` are other
    words that name the file, beside its path.
    """

    kind: str
    path: Path
    read: Callable[[], Told]
    made_again: bool = False
    named: tuple[str, ...] = ()
    _wanted: tuple[str, str | None] | None = None

    def is_named(self, text: str) -> bool:
        """Whether a text names the file."""
        return any(word in text for word in (self.path.name, *self.named))

    def wanted(self) -> tuple[str, str | None]:
        """What is read while the file is whole, and what there is without it; None where that is refused."""
        if self._wanted is None:
            whole, data = content(self.read()[0]), self.path.read_bytes()
            self.path.unlink()
            try:
                without = content(self.read()[0])
            except (ConvscopeError, OSError, SystemExit):
                without = None
            self.path.write_bytes(data)
            self._wanted = whole, without
        return self._wanted

    def forget(self) -> None:
        """Look again at what is read while it is whole: another file was made, which a page may tell of too."""
        self._wanted = None
        page = getattr(self.read, "__self__", None)
        if isinstance(page, Viewed):
            page.whole = None


def plainly(read: Callable[[], Any]) -> Callable[[], Told]:
    """A reader that says nothing but what it raises."""
    return lambda: (read(), "")


def sealed_json(kind: str, *paths: Path) -> list[Sound]:
    """JSON files that are read by their seal."""
    return [Sound(kind, path, plainly(lambda path=path: read_json(path))) for path in paths]


def content(value: Any) -> str:
    """A hash of what a value holds: numbers, texts, arrays, tensors, networks, and what is made of these."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any):
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        yield tensor_hash("", value).encode()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _parts({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}".encode()
        for one in value:
            yield from _parts(one)
    else:
        yield repr(value).encode()


class Viewed:
    """A page: what is damaged is told among its problems, and all else is shown as before, or left out."""

    def __init__(self, runs: Path, address: str, **asked: Any) -> None:
        self.runs, self.address, self.asked = runs, address, asked
        self.whole: dict[str, Any] | None = None

    def read(self) -> Told:
        """The values of the page. DamagedFile with its problems where all else is as while the file was whole."""
        shown = finite(ROUTES[self.address].values(Page(Served(self.runs)), **self.asked))
        own = [shown.pop(key, None) for key in ("problem", "unread")]
        problems = [*shown.pop("problems", ()), *(problem for problem in own if problem)]
        if self.whole is None:
            assert not problems, problems
            self.whole = shown
        if problems and all(_left(value, self.whole[key]) for key, value in shown.items()):
            raise DamagedFile(" ".join(problems))
        return shown, " ".join(problems)


def _left(value: Any, whole: Any) -> bool:
    """Whether a value is the whole one, or a part of it, or nothing."""
    if isinstance(value, dict) and isinstance(whole, dict):
        return all(key in whole and _left(one, whole[key]) for key, one in value.items())
    if isinstance(value, list) and isinstance(whole, list):
        return all(one in whole or any(_left(one, other) for other in whole) for one in value)
    return value == whole or value in (None, [], {}, "")


def timeless(value: Any) -> Any:
    """JSON values without what they cost and when they were made, and without the seals of these."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if not SECONDS.search(key) and key not in CALLS}
    return [timeless(one) for one in value] if isinstance(value, list) else value
