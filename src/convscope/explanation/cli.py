"""`convscope explain`: a line a layer as its cards are written, or one image taken apart; and `convscope localize`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import Flag, Flat, check_unasked
from ..terminal import console, keeping, new_table, print_json, print_notes, progress_bar
from ..visible import visible
from .options import ExplainOptions, ImageOptions, LocalizeOptions, MapOptions

if TYPE_CHECKING:
    from .command import PageWritten
    from .image_command import Answered, ImageEvent
    from .report import ExplainReport

FILTERS = 8  # of the evidence that are named
OF_AN_IMAGE = [f.name for f in fields(ImageOptions) if f.name in {g.name for g in fields(ExplainOptions)}]


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
            shared = {name: getattr(options, name) for name in (*OF_AN_IMAGE, "progress")}
            check_unasked(options, shared, "cards, and --image takes one answer apart")
            show_image(image_command.explaining_image(run, image, data, **vars(maps), **shared), json)
            return
        check_unasked(maps, (), "one answer: name its image with --image")
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
    said = [f"{len(cards)} {'filter' if len(cards) == 1 else 'filters'}"]
    if s["dead"]:
        said.append(f"{len(s['dead'])} dead")
    if s["median_ratio"] is not None:
        said.append(f"maximized to {s['median_ratio']:.1f}x the best exemplar")
        said += [f"{len(s['unbelieved'])} of them not even to it"] if s["unbelieved"] else []
    if s["most_used"] is not None and s["most_lost"] > 0:
        said.append(f"most missed {s['most_used']} ({100 * s['most_lost']:.1f} % of answers)")
    elif s["most_used"] is not None:
        said.append("none missed when silent")
    return f"{s['layer']}: {', '.join(said)}: {address}"


def print_explanation(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    if summary["kept"]:
        print(f"kept from before: {', '.join(summary['kept'])}")
    page = visible(str(Path(summary["folder"]) / "index.html"))
    print(f"written in {summary['seconds']:.0f} s: {page} (overview.png, a page a layer)")


def show_image(events: Iterator[ImageEvent], json: bool) -> None:
    """Show one image taken apart, each answer as it is found: the evidence first."""
    from .image_report import ImageReport

    for event in events:
        if isinstance(event, ImageReport):
            print_json(event.summary) if json else print_image(event.summary)
        elif not json:
            for line in image_lines(event):
                print(visible(line), flush=True)


def image_lines(event: ImageEvent) -> list[str]:
    """Tell what was found of an image, in lines."""
    from .image_command import Answered, Compared, Looked
    from .image_report import ImageReport

    if isinstance(event, Answered):
        return evidence_lines(event)
    if isinstance(event, Compared):
        alike = ", ".join(f"{n['label']} {n['cosine']:.2f}" for n in event.nearest)
        return [f"nearest {event.among}: {alike} (of {event.searched:,})"] if event.nearest else []
    if isinstance(event, Looked):
        said = [f"where it looks, by {event.method}: {event.seconds:.1f} s"]
        if event.sanity:
            last = event.sanity[-1]["correlation"]
            said.append(
                f"sanity of {event.method}: with all weights random the map correlates {last:+.2f} with the true one"
            )
        return said
    assert not isinstance(event, ImageReport)
    return [f"filter {card.filter}: {' '.join(card.sentences()[:1])}" for card in event.cards]


def evidence_lines(event: Answered) -> list[str]:
    """Tell what the answer is, and which filters pushed for it and against it."""
    found, names = event.evidence, event.class_names
    best = found.logits.argsort(descending=True).tolist()[:3]
    target, against, how = names[found.target], names[found.against], "exact" if found.exact else "approximate"
    rest = float(found.rest[found.target] - found.rest[found.against])
    lines = [
        f"{event.image}: " + ", ".join(f"{names[k]} {float(found.logits[k]):.2f}" for k in best) + " (logits)",
        f"{target} leads {against} by {found.lead:.2f}; the filters of {found.layer} "
        f"explain {float(found.margin.sum()):.2f} of it, the rest {rest:.2f} ({how})",
    ]
    for name, sign in ((target, 1), (against, -1)):
        pushed = [k for k in found.strongest(FILTERS) if sign * float(found.margin[k]) > 0]
        words = ", ".join(f"filter {k} {float(found.margin[k]):+.2f}" for k in pushed)
        lines += [f"pushed for {name}: {words}"] if pushed else []
    return lines


def print_image(summary: dict[str, Any]) -> None:
    """Tell what there is to note, and where all of it lies."""
    print_notes(summary["notes"])
    looks = "looks.png, " if summary["methods"] else ""
    print(f"written: {visible(summary['folder'])} (evidence.png, {looks}maps.png)")


def localize(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    options: Flat[LocalizeOptions] = LocalizeOptions(),
    json: Flag = False,
) -> None:
    """Turn RUN's class maps into masks and boxes for the images of DATA, and score them where DATA has masks.

    Parameters
    ----------
    run
        A run's name or path, `last`, a classifier file, or pretrained:NAME.
    data
        A folder of images, of classes or with masks, or a dataset (default: what it was trained on).
    json
        Print one JSON object.
    """
    from . import localize_command

    with progress_bar(json) as progress:
        result = localize_command.localize(run, data, **vars(replace(options, progress=progress)))
    print_json(result.summary) if json else print_localized(result.summary)


def print_localized(s: dict[str, Any]) -> None:
    """Tell what the boxes are worth, and where they lie."""
    print_notes(s["notes"])
    print(f"{s['data']}: maps of {s['images']:,} images by {s['method']}, of classes from their {s['classes_from']}")
    scored = s["scored"]
    if scored is None:
        print(f"not scored: there are no masks. A pixel counts from {s['mask_threshold']:g} of the map's range.")
    else:
        print(f"thresholds were chosen by {scored['chosen_by']} ({scored['chosen_n']:,} images)")
        table = new_table("way", "IoU [95 %]", "box finds an object", "best threshold on these images")
        for way in scored["ways"]:
            best = f"{100 * way['iou_best_here']:.1f} %, {100 * way['box_accuracy_best_here']:.1f} %"
            table.add_row(way["way"], _ends(way, "iou"), _ends(way, "box_accuracy"), best)
        console().print(table)
        for sentence in scored["sentences"]:
            print(sentence)
    print(f"written: {visible(s['folder'])} (localize.json, boxes.csv, overlays.png)")


def _ends(row: dict[str, Any], key: str) -> str:
    value, low, high = (100 * row[f"{key}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
