"""`convscope explain`: a line a layer as its cards are written, or one image taken apart."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..options import Flag
from ..terminal import keeping, print_notes, progress_bar

if TYPE_CHECKING:
    from .cards import LayerCards


def explain(
    run: str = "last",
    data: str | None = None,
    /,
    *,
    layer: list[str] | None = None,
    filter: list[int] | None = None,
    image: Path | None = None,
    target: str | None = None,
    method: list[str] | None = None,
    sanity: Flag = False,
    count: int = 9,
    least: Flag = False,
    seeds: int = 1,
    ablate: int = 1_000,
    limit: int | None = None,
    from_exemplar: Flag = False,
    seed: int = 0,
    weights: Path | None = None,
    model: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
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
    layer
        A layer, by its name in `convscope models`; more than one by repeating it. Default: every convolution.
    filter
        A filter's number; more than one by repeating it. Default: all.
    image
        Take this image's answer apart instead: evidence, where the network looks, maps.
    target
        With --image: the class in question, instead of the answer.
    method
        With --image: cam, grad-cam, integrated-gradients or occlusion; default: all that the network allows.
    sanity
        With --image: randomise the weights layer by layer, and say whether the maps change.
    count
        Exemplars of each filter.
    least
        The least exciting images too.
    seeds
        Maximized images of each filter, from other noise each; 0 for none.
    ablate
        Validation images on which each filter is silenced; 0 for none.
    limit
        Search so many images for exemplars.
    from_exemplar
        Begin maximization at the best exemplar instead of noise.
    seed
        Of the order, the noise and the random moves.
    weights
        For a model's name: a safetensors file (random weights without).
    model
        Needed for a net of your own: module.py:function, whose code is run.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs.
    json
        Print one JSON object.
    """
    from . import command, image_command

    with keeping("what is done is kept, and the same command goes on."), progress_bar(json) as progress:
        if image is not None:
            taken = image_command.explain_image(
                run, image, data, target=target, methods=method, sanity=sanity, layer=layer, model=model,
                data_root=data_root, runs=runs, progress=progress,
            )  # fmt: skip
            print(json_module.dumps(taken.summary)) if json else print_image(taken.summary)
            return
        result = command.explain(
            run, data, layer=layer, filter=filter, count=count, least=least, seeds=seeds, ablate=ablate,
            limit=limit, from_exemplar=from_exemplar, seed=seed, weights=weights, model=model,
            data_root=data_root, runs=runs, progress=progress, on_layer=None if json else layer_line,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_explanation(result.summary)


def layer_line(page: Path, found: LayerCards) -> None:
    """Say that a layer's page is there, in one line."""
    s = found.summary()
    if s["images"] < s["of"]:
        print(f"first cards, from {s['images']:,} of {s['of']:,} images: {page}#{found.cards[0].filter}", flush=True)
        return
    said = [f"{len(found.cards)} filters"]
    if s["dead"]:
        said.append(f"{len(s['dead'])} dead")
    if s["median_ratio"] is not None:
        said.append(f"maximized to {s['median_ratio']:.1f}x the best exemplar")
        said += [f"{len(s['unbelieved'])} below it"] if s["unbelieved"] else []
    if s["most_used"] is not None:
        said.append(f"most missed {s['most_used']} ({100 * s['most_lost']:.1f} % of answers)")
    print(f"{s['layer']}: {', '.join(said)}: {page}#{found.cards[0].filter}", flush=True)


def print_explanation(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    if summary["kept"]:
        print(f"kept from before: {', '.join(summary['kept'])}")
    page = Path(summary["folder"]) / "index.html"
    print(f"written in {summary['seconds']:.0f} s: {page} (overview.png, a page a layer)")


def print_image(summary: dict[str, Any]) -> None:
    print_notes(summary["notes"])
    best = sorted(summary["logits"].items(), key=lambda pair: -pair[1])[:3]
    print(f"{summary['image']}: " + ", ".join(f"{name} {value:.2f}" for name, value in best) + " (logits)")
    how = "exact" if summary["exact"] else "approximate"
    print(
        f"{summary['target']} leads {summary['against']} by {summary['lead']:.2f}; the filters of {summary['layer']} "
        f"explain {summary['explained']:.2f} of it, the rest {summary['rest']:.2f} ({how})"
    )
    table = Table("filter", "of the lead", box=None, header_style="bold")
    for term in summary["terms"][:8]:
        table.add_row(str(term["filter"]), f"{term['margin']:+.2f}")
    Console().print(table)
    for method, checks in summary["sanity"].items():
        last = checks[-1]["correlation"]
        print(f"sanity of {method}: with all weights random the map correlates {last:+.2f} with the true one")
    print("nearest training images: " + ", ".join(f"{n['label']} {n['cosine']:.2f}" for n in summary["nearest"]))
    print(f"written: {summary['folder']} (evidence.png, {'looks.png, ' if summary['methods'] else ''}maps.png)")
