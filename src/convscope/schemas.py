"""The types of what a file says, checked before use: a seal shows that it was written so, not that it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import DamagedFile

S = TypeVar("S", bound="Schema")


class Schema(BaseModel):
    """Named values of fixed types; values of other names are let through unread."""

    model_config = ConfigDict(strict=True)


def check_schema(schema: type[S], values: Any, path: Path, what: str) -> S:
    """The values as the schema has them; DamagedFile, "PATH is not WHAT", naming the first that has another type."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:4])[:100]
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise DamagedFile(f"{path} is not {what}: {f'{place}: ' if place else ''}{reason}.") from None
