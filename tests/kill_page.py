"""What the page writes, as a command: asked in this process, as a browser would, with the page's token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from page_client import HOST, request

PATIENCE = 100.0  # seconds for what a killed page has begun


def mark_images() -> int:
    """Decide on the data's page what is to be done with the images that the doctor shows; tells each that is done.

    An image is marked twice, so that its first mark is to be replaced, and every third is taken out again.
    """
    from convscope.page.application import application
    from convscope.page.routes import Page
    from convscope.page.served import Served

    page = Page(Served(Path("runs")))
    guarded = application(page, [HOST])
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    (data,) = (row["name"] for row in request(guarded, "/data.json").json()["data"])
    shown = request(guarded, f"/data/{data}.json").json()
    digests = sorted({row["digest"] for pair in shown["pairs"] for row in pair["images"]})
    for number, digest in enumerate(digests[:6]):
        for action in ("relabel", "keep" if number % 3 == 2 else "leave-out"):
            query = f"digest={digest}&action={action}&label={quote(shown['classes'][number % 2])}"
            print(f"marking {digest} {action}", flush=True)  # noqa: T201 - what the page is asked for
            answer = request(guarded, f"/data/{data}/mark?{query}", "POST", headers)
            assert answer.status == 200, answer.text
            print(f"marked {digest} {action}", flush=True)  # noqa: T201 - what the page has answered
    return 0


def press_evaluate() -> int:
    """Press the button that evaluates a run, whose command has a process of its own, and wait until it is done.

    A page that was killed leaves that process alone with its work, which is waited for. Where it came to its end the
    button is not pressed again: that would be another look at the test images.
    """
    from convscope.page.application import application
    from convscope.page.routes import Page
    from convscope.page.served import Served

    page = Page(Served(Path("runs")))
    guarded = application(page, [HOST])
    headers = [("host", HOST), ("x-convscope-token", page.served.token)]
    if not _left_alone():
        return 1
    if Path("runs/r/evaluate/images-test/evaluation.json").exists():
        return 0
    assert request(guarded, "/jobs/evaluate/r", "POST", headers).status == 200
    number = max(page.jobs._jobs)
    while (state := request(guarded, f"/jobs/{number}.json").json())["state"] in ("waiting", "running"):
        time.sleep(0.05)
    print(f"job {state['state']}: {state['said']}", flush=True)  # noqa: T201 - what the page has answered
    return int(state["state"] != "done" or not _left_alone())


def _left_alone() -> bool:
    """Wait until no other process works in this folder; False where one does all the same."""
    until = time.monotonic() + PATIENCE
    while (others := _others_here()) and time.monotonic() < until:
        time.sleep(0.05)
    return not others


def _others_here() -> list[int]:
    """The processes but this one that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [int(process.name)] * (os.readlink(process / "cwd") == os.getcwd())
        except OSError:  # it is over, or somebody else's
            continue
    return [pid for pid in found if pid != os.getpid()]


# By what stands where a command's name stands.
ON_THE_PAGE: dict[str, Callable[[], int]] = {"page-marks": mark_images, "page-evaluates": press_evaluate}
