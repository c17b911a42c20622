"""`convscope report`: a run's page and model card, or the pages of many runs as a site that needs no server."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..options import Flag, Flat, Runs
from ..terminal import print_json, print_notes, progress_bar
from ..visible import visible


def report(*runs: str, site: Path | None = None, options: Flat[Runs] = Runs(), json: Flag = False) -> None:
    """Write the page and the model card of a RUN again: one HTML file that needs no other, and README.md.

    A training and an evaluation write them by themselves; an adopted network has none before it is asked for. With
    --site, the pages that `convscope serve` shows of RUNS, or of all, are written into a folder and need no server.

    Parameters
    ----------
    runs
        A run's name or path, or `last`, which is the default; with --site as many as you like.
    site
        The folder for a site; one that holds anything else is refused.
    json
        Print one JSON object.
    """
    if site is not None:
        _write_site(site, runs, options, json)
        return
    if len(runs) > 1:
        raise UsageError("one run at a time; the pages of several are a site: add --site FOLDER.")
    from ..evaluation.page_command import report as write_report

    result = write_report(runs[0] if runs else "last", **vars(options))
    if json:
        print_json(result.summary)
    else:
        print_notes(result.notes)
        print(f"written: {visible(result.summary['page'])}, and a model card: {visible(result.summary['card'])}")


def _write_site(folder: Path, runs: tuple[str, ...], options: Runs, json: bool) -> None:
    from ..page.site import write_site

    with progress_bar(json) as progress:
        first = write_site(folder, runs, progress=progress, **vars(options))
    print_json({"site": str(first)}) if json else print(f"written: {visible(str(first))}")
