"""Write the table of attacks into its page, from the log of attempts: ``python docs/reliability.py``.

It stands between ``<!-- attacks -->`` and ``<!-- end of attacks -->``; a test holds the page to what this does.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE, LOG = HERE / "reliability.md", HERE / "logs" / "torture.jsonl"
TABLE = re.compile(r"(<!-- attacks -->\n).*?(<!-- end of attacks -->)", re.S)
sys.path.append(str(HERE.parent / "tests"))


def records() -> list[dict[str, Any]]:
    """The rows of the log: what one process tried, with one seed."""
    return [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]


def told(name: str, rows: list[dict[str, Any]]) -> str:
    """The line of one attack: all that was ever tried of it, by different seeds or with other numbers."""
    from torture.attacks import ATTACKS

    attack = ATTACKS[name]
    tried, held = sum(row["tried"] for row in rows), sum(row["held"] for row in rows)
    seconds, megabytes = (max([0.0, *(row[k] for row in rows)]) for k in ("longest_seconds", "largest_megabytes"))
    limits = (
        f"{seconds:g} s" * bool(seconds) + ", " * bool(seconds and megabytes) + f"{megabytes:g} MB" * bool(megabytes)
    )
    goal = f"{attack.goal:,}" if tried >= attack.goal else f"{attack.goal:,}: not reached yet"
    return f"| {name} | {attack.says} | {tried:,} | **{held:,}** | {goal} | {limits or 'not limited'} |"


def table() -> str:
    """The Markdown table of all attacks that were run, in their order."""
    from torture.attacks import ATTACKS

    rows = records()
    lines = [told(name, [row for row in rows if row["attack"] == name]) for name in ATTACKS]
    head = "| attack | what holds | attempts | held | wanted | the longest, the largest |"
    return "\n".join([head, "|---|---|---|---|---|---|", *lines]) + "\n"


def filled(page: str) -> str:
    """The page's text with its table as it should be."""
    return TABLE.sub(lambda found: found[1] + table() + found[2], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
