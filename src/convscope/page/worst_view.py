"""The images that a network of another task than classes answered worst, out of the sheets that an evaluation keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ..evaluation.task_sheet import LISTED
from ..schemas import Schema, check_schema
from ..storage import read_json
from .explained import layers_of
from .run_view import again, evaluation_of, head_of
from .served import Served

Level = Annotated[int, Field(ge=0, le=255)]


class Coloured(Schema):
    """A class that is drawn."""

    name: str
    colour: Annotated[list[Level], Field(min_length=3, max_length=3)]


class Seen(Schema):
    """An image with its figure; what was answered and what is true in words, where it has some."""

    origin: str
    figure: float
    answer: str | None
    truth: str | None


class Sheets(Schema):
    """What ``worst.json`` says."""

    called: str
    of: int
    side: Annotated[int, Field(ge=1, le=512)]
    block: Annotated[int, Field(ge=1)]
    cells: list[Literal["image", "answer", "mask", "truth"]]
    classes: list[Coloured]
    images: list[Seen]


def worst_page(served: Served, run: str, evaluation: str) -> dict[str, Any]:
    """The images of an evaluation, the worst first; ``images`` is None for one that kept none."""
    place, figures = evaluation_of(served, run, evaluation, of_task=True)
    shown: dict[str, Any] = dict.fromkeys(Sheets.model_fields)
    kept = place.with_name(LISTED)
    if kept.exists():
        shown = check_schema(Sheets, read_json(kept), kept, "a list of images").model_dump()
    return {
        **head_of(served, run),
        "layers": layers_of(served, served.run(run)),
        "evaluation": evaluation,
        "metric": figures["metric"],
        **again(run, figures),
        **shown,
    }
