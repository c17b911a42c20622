"""What every page shows of awkward names: nothing repeated, nothing mirrored, nothing beside the screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import hostile_pages
from convscope.canvas import figures
from convscope.canvas.pages import page
from convscope.classifying.metrics import evaluate
from convscope.datasets.registry import load_dataset
from convscope.evaluation.drawing import mistakes
from convscope.transfer_learning.drawing import mistaken

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
WIDTHS = (400, 1200)
TEMPLATES = sorted(str(p.relative_to(hostile_pages.SOURCE)) for p in hostile_pages.SOURCE.glob("*/*.html"))


@pytest.fixture(scope="module")
def drawn_words() -> list[str]:
    """Every text that stands in an image."""
    return []


@pytest.fixture(scope="module")
def pages(drawn_words: list[str]) -> dict[str, str]:
    """Every page with hostile names."""
    save, patch = Figure.savefig, pytest.MonkeyPatch()

    def keep(figure: Figure, *given: object, **options: object) -> None:
        drawn_words.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
        save(figure, *given, **options)  # type: ignore[arg-type]

    patch.setattr(Figure, "savefig", keep)
    yield hostile_pages.pages()
    patch.undo()


def test_every_page_is_looked_at():
    assert sorted(hostile_pages.VALUES) == [name for name in TEMPLATES if not name.startswith("canvas/")]


@pytest.mark.parametrize("name", hostile_pages.VALUES)
def test_tables_and_images_stand_in_a_box_that_scrolls(pages: dict[str, str], name: str):
    text = pages[name]
    boxes = {
        "table": ('<div class="wide" tabindex="0">',),
        "img": ('<div class="wide" tabindex="0">', '<div class="shown">'),
    }
    for tag, around in boxes.items():  # an image in a box of the second kind is as wide as that
        assert text.count(f"<{tag}") == sum(text.count(f"{box}<{tag}") for box in around)
    assert all(re.search(r'alt="[^"]{5,}"', tag) for tag in re.findall(r"<img[^>]*>", text))


@pytest.mark.parametrize("name", hostile_pages.VALUES)
def test_names_are_escaped_and_keep_their_direction(pages: dict[str, str], name: str):
    text = re.sub(r'"data:[^"]*"|url\([^)]*\)', '""', pages[name])
    assert "<b>cat" not in text
    body = re.sub(r"<title>.*?</title>", "", text, flags=re.DOTALL)
    for leftward in hostile_pages.NAMES[:2]:
        places = [match.start() for match in re.finditer(re.escape(html.escape(leftward)), body)]
        before = {body[:at][-6:] for at in places} | {""}
        assert all(b.endswith(("<bdi>", "#8296;", "\u2068")) or not b for b in before), before


@pytest.mark.parametrize("name", hostile_pages.VALUES)
def test_a_page_needs_nothing_beside_it(pages: dict[str, str], name: str):
    links = re.findall(r'(?:href|src)="([^"]*)"', pages[name])
    assert not [link for link in links if not re.match(r"data:image/|#|[^/:]+\.html(#|$)", link)]


def test_no_heading_is_repeated_in_an_image(pages: dict[str, str], drawn_words: list[str]):
    words = [re.findall(r"<h[12][^>]*>(.*?)</h[12]>", text) for text in pages.values()]
    headings = {re.sub("<[^>]*>", "", heading).strip().lower() for found in words for heading in found}
    assert len(headings) > 15
    shown = {text.replace("\n", " ").strip().lower() for text in drawn_words} - {""}
    assert len(shown) > 60
    headings = {heading for heading in headings if not heading.isdigit()}
    assert not headings & shown
    assert not [(h, s) for h in headings for s in shown if len(h) > 10 and s.startswith(h)]
    assert not [text for text in shown if "\ufffd" in text]


def test_names_that_are_cut_to_the_same_get_numbers():
    names = [f"{'Lepidoptera' * 5}{end}" for end in ("Monarch", "Morpho")] + ["W" * 60, "a moth", "a moth"]
    with figures.in_style():
        figure = figures.new_figure(100, 100)
        for room in (60, 100, 200):
            short = figures.cut_apart(figure, names, room, 9)
            assert len(set(short)) == len(set(names))
            assert all(figures.text_width(figure, name, 9) <= room for name in short)
            alone = figures.cut_apart(figure, names, room, 9, others=False)
            assert alone[:2] == short[:2]
            assert alone[2:] == names[2:]


@pytest.mark.parametrize("name", hostile_pages.NAMES[:2])
def test_a_name_from_right_to_left_is_kept_apart(name: str):
    drawn = f"{figures.FSI}{name}{figures.PDI}"
    if not figures._SHAPES:
        drawn = "class 1"
    assert figures.drawn_names([name, "cat"])[0] == [drawn, "cat"]
    assert figures.in_words([f"4 of 9 are {name}, +0.1."], ["cat", name]) == [
        f"4 of 9 are {drawn.replace('1', '2') if drawn == 'class 1' else drawn}, +0.1."
    ]
    with figures.in_style():
        figure = figures.new_figure(100, 100)
        for part in (figures.cut(figure, drawn * 9, 80, 9), figures.shorten(drawn, 4)):
            assert part.count(figures.FSI) == part.count(figures.PDI)
        lines = figures.wrapped(figure, f"{drawn} and {drawn} {'beside it ' * 9}", 120, 9)
        assert len(lines) > 2
        assert all(line.count(figures.FSI) == line.count(figures.PDI) for line in lines)


def test_a_transfer_shows_its_mistaken_images_as_an_evaluation_does():
    dataset = load_dataset("digits", limit=60)
    index = dataset.parts["test"]
    truth = np.asarray(dataset.labels[index])
    logits = np.eye(len(dataset.class_names))[(truth + (np.arange(len(index)) < 3)) % 10]
    test = evaluate(logits, truth, dataset.class_names)
    assert len(test.mistakes) == 3
    expected = mistakes(np.asarray(dataset.images[index[:3]]), test.mistakes, dataset.class_names)
    assert mistaken(test, dataset) == expected


def test_words_told_of_names(tmp_path: Path):
    (tmp_path / "a.html").write_text("{{ text|told }}")
    name = hostile_pages.NAMES[1]
    assert page(tmp_path / "a.html", ["cat", name], text=f"<i> cat, {name}") == f"&lt;i&gt; cat, <bdi>{name}</bdi>"


# ------------------------------------------------------------------------------------------------------ in a browser

PROBE = """<script>
const errors = [];
addEventListener("error", e => errors.push(e.message || "not loaded: " + (e.target.src || e.target.href)), true);
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const told = e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40);
  const all = [...document.body.querySelectorAll("*")];
  parent.postMessage({
    name: document.title, inner: innerWidth, page: document.scrollingElement.scrollWidth,
    room: document.documentElement.clientWidth, errors,
    images: [...document.images].filter(i => !i.naturalWidth).length,
    cut: all.filter(e => getComputedStyle(e).overflowX == "hidden" && e.scrollWidth > e.clientWidth).map(told),
    beside: all.filter(e => e.getBoundingClientRect().right > innerWidth && !e.closest(".wide")).map(told),
  }, "*");
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
def test_no_page_leaves_the_screen(pages: dict[str, str], tmp_path: Path):
    frames = []
    for number, (name, text) in enumerate(pages.items()):
        (tmp_path / f"{number}.html").write_text(text.replace("<head>", "<head>" + PROBE), encoding="utf-8")
        frames += [
            (name, width, f'<iframe src="{number}.html" width="{width}" height="900"></iframe>') for width in WIDTHS
        ]
    host = tmp_path / "host.html"
    listen = "addEventListener('message', e => { found.push(e.data); out.textContent = JSON.stringify(found) })"
    script = f"<pre id=out></pre><script>const found = []; {listen}</script>"
    host.write_text(script + "".join(frame for _, _, frame in frames), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    data = f"--user-data-dir={tmp_path / 'profile'}"
    said = subprocess.run([CHROMIUM, *flags, data, host.as_uri()], capture_output=True, timeout=300, check=True)
    found = json.loads(html.unescape(re.search(r"<pre[^>]*>(.*?)</pre>", said.stdout.decode(), re.DOTALL)[1]))
    assert sorted(seen["inner"] for seen in found) == sorted(width for _, width, _ in frames)
    for seen in found:
        assert seen["page"] <= seen["room"], (seen["name"], seen["room"], seen["page"], seen["beside"][:9])
        assert (seen["images"], seen["errors"], seen["cut"]) == (0, [], []), seen
    assert b"CONSOLE" not in said.stderr, said.stderr.decode()
