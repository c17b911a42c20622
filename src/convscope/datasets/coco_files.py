"""What all readers of COCO files share: the JSON itself, and which image a ``file_name`` means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..reading import read_regular_text

MAX_BYTES = 2**30
OUTLINED = re.compile(r'"segmentation"\s*:(?!\s*(null|\[\s*\]))')  # with an outline, or what is meant as one


def read_coco_json(path: Path, what: str, keep: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    """The object in a JSON file of ``what``; ``keep`` makes of each object within what is kept of it, at once.

    DataError where the file is too large, no JSON, or no object.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 30} GB.")
        data = json.loads(read_regular_text(path), object_hook=keep)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(data, dict):
        raise DataError(f"{path} is no COCO file of {what}: it holds no images, annotations and categories.")
    return data


def named_image(name: str, files: Sequence[Path], where: str) -> Path | None:
    """Which of the files of that name is meant: one in the folders that are told, or the only one."""
    ended = [path for path in files if path.as_posix().endswith(f"/{name.removeprefix('./')}")]
    found = ended if "/" in name and ended else files
    if len(found) > 1:
        raise DataError(f"{where} names {name}, and that are several images: {found[0]} and {found[1]}.")
    return found[0] if found else None


def counted_images(count: int) -> str:
    """The number of images, in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def not_there(missing: int, where: str) -> tuple[str, ...]:
    """A sentence about images that a file names and that are not there; none where all are."""
    if not missing:
        return ()
    return (f"{counted_images(missing)} that {where} names {'is' if missing == 1 else 'are'} not there.",)
