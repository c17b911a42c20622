"""A finding: one thing about a dataset that a user should know, how grave it is, where it is seen, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Grade = Literal["fault", "doubt", "note"]
GRADES: dict[Grade, str] = {
    "fault": "training on it as it is wastes time or deceives",
    "doubt": "may be meant so: look, then decide",
    "note": "good to know; nothing has to be done",
}
SHOWN = 20  # names that are listed of one finding
STOPS = "training stops there; the rest of this report looks at the images all the same."


@dataclass(frozen=True)
class Finding:
    """One thing found: ``kind`` names it in JSON, ``count`` says of how many images, files or classes it is true.

    ``where`` are the first of them by name, and ``advice`` the next step, empty where there is none to take.
    """

    kind: str
    grade: Grade
    sentence: str
    count: int
    advice: str = ""
    where: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        told = {"kind": self.kind, "grade": self.grade, "sentence": self.sentence, "advice": self.advice}
        return told | {"count": self.count, "where": list(self.where), **self.details}


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Faults before doubts before notes; within a grade as they came."""
    grades = list(GRADES)
    return tuple(sorted(findings, key=lambda finding: grades.index(finding.grade)))


def first(names: Sequence[str]) -> tuple[str, ...]:
    """The names that are listed."""
    return tuple(names[:SHOWN])


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 image", "1,200 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def are(count: int) -> str:
    """The verb for so many."""
    return "is" if count == 1 else "are"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more: "a, b, c and 4 more"."""
    listed = ", ".join(names[:shown])
    return listed + (f" and {len(names) - shown:,} more" if len(names) > shown else "")
