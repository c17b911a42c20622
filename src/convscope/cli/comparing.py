"""`convscope compare`: runs on the same images, or many people's outcomes of the lecture's claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import DamagedFile, UsageError
from ..evaluation.cli import print_comparison
from ..evaluation.options import CompareOptions
from ..options import Flag, Flat, check_unasked
from ..terminal import cell, console, new_table, print_json, print_notes, progress_bar


def compare(*runs: str, options: Flat[CompareOptions] = CompareOptions(), json: Flag = False) -> int:
    """Compare RUNS on the same images: the first with each of the others, with a paired test.

    Runs of one recipe that differ in their seeds count as one, with the spread between seeds. JSON files that
    `convscope study` wrote, or folders of them, are put side by side instead: verdicts, seeds, data and versions.

    Parameters
    ----------
    runs
        Two or more: names or paths of runs, classifier files, or pretrained:NAME; or JSON files of studies.
    json
        Print one JSON object.
    """
    from ..studies.hand_ins import is_hand_in
    from ..training.runs import runs_folder

    handed = [is_hand_in(run, runs_folder(options.runs)) for run in runs]
    if any(handed):
        if not all(handed):
            raise UsageError(f"{runs[handed.index(False)]} is no JSON file of a study: compare runs, or hand-ins.")
        check_unasked(options, (), "runs, and these are hand-ins")
        return _compare_hand_ins(runs, json)
    from ..evaluation.compare_command import compare as compare_runs

    with progress_bar(json) as progress:
        result = compare_runs(runs, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_comparison(result.summary, result.folder)
    return 0


def _compare_hand_ins(files: tuple[str, ...], json: bool) -> int:
    from ..studies.hand_in_command import compare_hand_ins

    found = compare_hand_ins(files).summary
    print_json(found) if json else print_hand_ins(found)
    return DamagedFile.exit_code if found["refused"] else 0


def print_hand_ins(found: dict[str, Any]) -> None:
    """A table for each claim, then what is odd, and what was refused."""
    for claim in found["claims"]:
        heading = f"{claim['claim']}, {claim['size']}"
        table = new_table(heading, "verdict", "what it rests on", "seeds", "data", "version")
        for row in claim["rows"]:
            verdict = f"{row['verdict']}, interrupted" if row["interrupted"] else row["verdict"]
            seeds = f"{len(row['seeds'])} planned" if row["interrupted"] else str(len(row["seeds"]))
            said = (cell(row["who"], "bold"), cell(verdict), cell("; ".join(row["told"])), seeds)
            table.add_row(*said, (row["data"] or "-")[:8], cell(row["versions"].get("convscope", "-")))
        console().print(table)
    print_notes(found["notes"])
    for refused in found["refused"]:
        console().print(cell(f"refused: {refused['error']}", "red"))
