"""`convscope doctor`: the verdict first, then what it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..terminal import print_json, print_notes, progress_bar
from ..visible import visible
from .options import DoctorOptions

if TYPE_CHECKING:
    from .report import DoctorReport


def doctor(
    data: str,
    /,
    *,
    options: Flat[DoctorOptions] = DoctorOptions(),
    json: Flag = False,
) -> None:
    """Look through DATA before training on it: what is broken, doubled, mislabelled, or not what it seems.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, a table, or shards.
    json
        Print one JSON object.
    """
    from . import command

    with progress_bar(json) as progress:
        result = command.doctor(data, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_doctor(result)


def print_doctor(result: DoctorReport) -> None:
    """The verdict, then each finding with its next step, the gravest first."""
    from .findings import counted

    summary = result.summary
    print_notes(summary["notes"])
    print(summary["verdict"])
    for finding in result.findings:
        advice = f" {finding.advice[0].upper()}{finding.advice[1:]}" if finding.advice else ""
        print(f"{finding.grade:<5} {finding.kind}: {finding.sentence}{advice}")
    if result.corrections is not None:
        lines = counted(summary["corrections"], "line")
        print(f"corrections: {visible(str(result.corrections))} ({lines}; strike out, then --corrections FILE)")
    spent = sum(summary["seconds"].values())
    print(f"{summary['images']:,} images in {spent:.0f} s: {visible(str(result.folder / 'index.html'))}")
