"""What a page leaves out because its file is damaged is told on it by name; a drawing that rotted is not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from convscope.canvas.pages import is_whole_png, uri
from convscope.errors import DamagedFile
from convscope.page.left_out import left_out, with_problems
from convscope.page.rendering import Rendering, render
from convscope.page.routes import ROUTES, Page
from convscope.page.served import Served
from convscope.storage import commit_json, read_json


def test_an_outcome_that_rots_is_named_on_the_page_of_claims(tmp_path: Path) -> None:
    path = tmp_path / "study" / "toy-small.json"
    commit_json(path, {"claim": "none of ours"})
    page = Page(Served(tmp_path))
    assert "damaged" not in str(ROUTES["/study"].values(page)["problems"])  # another version's is told too
    path.write_bytes(path.read_bytes().replace(b"ours", b"hers"))
    (said,) = ROUTES["/study"].values(page)["problems"]
    assert said == f"{path} is damaged: it is not what was written."


def test_what_was_never_there_is_not_told(tmp_path: Path) -> None:
    def view() -> dict[str, object]:
        with left_out(tmp_path / "none.json"):
            read_json(tmp_path / "none.json")
        with left_out(tmp_path / "none.json", KeyError):
            raise KeyError("of another version")
        return {"problems": ["its own"]}

    assert with_problems(view) == {"problems": ["its own"]}
    with pytest.raises(KeyError), left_out(tmp_path):
        raise KeyError("of ours")


def test_each_page_shows_its_problems() -> None:
    told = render("study.html", {"claims": [], "counts": {}, "problems": ["a.json <is> damaged."]}, Rendering())
    assert told.count("a.json &lt;is&gt; damaged.") == 1


def test_a_drawing_of_which_a_bit_flips_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((40, 30), 50).save(path)
    data = path.read_bytes()
    assert is_whole_png(data)
    assert str(uri(path)).startswith("data:image/png;base64,")
    for place in range(0, len(data), 7):
        assert not is_whole_png(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert not is_whole_png(data[:place])
    assert not is_whole_png(data + b"\0")
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedFile, match=r"a\.png is damaged: remove it"):
        uri(path)
    told: list[str] = []
    assert uri(path, told) is None
    assert told == [f"{path} is damaged: remove it, and it is left out until it is drawn anew."]
    assert uri(tmp_path / "none.png") is None
