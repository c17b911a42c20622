"""Asking for boxes in a real browser: lines over the image and their list, a slider, ticks, files, the keyboard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import convscope
from convscope.page.routes import Page
from convscope.page.served import Served
from planted_boxes import as_voc, planted

pytest.importorskip("starlette")
seen = pytest.importorskip("test_page_in_browser", reason="there is no browser to test with")
Watched, axe, expect, MEASURED, DROPPED = seen.Watched, seen.axe, seen.expect, seen.MEASURED, seen.DROPPED
address, browser = seen.address, seen.browser  # fixtures
pytestmark = pytest.mark.browser
VIEWS = [(400, "light"), (400, "dark"), (1200, "light"), (1200, "dark")]
HOSTILE = ("<img src=x onerror=alert(1)>", "__proto__", "wasp")
SHOWN = "() => [...document.querySelectorAll('#drawing g:not([hidden])')].length"
ROWS = "#answers li:not([hidden])"
PLACES = """() => { const image = document.querySelector("#drawing image").getBoundingClientRect();
    return [...document.querySelectorAll("#drawing g .line")].map((line) => { const box = line.getBoundingClientRect();
        return [box.left - image.left, box.top - image.top, box.right - image.left, box.bottom - image.top]
            .map((x, i) => x / (i % 2 ? image.height : image.width)); }); }"""
WITHIN = """button => { const [row, list] = [button, button.closest("ul")].map((one) => one.getBoundingClientRect());
    return row.top >= list.top - 1 && row.bottom <= list.bottom + 1; }"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for boxes that was evaluated, whose classes have names to fear."""
    runs = tmp_path_factory.mktemp("runs")
    data = as_voc(tmp_path_factory.mktemp("data") / "data", planted(40, parts=("train", "train", "val", "test")))
    run = convscope.transfer(data, runs=runs, name="boxes", image_size=64, engine="torch", quick=True)
    convscope.evaluate("boxes", runs=runs)
    settings = {**run.classifier.settings, "threshold": 0.2537}
    replace(run.classifier, class_names=HOSTILE, settings=settings).save(run.folder / "classifier.safetensors")
    return runs


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(iter(sorted(as_voc(tmp_path_factory.mktemp("asked"), planted(4, seed=7)).rglob("*3.7.jpg"))))


@pytest.fixture(scope="module")
def answer(folder: Path, image: Path) -> Any:
    """What the page is told of the image."""
    page = Page(Served(folder))
    found = json.loads(json.dumps(page.asker.ask("boxes", image.read_bytes())))
    page.close()
    assert 0 < len(found["answer"]["boxes"]) < len(found["boxes"])
    return found


def give(tab: Any, address: str, image: Path) -> None:
    tab.goto(f"{address}/runs/boxes/ask")
    given = tab.evaluate_handle(DROPPED, list(image.read_bytes()))
    tab.locator("#stage").dispatch_event("drop", {"dataTransfer": given})
    expect(tab.locator("#controls")).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
def test_boxes_lie_where_the_answer_says_and_are_readable(
    browser: Any, address: str, image: Path, answer: Any, view: tuple[int, str]
) -> None:
    with Watched(browser, address, *view) as tab:
        give(tab, address, image)
        expect(tab.locator(ROWS)).to_have_count(len(answer["answer"]["boxes"]))
        assert tab.evaluate(SHOWN) == len(answer["answer"]["boxes"])
        expect(tab.locator("#told")).to_have_text(answer["told"])
        expect(tab.locator("#meant")).to_have_text(answer["meant"])
        tab.locator("#from").fill("0.05")
        sizes = [answer["width"], answer["height"]]
        boxes = [
            [b[k] / sizes[i % 2] for i, k in enumerate(("left", "top", "right", "bottom"))] for b in answer["boxes"]
        ]
        boxes.sort(key=lambda b: (b[2] - b[0]) * (b[3] - b[1]), reverse=True)  # as they are drawn
        assert tab.evaluate(PLACES) == [pytest.approx(box, abs=0.004) for box in boxes]
        wide, small = tab.evaluate(MEASURED)
        assert wide <= view[0]
        assert small == 0
        found = axe.Axe().run(tab).response
        assert [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")] == []


def test_a_slider_and_ticks_choose_which_boxes_are_shown(browser: Any, address: str, image: Path, answer: Any) -> None:
    def reaching(score: float, *but: str) -> int:
        return sum(box["score"] >= score and box["label"] not in but for box in answer["boxes"])

    with Watched(browser, address) as tab:
        give(tab, address, image)
        rows = tab.locator(ROWS)
        expect(tab.locator("#from")).to_have_value("0.25")
        expect(rows).to_have_count(reaching(0.2537))
        tab.locator("#from").fill("0.05")
        expect(rows).to_have_count(len(answer["boxes"]))
        expect(tab.locator("#meant")).to_have_text("Boxes are shown from a score of 0.05 on; validation chose 0.25.")
        gone = answer["boxes"][0]["label"]
        tab.get_by_role("checkbox", name=gone).uncheck()
        expect(rows).to_have_count(reaching(0.05, gone))
        assert tab.evaluate(SHOWN) == reaching(0.05, gone) < len(answer["boxes"])
        tab.locator("#from").fill("0.25")  # where it began is the exact score again
        expect(rows).to_have_count(reaching(0.2537, gone))
        tab.locator("#from").fill("1")
        expect(tab.locator("#told")).to_have_text("no box")
        expect(rows).to_have_count(0)
        tab.get_by_role("button", name="As validation chose it").click()
        expect(rows).to_have_count(reaching(0.2537))
        expect(tab.locator("#told")).to_have_text(answer["told"])


def test_a_row_marks_its_box_and_a_box_its_row(browser: Any, address: str, image: Path, answer: Any) -> None:
    with Watched(browser, address, 400) as tab:
        give(tab, address, image)
        tab.locator("#from").fill("0.05")
        tab.locator("#answers button[tabindex='0']").focus()
        said = [f"{box['label']} {box['score']:.2f}" for box in answer["boxes"]]
        tip, lit = tab.locator("#tip"), tab.locator("#drawing g.on")
        expect(tip).to_have_text(said[0])
        for place in (1, 2):
            tab.keyboard.press("ArrowDown")
            expect(tip).to_have_text(said[place])
            expect(lit).to_have_count(1)
            box, wanted = lit.locator(".line"), answer["boxes"][place]
            for name, value in (("x", wanted["left"]), ("y", wanted["top"])):
                assert float(box.get_attribute(name)) == pytest.approx(value)
        tab.keyboard.press("End")
        expect(tip).to_have_text(said[-1])
        tab.keyboard.press("Home")
        expect(tip).to_have_text(said[0])
        assert tab.locator("#answers button[tabindex='0']").count() == 1
        label = tab.locator("#answers button").first.get_attribute("aria-label")
        assert label.startswith(f"{said[0]}, ")
        assert label.endswith(f"left {answer['boxes'][0]['left']:.0f}, top {answer['boxes'][0]['top']:.0f}")
        tab.evaluate("document.activeElement.blur()")
        expect(tip).to_be_hidden()
        tab.locator("#drawing g .line").last.hover(force=True)
        expect(lit).to_have_count(1)
        expect(tab.locator("#answers button.on")).to_have_count(1)
        assert tab.locator("#answers button.on").evaluate(WITHIN)
        tab.mouse.move(1, 1)
        expect(tip).to_be_hidden()


def test_files_are_downloaded_at_the_threshold_whatever_is_shown(
    browser: Any, address: str, folder: Path, image: Path, tmp_path: Path
) -> None:
    convscope.predict("boxes", image, runs=folder, boxes_to=tmp_path)
    theirs = json.loads((tmp_path / "boxes.coco.json").read_text(encoding="utf-8"))
    theirs["images"][0]["file_name"] = "3.png"
    with Watched(browser, address) as tab:
        give(tab, address, image)
        tab.locator("#from").fill("0.05")
        files = {}
        for link in ("YOLO text", "COCO JSON", "classes.txt"):
            with tab.expect_download() as found:
                tab.get_by_role("link", name=link).click()
            files[found.value.suggested_filename] = Path(found.value.path()).read_text(encoding="utf-8")
    assert files["3.txt"] == (tmp_path / "labels" / f"{image.stem}.txt").read_text(encoding="utf-8")
    assert json.loads(files["3.coco.json"]) == theirs
    assert files["classes.txt"] == (tmp_path / "classes.txt").read_text(encoding="utf-8")


def test_another_image_begins_anew_and_one_that_is_none_is_refused_in_words(
    browser: Any, address: str, image: Path, answer: Any, tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_bytes(b"%PDF-1.4")
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    give(tab, address, image)
    tab.locator("#from").fill("0.05")
    tab.locator("#kinds input").first.uncheck()
    tab.locator("#file").set_input_files(tmp_path / "no.png")
    expect(tab.locator("#told")).to_contain_text("the image: ")
    expect(tab.locator("#controls")).to_be_hidden()
    assert tab.locator("#answers li").count() == 0
    assert tab.locator("#drawing g").count() == 0
    tab.locator("#file").set_input_files(image)
    expect(tab.locator(ROWS)).to_have_count(len(answer["answer"]["boxes"]))
    expect(tab.locator("#cut")).to_have_text("0.25")
    tab.close()


@pytest.mark.parametrize("page", ["", "/worst/data-test", "/transfer"])
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_page_of_boxes_is_readable_and_accessible(
    browser: Any, address: str, page: str, width: int, scheme: str
) -> None:
    with Watched(browser, address, width, scheme) as tab:
        tab.goto(f"{address}/runs/boxes{page}")
        tab.wait_for_load_state("networkidle")
        wide, small = tab.evaluate(MEASURED)
        assert wide <= width
        assert small == 0
        found = axe.Axe().run(tab).response
        assert [v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")] == []
        if "worst" in page:
            cells = tab.locator(".seen li").first.locator(".s")
            sides = cells.evaluate_all("all => all.map(e => [e.offsetWidth, e.offsetHeight])")
            assert all(a == b == pytest.approx(min(192, (width - 64) / 2), abs=1) for a, b in sides)
