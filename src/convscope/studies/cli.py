"""`convscope study`: the lecture's claims, and a verdict each."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..options import Flag
from ..terminal import keeping, progress_bar

if TYPE_CHECKING:
    from .claim import Claim
    from .report import StudyReport
    from .running import Outcome


def study(
    *claims: str,
    size: Literal["small", "medium", "large"] = "small",
    list: Flag = False,
    html: Flag = False,
    minutes: float | None = None,
    device: str = "cpu",
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Run the lecture's CLAIMS, or all of them, as controlled experiments; each ends with a verdict.

    Stopped in the middle it keeps every training that was done, and the same command goes on.

    Parameters
    ----------
    claims
        Names of `convscope study --list`; all when none is named.
    size
        small: digits and shapes, offline, half an hour for all; medium and large: CIFAR-10, hours and days.
    list
        Only say which claims there are, what each needs, and its minutes.
    html
        Write one self-contained page to hand in: verdicts, curves, data hashes, seeds, versions.
    minutes
        Begin no other training after so many.
    device
        auto, cpu, cuda, cuda:1, mps.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs); a study lies in its folder `study`.
    json
        Print JSON lines: one a claim. With --list, one JSON list.
    """
    from . import command

    asked = command.find_claims(claims)
    if list:
        print(json_module.dumps([claim.to_json() for claim in asked])) if json else print_claims(asked, size)
        return

    if not json:
        print(budget_line(asked, size), file=sys.stderr)

    def show(outcome: Outcome) -> None:
        print(json_module.dumps(outcome.to_json()), flush=True) if json else print_outcome(outcome)

    with (
        keeping("every training that was done is kept, and the same command goes on."),
        progress_bar(json) as progress,
    ):
        report = command.study(
            claims, size=size, minutes=minutes, data_root=data_root, device=device, runs=runs, progress=progress,
            on_claim=show,
        )  # fmt: skip
    page = report.write() if html else None
    if not json:
        print_study(report, page)


def print_claims(claims: Sequence[Claim], size: str) -> None:
    """What claims there are, what each needs, and its budget at a size."""
    for claim in claims:
        row = claim.to_json()
        needs = ", ".join(row["needs"]) if size == "small" else "cifar10"
        print(f"{row['name']:<26}{row['size_minutes'][size]:>7,g} min  {needs}\n    {row['sentence']}")
    print(budget_line(claims, size))


def budget_line(claims: Sequence[Claim], size: str) -> str:
    """What claims will take; those that share trainings take less."""
    total = sum(claim.minutes[size] for claim in claims)
    return f"{_claims(len(claims))} at size {size}: about {total:,g} minutes on two cores"


def print_outcome(outcome: Outcome) -> None:
    """A claim's verdict, and the numbers it rests on."""
    print(f"{outcome.claim.name}: {outcome.verdict}")
    for part in outcome.judgement.parts:
        print(f"    {part.sentence()}")
    for note in outcome.judgement.notes:
        print(f"    {note}")
    sys.stdout.flush()


def print_study(report: StudyReport, page: Path | None) -> None:
    """How many of each verdict, and where it lies."""
    lies = f"{report.folder} (one JSON file a claim)" if page is None else page
    print(f"{_claims(len(report.outcomes))}: {report.sentence()}; written: {lies}")


def _claims(count: int) -> str:
    return "1 claim" if count == 1 else f"{count} claims"
