"""The pages: what each shows of a run that is whole, half there, foreign or hostile; twins; and the site of files."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

pytest.importorskip("starlette")

import convscope
from convscope.cli import run as run_command
from convscope.datasets.corrections import read_corrections
from convscope.page.application import application
from convscope.page.rendering import STATIC
from convscope.page.routes import Page, addresses
from convscope.page.run_list import runs_page
from convscope.page.served import Served, serve_named
from convscope.page.site import matching, write_site
from convscope.storage import commit_json, file_hash
from page_client import HOST, request


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of many kinds: whole, of markup, with nothing done, damaged, being written, of another version."""
    folder = tmp_path_factory.mktemp("runs")
    run = convscope.train("digits", runs=folder, name="whole", width=4, epochs=2, limit=300).run
    convscope.evaluate(run)
    convscope.explain("whole", runs=folder, count=3, ablate=20, seeds=0, least=True, layer=["conv2"])
    convscope.explain("whole", runs=folder, count=3, ablate=20, seeds=0, layer=["conv1"])
    convscope.diagnose("whole", runs=folder, images=16)
    convscope.doctor("digits", runs=folder, limit=200)
    shutil.copytree(run.folder, folder / "damaged")
    (folder / "damaged" / "recipe.json").write_text("{", encoding="utf-8")
    shutil.copytree(run.folder, folder / "bare")
    for name in ("explain", "diagnose", "evaluate"):
        shutil.rmtree(folder / "bare" / name)
    for name in ("log.jsonl", "timing.jsonl", "classifier.safetensors", "summary.json"):
        (folder / "bare" / name).unlink()
    shutil.copytree(folder / "whole", folder / "trained")
    for name in ("explain", "diagnose", "evaluate"):
        shutil.rmtree(folder / "trained" / name)
    shutil.copytree(folder / "trained", folder / "untested")
    said = json.loads((folder / "untested" / "recipe.json").read_text("utf-8"))
    said.pop("seal")
    said["data"]["counts"]["test"] = dict.fromkeys(said["data"]["counts"]["test"], 0)
    commit_json(folder / "untested" / "recipe.json", said)
    shutil.copytree(run.folder, folder / "earlier")
    said = json.loads((folder / "earlier" / "recipe.json").read_text("utf-8"))
    said.pop("seal")
    commit_json(folder / "earlier" / "recipe.json", {**said, "format": 1})
    shutil.copytree(run.folder, folder / "half")
    for name in ("conv2.json", "explain.json"):
        (folder / "half" / "explain" / name).unlink()
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(Served(folder))


@pytest.fixture(scope="module")
def asked(page: Page) -> Any:
    guarded = application(page, [HOST])
    return lambda address, **more: request(guarded, address, **more)


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup))


def test_every_page_of_every_run_answers_with_its_twin(page: Page, asked: Any) -> None:
    there = list(addresses(page))
    assert len(there) > 60
    for parts in there:
        address = "/" + "/".join(quote(part, safe="") for part in parts)
        answer, twin = asked(address), asked(f"{address}.json" if parts else "/index.json")
        assert answer.status == twin.status == 200, (address, text_of(answer.text)[-400:])
        assert twin.headers["content-type"] == "application/json"
        assert isinstance(twin.json(), dict)


def test_a_whole_run_shows_its_figures_filters_and_verdict(asked: Any, folder: Path) -> None:
    figures = json.loads(next(folder.glob("whole/evaluate/*/evaluation.json")).read_text("utf-8"))
    shown = text_of(asked("/runs/whole").text)
    assert f"{100 * figures['top1']:.1f} %" in shown
    assert "conv1" in shown
    assert "1 time" in shown  # that its test images were looked at
    card = json.loads((folder / "whole" / "explain" / "conv1.json").read_text("utf-8"))["cards"][2]
    shown = text_of(asked("/runs/whole/conv1/2").text)
    for sentence in card["sentences"]:
        assert sentence in shown
    assert json.loads((folder / "whole" / "diagnose" / "diagnose.json").read_text("utf-8"))["sentence"] in text_of(
        asked("/runs/whole/gradients").text
    )


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("damaged", "recipe.json"),
        ("bare", "Its first epoch is not over"),
        ("earlier", "earlier convscope"),
        ("half", "conv1"),
    ],
)
def test_a_run_that_is_not_whole_says_what_is_there(asked: Any, run: str, told: str) -> None:
    answer = asked(f"/runs/{run}")
    assert answer.status == 200
    assert told in text_of(answer.text)
    for other in ("network", "gradients", "transfer", "ask"):
        assert asked(f"/runs/{run}/{other}").status == 200


def test_what_was_not_done_is_offered_with_its_command(asked: Any) -> None:
    shown = asked("/runs/trained").text
    for command in ("evaluate", "explain", "diagnose"):
        assert f'hx-post="/jobs/{command}/trained"' in shown
        assert f"convscope {command} trained" in shown


def test_what_could_only_fail_is_not_offered(asked: Any) -> None:
    shown = asked("/runs/bare").text
    assert "It has no classifier yet: its first epoch is not over, and nobody trains it" in shown
    assert not any(f'hx-post="/jobs/{command}/bare"' in shown for command in ("evaluate", "explain", "diagnose"))
    shown = asked("/runs/untested").text
    assert "Its data left no test images" in shown
    assert 'hx-post="/jobs/evaluate/untested"' not in shown
    assert 'hx-post="/jobs/explain/untested"' in shown


def test_a_filter_without_a_card_is_no_link(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "some")
    shutil.rmtree(tmp_path / "some" / "explain")
    convscope.explain("some", runs=tmp_path, count=3, ablate=20, seeds=0, layer=["conv2"], filter=[1])
    shown = request(application(Page(Served(tmp_path)), [HOST]), "/runs/some/conv2/1").text
    assert "most like it" in shown
    assert not re.search(r'href="/runs/some/conv[12]/(?!1")\d+"', shown)


@pytest.mark.parametrize(
    "address",
    ["/runs/nothing", "/runs/whole/conv9", "/runs/whole/conv1/99", "/data/nothing", "/runs/whole/mistakes/no", "/no"],
)
def test_what_is_not_there_is_told_in_a_sentence(asked: Any, address: str) -> None:
    answer = asked(address)
    assert answer.status == 404
    assert "no " in text_of(answer.text)
    assert "Traceback" not in answer.text


def test_the_table_of_runs_is_sorted_and_searched(page: Page) -> None:
    names = [row["name"] for row in runs_page(page.served, page.rows, sort="name", order="up")["runs"]]
    assert names == sorted(names)
    by_accuracy = runs_page(page.served, page.rows, sort="val_top1")["runs"]
    known = [row["val_top1"] for row in by_accuracy if row["val_top1"] is not None]
    assert known == sorted(known, reverse=True)
    assert by_accuracy[-1]["val_top1"] is None
    assert [row["name"] for row in runs_page(page.served, page.rows, find="ALEXNET whol")["runs"]] == ["whole"]
    assert runs_page(page.served, page.rows, find="zebra")["runs"] == []


def test_a_row_changes_when_the_run_does(page: Page, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "run")
    served = Page(Served(tmp_path))
    assert runs_page(served.served, served.rows)["runs"][0]["test_top1"] is not None
    shutil.rmtree(tmp_path / "run" / "evaluate")
    assert runs_page(served.served, served.rows)["runs"][0]["test_top1"] is None


def test_the_filters_of_a_layer_are_sorted_and_searched(page: Page, asked: Any, folder: Path) -> None:
    cards = json.loads((folder / "whole" / "explain" / "conv2.json").read_text("utf-8"))["cards"]
    rows = asked("/runs/whole/conv2.json?sort=firing").json()["filters"]
    assert [row["filter"] for row in rows] == [
        card["filter"] for card in sorted(cards, key=lambda card: -card["firing"])
    ]
    word = cards[0]["sentences"][0].split()[0].lower()
    found = asked(f"/runs/whole/conv2.json?find={word}").json()["filters"]
    assert {row["filter"] for row in found} == {
        card["filter"] for card in cards if word in " ".join(card["sentences"]).lower()
    }


def test_names_of_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    """A class, a dataset and a network may have any name; a page shows it and does nothing else with it."""
    hostile = tmp_path / "hostile"
    images = tmp_path / "images"
    for k, name in enumerate(("<b>one<", "javascript:alert(1)", "'\"><script>x")):
        for i in range(30):
            place = images / name.replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            _image(k, i).save(place / f"{i}.png")
    convscope.train(images, runs=hostile, name="r", width=4, epochs=1, image_size=16)
    convscope.evaluate("r", runs=hostile)
    convscope.explain("r", runs=hostile, count=2, ablate=10, seeds=0, layer=["conv1"])
    guarded = application(Page(Served(hostile)), [HOST])
    for address in ("/", "/runs/r", "/runs/r/conv1", "/runs/r/conv1/0"):
        markup = request(guarded, address).text
        assert "<script>x" not in markup
        assert "<b>one" not in markup
    assert "<b>one<" in text_of(request(guarded, "/runs/r").text.replace("&lt;", "\x00")).replace("\x00", "<")


def _image(k: int, i: int) -> Any:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(100 * k + i).integers(0, 60, (16, 16, 3), np.uint8)
    pixels[..., k] += 150
    return Image.fromarray(pixels)


def test_a_mark_goes_into_the_corrections_file_and_out_again(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "digits", tmp_path / "digits")
    served = Page(Served(tmp_path))
    guarded = application(served, [HOST])
    headers = [("host", HOST), ("x-convscope-token", served.served.token)]
    seen = json.loads((tmp_path / "digits" / "doctor" / "seen.json").read_text("utf-8"))
    digest = "ab" * 32
    seen["labels"] = [{"digest": digest, "name": "image 1", "label": "3", "likeliest": "5", "chance": "97%", "uri": ""}]
    seen.pop("seal")
    commit_json(tmp_path / "digits" / "doctor" / "seen.json", seen)

    def marked(**said: str) -> Any:
        query = "&".join(f"{k}={quote(v)}" for k, v in {"digest": digest, **said}.items())
        return request(guarded, f"/data/digits/mark?{query}", "POST", headers)

    assert marked(action="relabel", label="5").status == 200
    path = Path(request(guarded, "/data/digits.json").json()["corrections"])
    (row,) = [c for c in read_corrections(path) if c.digest == digest]
    assert (row.action, row.label, row.image) == ("relabel", "5", "image 1")
    assert marked(action="leave-out").status == 200
    (row,) = [c for c in read_corrections(path) if c.digest == digest]
    assert (row.action, row.label) == ("leave-out", "")
    assert marked(action="keep").status == 200
    assert digest not in {c.digest for c in read_corrections(path)}
    assert marked(action="burn").status == 404
    assert marked(action="relabel", label="zebra").status == 404
    assert marked(digest="cd" * 32, action="leave-out").status == 422
    assert {p.name for p in path.parent.iterdir()} >= {"doctor.json", "seen.json"}


def test_a_link_in_a_run_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "run" / "explain" / "link.png").symlink_to(tmp_path / "secret.png")
    guarded = application(Page(Served(tmp_path)), [HOST])
    assert b"secret" not in request(guarded, "/runs/run/drawing/explain/link.png").body
    assert "is a link" in text_of(request(guarded, "/runs/run").text)


def test_runs_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    named = serve_named([str(folder / "whole"), str(tmp_path / "whole")], folder)
    assert named is not None
    assert list(named) == ["whole", "whole-2"]


class Links(HTMLParser):
    """The addresses that a page leads to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("href", "src") and v and not v.startswith(("#", "data:"))]


# SHA-256 of htmx 2.0.11 and uPlot 1.6.32 as npm has them: nothing of ours is in them.
VENDORED = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def test_what_others_wrote_is_as_they_wrote_it_and_has_its_licence() -> None:
    vendor = STATIC / "vendor"
    found = {path.name: file_hash(path) for path in vendor.iterdir() if path.suffix != ".LICENSE"}
    assert found == VENDORED
    assert {path.name for path in vendor.glob("*.LICENSE")} == {f"{name.split('.')[0]}.LICENSE" for name in VENDORED}


def test_a_site_of_files_leads_nowhere_else(folder: Path, tmp_path: Path) -> None:
    first = write_site(tmp_path / "site", ["whole", "damaged"], runs=folder)
    pages = list(first.parent.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        links = Links()
        text = path.read_text("utf-8")
        links.feed(text)
        assert "convscope-token" not in text
        for link in links.found:
            assert "://" not in link
            assert (path.parent / unquote(link.partition("?")[0])).resolve().is_file(), (path, link)
        for link in re.findall(r'url\("([^"]+)"\)', text):
            assert (path.parent / unquote(link)).resolve().is_file(), (path, link)
    assert write_site(tmp_path / "site", ["whole"], runs=folder) == first  # its own is written anew
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(convscope.errors.LockedError, match="holds no site"):
        write_site(tmp_path / "mine", ["whole"], runs=folder)
    assert (tmp_path / "mine" / "thesis.tex").read_text("utf-8") == "x"


def test_an_address_fits_the_pattern_that_the_server_takes() -> None:
    assert matching(("runs", "a", "network"))[0] == "/runs/{run}/network"
    filter_pattern = "/runs/{run}/{layer}/{number}"
    assert matching(("runs", "a", "c", "3")) == (filter_pattern, {"run": "a", "layer": "c", "number": "3"})
    assert matching(()) == ("/", {})


def test_one_page_is_printed_without_a_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--runs", str(folder), "--get", "/runs/whole.json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "whole"
    assert run_command(["serve", "--runs", str(folder), "--get", "/runs/none"]) == 2
    assert "no run named 'none'" in capsys.readouterr().err


def test_the_pages_of_several_runs_are_a_site(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["report", "whole", "bare", "--runs", str(folder)]
    assert run_command(asked) == 2
    assert "add --site FOLDER" in capsys.readouterr().err
    assert run_command([*asked, "--site", str(tmp_path / "site")]) == 0
    assert "index.html" in capsys.readouterr().out
    assert (tmp_path / "site" / "runs" / "bare.html").exists()


def test_what_was_found_on_other_data_is_shown_where_there_is_nothing_on_its_own(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "run")
    for command in ("explain", "diagnose"):
        place = tmp_path / "run" / command
        place.rename(tmp_path / "other")
        place.mkdir()
        (tmp_path / "other").rename(place / "other")
    guarded = application(Page(Served(tmp_path)), [HOST])
    assert "conv1" in text_of(request(guarded, "/runs/run").text)
    found = request(guarded, "/runs/run/conv1/2")
    assert found.status == 200
    sheet = re.search(r'url\("([^"]+)"\)', found.text)
    assert sheet is not None
    assert request(guarded, sheet[1]).headers["content-type"] == "image/jpeg"
    assert request(guarded, "/runs/run/gradients.json").json()["found"] is not None


def test_a_transfer_stands_in_the_table_with_its_own_figures(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "run")
    figures = {"val_top1": 0.75, "val_low": 0.5, "val_high": 0.875, "val_n": 8, "test_top1": 0.25, "seconds": 21.5}
    (tmp_path / "run" / "transfer").mkdir()
    commit_json(tmp_path / "run" / "transfer" / "transfer.json", figures)
    page = Page(Served(tmp_path))
    (row,) = runs_page(page.served, page.rows)["runs"]
    assert {key: row[key] for key in figures} == figures
    assert (row["kind"], row["test_low"], row["epochs"]) == ("transfer", None, None)
