"""A claim: a sentence of the lecture as a controlled experiment. Records only; nothing is trained here.

The arms of a plan share images, order, seeds, steps and batch size, and each differs from another in one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UnknownName
from .plan import Plan

if TYPE_CHECKING:
    from .judging import Judgement
    from .results import Results

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Claim:
    """A sentence of the lecture, the question that decides it, what is expected, and how it is judged.

    ``needs`` are the datasets of size small; medium and large use cifar10. ``minutes`` is the budget by size, on two
    cores. ``plans`` holds a plan for each size; a size that is not there cannot decide the claim.
    """

    name: str
    sentence: str
    question: str
    expected: str
    needs: tuple[str, ...]
    minutes: Mapping[str, float]
    plans: Callable[[str], Plan | None]
    judge: Callable[[Results], Judgement]

    def plan(self, size: str) -> Plan | None:
        """The plan of a size; None where that size cannot decide the claim. UnknownName for another size."""
        if size not in SIZES:
            raise UnknownName("size", size, SIZES)
        return self.plans(size)

    def to_json(self) -> dict[str, Any]:
        """A line of the list of claims."""
        return {
            "name": self.name,
            "sentence": self.sentence,
            "size_minutes": dict(self.minutes),
            "needs": list(self.needs),
        }
