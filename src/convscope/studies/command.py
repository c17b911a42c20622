"""`convscope study`: the lecture's sentences as experiments, each with a verdict."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..errors import UnknownName, UsageError
from ..machine import pick_device
from ..options import with_choice_and_options
from ..training.runs import runs_folder
from .claim import Claim
from .options import StudyOptions
from .registry import CLAIMS
from .report import StudyReport
from .running import Outcome, run_claim

FOLDER = "study"  # in the folder of runs


@with_choice_and_options(StudyOptions)
def study(claims: Sequence[str] | None, options: StudyOptions) -> StudyReport:
    """Run ``claims``, or all, at a size, and judge each. Options are those of the command line.

    What was trained before is found in the folder ``study`` of ``runs`` and not trained again; after so many
    ``minutes`` no other training is begun. UnknownName for a claim or size that does not exist.
    """
    *_, report = study_events(claims or (), options)
    assert isinstance(report, StudyReport)
    return report


def study_events(claims: Sequence[str], options: StudyOptions) -> Iterator[Outcome | StudyReport]:
    """Run claims: yields the Outcome of each, and the StudyReport of all last. Raises as ``study``."""
    wanted, minutes = find_claims(claims), options.minutes
    if minutes is not None and not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} leaves no time for a training; it must be above 0.")
    folder, device = runs_folder(options.runs) / FOLDER, pick_device(options.device)
    start, outcomes = time.perf_counter(), []
    for claim in wanted:
        left = None if minutes is None else minutes - (time.perf_counter() - start) / 60
        for event in run_claim(claim, options.size, folder, data_root=options.data_root, device=device, minutes=left):
            if isinstance(event, Outcome):
                outcomes.append(event.to_json())
                yield event
            elif options.progress is not None:
                options.progress(f"{claim.name}, {event.trained.arm}", event.done, event.total)
    yield StudyReport(folder, options.size, tuple(outcomes))


def find_claims(names: Sequence[str] = ()) -> list[Claim]:
    """The claims of these names, each once, or all. UnknownName for one that does not exist."""
    for name in names:
        if name not in CLAIMS:
            raise UnknownName("claim", name, CLAIMS)
    return [CLAIMS[name] for name in dict.fromkeys(names or CLAIMS)]
