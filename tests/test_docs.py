"""Docs that cannot go stale: every option, table entry and JSON key stands in its page, and links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import api_reference
import convscope
import option_tables
import rule_table
import study_table
import toyclaim
from convscope import cli
from convscope.cli.commands import COMMANDS
from convscope.datasets.registry import DATASETS
from convscope.diagnosis.verdict import RULES
from convscope.explanation.attribution import METHODS
from convscope.exporting.formats import EXPORTS
from convscope.feature_store.engines import ENGINES
from convscope.models.registry import MODELS
from convscope.named_recipes import RECIPES
from convscope.recipes import AUGMENTS, Recipe
from convscope.studies.registry import CLAIMS
from convscope.transfer_learning.ladder import CHEAP, COSTLY
from page_twins import twins, worst_twins
from small_targets import discs

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def named(page: str, word: str) -> bool:
    """Whether a page names this very word as code."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", PAGES[page]) is not None


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_options_are_those_of_the_options(page: str) -> None:
    # python docs/option_tables.py writes them
    assert option_tables.filled(PAGES[page]) == PAGES[page]


def test_the_table_of_claims_is_that_of_the_claims_and_their_logs() -> None:
    """python docs/study_table.py writes it."""
    assert study_table.filled(PAGES["study"]) == PAGES["study"]


def test_the_api_reference_is_that_of_the_docstrings() -> None:
    # python docs/api_reference.py writes it
    assert api_reference.page() == PAGES["api"]


def test_every_command_has_its_table_and_is_shown() -> None:
    tables = {found[2] for text in PAGES.values() for found in option_tables.TABLE.finditer(text)}
    assert tables == set(COMMANDS)
    assert not [command for command in COMMANDS if not any(f"convscope {command}" in text for text in PAGES.values())]
    assert "make demo" in README


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("models", MODELS),
        ("datasets", DATASETS),
        ("augmentation", AUGMENTS),
        ("recipes", RECIPES),
        ("recipes", Recipe().to_dict()),
        ("explain", METHODS),
        ("diagnose", {rule.fault: rule for rule in RULES}),
        ("transfer", [*CHEAP, *COSTLY]),
        ("features", [e for e in ENGINES if e != "auto"]),
        ("export", EXPORTS),
        ("study", CLAIMS),
    ],
)
def test_every_entry_of_a_table_stands_in_its_page(page: str, names: list[str]) -> None:
    assert not [name for name in names if not named(page, name)]


def test_the_table_of_rules_is_that_of_the_rules() -> None:
    assert rule_table.filled(PAGES["diagnose"]) == PAGES["diagnose"]


def test_every_recipe_stands_with_its_claim() -> None:
    assert not [name for name, recipe in RECIPES.items() if f"| `{name}` | {recipe.claim} |" not in PAGES["recipes"]]


def defaults() -> dict[str, str]:
    """Every field of a recipe with its default as the page shows it, straight from its table."""
    return dict(re.findall(r"^\| \w* ?\| `(\w+)` \| (\S+) \|", PAGES["recipes"], re.M))


def test_every_field_of_a_recipe_stands_with_its_default() -> None:
    assert defaults() == {k: json.dumps(v).strip('"') for k, v in Recipe().flat().items()}


# ------------------------------------------------------------------------------------------------------------ JSON

TYPES = {
    "boolean": bool,
    "string": str,
    "integer": int,
    "number": (int, float),
    "list": list,
    "object": dict,
    "null": type(None),
}


def schema(heading: str) -> dict[str, tuple[list[str], str]]:
    """The keys under a heading of the JSON page: {key: (its types, its meaning)}."""
    (text,) = re.findall(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", PAGES["json"], re.M | re.S)
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \| ([^|]*)\|$", text, re.M)
    return {
        key: (types.split(" or "), meaning) for keys, types, meaning in rows for key in re.findall(r"`(\w+)`", keys)
    }


def misfits(value: dict[str, Any], heading: str) -> list[str]:
    """What is wrong with a printed object by the page: keys, types and, for fractions, the range."""
    documented = schema(heading)
    wrong = [f"{key} is on one side only" for key in value.keys() ^ documented.keys()]
    for key in value.keys() & documented.keys():
        item, (types, meaning) = value[key], documented[key]
        wanted = tuple(TYPES[t] for t in types)
        if not isinstance(item, wanted) or (isinstance(item, bool) and bool not in wanted):
            wrong.append(f"{key} is {item!r}")
        if isinstance(item, float) and "fraction" in meaning and not 0 <= item <= 1:
            wrong.append(f"{key} is {item} and no fraction")
    return wrong


def asked(data: Path, runs: str) -> dict[str, list[Any]]:
    """What is printed of small transfers to masks, boxes, labels and numbers, and of what these answer."""
    made, rungs, looks, answers = [], [], [], {}
    for name in ("", "tags.csv", "sizes.csv", "boxes.json"):
        words = [
            str(data / name),
            *"--quick --engine torch --image-size 64 --name".split(),
            f"of-{name}",
            "--runs",
            runs,
            *(["--task", "detection"] if name == "boxes.json" else []),
        ]
        (*some, last) = answer("transfer", *words)
        (look,) = answer("evaluate", last["run"])
        ((answers[last["task"]],),) = answer("predict", last["run"], str(data / "images" / "0.png"))
        rungs, made, looks = [*rungs, *some, *last["rungs"]], [*made, last], [*looks, look]
    tests = {one["task"]: one["test"] for one in made}
    return {
        **worst_twins(Path(runs), [Path(one["run"]).name for one in made]),
        "A transfer to a task": [{k: v for k, v in one.items() if k != one["metric"]} for one in made],
        "The filters of a class": [found for one in made for found in one["filters"]],
        "A rung of a task": rungs,
        "A task": [{k: v for k, v in one.items() if k == "n" or k not in tests[one["task"]]} for one in looks],
        "Figures of masks": [tests["segmentation"]],
        "A class of masks": tests["segmentation"]["classes"],
        "Figures of boxes": [tests["detection"]],
        "A class of boxes": tests["detection"]["classes"],
        "An answer of boxes": [answers["detection"]],
        "A box": answers["detection"]["boxes"],
        "Figures of labels": [tests["multi_label"]],
        "A label": tests["multi_label"]["labels"],
        "Figures of numbers": [tests["regression"]],
        "An answer of a mask": [answers["segmentation"]],
        "An answer of labels": [answers["multi_label"]],
        "An answer of a number": [answers["regression"]],
    }


def answer(*words: str, code: int = 0) -> list[Any]:
    """The JSON values that a command prints, one a line."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.run([*words, "--json"]) == code
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What every command prints of one small training: {heading of the JSON page: objects}."""
    runs = str(tmp_path_factory.mktemp("runs"))
    image = str(ROOT / "docs" / "images" / "digits.png")
    trained = answer(*"train shapes --width 4 --epochs 1 --limit 150 --runs".split(), runs)
    (score,) = answer("evaluate", "last", "--runs", runs)
    (unopened,) = answer("evaluate", "last", "--part", "val", "--runs", runs)
    ((good, bad),) = answer("predict", "last", image, "no-such-file.png", "--runs", runs, code=65)
    (sick,) = answer(*"diagnose last --images 1 --runs".split(), runs)
    (explained,) = answer(*"explain last --layer conv1 --ablate 50 --least --runs".split(), runs)
    cards = json.loads((Path(explained["folder"]) / "conv1.json").read_text(encoding="utf-8"))["cards"]
    (taken,) = answer("explain", "last", "--image", image, "--method", "grad-cam", "--sanity", "--runs", runs)
    marked = str(discs(tmp_path_factory.mktemp("marked") / "discs", 12))
    localized = [
        *answer("localize", "last", "--limit", "8", "--runs", runs),
        *answer("localize", "last", marked, "--runs", runs),
    ]
    ((*listed,), (book,)) = *answer("models"), answer("models", "alexnet")
    recorded = "shapes --limit 120 --image-size 32 --engine torch".split()  # an ONNX engine takes seconds to build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convscope.transfer_learning.fcnn.UPDATES", 60)
        (*rungs, moved) = answer("transfer", *recorded, "--runs", runs)
    (features,) = answer("features", *recorded)
    (seen,) = answer("doctor", "shapes", "--limit", "120", "--no-labels", "--runs", runs)
    (near,) = answer("similar", "last", image, "--engine", "torch", "--runs", runs)
    (sealed,) = answer("export", "last", "--format", "safetensors", "--runs", runs)
    weights = ["--weights", f"{trained[-1]['run']}/classifier.safetensors", "--runs", runs]
    elsewhere = "adopt alexnet --width 4 --classes shapes --input-size 32".split()
    (adopted,) = answer(*elsewhere, *weights, *"--mean 0.5 0.5 0.5 --std 0.2 0.2 0.2".split())
    repeated = answer(*"train digits --epochs 1 --width 4 --limit 100 --folds 2 --runs".split(), runs)
    tried = answer(*"train shapes --width 4 --dry-run 1".split())
    (paged,) = answer("report", "last", "--runs", runs)
    other = shutil.copytree(trained[-1]["run"], f"{runs}/other")
    (compared,) = answer("compare", trained[-1]["run"], other, "--runs", runs)
    (here,) = answer("models", "--pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLAIMS, "toy", toyclaim.CLAIM)
        (judged,), (claims,) = answer(*"study toy --runs".split(), runs), answer("study", "--list")
    (handed,) = answer("compare", f"{runs}/study")
    run = Path(trained[-1]["run"])
    return {
        **asked(discs(tmp_path_factory.mktemp("data") / "discs"), runs),
        **twins(run.parent, run.name, Path(image).read_bytes()),
        "The line of an epoch": trained[:-1],
        "The summary": trained[-1:],
        "Several trainings together": repeated[-1:],
        "A dry run": tried,
        "evaluate": [score, unopened],
        "A class": score["classes"],
        "A bin of calibration": score["calibration"],
        "A mistake": score["mistakes"],
        "predict": [{**good, **bad}],
        "An explanation": [explained],
        "An explained layer": explained["layers"],
        "A card": cards,
        "One image": [taken],
        "localize": localized,
        "Scored maps": [localized[1]["scored"]],
        "A way to find objects": localized[1]["scored"]["ways"],
        "A rung": [*rungs, *moved["rungs"]],
        "transfer": [moved],
        "features": [features, moved["features"] | {k: features[k] for k in ("data", "backbone", "notes")}],
        "diagnose": [sick],
        "A state": [*sick["states"].values()],
        "A factor's Jacobian": [f for state in sick["states"].values() for f in state["jacobians"]],
        "study": [judged],
        "A quantity": judged["quantities"],
        "An arm": judged["arms"],
        "A training of an arm": [t for arm in judged["arms"] for t in [*arm["trials"], *arm["trainings"]]],
        "The list of claims": claims,
        "doctor": [seen],
        "similar": [near],
        "export": [sealed],
        "adopt": [adopted],
        "report": [paged],
        "compare": [compared],
        "Hand-ins side by side": [handed],
        "A compared run": compared["runs"],
        "A difference": compared["differences"],
        "Pretrained networks": here,
        "The list": listed,
        "One model": [book],
        "A layer": book["rows"],
        "bench": [
            {key: value for key, value in json.loads(path.read_text()).items() if key in schema("bench")}
            for path in (ROOT / "docs" / "logs" / "bench").glob("*.json")
        ],
    }


def test_the_printed_json_is_as_documented(printed: dict[str, list[Any]]) -> None:
    assert all(printed.values())
    assert not {h: wrong for h, values in printed.items() for value in values if (wrong := misfits(value, h))}


def test_the_share_of_the_peak_is_in_percent(printed: dict[str, list[Any]]) -> None:
    (summary,) = printed["The summary"]
    share = summary["gflop_per_second"] / summary["peak_gflop_per_second"]
    assert summary["percent_of_peak"] == pytest.approx(100 * share)
    assert "0 to 100" in schema("The summary")["percent_of_peak"][1]


def test_every_table_of_the_json_page_is_held(printed: dict[str, list[Any]]) -> None:
    headings = re.findall(r"^#+ (.+)$", PAGES["json"], re.M)
    assert {h for h in headings if schema(h)} == set(printed) | {"Runs of a task compared"}  # test_task_compare.py


def test_an_answer_has_a_label_or_an_error(printed: dict[str, list[Any]]) -> None:
    (row,) = printed["predict"]
    assert all(set(top) == {"label", "probability"} for top in row["top"])
    assert row["error"] == "does not exist"


# --------------------------------------------------------------------------------------------------- code in pages


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


ALL = {"README": README, **PAGES}
SHOWN = {
    line.split("#")[0].strip()
    for text in ALL.values()
    for block in blocks(text)
    for line in block.splitlines()
    if line.startswith("convscope ") and not re.search(r"\[|\.\.\.", line)
}
QUOTED = {q for text in ALL.values() for q in re.findall(r"`(convscope \w+ [^`\[]+)`", text) if "..." not in q}


@pytest.mark.parametrize("line", sorted(SHOWN | QUOTED))
def test_every_command_shown_is_one_that_the_command_line_takes(line: str) -> None:
    words = shlex.split(line)[1:]
    cli.app.parse_args(words, exit_on_error=False, print_error=False)
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else "default"
    assert recipe in RECIPES


def test_the_table_shown_is_the_table_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = [block for block in blocks(PAGES["models"]) if block.startswith("$ convscope models alexnet")]
    assert cli.run(["models", "alexnet"]) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()[1:]] == [line.split() for line in printed.splitlines()]


@pytest.mark.parametrize("page", [name for name, text in ALL.items() if blocks(text, "python")])
def test_the_python_shown_uses_names_that_exist(page: str) -> None:
    for block in blocks(ALL[page], "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "convscope":
                assert node.attr in convscope.__all__
            if isinstance(node, ast.ImportFrom):
                assert all(hasattr(importlib.import_module(str(node.module)), name.name) for name in node.names)


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs" / "images" / "digits.png", tmp_path / "photo.jpg")  # told by its content
    (block,) = blocks(README, "python")
    exec(compile(block, "README.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("1797 ")
    assert any(line.startswith("Prediction(path='photo.jpg', label=") for line in shown)
    assert "It is above 0 at" in shown[-1]


def test_the_index_leads_to_every_page() -> None:
    listed = [
        line for block in blocks(PAGES["index"], "{toctree}") for line in block.splitlines() if line[:1].isalpha()
    ]
    assert sorted([*listed, "index"]) == sorted(PAGES)


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


def test_the_tree_in_contributing_is_the_tree() -> None:
    source = ROOT / "src" / "convscope"
    modules = {p.name for p in source.glob("*.py") if not p.name.startswith("__")}
    folders = {f"{p.name}/" for p in source.iterdir() if (p / "__init__.py").exists()}
    shown = set(re.findall(r"^  ([\w/.]+) +\S", CONTRIBUTING.split("```\nsrc/convscope/")[1].split("```")[0], re.M))
    assert shown == modules | folders


SLOW = pytest.mark.slow
EXAMPLES = [
    pytest.param("01_train.py", ["of the validation images right", "test:"]),
    pytest.param("02_explain.py", ["conv2: 32 filters", "Fires at", "leads", "of conv3 adds"], marks=SLOW),
    pytest.param(
        "03_diagnose.py",
        ["plain56: exploding", "resnet56: healthy", "start loss", "|I + J_F|", "updates: 0.0"],
        marks=SLOW,
    ),
    pytest.param("04_transfer.py", ["twice the images", "test: 0.9", "near: ", "features: (600, 1280)"], marks=SLOW),
    pytest.param("05_segment.py", ["intersection over union", "test: IoU 0.", "mask: (80, 96) background"], marks=SLOW),
    pytest.param("06_detect.py", ["average precision (AP50)", "twice the images", "boxes: "], marks=SLOW),
]


@pytest.mark.parametrize(("example", "said"), EXAMPLES)
def test_the_examples_run(example: str, said: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "examples" / example), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert not [words for words in said if words not in done.stdout]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_short_and_calls_what_exists_with_options_that_exist(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    assert path.name in {example.values[0] for example in EXAMPLES}
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="convscope"), attr=name)):
                taken = inspect.signature(getattr(convscope, name)).parameters
                assert not [k.arg for k in call.keywords if k.arg not in taken], name
