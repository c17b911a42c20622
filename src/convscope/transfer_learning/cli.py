"""`convscope transfer`: a line a way of transfer, and the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..options import Flag, Flat
from ..progress import time_line
from ..spoken import quoted
from ..terminal import command_seconds, keeping, percent, print_json, print_notes, progress_bar
from ..visible import visible
from .options import TransferOptions

if TYPE_CHECKING:
    from .report import TransferReport
    from .task_report import TaskReport


def transfer(data: str, /, *, options: Flat[TransferOptions] = TransferOptions(), json: Flag = False) -> None:
    """Make a classifier of DATA from a pretrained network: features, heads, fine-tuning where it pays, one table.

    Parameters
    ----------
    data
        A dataset's name, a folder of images, a table, or shards.
    json
        Print JSON lines: one a rung, and last the summary.
    """
    from . import command
    from .report import TransferReport
    from .task_report import TaskReport

    with keeping("what was recorded is kept, and the same command goes on."), progress_bar(json) as progress:
        for event in command.transferring(data, **vars(replace(options, progress=progress))):
            if json:
                print_json(event.summary if isinstance(event, (TransferReport, TaskReport)) else event.to_json())
            elif isinstance(event, TransferReport):
                print_transfer(event)
            elif isinstance(event, TaskReport):
                print_task_transfer(event)
            else:
                print(event.line(), flush=True)


def print_transfer(result: TransferReport) -> None:
    """The answer: notes, the sentence, the test images, what to do next."""
    s = result.summary
    print_notes(s["notes"])
    print(result.extraction.roofline())
    print(result.sentence())
    if s["test_top1"] is not None:
        print(f"on {s['test_n']:,} test images, opened once: {percent(s, 'test')} right")
    if s["continued"] is not None:
        print(s["continued"]["sentence"])
    run = visible(s["run"])
    words = " ".join(f"--filter {k}" for k in result.leading_filters[:3])
    layer = f" --layer {s['filters'][0]['layer']}" if s["filters"] and s["filters"][0]["layer"] else ""
    whole = command_seconds() or s["seconds"]
    print(time_line({"start-up": whole - s["seconds"], **s["spent_seconds"]}))
    print(f"run: {run} (report.html, classifier.safetensors)")
    name = quoted(s["run"])
    print(f"next: convscope predict {name} IMAGE; convscope explain {name}{layer} {words}")


def print_task_transfer(result: TaskReport) -> None:
    """The answer of a transfer to another task than classes."""
    s = result.summary
    print_notes(s["notes"])
    print(result.extraction.roofline())
    print(result.sentence())
    if result.test is not None:
        figure = result.test.score.figure
        print(f"on {figure.n:,} test images, opened once: {result.called} {result.words(figure)}")
    run = visible(s["run"])
    whole = command_seconds() or s["seconds"]
    print(time_line({"start-up": whole - s["seconds"], **s["spent_seconds"]}))
    print(f"run: {run} (report.html, classifier.safetensors)")
    name = quoted(s["run"])
    print(f"next: convscope predict {name} IMAGE; convscope evaluate {name}")
