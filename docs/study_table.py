"""Write the table of claims into its page, from the claims and the logs of their runs: ``python docs/study_table.py``.

It stands between ``<!-- claims -->`` and ``<!-- end of claims -->``; a test holds the page to what this does.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from convscope.studies.claim import Claim
from convscope.studies.registry import CLAIMS

HERE = Path(__file__).parent
PAGE = HERE / "study.md"
TABLE = re.compile(r"(<!-- claims -->\n).*?(<!-- end of claims -->)", re.S)
ONE_SEED = r"\*"


def logged(claim: Claim, size: str) -> str:
    """The verdict of a claim's logged run, and its mark where one seed chose the rates at a size above small."""
    log = f"logs/study-{size}/{claim.name}-{size}.jsonl"
    if not (HERE / log).exists():
        return "no data" if claim.plan(size) is None else "not run"
    with (HERE / log).open(encoding="utf-8") as lines:
        outcome = json.loads(next(lines))
    by_one = size != "small" and "trial_seeds" not in outcome["plan"]
    return f"[{outcome['verdict']}]({log}){ONE_SEED if by_one else ''}"


def table() -> str:
    """The Markdown table of all claims, in their order."""
    rows = []
    for claim in CLAIMS.values():
        minutes = ", ".join(f"{claim.minutes[size]:,g}" for size in ("small", "medium", "large"))
        rows.append(
            f"| `{claim.name}` | {claim.question} | {minutes} | {logged(claim, 'small')} | {logged(claim, 'medium')} |"
        )
    heading = "| claim | question | minutes: small, medium, large | small | medium |"
    return "\n".join([heading, "|---|---|---|---|---|", *rows]) + "\n"


def filled(page: str) -> str:
    """The page's text with its table as it should be."""
    return TABLE.sub(lambda found: found[1] + table() + found[2], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
