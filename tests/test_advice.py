"""Every sentence of advice that the program can print is in one table, with a test that following it helps or works."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from advice_table import ADVICE, NO_ADVICE, UNPROVEN
from convscope.cli.commands import COMMANDS
from convscope.diagnosis.verdict import RULES
from following import options_of

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src" / "convscope"
VERBS = (
    "add ask begin call change check choose close convert copy delete drop end find free give go have initialise "
    "install keep leave let look lower make mend move name open pass pick put raise read remove rename rerun run save "
    "say set shorten split start stop take train try turn use wait wrap write"
)
SENTENCE = "|".join(verb.capitalize() for verb in VERBS.split())
MARKS = (
    r"--[a-z]",  # an option
    r"pip install|CONVSCOPE_[A-Z]|\bconvscope [a-z]",
    r"\b(?:must|needs?|should|wants|instead|works?|fits|keeps it|goes on|would (?:decide|have|add))\b",
    r"Did you mean|Known:",
    rf"(?:^|[.;:,?!] |\b(?:and|or|then|else|it) )(?:then )?(?:{VERBS.replace(' ', '|')})\b",  # an order
    rf"\b(?:{SENTENCE})\b (?!\{{)",  # and one behind another sentence
)
ADVISES = re.compile("|".join(MARKS))


def literals(path: Path) -> Iterator[str]:
    """The texts of a module but its docstrings, each with {} where something is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inner -= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    if "rules" in path.parts:  # data, whose lines and ways to test a step are tried by test_advice_loops.py
        told = {
            id(part) for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "then" for part in ast.walk(k)
        }
        told |= {id(n.value) for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LOWER"}
        alone |= {id(node) for node in ast.walk(tree)} - told
        inner |= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in inner:
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | alone):
            yield node.value


def advising() -> dict[str, list[str]]:
    """The texts of each module that the rule takes for advice: what is said to do, to choose, to name, to leave out."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name == "studies/lecture.py":  # what a lecture says
            continue
        if texts := [t for t in literals(path) if " " in t.strip() and ADVISES.search(t)]:
            found[name] = texts
    return found


FOUND = advising()
ROWS = [(module, fragment) for table in (ADVICE, NO_ADVICE, UNPROVEN) for module in table for fragment in table[module]]


def rows_of(module: str) -> list[str]:
    return [fragment for where, fragment in ROWS if where == module]


@pytest.mark.parametrize("module", FOUND)
def test_every_sentence_of_advice_is_in_the_table(module: str) -> None:
    """What fails here is new advice: put it into the table with the test that follows it."""
    assert not [text for text in FOUND[module] if not any(fragment in text for fragment in rows_of(module))]


def test_no_row_is_stale() -> None:
    assert not [(m, f) for m, f in ROWS if len({t for t in FOUND.get(m, []) if f in t}) < 1]
    assert len(ROWS) == len(set(ROWS))


def named_in(file: str) -> tuple[set[str], set[str]]:
    """The names of the tests of a file, and all its texts, among which are the ids of their cases."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return names, texts


@pytest.mark.parametrize("proof", sorted({proof for rows in ADVICE.values() for proof in rows.values()}))
def test_every_proof_is_there(proof: str) -> None:
    file, _, name = proof.partition("::")
    test, _, case = name.partition("[")
    names, texts = named_in(file)
    assert test in names
    assert not case or case.removesuffix("]") in texts


def test_hardly_anything_is_unproven() -> None:
    assert all(len(reason) > 20 for rows in UNPROVEN.values() for reason in rows.values())
    assert sum(map(len, UNPROVEN.values())) <= 8
    assert sum(map(len, NO_ADVICE.values())) <= 40


def test_the_next_step_of_every_finding_is_in_the_table() -> None:
    known = [fragment for module, fragment in ROWS if module.startswith("diagnosis/rules/")]
    assert not [rule.then for rule in RULES if not any(fragment in rule.then for fragment in known)]


# ------------------------------------------------------------------------------- options and commands that are named

EVERYWHERE = {option for command in COMMANDS for option in options_of(command)}
NOT_OURS = {"--check", "--num-cpus", "--nproc-per-node"}  # of an export's own script, of `ray start`, of torchrun


@pytest.mark.parametrize("module", FOUND)
def test_options_and_commands_that_are_named_exist(module: str) -> None:
    text = " ".join(FOUND[module])
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text)) - NOT_OURS <= EVERYWHERE
    assert set(re.findall(r"\(?convscope ([a-z]+)", text)) - {"exported", "wrote"} <= set(COMMANDS)
