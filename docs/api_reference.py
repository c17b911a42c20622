"""Write the page of the Python API from the docstrings of the public names: ``python docs/api_reference.py``.

A test holds the page to what this makes.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import convscope

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Python API

Every public name, `convscope.NAME`, with its docstring. Written by `python docs/api_reference.py`. Keywords are the
options of the command of the same name; their meaning stands in its page.

A path may be a string, a `Path` or bytes, and begin with `~`; a run may be a name, a path or a `Run`. One thing does
where several may stand (`layer="conv1"`, `filter=3`), and so do NumPy's and torch's numbers, arrays and devices. What
cannot be meant is refused in a sentence (UsageError), which names options as arguments: `batch_size`, where a command
that was typed is told of `--batch-size`. Every report has `notes`, the sentences that the command line
prints, and a notebook shows them with its figures.
"""


def calling(name: str, thing: Any) -> str:
    """A function's positional arguments on one line, and its keywords by name below."""
    parameters = inspect.signature(thing).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    first = [p.name if p.default is p.empty else f"{p.name}=..." for p in parameters if p.name not in keywords]
    text = f"`{name}({', '.join([*first, *(['*', '...'] if keywords else [])])})`\n"
    return text + (f"\nKeywords: {', '.join(f'`{k}`' for k in keywords)}.\n" if keywords else "")


def entry(name: str, thing: Any) -> str:
    """The section of one public name."""
    if isinstance(thing, dict):
        return f"## {name}\n\nA table of: {', '.join(f'`{key}`' for key in thing)}.\n"
    if isinstance(thing, str):
        return f"## {name}\n\nThe version, a string.\n"
    text = inspect.getdoc(thing) or ""
    text = "" if text.startswith(f"{name}(") else text  # a dataclass without a docstring gets its signature
    fenced = f"```text\n{text}\n```\n" if text else ""
    if not inspect.isclass(thing):
        return f"## {name}\n\n{calling(name, thing)}\n{fenced}"
    methods = [
        f"- `{key}`: {(inspect.getdoc(value) or '').splitlines()[0]}\n"
        for key, value in vars(thing).items()
        if not key.startswith("_") and isinstance(value, (property, *METHODS)) and inspect.getdoc(value)
    ]
    return f"## {name}\n\n{fenced}" + ("\n" + "".join(methods) if methods else "")


METHODS = (type(calling), classmethod, staticmethod)


def page() -> str:
    """The whole page."""
    names = sorted(convscope.__all__, key=str.lower)
    return "\n".join([HEAD, *(entry(name, getattr(convscope, name)) for name in names)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
