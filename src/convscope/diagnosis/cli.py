"""`convscope diagnose`: the verdict in words, and the numbers it rests on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..terminal import print_json, print_notes, progress_bar
from ..visible import visible
from .options import DiagnoseOptions

if TYPE_CHECKING:
    from .report import DiagnoseReport


def diagnose(
    run: str,
    data: str | None = None,
    /,
    *,
    options: Flat[DiagnoseOptions] = DiagnoseOptions(),
    fix: Flag = False,
    json: Flag = False,
) -> None:
    """Say in words why RUN, a MODEL, or a curve does or does not learn: the evidence, a verdict and one next step.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, the name of a model (whose weights are random), or a curve
        alone: a CSV, JSON lines, a Trainer's state, or TensorBoard's events.
    data
        What it was trained on (default: what the run says).
    fix
        Print the lines of torch that take the next step. No file is changed.
    json
        Print one JSON object.
    """
    from . import command

    with progress_bar(json) as progress:
        result = command.diagnose(run, data, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_diagnosis(result)
    if fix and not json:
        print(result.fix() or "there is nothing to mend.")


def print_diagnosis(result: DiagnoseReport) -> None:
    """The verdict first, then what happens to the gradient, and where the evidence lies."""
    s = result.summary
    print_notes(s["notes"])
    print(result.sentence())
    for finding in s["findings"][:1]:
        where = f", at {finding['where']}" if finding["where"] else ""
        print(f"seen by {finding['seen_by']}{where}. To test the next step: {finding['tries']}.")
    for finding in s["findings"][1:]:
        print(f"also {finding['fault']}: {finding['sentence']}")
    for when, state in s["states"].items():
        bound = ""
        if state["norm_bound"] is not None:
            bound = f"; its norm is {state['norm_end_to_end']:.2g}, the product of the norms {state['norm_bound']:.2g}"
        shrink, reach, factors = state["typical_shrink"], state["reach"], len(state["factors"])
        print(
            f"{when + ':':<6} the loss's gradient changes x{shrink:.2f} a factor; {reach:.2g} of it reaches the "
            f"images through {factors} factors{bound}"
        )
    if s["norm"] is not None:
        n = s["norm"]
        noise = ", ".join(f"{b['size']}: {b['noise']:.2g}" for b in n["batches"])
        print(
            "{layer}:{channel}: mu {mean:.3g}, sigma {scale:.3g} (running {running_mean:.3g}, {running_scale:.3g}), "
            "gamma {gamma:.3g}, delta {delta:.3g}; noise, in sigmas, by images in a batch: ".format(**n)
            + noise
        )
    page = visible(str(Path(s["folder"]) / "index.html"))
    print(f"written in {s['seconds']:.0f} s: {page} ({', '.join(result.files())})")
