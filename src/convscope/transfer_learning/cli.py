"""`convscope transfer`: a line a way of transfer, and the answer."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import Engines, Flag
from ..terminal import keeping, percent, print_notes, progress_bar

if TYPE_CHECKING:
    from .ladder import Rung
    from .report import TransferReport


def transfer(
    data: str,
    /,
    *,
    backbone: str = "lite0",
    weights: Path | None = None,
    budget: float | None = None,
    augment: int = 0,
    level: str = "standard",
    balance: Flag = False,
    cards: Flag = False,
    engine: Engines = "auto",
    image_size: int | None = None,
    fit: str | None = None,
    limit: int | None = None,
    bad_images: str = "error",
    seed: int = 0,
    device: str = "auto",
    name: str | None = None,
    data_root: Path | None = None,
    runs: Path | None = None,
    json: Flag = False,
) -> None:
    """Make a classifier of DATA from a pretrained network: features, heads, fine-tuning where it pays, one table.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, or a CSV table.
    backbone
        A name of `convscope models --pretrained`: lite0 needs no network.
    weights
        A safetensors file to take the backbone's weights from.
    budget
        Minutes for fine-tuning and training from scratch; without it only the cheap ways are tried.
    augment
        So many varied copies of each training image.
    level
        How they are varied: light, standard or strong.
    balance
        Weigh the classes so that rare ones count as much as frequent ones.
    cards
        Write the card of each class's most used filter too.
    engine
        auto, torch or onnxruntime.
    image_size
        Side of the images in pixels (default: the backbone's).
    fit
        crop, pad or squash (default: the backbone's).
    limit
        Use so many images, stratified.
    bad_images
        error, or skip those that cannot be read.
    seed
        Of whatever is drawn.
    device
        auto, cpu, cuda, cuda:1, mps.
    name
        The run's name.
    data_root
        Where cifar10 lies.
    runs
        The folder of runs (default: $CONVSCOPE_RUNS, else runs).
    json
        Print JSON lines: one a rung, and last the summary.
    """
    from . import command

    def show(rung: Rung) -> None:
        print(json_module.dumps(rung.to_json()) if json else rung_line(rung), flush=True)

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        result = command.transfer(
            data, backbone=backbone, weights=weights, budget=budget, augment=augment, level=level, balance=balance,
            cards=cards, engine=engine, image_size=image_size, fit=fit, limit=limit, bad_images=bad_images,
            seed=seed, device=device, name=name, data_root=data_root, runs=runs, progress=progress, on_rung=show,
        )  # fmt: skip
    print(json_module.dumps(result.summary)) if json else print_transfer(result)


def rung_line(rung: Rung) -> str:
    """One way of the ladder in one line."""
    low, top, high = (100 * v for v in (rung.top1.low, rung.top1.value, rung.top1.high))
    return (
        f"{rung.name:<10}  {top:5.1f} % [{low:.1f}, {high:.1f}] of {rung.top1.n:,}  {rung.seconds:6.1f} s  "
        f"{rung.parameters:>11,} parameters  {rung.chosen}"
    )


def print_transfer(result: TransferReport) -> None:
    """The answer: notes, the sentence, the test images, what to do next."""
    s = result.summary
    print_notes(s["notes"])
    print(result.extraction.roofline())
    print(result.sentence())
    if s["test_top1"] is not None:
        print(f"on {s['test_n']:,} test images, opened once: {percent(s, 'test')} right")
    words = " ".join(f"--filter {f['filters'][0]}" for f in s["filters"][:3])
    layer = f" --layer {s['filters'][0]['layer']}" if s["filters"] and s["filters"][0]["layer"] else ""
    print(f"run: {s['run']} (report.html, classifier.safetensors), {s['seconds']:.0f} s in all")
    print(f"next: convscope predict {s['run']} IMAGE; convscope explain {s['run']}{layer} {words}")
