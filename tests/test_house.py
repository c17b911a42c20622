"""The rules of the house that can be read off the source, each held by a small test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "convscope"
FILES = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}

# Low to high. Imports point to rooms that stand above in this list, and within a room from a later stage to an earlier.
GROUND = (
    "errors version visible spoken noted portable processes reading storage folders schemas cache tensor_files locks "
    "randomness kept_memory machine recipes named_recipes renaming limits progress heartbeat terminal given options "
    "workers"
).split()
ROOMS = (
    "images datasets convolution models classifying tasks canvas training evaluation exporting feature_store "
    "explanation diagnosis transfer_learning studies inspection scale page cli"
).split()
STAGES = ["drawing", "report", "command", "cli"]  # what computes comes before all of them
EXEMPT = {"__init__.py", "__main__.py"}  # the public surface and `python -m convscope`: they reach for everything

TOUCHES = {
    "models/taps.py",
    "models/tracing.py",
    "models/followed.py",
    "models/memory_format.py",  # one hook, of a network whose code cannot take channels-last images
}  # a hook is a `with` block there, and counted afterwards; so is a replaced forward
UNPICKLES = {
    "models/pickle_child.py",  # torch's restricted loader, in a process of its own, within limits
    "models/pretrained.py",  # lite0's weights are one: torch's restricted loader, after their SHA-256 was compared
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


def target(imported: str) -> str | None:
    """The file that an imported name of ours comes from; None for what is not ours."""
    if imported.split(".")[0] != "convscope":
        return None
    path = "/".join(imported.split(".")[1:])
    for ending in (f"{path}.py", f"{path.rpartition('/')[0]}.py", f"{path}/__init__.py"):
        if ending in FILES:
            return ending
    return "__init__.py"


def room(name: str) -> int:
    """The rank of a file's room: 0 for the ground."""
    first, _, rest = name.partition("/")
    return ROOMS.index(first) + 1 if rest else 0


def stage(name: str) -> int:
    """The rank of a file within its room: 0 for what computes."""
    stem = Path(name).stem
    return next((rank for rank, kind in enumerate(STAGES, 1) if stem == kind or stem.endswith(f"_{kind}")), 0)


def ours(name: str) -> Iterator[tuple[int, str]]:
    """(line, file) of every import of our own code in a file, imports for types included."""
    for line, imported in imports(name):
        found = target(imported)
        if found is not None and found != name:
            yield line, found


def test_every_file_stands_on_the_ground_or_in_a_room():
    rooms = {name.split("/")[0] for name in FILES if "/" in name}
    assert rooms == set(ROOMS)
    assert {name.removesuffix(".py") for name in FILES if "/" not in name} - {"__init__", "__main__"} == set(GROUND)


@pytest.mark.parametrize("name", sorted(FILES.keys() - EXEMPT))
def test_imports_point_to_lower_rooms_and_earlier_stages(name: str):
    wrong = []
    for line, found in ours(name):
        if found in EXEMPT or room(found) > room(name):
            wrong.append(f"{name}:{line} imports {found}, which is no lower room")
        if "/" in name and room(found) == room(name) and stage(found) > stage(name):
            wrong.append(f"{name}:{line} imports {found}, a later stage of the same room")
    assert not wrong, "\n".join(wrong)


def test_a_room_has_no_code_in_its_init():
    # Else the command line's options, which stand in the rooms, would import torch.
    allowed = {"__init__.py", "cli/__init__.py"}
    assert not [n for n in FILES if n.endswith("__init__.py") and n not in allowed and len(tree(n).body) > 1]


def test_no_two_files_import_each_other():
    graph = {name: {found for _, found in ours(name)} for name in FILES if not name.endswith("__init__.py")}
    while leaves := [name for name, found in graph.items() if not found & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"in a circle, or above one: {sorted(graph)}"


def test_no_module_is_a_drawer_of_odds_and_ends():
    banned = re.compile(r"(^|[/_])(utils?|helpers?|common|managers?|misc)(_|/|\.py$)")
    assert not [name for name in FILES if banned.search(name)]


def touches(node: ast.AST) -> str | None:
    """How a statement changes what a network does: a hook, or another forward or class."""
    if isinstance(node, ast.Attribute):
        if re.fullmatch(r"register_\w*hook", node.attr):
            return node.attr
        return f"{node.attr} is assigned" if node.attr in ("forward", "__class__") and _changed(node) else None
    if isinstance(node, ast.Subscript) and _changed(node) and "__dict__" in ast.unparse(node.value):
        return "__dict__ is assigned"
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr", "object.__setattr__"):
        names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        return "setattr" if {"forward", "__class__"} & set(names) else None
    return None


def _changed(node: ast.Attribute | ast.Subscript) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def test_only_taps_touches_a_network():
    wrong = [
        f"{name}:{node.lineno} {how}"
        for name in FILES.keys() - TOUCHES
        for node in ast.walk(tree(name))
        if (how := touches(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_only_drawing_imports_matplotlib():
    wrong = [
        f"{name}:{line} imports {imported}"
        for name in FILES
        if not name.startswith("canvas/") and stage(name) != 1
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


def bodies(name: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            yield f"{name}:{node.lineno} {node.name}", node


def test_files_and_functions_stay_small():
    wrong = [name for name, path in FILES.items() if len(path.read_text(encoding="utf-8").splitlines()) > 350]
    for place, function in (found for name in FILES for found in bodies(name)):
        first = function.body[1:] if ast.get_docstring(function) else function.body
        lines = function.body[-1].end_lineno - first[0].lineno + 1 if first else 0
        if lines > 50:
            wrong.append(f"{place}: {lines} lines")
        if depth(function) > 4:
            wrong.append(f"{place}: {depth(function)} blocks in one another")
    assert not wrong, "\n".join(wrong)


def depth(node: ast.AST) -> int:
    """How many blocks stand in one another within a function; an ``elif`` and the functions within it do not count."""
    blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
    deepest = 0
    for field, child in ((f, c) for f, v in ast.iter_fields(node) for c in (v if isinstance(v, list) else [v])):
        if isinstance(child, (ast.FunctionDef, ast.Lambda, ast.ClassDef)) or not isinstance(child, ast.AST):
            continue
        chained = field == "orelse" and isinstance(child, ast.If) and isinstance(node, ast.If)
        deepest = max(deepest, (isinstance(child, blocks) and not chained) + depth(child))
    return deepest


def _allows(keyword: ast.keyword) -> bool:
    return keyword.arg == "allow_pickle" and not (
        isinstance(keyword.value, ast.Constant) and keyword.value.value is False
    )


def _to_write(call: ast.Call) -> bool:
    """Whether some argument is a mode that writes: w, a, x or anything with a plus."""
    given = [*call.args, *(k.value for k in call.keywords)]
    texts = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(re.fullmatch(r"[wax][bt+]*|r[bt]*\+[bt]*", text) for text in texts)
