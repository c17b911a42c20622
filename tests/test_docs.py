"""Docs that cannot go stale: every option, table entry and JSON key stands in its page, and links lead somewhere."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convscope import cli
from convscope.datasets import DATASETS
from convscope.models import MODELS
from convscope.recipes import AUGMENTS, RECIPES, Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = ["train", "evaluate", "predict", "models"]


def named(page: str, word: str) -> bool:
    """Whether a page names this very word as code."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", PAGES[page]) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_in_its_commands_page(command: str) -> None:
    parameters = inspect.signature(getattr(cli, command)).parameters.values()
    options = [f"--{p.name.replace('_', '-')}" for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert not [o for o in options if not named(command, o)]
    assert f"convscope {command}" in PAGES[command]


def test_every_command_has_a_page_or_stands_in_the_readme() -> None:
    commands = {name for name in cli.app if not name.startswith("-")}
    assert commands - set(COMMANDS) == {"demo"}
    assert "make demo" in README


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("models", MODELS),
        ("datasets", DATASETS),
        ("augmentation", AUGMENTS),
        ("recipes", RECIPES),
        ("recipes", [f for section in Recipe().to_dict().values() for f in section]),
    ],
)
def test_every_entry_of_a_table_stands_in_its_page(page: str, names: list[str]) -> None:
    assert not [name for name in names if not named(page, name)]


def test_every_recipe_stands_with_its_claim() -> None:
    assert not [name for name, recipe in RECIPES.items() if f"| `{name}` | {recipe.claim} |" not in PAGES["recipes"]]


def test_every_key_of_the_json_stands_in_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*words: str) -> list[dict]:
        capsys.readouterr()
        assert cli.run([*words, "--runs", str(tmp_path), "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    rows = answer("train", "shapes", "--width", "4", "--epochs", "1", "--limit", "150")
    rows += answer("evaluate", "last")
    rows += rows[-1]["classes"][:1] + rows[-1]["mistakes"][:1] + rows[-1]["calibration"][:1]
    rows += answer("predict", "last", str(ROOT / "docs" / "images" / "digits.png"))[0]
    rows += rows[-1]["top"][:1]
    capsys.readouterr()
    assert cli.run(["models", "alexnet", "--json"]) == 0
    book = json.loads(capsys.readouterr().out)
    rows += [book, book["rows"][0]]
    assert not {key for row in rows for key in row if not named("json", key)}


def test_every_error_code_stands_in_the_page() -> None:
    from convscope import errors

    codes = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ConvscopeError)}
    assert not [code for code in codes if f"| {code} |" not in PAGES["errors"]]


@pytest.mark.parametrize("page", ["README", *PAGES])
def test_links_lead_somewhere_and_nothing_names_a_machine(page: str) -> None:
    text, folder = (README, ROOT) if page == "README" else (PAGES[page], ROOT / "docs")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if "://" not in link and not (folder / link).exists()]
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home)\b", text)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    source = ROOT / "src" / "convscope"
    modules = {p.name for p in source.glob("*.py") if not p.name.startswith("__")}
    folders = {f"{p.name}/" for p in source.iterdir() if (p / "__init__.py").exists()}
    shown = set(re.findall(r"^  ([\w/.]+) +\S", README.split("```\nsrc/convscope/")[1].split("```")[0], re.M))
    assert shown == modules | folders


def test_the_example_runs(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "examples" / "01_train.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "of the validation pictures right" in done.stdout
    assert "test:" in done.stdout
    assert len((ROOT / "examples" / "01_train.py").read_text().splitlines()) <= 40
