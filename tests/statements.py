"""The number of statements in a tree of Python files, docstrings not counted: how much code there is to read."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def statements(source: str) -> int:
    """The statements of a file, those inside functions and classes too; a docstring or any bare text is none."""
    return sum(isinstance(node, ast.stmt) and not _is_text(node) for node in ast.walk(ast.parse(source)))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main(folder: str) -> None:
    files = sorted(Path(folder).rglob("*.py"))
    total = sum(statements(path.read_text(encoding="utf-8")) for path in files)
    print(f"{total} statements in {len(files)} files under {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
