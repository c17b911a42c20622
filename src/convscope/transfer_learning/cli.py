"""`convscope transfer`: a line a way of transfer, and the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..progress import time_line
from ..terminal import command_seconds, keeping, percent, print_json, print_notes, progress_bar
from ..visible import visible
from .options import TransferOptions

if TYPE_CHECKING:
    from .ladder import Rung
    from .report import TransferReport


def transfer(data: str, /, *, options: Flat[TransferOptions] = TransferOptions(), json: Flag = False) -> None:
    """Make a classifier of DATA from a pretrained network: features, heads, fine-tuning where it pays, one table.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, or a table.
    json
        Print JSON lines: one a rung, and last the summary.
    """
    from . import command
    from .report import TransferReport

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        for event in command.transferring(data, **vars(replace(options, progress=progress))):
            if isinstance(event, TransferReport):
                print_json(event.summary) if json else print_transfer(event)
            else:
                print_json(event.to_json()) if json else print(rung_line(event), flush=True)


def rung_line(rung: Rung) -> str:
    """One way of the ladder in one line."""
    low, top, high = (100 * v for v in (rung.top1.low, rung.top1.value, rung.top1.high))
    return (
        f"{rung.name:<10}  {top:5.1f} % [{low:.1f}, {high:.1f}] of {rung.top1.n:,} in {rung.measured_by}  "
        f"{rung.seconds:6.1f} s  {rung.parameters:>11,} parameters  {rung.chosen}"
    )


def print_transfer(result: TransferReport) -> None:
    """The answer: notes, the sentence, the test images, what to do next."""
    s = result.summary
    print_notes(s["notes"])
    print(result.extraction.roofline())
    print(result.sentence())
    if s["test_top1"] is not None:
        print(f"on {s['test_n']:,} test images, opened once: {percent(s, 'test')} right")
    run = visible(s["run"])
    words = " ".join(f"--filter {k}" for k in result.leading_filters[:3])
    layer = f" --layer {s['filters'][0]['layer']}" if s["filters"] and s["filters"][0]["layer"] else ""
    whole = command_seconds() or s["seconds"]
    print(time_line({"start-up": whole - s["seconds"], **s["spent_seconds"]}))
    print(f"run: {run} (report.html, classifier.safetensors)")
    print(f"next: convscope predict {run} IMAGE; convscope explain {run}{layer} {words}")
