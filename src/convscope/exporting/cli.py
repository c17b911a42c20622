"""`convscope export`: one file that predicts the same elsewhere."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any, Literal

from ..options import Flag


def export(
    run: str = "last",
    /,
    *,
    format: Literal["onnx", "safetensors"] = "onnx",
    output: Path | None = None,
    model: str | None = None,
    weights: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Write RUN as one file that predicts the same elsewhere, with class names, preprocessing and a parity seal inside.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    format
        onnx (with a plain script that predicts), or safetensors.
    output
        The folder to write into (default: export in the run).
    model
        Needed for a net of your own: module.py:function, whose code is run.
    weights
        For pretrained:NAME: a safetensors file to take the weights from.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import command

    result = command.export(run, format=format, output=output, model=model, weights=weights, runs=runs)
    print(json_module.dumps(result.summary)) if json else print_export(result.summary)


def print_export(s: dict[str, Any]) -> None:
    """What was written, and that it answers as the network does."""
    print(
        f"{s['classes']} classes at {s['image_size']} x {s['image_size']}; the sealed images agree to "
        f"{s['max_difference']:.1g} ({s['tolerance']:.1g} are allowed)"
    )
    for path in s["files"]:
        print(f"written: {path}")
