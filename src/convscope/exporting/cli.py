"""`convscope export`: one file that predicts the same elsewhere."""

from __future__ import annotations

from typing import Any

from ..options import Flag, Flat
from ..terminal import print_json, print_notes
from ..visible import visible
from .options import ExportOptions


def export(run: str = "last", /, *, options: Flat[ExportOptions] = ExportOptions(), json: Flag = False) -> None:
    """Write RUN as one file that predicts the same elsewhere, with class names, preprocessing and a parity seal inside.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    json
        Print one JSON object.
    """
    from . import command

    result = command.export(run, **vars(options))
    print_json(result.summary) if json else print_export(result.summary)


def print_export(s: dict[str, Any]) -> None:
    """Tell what was written, and that it answers as the network does."""
    print_notes(s["notes"])
    print(
        f"{s['classes']} classes at {s['image_size']} x {s['image_size']}; the sealed images agree to "
        f"{s['max_difference']:.1g} ({s['tolerance']:.1g} are allowed)"
    )
    for path in s["files"]:
        print(f"written: {visible(path)}")
