"""What the page writes by itself, as a command: asked in this process, as a browser would, with the page's token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from page_client import HOST, request


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
            answer = request(guarded, f"/data/{data}/mark?{query}", "POST", headers)
            assert answer.status == 200, answer.text
            print(f"marked {digest} {action}", flush=True)  # noqa: T201 - what the page has answered
    return 0


# By what stands where a command's name stands.
ON_THE_PAGE: dict[str, Callable[[], int]] = {"page-marks": mark_images}
