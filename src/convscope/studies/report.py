"""The report of `study`: one page that stands alone, with every verdict and all that is needed to run it again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..canvas.figures import Drawing
from ..canvas.pages import page
from ..errors import DamagedFile, UnknownName
from ..noted import Noted
from ..storage import read_json, write_derived
from . import drawing
from .judging import VERDICTS, told
from .registry import CLAIMS
from .results import START

TEMPLATE = Path(__file__).with_name("report.html")

SAME = ("versions", "machine")  # of an outcome, told once where all of a page agree


@dataclass(frozen=True)
class StudyReport(Noted):
    """The claims that were run, each ``Outcome.to_json()``; what was trained for them lies in ``folder``."""

    folder: Path
    size: str
    outcomes: tuple[dict[str, Any], ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of claims of each verdict."""
        return {verdict: sum(o["verdict"] == verdict for o in self.outcomes) for verdict in VERDICTS}

    def sentence(self) -> str:
        """Say how many claims hold, do not hold, and are not decided."""
        hold, fail, undecided = self.counts.values()
        verbs = ("holds" if hold == 1 else "hold", "does" if fail == 1 else "do", "is" if undecided == 1 else "are")
        return f"{hold} {verbs[0]}, {fail} {verbs[1]} not hold, {undecided} {verbs[2]} not decided"

    @property
    def notes(self) -> tuple[str, ...]:
        """What there was to note of each claim."""
        return tuple(f"{outcome['claim']}: {note}" for outcome in self.outcomes for note in outcome["notes"])

    def told(self) -> Iterable[tuple[str, Any]]:
        """The verdict of each claim."""
        return [*self.verdicts().items(), ("written to", self.folder)]

    def verdicts(self) -> dict[str, str]:
        """The verdict of each claim by name."""
        return {outcome["claim"]: outcome["verdict"] for outcome in self.outcomes}

    def drawing(self, claim: str) -> Drawing | None:
        """A claim's curves and quantities; None where nothing was trained for it. UnknownName for one not run."""
        there = {outcome["claim"]: outcome for outcome in self.outcomes}
        if claim not in there:
            raise UnknownName("claim among those run here", claim, there)
        return draw_outcome(there[claim])

    def write(self) -> Path:
        """Write the page that is handed in, with what earlier calls found of other claims; return where it lies."""
        return self._with_earlier()._write(self.folder / f"study-{self.size}.html")

    def _with_earlier(self) -> StudyReport:
        """This report, with the outcomes of other claims at its size that lie in its folder."""
        found = {outcome["claim"]: outcome for outcome in self.outcomes}
        for claim in CLAIMS:
            path = self.folder / f"{claim}-{self.size}.json"
            if claim not in found and path.exists():
                with suppress(DamagedFile):  # `compare` tells of it
                    found[claim] = read_json(path)
        order = {claim: number for number, claim in enumerate(CLAIMS)}
        outcomes = sorted(found.values(), key=lambda outcome: order.get(outcome["claim"], len(order)))
        return replace(self, outcomes=tuple(outcomes))

    def _write(self, path: Path) -> Path:
        images = {o["claim"]: p.data_uri() for o in self.outcomes if (p := draw_outcome(o)) is not None}
        places = {o["claim"]: p.data_uri() for o in self.outcomes if (p := draw_places(o)) is not None}
        shared = {key: self._shared(key) for key in SAME}
        html = page(
            TEMPLATE,
            report=self,
            images=images,
            places=places,
            data=self._data(),
            shared=shared,
            command=self._command(),
        )
        write_derived(path, html)
        return path

    def _shared(self, key: str) -> dict[str, Any] | None:
        """Find what all outcomes say alike; None where they differ, and each tells its own."""
        told = [o[key] for o in self.outcomes if o[key]]
        return told[0] if told and all(t == told[0] for t in told) else None

    def _data(self) -> list[dict[str, Any]]:
        """The different images that were used."""
        used = {o["data"]["fingerprint"]: o["data"] for o in self.outcomes if o["data"] is not None}
        return list(used.values())

    def _command(self) -> str:
        names = [] if len(self.outcomes) == len(CLAIMS) else [o["claim"] for o in self.outcomes]
        return " ".join(["convscope study", *names, "--size", self.size, "--html"])


def draw_outcome(outcome: dict[str, Any]) -> Drawing | None:
    """The arms' curves, and each quantity with its interval."""
    if not outcome["quantities"]:
        return None
    curves = {arm["name"]: [(p["step"], p["loss"]) for p in arm["curve"]] for arm in outcome["arms"]}
    return drawing.claim(curves, _quantities(outcome["quantities"]))


def draw_places(outcome: dict[str, Any]) -> Drawing | None:
    """Draw the measured vectors of each arm; None where nothing was measured by place."""
    names = {n for arm in outcome["arms"] for n, value in arm["measured"].items() if isinstance(value, list)}
    if not names:
        return None
    what, along = outcome["plan"]["by_place"]
    panels = {}
    for name in sorted(names, key=lambda n: not n.startswith(START)):
        when = "before the first update" if name.startswith(START) else "after training"
        lines = {arm["name"]: arm["measured"][name] for arm in outcome["arms"] if name in arm["measured"]}
        panels[f"{what[:1].upper()}{what[1:]}, {when}"] = lines
    return drawing.profiles(panels, along)


def _quantities(parts: Sequence[dict[str, Any]]) -> list[drawing.Quantity]:
    return [
        drawing.Quantity(
            p["quantity"],
            p["told"],
            p["verdict"],
            p["value"],
            -math.inf if p["low"] is None else p["low"],
            math.inf if p["high"] is None else p["high"],
            (p["limits"][0], p["limits"][1]),
            partial(told, unit=p["unit"]),
        )
        for p in parts
    ]
