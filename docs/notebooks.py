"""Write each example as a notebook beside it: ``python docs/notebooks.py``. A test holds the notebooks to this."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def _cell(kind: str, text: str, number: int) -> dict[str, Any]:
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(True), **code}


def notebook(script: str) -> str:
    """A script's notebook: its docstring, the imports, and a cell for each paragraph of ``main``."""
    tree = ast.parse(script)
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    lines = script.splitlines()[main.body[0].lineno - 1 : main.end_lineno]
    # A notebook has no arguments: what stands after "else" is taken.
    body = re.sub(
        r"= .+ if len\(sys\.argv\).* else (.+?)(  #.*)?$", r"= \1", textwrap.dedent("\n".join(lines)), flags=re.M
    )
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    lines = script.splitlines()[imports[0].lineno - 1 : imports[-1].end_lineno]
    needed = "\n".join(line for line in lines if line not in ("import sys", "from pathlib import Path"))
    paragraphs = [needed.strip(), *re.split(r"\n\n(?=\S)", body)]
    title = (ast.get_docstring(tree) or "").split(" Usage:")[0]
    cells = [_cell("markdown", title, 0), *(_cell("code", text, n) for n, text in enumerate(paragraphs, 1))]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


if __name__ == "__main__":
    for path in sorted(EXAMPLES.glob("*.py")):
        path.with_suffix(".ipynb").write_text(notebook(path.read_text(encoding="utf-8")), encoding="utf-8")
