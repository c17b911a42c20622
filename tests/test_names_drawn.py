"""Names of classes in drawings: a font is found for them, or they are numbered and told in words beside it."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest

from convscope.canvas import figures
from convscope.canvas.pages import page
from convscope.evaluation.drawing import confusion
from convscope.explanation.drawing import probes

NAMES = {
    "Chinese": "\u732b",
    "Japanese": "\u3057\u3070\u72ac",
    "Korean": "\uace0\uc591\uc774",
    "Hindi": "\u092c\u093f\u0932\u094d\u0932\u0940",
    "Thai": "\u0e41\u0e21\u0e27",
    "Tamil": "\u0baa\u0bc2\u0ba9\u0bc8",
    "Amharic": "\u12f5\u1218\u1275",
    "Bengali": "\u09ac\u09bf\u09a1\u09bc\u09be\u09b2",
    "cuneiform": "\U00012000\U00012001",
    "an emoji": "\U0001f9ff",
    "Chinese beside Latin": "cat \u732b",
}


@pytest.fixture
def only_ours(monkeypatch: pytest.MonkeyPatch):
    """As if no font were installed but the one that comes with matplotlib."""
    own = tuple(font for font in figures.fonts() if font[0] == "DejaVu Sans")
    monkeypatch.setattr(figures, "fonts", lambda: own)
    monkeypatch.setattr(figures, "_others", tuple)
    monkeypatch.setattr(figures, "_FURTHER", [])
    figures.can_draw.cache_clear()
    yield
    figures.can_draw.cache_clear()


@pytest.mark.usefixtures("only_ours")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_without_a_font_is_numbered_and_told(name: str):
    drawn, told = figures.drawn_names(["dog", NAMES[name], "$x_1$"])
    assert drawn == ["dog", "class 2", "$x_1$"]
    assert told == f"class 2 is {NAMES[name]}"


@pytest.mark.usefixtures("only_ours")
@pytest.mark.parametrize(
    "name", ["dog", "\u00e9t\u00e9", "\u043a\u043e\u0448\u043a\u0430", "\u03b3\u03ac\u03c4\u03b1", "", "a\tb"]
)
def test_a_name_with_a_font_is_drawn(name: str):
    drawn, told = figures.drawn_names([name, "b"])
    assert drawn == [figures.plain(name), "b"]
    assert not told


@pytest.mark.usefixtures("only_ours")
def test_plots_number_classes_without_a_box(recwarn: pytest.WarningsRecorder):
    names = ["dog", *NAMES.values()]
    count = len(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = confusion(np.eye(count, dtype=int), names)
        probes(["conv1"], [(0.5, 0.4, 0.6)], np.ones((1, count)), names)
    assert numbers == confusion(np.eye(count, dtype=int), ["dog", *("\ufdd0" for _ in NAMES)])
    assert numbers != confusion(np.eye(count, dtype=int), ["dog", *(f"class {i + 2}" for i in range(len(NAMES)))])


def test_a_page_tells_the_numbers(tmp_path: Path):
    (tmp_path / "a.html").write_text("{% extends 'base.html' %}{% block body %}here{% endblock %}")
    assert "class 2 is \u732b: no font" in page(tmp_path / "a.html", numbers="class 2 is \u732b").replace("\n", " ")
    assert "no font" not in page(tmp_path / "a.html", numbers="")
    assert "no font" not in page(tmp_path / "a.html")


def test_a_font_of_others_is_found_and_the_settings_stay_as_they_are():
    import matplotlib

    before = list(matplotlib.rcParams["font.family"])
    with figures.in_style():
        ours = frozenset().union(*(charset for _, charset in figures.fonts()))
        others = sorted(frozenset().union(*(charset for _, charset in figures._others())) - ours)
    others = [chr(c) for c in others if unicodedata.category(chr(c))[0] in "LS"]
    if not others:
        pytest.skip("no other font is installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn, told = figures.drawn_names([others[0], "b"])
        first = confusion([[1, 0], [0, 1]], [others[0], "b"])
    assert (drawn, told) == ([others[0], "b"], "")
    assert first == confusion([[1, 0], [0, 1]], [others[0], "b"])
    assert list(matplotlib.rcParams["font.family"]) == before
