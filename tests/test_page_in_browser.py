"""The page in a real browser: from runs to a filter, asking, watching a training, comparing, judging."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.datasets.corrections import read_corrections
from small_targets import discs

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)

MEASURED = """() => [document.documentElement.scrollWidth,
    [...document.querySelectorAll("body *")].filter(e => e.innerText && e.children.length == 0
        && parseFloat(getComputedStyle(e).fontSize) < 12).length]"""
DROPPED = """bytes => { const all = new DataTransfer();
    all.items.add(new File([new Uint8Array(bytes)], "3.png")); return all; }"""
pytestmark = pytest.mark.browser
VIEWS = [(380, "light"), (380, "dark"), (1400, "light"), (1400, "dark")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 0), ("second", 1)):
        convscope.train("digits", runs=folder, name=name, width=4, epochs=2, limit=400, seed=seed, keep_epochs=1)
    convscope.evaluate("first", runs=folder)
    convscope.explain("first", runs=folder, count=3, ablate=20, seeds=0)
    convscope.diagnose("first", runs=folder)
    convscope.compare(["first", "second"], runs=folder)
    convscope.doctor("digits", runs=folder)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A server of these runs, as a user starts it."""
    command = [sys.executable, "-m", "convscope", "serve", "--runs", str(folder), "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    yield server.stdout.readline().split(";")[0].rstrip("/")
    server.terminate()
    assert server.wait(30) in (0, 143)
    server.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A tab of the browser that notes what the page should not do: errors, and requests to anywhere else."""

    def __init__(self, browser: Any, address: str, width: int = 1400, scheme: str = "light") -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.address, self.said = address, []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", self._note)
        self.tab.on("response", lambda answer: self.said.append(answer.url) if answer.status >= 400 else None)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.said.append(f"asked {request.url}")

    def __enter__(self) -> Any:
        return self.tab

    def __exit__(self, *found: object) -> None:
        self.tab.close()
        if found[0] is None:
            assert self.said == []


PAGES = [
    "/",
    "/runs/first",
    "/runs/first/network",
    "/runs/first/conv2",
    "/runs/first/conv2/3",
    "/runs/first/ask",
    "/runs/first/epochs",
    "/runs/first/gradients",
    "/runs/first/mistakes/digits-test",
    "/runs/second",
    "/compare?run=first&run=second",
    "/study",
    "/data",
    "/data/digits",
    "/train",
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_page_is_readable_and_accessible(browser: Any, address: str, page: str, width: int, scheme: str) -> None:
    with Watched(browser, address, width, scheme) as tab:
        tab.goto(address + page)
        tab.wait_for_load_state("networkidle")
        wide, small = tab.evaluate(MEASURED)
        assert wide <= width
        assert small == 0
        found = axe.Axe().run(tab).response
        assert found["passes"]  # it did look
        grave = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in grave] == []


def test_a_newcomer_finds_a_filter_and_the_next_one(browser: Any, address: str) -> None:
    with Watched(browser, address) as tab:
        tab.goto(address)
        tab.get_by_label("Find").fill("fir")
        expect(tab.locator("#runs tbody tr")).to_have_count(1)
        tab.get_by_role("link", name="first").click()
        tab.get_by_role("navigation", name="Layers").get_by_role("link", name="conv2").click()
        tab.locator("ul.grid a").nth(2).click()
        assert tab.get_by_role("heading", level=1).inner_text() == "Filter 2 of conv2"
        tab.keyboard.press("ArrowRight")
        tab.wait_for_url("**/conv2/3")
        assert tab.get_by_role("heading", level=1).inner_text() == "Filter 3 of conv2"
        cells = tab.locator(".strip .s").first.evaluate("e => getComputedStyle(e).backgroundImage")
        assert "conv2-1.jpg" in cells


def test_asking_covering_and_changing(browser: Any, address: str, folder: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images[3] * 15).astype(np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(tmp_path / "three.png")
    (said,) = convscope.predict("first", tmp_path / "three.png", runs=folder)
    assert not isinstance(said, str)
    with Watched(browser, address) as tab:
        tab.goto(f"{address}/runs/first/ask")
        tab.locator("#file").set_input_files(tmp_path / "three.png")
        expect(tab.locator("#answers li")).to_have_count(5)
        assert tab.locator("#told").inner_text() == f"{said.label}, {100 * said.probability:.1f} %"
        tab.wait_for_selector("#evidence li.filter")
        before = tab.locator("#answers").text_content()
        drawn = tab.evaluate("document.getElementById('image').toDataURL()")
        tab.locator("#cover").fill("50")
        tab.locator("#image").hover(position={"x": 150, "y": 150})
        expect(tab.locator("#answers")).not_to_have_text(before)
        assert tab.evaluate("document.getElementById('image').toDataURL()") != drawn
        tab.get_by_role("button", name="As it was").click()
        expect(tab.locator("#answers")).to_have_text(before)
        tab.locator("#turn").fill("90")
        expect(tab.locator("#answers")).not_to_have_text(before)


def test_a_file_that_is_no_image_is_refused_in_words(browser: Any, address: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"%PDF-1.4 and more")
    watched = Watched(browser, address)
    with watched as tab:
        tab.goto(f"{address}/runs/first/ask")
        tab.locator("#file").focus()  # by the keyboard too
        expect(tab.locator("#file")).to_be_focused()
        Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
        tab.locator("#file").set_input_files(tmp_path / "black.png")
        tab.wait_for_selector("#evidence li.filter")
        tab.locator("#file").set_input_files(tmp_path / "x.png")
        expect(tab.locator("#told")).to_contain_text("PDF")
        expect(tab.locator("#answers li")).to_have_count(0)  # those of the image before
        expect(tab.locator("#evidence li")).to_have_count(0)
        expect(tab.locator("#controls")).to_be_hidden()
        watched.said.clear()  # the browser's own line about the refusal


def test_a_mask_is_drawn_over_the_image_that_was_dropped(
    browser: Any, address: str, folder: Path, tmp_path: Path
) -> None:
    data, names = discs(tmp_path / "discs", 24), ("background", "<img src=x onerror=alert(1)>")
    made = convscope.transfer(data, runs=folder, name="discs", image_size=64, engine="torch", quick=True)
    replace(made.classifier, class_names=names).save(made.folder / "classifier.safetensors")
    image = data / "images" / "3.png"
    (said,) = convscope.predict("discs", image, runs=folder, masks_to=tmp_path / "masks")
    with Watched(browser, address, 380) as tab:
        tab.goto(f"{address}/runs/discs/ask")
        given = tab.evaluate_handle(DROPPED, list(image.read_bytes()))
        tab.locator("#stage").dispatch_event("drop", {"dataTransfer": given})
        expect(tab.locator("#answers bdi")).to_have_text(names)
        mask, stage = tab.locator("#mask"), tab.locator("#stage")
        assert mask.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [
            96,
            80,
        ]
        drawn = stage.screenshot()
        tab.locator("#opacity").fill("0")
        assert stage.screenshot() != drawn
        with tab.expect_download() as found:
            tab.get_by_role("link", name="The mask as a PNG").click()
        assert found.value.suggested_filename == "3.mask.png"
        assert Path(found.value.path()).read_bytes() == Path(said.files[0]).read_bytes()
        assert tab.evaluate(MEASURED)[0] <= 380
        grave = [v["id"] for v in axe.Axe().run(tab).response["violations"] if v["impact"] in ("serious", "critical")]
        assert grave == []


def test_a_training_is_watched_while_it_lasts(browser: Any, address: str, folder: Path) -> None:
    command = [sys.executable, "-m", "convscope", "train", "digits", "--runs", str(folder), "--name", "living"]
    command += ["--width", "8", "--epochs", "4", "--limit", "600"]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not (folder / "living" / "log.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.02)
        with Watched(browser, address) as tab:
            tab.goto(f"{address}/runs/living")
            expect(tab.locator("#epochs tbody tr")).to_have_count(4, timeout=120_000)
            expect(tab.locator("[data-live]")).to_have_count(0, timeout=120_000)  # it is over, and was loaded anew
            expect(tab.locator("#epochs tbody tr")).to_have_count(4)
    finally:
        assert training.wait(120) == 0


def test_a_training_is_started_stepped_looked_into_and_stopped(browser: Any, address: str, folder: Path) -> None:
    with Watched(browser, address, 380) as tab:
        tab.goto(f"{address}/train")
        tab.get_by_label("Network").select_option("alexnet")
        tab.get_by_role("button", name="Start").click()
        tab.wait_for_url("**/train/digits-alexnet-1")
        expect(tab.locator("#state")).to_have_text("paused", timeout=120_000)
        tab.get_by_label("Layer").select_option(index=2)
        expect(tab.locator("#maps li")).to_have_count(12)
        expect(tab.locator("#probes li")).to_have_count(8)
        drawn = tab.evaluate("document.querySelector('#maps canvas').toDataURL()")
        tab.get_by_role("button", name="Step").click()
        expect(tab.locator("#step")).to_contain_text("2 of")
        expect(tab.locator("#change")).to_contain_text("The last update moved")
        assert tab.evaluate("document.querySelector('#maps canvas').toDataURL()") != drawn
        wide, small = tab.evaluate(MEASURED)
        assert wide <= 380
        assert small == 0
        found = axe.Axe().run(tab).response
        assert [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")] == []
        tab.get_by_role("button", name="Stop").click()
        expect(tab.locator("#said")).to_contain_text("everything saved", timeout=60_000)
        tab.get_by_role("link", name="The run's own page").click()
        expect(tab.get_by_role("heading", level=1)).to_contain_text("digits-alexnet-1")
    assert [path.name for path in (folder / "digits-alexnet-1" / "checkpoints").iterdir()] == [
        "step-00000002.safetensors"
    ]


def test_epochs_are_moved_through_and_gone_on_from(browser: Any, address: str, folder: Path) -> None:
    with Watched(browser, address, 380) as tab:
        tab.goto(f"{address}/runs/first/conv2")
        tab.locator("#apart summary").click()
        told = tab.locator("#compared .lead")
        expect(told).to_have_text("Then: as it began. Now: after epoch 2.")
        first = tab.locator("#compared .map").first
        drawn = first.get_attribute("src")
        tab.locator("input[name=then]").fill("1")
        expect(told).to_have_text("Then: after epoch 1. Now: after epoch 2.")
        expect(first).not_to_have_attribute("src", drawn)
        drawn = first.get_attribute("src")
        tab.locator("#compared input[name=image]").nth(4).check(force=True)
        expect(first).not_to_have_attribute("src", drawn)
        expect(told).to_have_text("Then: after epoch 1. Now: after epoch 2.")
        assert tab.evaluate(MEASURED)[0] <= 380
        tab.locator("form.begin input[name=epochs]").fill("1")
        tab.get_by_role("button", name="Go on from epoch 1").click()
        tab.wait_for_url("**/train/first-from-1-1")
        expect(tab.locator("#state")).to_have_text("paused", timeout=120_000)
        tab.locator("#apart summary").click()
        expect(tab.locator("#epochs")).to_contain_text("Only epoch 0 is kept so far")
        tab.get_by_role("button", name="Resume").click()
        expect(told).to_have_text("Then: as it began. Now: after epoch 1.", timeout=120_000)
    assert (folder / "first-from-1-1" / "recipe.json").exists()


def test_two_runs_are_picked_and_compared(browser: Any, address: str) -> None:
    with Watched(browser, address) as tab:
        tab.goto(f"{address}/?sort=name")
        for name in ("first", "second"):
            tab.get_by_label(f"compare {name}", exact=True).check()
        tab.get_by_role("button", name="Compare").click()
        tab.wait_for_selector(".u-wrap canvas")
        shown = tab.locator("main").inner_text()
        assert (
            tab.locator(".chart .u-value").all_inner_texts().count("2") == 2
        )  # the last epoch, unless one is pointed at
        assert "do not differ" in shown or "is better than" in shown
        assert "Nothing: the same recipe but for the seed" in shown


def test_a_pair_is_judged_and_the_choice_is_kept(browser: Any, address: str, folder: Path) -> None:
    doctor = folder / "digits" / "doctor" / "doctor.json"
    before = doctor.read_bytes()
    with Watched(browser, address) as tab:
        tab.goto(f"{address}/data/digits")
        choice = tab.locator("select[data-digest]").first
        digest = choice.get_attribute("data-digest")
        wanted = "keep" if choice.input_value() == "leave-out" else "leave-out"
        choice.select_option(wanted)
        expect(tab.locator("#saved")).to_contain_text("Saved")
        tab.reload()
        assert tab.locator(f"select[data-digest='{digest}']").first.input_value() == wanted
    rows = {c.digest: c.action for c in read_corrections(folder / "digits" / "doctor" / "corrections.csv")}
    assert rows.get(digest, "keep") == wanted
    assert doctor.read_bytes() == before


def test_a_button_runs_its_command_and_the_page_shows_what_it_wrote(browser: Any, address: str, folder: Path) -> None:
    with Watched(browser, address) as tab:
        tab.goto(f"{address}/runs/second")
        tab.locator("button[hx-post='/jobs/evaluate/second']").click()
        tab.wait_for_selector("table.confusion", timeout=120_000)
    assert list((folder / "second").glob("evaluate/*/evaluation.json"))


def test_without_javascript_every_result_is_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/runs/first")
    assert tab.locator("#epochs tbody tr").count() == 2
    assert tab.locator("table.confusion").count() == 1
    assert "buttons do nothing" in tab.locator("main").inner_text()
    curves = tab.get_by_alt_text("Accuracy and loss of each epoch")
    assert curves.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    tab.goto(f"{address}/runs/first/conv2")
    assert tab.locator("ul.grid a").count() > 3
    tab.goto(f"{address}/runs/first/epochs")
    tab.get_by_role("link", name="1", exact=True).click()
    assert "after epoch 1" in tab.locator("#compared .lead").inner_text()
    context.close()
