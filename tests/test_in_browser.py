"""Pages in a real browser: nothing asked of the network, no error, every image there, and readable on a telephone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import convscope
import hostile_pages

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURED = """() => ({
    wide: document.documentElement.scrollWidth,
    images: [...document.images].map(image => image.naturalWidth),
    small: [...document.querySelectorAll("body *")].filter(e => e.innerText && e.children.length == 0)
        .map(e => parseFloat(getComputedStyle(e).fontSize)).filter(size => size < 12).length,
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages as they are written, and each template with what is hard to show."""
    folder = tmp_path_factory.mktemp("pages")
    run = convscope.train("digits", runs=folder, name="r", width=4, epochs=1, limit=300).run
    convscope.evaluate(run)
    (folder / "trained.html").write_bytes((run.folder / "report.html").read_bytes())
    for name, html in hostile_pages.pages().items():
        (folder / f"{name.replace('/', '-')}").write_text(html, encoding="utf-8")
    return folder


@pytest.mark.parametrize("width", [380, 1200])
@pytest.mark.parametrize("name", ["trained.html", *(name.replace("/", "-") for name in hostile_pages.VALUES)])
def test_a_page_stands_alone(browser: Any, folder: Path, name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.goto((folder / name).as_uri())
    seen = page.evaluate(MEASURED)
    page.close()
    assert [text for text in said if not text.startswith("data:")] == [(folder / name).as_uri()]
    assert seen["wide"] <= width
    assert all(seen["images"])
    assert not seen["small"]
