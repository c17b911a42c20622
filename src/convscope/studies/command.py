"""`convscope study`: the lecture's sentences as experiments, each with a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UnknownName, UsageError
from ..machine import pick_device
from ..progress import Progress
from ..training.runs import runs_folder
from .claim import Claim
from .registry import CLAIMS
from .report import StudyReport
from .running import Done, Outcome, run_claim

FOLDER = "study"  # in the folder of runs


def study(
    claims: Sequence[str] = (),
    *,
    size: str = "small",
    minutes: float | None = None,
    data_root: Path | None = None,
    device: str = "cpu",
    runs: Path | None = None,
    progress: Progress | None = None,
    on_claim: Callable[[Outcome], None] | None = None,
) -> StudyReport:
    """Run ``claims``, or all, at a size, and judge each; ``on_claim`` is told each outcome as it is made.

    What was trained before is found in the folder ``study`` of ``runs`` and not trained again; after so many
    ``minutes`` no other training is begun. UnknownName for a claim or size that does not exist.
    """
    wanted = find_claims(claims)
    if minutes is not None and not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} leaves no time for a training; it must be above 0.")
    folder, where = runs_folder(runs) / FOLDER, pick_device(device)
    start, outcomes = time.perf_counter(), []
    for claim in wanted:
        left = None if minutes is None else minutes - (time.perf_counter() - start) / 60
        for event in run_claim(claim, size, folder, data_root=data_root, device=where, minutes=left):
            if isinstance(event, Done):
                if progress is not None:
                    progress(f"{claim.name}, {event.trained.arm}", event.done, event.total)
                continue
            outcomes.append(event.to_json())
            if on_claim is not None:
                on_claim(event)
    return StudyReport(folder, size, tuple(outcomes))


def find_claims(names: Sequence[str] = ()) -> list[Claim]:
    """The claims of these names, each once, or all. UnknownName for one that does not exist."""
    for name in names:
        if name not in CLAIMS:
            raise UnknownName("claim", name, CLAIMS)
    return [CLAIMS[name] for name in dict.fromkeys(names or CLAIMS)]
