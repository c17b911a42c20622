"""A stranger's path: the README from top to bottom, each command as it is written and in that order."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import notebooks
from convscope import cli

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```$", README, re.M | re.S)
    for line in block.splitlines()
    if line.startswith("convscope ")
]


def test_the_readme_is_one_screen_and_names_no_address() -> None:
    assert len(README.splitlines()) <= 80
    assert "://" not in README
    assert "git clone" not in README


def test_its_commands_come_in_the_order_a_person_needs() -> None:
    order = "doctor transfer explain train evaluate predict explain diagnose export".split()
    assert [line.split()[1] for line in COMMANDS] == order


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_parses(line: str) -> None:
    cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_works_in_that_order(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes_folder.rename(tmp_path / "IMAGES")
    shutil.copy(next((tmp_path / "IMAGES" / "ring").iterdir()), tmp_path / "photo.jpg")  # told by its content
    for line in COMMANDS:
        assert cli.run(shlex.split(line)[1:]) == 0, line


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_each_example_is_a_notebook_too(path: Path) -> None:
    # python docs/notebooks.py writes them
    text = path.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == notebooks.notebook(path.read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    assert "sys." not in code
    named = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert "Path" not in named
    assert {"convscope", "runs"} <= named
