"""The rules of the house that can be read off the source, each held by a small test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "convscope"
FILES = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}

# Low to high; a line is a layer, and those that share one do not import each other. A folder is one entry.
LAYERS = [
    "errors version",
    "storage schedules randomness machine",
    "recipes muon recompute",
    "decoding metrics taps",
    "images",
    "datasets models",
    "augment mixing",
    "batches",
    "classifier",
    "prediction",
    "training",
    "runs planning watch",
    "session evaluation",
    "exporting",
    "explanation diagnosis",
    "transferring",
    "doctor studies",
    "drawing",
    "report",
    "explained transferred diagnosed studied",
    "preparing",
    "commands",
    "serve",
    "cli",
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
EXEMPT = {"__init__.py", "__main__.py"}  # the public surface and `python -m convscope`: they reach for everything

HOOKS_IN = {"taps.py"}  # a hook is a `with` block there, and counted afterwards
DRAWS = {
    f"drawing/{part}.py" for part in "canvas training scores sheets explain transfer diagnose study".split()
}  # others return numbers
UNPICKLES = {
    "models/pretrained.py",  # lite0's weights are one: torch's restricted loader, after their SHA-256 was compared
    "datasets/cifar.py",  # CIFAR's own files are pickles: an unpickler that can build arrays and nothing else
}
WRITES = {
    "storage.py",  # the one way bytes reach disk: temporary file, fsync, read back, rename
}


def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"), filename=name)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of all a file imports, inside functions too."""
    package = ["convscope", *name.split("/")[:-1]]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            start = [*start, node.module] if node.module else start
            yield from ((node.lineno, ".".join([*start, alias.name])) for alias in node.names)


def calls(name: str) -> Iterator[tuple[int, str, ast.Call]]:
    """(line, dotted name as written, node) of every call in a file."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def test_every_module_has_a_layer():
    tops = {name.split("/")[0].removesuffix(".py") for name in FILES.keys() - EXEMPT}
    assert tops <= RANK.keys(), f"give these a place in LAYERS: {sorted(tops - RANK.keys())}"


def test_imports_point_down_only():
    wrong = set()
    for name in FILES.keys() - EXEMPT:
        own = name.split("/")[0].removesuffix(".py")
        for line, imported in imports(name):
            top, *rest = imported.split(".")
            target = rest[0] if rest else "the whole package"
            if top == "convscope" and target != own and RANK.get(target, len(LAYERS)) >= RANK.get(own, len(LAYERS)):
                wrong.add(f"{name}:{line} imports {target}, which is not below {own}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_module_is_a_drawer_of_odds_and_ends():
    banned = re.compile(r"(^|[/_])(utils?|helpers?|common|managers?|misc)(_|/|\.py$)")
    assert not [name for name in FILES if banned.search(name)]


def test_hooks_are_registered_in_one_place():
    wrong = [
        f"{name}:{node.lineno} {node.attr}"
        for name in FILES.keys() - HOOKS_IN
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"register_\w*hook", node.attr)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_drawing_imports_matplotlib():
    wrong = [
        f"{name}:{line} imports {imported}"
        for name in FILES.keys() - DRAWS
        for line, imported in imports(name)
        if imported.split(".")[0] == "matplotlib"
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_unpickled_outside_the_list():
    picklers = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for name in FILES.keys() - UNPICKLES:
        wrong += [f"{name}:{line} imports {i}" for line, i in imports(name) if i.split(".")[0] in picklers]
        wrong += [f"{name}:{line} imports {i}" for line, i in imports(name) if i == "torch.load"]
        wrong += [f"{name}:{line} calls {function}" for line, function, _ in calls(name) if function == "torch.load"]
        wrong += [f"{name}:{n.value.lineno} allow_pickle" for *_, c in calls(name) for n in c.keywords if _allows(n)]
    assert not wrong, "\n".join(wrong)


def test_bytes_reach_disk_in_one_place():
    direct = re.compile(r"(.*\.)?(write_text|write_bytes|tofile|save_file)|(torch|np|numpy)\.save\w*")
    wrong = [
        f"{name}:{line} calls {function}"
        for name in FILES.keys() - WRITES
        for line, function, call in calls(name)
        if direct.fullmatch(function) or (re.search(r"(open|memmap)$", function) and _to_write(call))
    ]
    assert not wrong, "\n".join(wrong)


def _allows(keyword: ast.keyword) -> bool:
    return keyword.arg == "allow_pickle" and not (
        isinstance(keyword.value, ast.Constant) and keyword.value.value is False
    )


def _to_write(call: ast.Call) -> bool:
    """Whether some argument is a mode that writes: w, a, x or anything with a plus."""
    given = [*call.args, *(k.value for k in call.keywords)]
    texts = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(re.fullmatch(r"[wax][bt+]*|r[bt]*\+[bt]*", text) for text in texts)
