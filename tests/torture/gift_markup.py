"""What we write of foreign names: pages that must hold no markup of theirs, tables without formulas, a card's YAML."""

from __future__ import annotations

import csv
import importlib
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

RUNS = ("script", "style")
LINKS = ("href", "src", "action", "formaction", "data", "srcset", "xlink:href")
STARTS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)  # by which a spreadsheet takes a cell for a formula
CARD = {"license", "license_name", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"}


class Reading(HTMLParser):
    """Notes every place of a page from which a browser would run a payload's ``alert(``."""

    def __init__(self) -> None:
        super().__init__()
        self.within, self.found = "", []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element with what it is given."""
        self.within = tag if tag in RUNS else self.within
        for name, value in attrs:
            plain = (value or "").strip().lower()
            if (name.startswith("on") or name == "style") and "alert(" in plain:
                self.found.append(f"<{tag} {name}={value!r}>")
            if name in LINKS and plain.startswith(("javascript:", "data:text", "vbscript:")):
                self.found.append(f"<{tag} {name}={value!r}>")

    def handle_endtag(self, tag: str) -> None:
        """Its end."""
        self.within = "" if tag == self.within else self.within

    def handle_data(self, data: str) -> None:
        """What stands in it."""
        if self.within and "alert(" in data:
            self.found.append(f"<{self.within}> {data[:80]!r}")


def in_page(text: str) -> list[str]:
    """The places of a page that would run a payload."""
    reading = Reading()
    reading.feed(text)
    return reading.found


def is_number(cell: str) -> bool:
    """Whether a cell is a plain number, which may begin with a sign."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def in_table(text: str) -> list[str]:
    """The cells of a CSV that a spreadsheet would compute."""
    return [c for row in csv.reader(text.splitlines()) for c in row if c.startswith(STARTS) and not is_number(c)]


def in_card(text: str) -> list[str]:
    """The keys of a model card's YAML that are none of ours."""
    import yaml

    head = text.split("---\n")[1] if text.startswith("---\n") else ""
    return sorted(set(yaml.safe_load(head) or {}) - CARD)


def written(path: Path) -> Any:
    """Write all that tells of a run, and look for what would run in it. AssertionError with the first."""
    report = importlib.import_module("convscope.evaluation.page_command").report
    predict = importlib.import_module("convscope.evaluation.command").predict
    site = importlib.import_module("convscope.page.site").write_site
    corrections = importlib.import_module("convscope.datasets.corrections")
    inspected = path.parent / "images"
    inspected.mkdir(exist_ok=True)
    for name in ("=1+1.png", "@x.png", "-2+3.png", "<script>alert(1)<.png"):
        shutil.copy("photo.png", inspected / name)
    table = path.parent / "answers.csv"
    answers = predict(str(path), [str(inspected)], csv=table)
    mended = path.parent / "corrections.csv"
    made = [corrections.Correction(f"{i:064x}", "relabel", a.label, a.label, a.path) for i, a in enumerate(answers)]
    corrections.write_corrections(mended, made)
    again = corrections.read_corrections(mended)[0]
    assert (again.label, again.image) == (made[0].label, made[0].image), f"{made[0]} is read as {again}"
    report(str(path))
    site(path.parent / "site", [str(path)])
    for page in sorted(path.parent.rglob("*.html")):
        found = in_page(page.read_text(encoding="utf-8"))
        assert not found, f"{page.name} would run {found[0]}"
    for file in (table, mended):
        cells = in_table(file.read_text(encoding="utf-8"))
        assert not cells, f"{file.name} holds the formula {cells[0]!r}"
    keys = in_card((path / "README.md").read_text(encoding="utf-8"))
    assert not keys, f"README.md has the keys {keys}"


def site(path: Path) -> Any:
    """The pages of a run, or of a folder of runs, as files."""
    write = importlib.import_module("convscope.page.site").write_site
    if (path / "recipe.json").exists() or path.name != "runs":
        return write(path.parent / "site", [str(path)], runs=path.parent)
    return write(path.parent / "site", runs=path)


def handed_in(path: Path) -> Any:
    """Outcomes of studies side by side."""
    return importlib.import_module("convscope.studies.hand_in_command").compare_hand_ins(path).summary


def onnx(path: Path) -> Any:
    """An export opened by the plain script, which ends with a sentence where it is not one."""
    from convscope.errors import DamagedFile

    try:
        return importlib.import_module("convscope.exporting.predict_onnx").open_model(path)
    except SystemExit as error:
        raise DamagedFile(str(error)) from None
