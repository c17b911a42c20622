"""`convscope explain`: a line a layer as its cards are written, or one image taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import Flag, Flat
from ..terminal import console, keeping, new_table, print_json, print_notes, progress_bar
from ..visible import visible
from .options import ExplainOptions, MapOptions

if TYPE_CHECKING:
    from .command import PageWritten
    from .report import ExplainReport


def explain(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    options: Flat[ExplainOptions] = ExplainOptions(),
    image: Path | None = None,
    maps: Flat[MapOptions] = MapOptions(),
    json: Flag = False,
) -> None:
    """Write a card for every filter of RUN: exemplars, maximization, words, what it is for. Or take an image apart.

    Stopped in the middle it keeps what is done, and the same command goes on.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or a model's name.
    data
        What it is explained on (default: what it was trained on).
    image
        Take this image's answer apart instead: evidence, where the network looks, maps.
    json
        Print one JSON object.
    """
    from . import command, image_command

    with keeping("what is done is kept, and the same command goes on."), progress_bar(json) as progress:
        options = replace(options, progress=progress)
        if image is not None:
            shared = {
                name: getattr(options, name) for name in ("layer", "weights", "model", "data_root", "runs", "progress")
            }
            taken = image_command.explain_image(run, image, data, **vars(maps), **shared)
            print_json(taken.summary) if json else print_image(taken.summary)
            return
        show_explanation(command.explaining(run, data, **vars(options)), json)


def show_explanation(events: Iterator[PageWritten | ExplainReport], json: bool) -> None:
    """Show an explanation as it is made: a line a page, and at the end the summary."""
    from .command import PageWritten

    for event in events:
        if not isinstance(event, PageWritten):
            print_json(event.summary) if json else print_explanation(event.summary)
        elif not json:
            print(page_line(event), flush=True)


def page_line(written: PageWritten) -> str:
    """Return the line that says that a layer's page is there."""
    cards, s = written.cards.cards, written.cards.summary()
    address = f"{visible(str(written.page))}#{cards[0].filter}"
    if s["images"] < s["of"]:
        return f"first cards, from {s['images']:,} of {s['of']:,} images: {address}"
    said = [f"{len(cards)} filters"]
    if s["dead"]:
        said.append(f"{len(s['dead'])} dead")
    if s["median_ratio"] is not None:
        said.append(f"maximized to {s['median_ratio']:.1f}x the best exemplar")
        said += [f"{len(s['unbelieved'])} below it"] if s["unbelieved"] else []
    if s["most_used"] is not None:
        said.append(f"most missed {s['most_used']} ({100 * s['most_lost']:.1f} % of answers)")
    return f"{s['layer']}: {', '.join(said)}: {address}"


def print_explanation(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    if summary["kept"]:
        print(f"kept from before: {', '.join(summary['kept'])}")
    page = visible(str(Path(summary["folder"]) / "index.html"))
    print(f"written in {summary['seconds']:.0f} s: {page} (overview.png, a page a layer)")


def print_image(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    best = sorted(summary["logits"].items(), key=lambda pair: -pair[1])[:3]
    print(f"{visible(summary['image'])}: " + ", ".join(f"{name} {value:.2f}" for name, value in best) + " (logits)")
    how = "exact" if summary["exact"] else "approximate"
    print(
        f"{summary['target']} leads {summary['against']} by {summary['lead']:.2f}; the filters of {summary['layer']} "
        f"explain {summary['explained']:.2f} of it, the rest {summary['rest']:.2f} ({how})"
    )
    table = new_table("filter", "of the lead")
    for term in summary["terms"][:8]:
        table.add_row(str(term["filter"]), f"{term['margin']:+.2f}")
    console().print(table)
    for method, checks in summary["sanity"].items():
        last = checks[-1]["correlation"]
        print(f"sanity of {method}: with all weights random the map correlates {last:+.2f} with the true one")
    print("nearest training images: " + ", ".join(f"{n['label']} {n['cosine']:.2f}" for n in summary["nearest"]))
    folder, looks = visible(summary["folder"]), "looks.png, " if summary["methods"] else ""
    print(f"written: {folder} (evidence.png, {looks}maps.png)")
