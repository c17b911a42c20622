"""Write each command's table of options into its page, from the options themselves: ``python docs/option_tables.py``.

A table stands between ``<!-- options of COMMAND -->`` and ``<!-- end -->``; a test holds every page to what this does.
"""

from __future__ import annotations

import re
from pathlib import Path

from convscope.cli import COMMANDS, app

DOCS = Path(__file__).parent
TABLE = re.compile(r"(<!-- options of (\w+) -->\n).*?(<!-- end -->)", re.S)


def options(command: str) -> list[tuple[str, str]]:
    """Each argument and option of a command as it is typed, with its help."""
    found = []
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        if argument.parse and argument.show:
            names = [name for name in argument.names if not name.startswith("--empty-")]
            names += [name for name in argument.negatives if not name.startswith("--empty-") and name not in names]
            found.append((" / ".join(f"`{name}`" for name in names), argument.parameter.help or ""))
    return found


def table(command: str) -> str:
    """The Markdown table of a command."""
    rows = [f"| {name} | {' '.join(text.split()).replace('|', chr(92) + '|')} |" for name, text in options(command)]
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n"


def filled(page: str) -> str:
    """A page's text with its tables as they should be."""
    return TABLE.sub(lambda found: found[1] + table(found[2]) + found[3], page)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(filled(text), encoding="utf-8")
    shown = {found[2] for path in DOCS.glob("*.md") for found in TABLE.finditer(path.read_text(encoding="utf-8"))}
    missing = sorted(COMMANDS.keys() - shown)
    raise SystemExit(f"no page has the table of {', '.join(missing)}" if missing else None)
