"""`convscope study`: the lecture's claims, and a verdict each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..terminal import keeping, print_json, progress_bar
from ..visible import visible
from .options import StudyOptions

if TYPE_CHECKING:
    from .claim import Claim
    from .report import StudyReport
    from .running import Outcome


def study(
    *claims: str,
    options: Flat[StudyOptions] = StudyOptions(),
    list: Flag = False,
    html: Flag = False,
    json: Flag = False,
) -> None:
    """Run the lecture's CLAIMS, or all of them, as controlled experiments; each ends with a verdict.

    Stopped in the middle it keeps every training that was done, and the same command goes on.

    Parameters
    ----------
    claims
        Names of `convscope study --list`; all when none is named.
    list
        Only say which claims there are, what each needs, and its minutes.
    html
        Write one self-contained page to hand in: verdicts, curves, data hashes, seeds, versions.
    json
        Print JSON lines: one a claim. With --list, one JSON list.
    """
    from . import command
    from .report import StudyReport

    asked = command.find_claims(claims)
    if list:
        rows = [claim.to_json() for claim in asked]
        print_json(rows) if json else print_claims(asked, options.size)
        return
    if not json:
        print(budget_line(asked, options.size), file=sys.stderr)
    with (
        keeping("every training that was done is kept, and the same command goes on."),
        progress_bar(json) as progress,
    ):
        for event in command.study_events(claims, replace(options, progress=progress)):
            if isinstance(event, StudyReport):
                page = event.write() if html else None
                if not json:
                    print_study(event, page)
            else:
                print_json(event.to_json()) if json else print_outcome(event)


def print_claims(claims: Sequence[Claim], size: str) -> None:
    """Print the claims, each with the data it needs and its budget at a size."""
    for claim in claims:
        row = claim.to_json()
        needs = ", ".join(row["needs"]) if size == "small" else "cifar10"
        print(f"{row['name']:<26}{row['size_minutes'][size]:>7,g} min  {needs}\n    {row['sentence']}")
    print(budget_line(claims, size))


def budget_line(claims: Sequence[Claim], size: str) -> str:
    """Say how long claims will take; those that share trainings take less."""
    total = sum(claim.minutes[size] for claim in claims)
    told = f"about {total:,g} {'minute' if total == 1 else 'minutes'} on two cores" if total else "nothing to train"
    return f"{_claims(len(claims))} at size {size}: {told}"


def print_outcome(outcome: Outcome) -> None:
    """A claim's verdict, and the numbers it rests on."""
    print(f"{outcome.claim.name}: {outcome.verdict}")
    for part in outcome.judgement.parts:
        print(f"    {part.sentence()}")
    for note in outcome.judgement.notes:
        print(f"    {note}")
    sys.stdout.flush()


def print_study(report: StudyReport, page: Path | None) -> None:
    """Print the number of each verdict, and the place of the files."""
    lies = f"{report.folder} (one JSON file a claim)" if page is None else str(page)
    print(f"{_claims(len(report.outcomes))}: {report.sentence()}; written: {visible(lies)}")


def _claims(count: int) -> str:
    return "1 claim" if count == 1 else f"{count} claims"
