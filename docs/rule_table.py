"""Write the table of the verdict's rules into its page, from the rules themselves: ``python docs/rule_table.py``.

It stands between ``<!-- rules -->`` and ``<!-- end of rules -->``; a test holds the page to what this does.
"""

from __future__ import annotations

import re
from pathlib import Path

from convscope.diagnosis.rules.order import RULES
from convscope.diagnosis.rules.rule import Condition

PAGE = Path(__file__).parent / "diagnose.md"
TABLE = re.compile(r"(<!-- rules -->\n).*?(<!-- end of rules -->)", re.S)


def told(condition: Condition) -> str:
    """A condition as it is checked, with its reason."""
    unknown = ", or unknown" if condition.or_unknown else ""
    return f"`{condition.field}` {'>' if condition.above else '<'} {condition.threshold:g}{unknown}: {condition.reason}"


def table() -> str:
    """The Markdown table of all rules, in their order."""
    rows = []
    for rule in RULES:
        conditions = "<br>".join(told(condition) for condition in rule.conditions)
        planted = f"{', '.join(rule.set_by)} / {', '.join(rule.tested_by)}"
        rows.append(f"| `{rule.fault}` | {rule.seen_by} | {conditions} | {planted} |")
    return "\n".join(["| fault | seen by | holds where | set by / tested by |", "|---|---|---|---|", *rows]) + "\n"


def filled(page: str) -> str:
    """The page's text with its table as it should be."""
    return TABLE.sub(lambda found: found[1] + table() + found[2], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
