"""A training's numbers, step by step, read by rules of thumb: when it learned, when that ended, and which step is odd.

Loss by step is enough; rates, moves of the weights and what the loop showed at each step are looked at where they are
known. Steps may be missing, and may have been told twice, as by a training that went on from a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import bdtr

LEAST = 20  # steps: fewer are no course
FEWEST = 3  # losses: fewer do not stand still, however many steps lie between them
END = 0.1  # the share of the steps that counts as their end
WINDOW = 5  # steps whose median is the level of a loss
AROUND = 10  # steps on each side of one that may be odd
RISES = 3.0  # times: a rate or an update that grew by so much has changed
ROWS = 64  # outputs that a step's share of right ones is of, at most
USUAL = 0.1  # of a weight: an update that is larger is none to measure others by
FADED = 1e-4  # of the greatest rate or move: under it a training stands still

Named = tuple[dict[str, float], dict[str, str]]


@dataclass(frozen=True)
class Curve:
    """S steps of a training: ``losses`` float64 (S,), NaN where none was told, infinite where it was no number, and
    ``others`` by name, each (S,), NaN where unknown: "rate", and the signs of a watched loop.

    ``notes`` are sentences about how it was read. It is ``late`` where the beginning of the training is missing, and
    ``epochs`` says that its steps are epochs.
    """

    losses: np.ndarray
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    steps: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    late: bool = False
    epochs: bool = False

    def of(self, name: str) -> np.ndarray:
        """A column, NaN throughout where it was not told."""
        return np.asarray(self.others.get(name, np.full(len(self.losses), np.nan)), np.float64)

    def step(self, row: int) -> float:
        """The number of a step, by its place."""
        return float(row if self.steps is None else self.steps[row])

    def made(self) -> float:
        """How many steps there had been at its end, as far as their numbers tell."""
        if self.steps is None or len(self.steps) < 2:
            return float(len(self.losses))
        from_0 = float(np.median(np.diff(self.steps))) if self.steps[0] == 0 else 0.0
        return float(self.steps[-1]) + from_0

    def early(self) -> bool:
        """Whether it is too early to say that a loss stands still."""
        told = int((~np.isnan(self.losses)).sum())
        return told < FEWEST or (not self.epochs and self.made() < LEAST)


def from_losses(losses: Sequence[float | None]) -> Curve:
    """A curve of losses alone, in order; None where one was not told."""
    return Curve(np.array([math.nan if x is None else x if math.isfinite(x) else math.inf for x in losses], np.float64))


def read_course(curve: Curve, guess: float) -> Named:
    """The evidence in a curve, and the words that go with it; ``guess`` is the loss of guessing, in nats."""
    told = np.flatnonzero(~np.isnan(curve.losses))
    losses = curve.losses[told]
    found: dict[str, float] = {}
    names: dict[str, str] = {}
    for part in (
        _idle(curve),
        *([] if len(told) < LEAST else [_ran_away(curve, told, guess), _odd(curve, told, guess)]),
    ):
        found |= part[0]
        names |= part[1]
    if len(told) >= 2 * LEAST and np.isfinite(losses).all():
        differences = np.abs(np.diff(losses))
        first, last = (
            float(np.median(part)) for part in (differences[: len(told) // 5], differences[-len(told) // 5 :])
        )
        found["swing"] = last / first if first > 0 else math.nan
    return found, names


def levels(losses: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """The median of each loss and its neighbours, an odd number, float64 (S,): one odd step does not change it."""
    padded = np.pad(losses, window // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def _ran_away(curve: Curve, told: np.ndarray, guess: float) -> Named:
    """How far the loss fell at its best and rose after that, in units of the guess, and from which step."""
    losses = curve.losses[told]
    low = float(levels(losses, max(WINDOW, 2 * (len(losses) // 20) + 1)).min())  # of few, the least is luck
    level = levels(losses)
    end = float(np.median(losses[-max(WINDOW, math.ceil(END * len(losses))) :]))
    start = float(np.median(losses[:WINDOW]))
    if not math.isfinite(low) or not math.isfinite(start):
        return {}, {}
    began = guess if curve.late else min(start, guess)
    found = {"best": low, "fell": (began - low) / guess, "rose": (end - low) / guess}
    halfway = low + min(max(low, 0.1 * guess), (end - low) / 2)
    below = np.flatnonzero(level <= halfway)
    row = _first_above(losses, int(below[-1]), halfway)
    found["ran_from"] = curve.step(int(told[row]))
    found["ran_share"] = row / len(losses)
    found["jumped"], changed = _changed(curve, int(told[row]))
    before = curve.of("largest")[: int(told[row])]
    if np.isfinite(before).any():
        found["update_before"] = float(np.nanmedian(before))
    return found, {"ran_to": f"{end:.2g}" if math.isfinite(end) else "what is no number", "changed": changed}


def _first_above(losses: np.ndarray, last_below: int, limit: float) -> int:
    """The step at which a loss goes above a limit for good: near the last one whose level is below it."""
    row = min(last_below + WINDOW // 2 + 1, len(losses) - 1)
    while row > 1 and losses[row - 1] > limit:
        row -= 1
    return row


def _changed(curve: Curve, row: int) -> tuple[float, str]:
    """How many times larger something else was from a step on, NaN where nothing is known to be, and what, in words."""
    words = {"rate": "the rate", "update": "what an update moves", "deviation": "the deviation of the images"}
    for name, what in words.items():
        values = curve.of(name)
        near = np.flatnonzero(np.isfinite(values))
        before, after = near[near < max(row - 1, 1)][-3:], near[near >= max(row - 1, 1)][:2]
        if len(before) and len(after):
            old, new = float(np.median(values[before])), float(np.max(values[after]))
            if old > 0 and new / old > RISES:
                where = curve.step(int(after[np.flatnonzero(values[after] > RISES * old)[0]]))
                return new / old, f"; {what} grew x{new / old:.2g} there, seen at step {where:.0f}"
    return math.nan, ""


def _idle(curve: Curve) -> Named:
    """The share of the steps at the end in which nothing moved, though something had before."""
    count = len(curve.losses)
    moved, rate = curve.of("moved"), curve.of("rate")
    gradient = curve.of("gradient")
    update = np.where(gradient > 0, curve.of("update"), np.nan)
    choices: dict[str, int] = {}
    if np.nansum(moved) > 0:
        row = int(np.flatnonzero(moved == 1)[-1]) + 1
        later = gradient[row:][np.isfinite(gradient[row:])]
        if not len(later) or later.max() > 0:  # else they stand still because no gradient comes
            choices["no weight moved by a bit"] = row
    kinds = (("the rate was next to 0", rate, math.inf), ("updates were next to 0", update, USUAL))
    for words, values, bound in kinds:
        known = np.flatnonzero(np.isfinite(values))
        if len(known) > 1 and values[known].max() > 0:
            large = np.flatnonzero(values[known] > FADED * min(float(values[known].max()), bound))
            after = int(large[-1]) + 1
            choices[words] = int(known[after]) if after < len(known) else count
    if count < LEAST or not choices:
        return {}, {}
    words = min(choices, key=lambda w: choices[w])
    row = choices[words]
    found = {"idle": 1 - row / count}
    return (found | {"idle_from": curve.step(row)}, {"idle": words}) if row < count else (found, {})


def _odd(curve: Curve, told: np.ndarray, guess: float) -> Named:
    """The step that jumped most and came back, how unlike its neighbours, and how unlikely its right answers."""
    losses = curve.losses[told]
    if not np.isfinite(losses).all():
        return {}, {}
    best: tuple[float, int, np.ndarray] | None = None
    for row in range(AROUND, len(losses) - 1):
        before, after = losses[row - AROUND : row], losses[row + 1 : row + 1 + AROUND]
        level = float(np.median(before))
        spread = max(float(np.abs(before - level).mean()), 0.02 * guess)
        jump = (losses[row] - level) / spread
        back = float(np.median(after)) < level + 0.5 * (losses[row] - level)
        alone = losses[row] - level > 0.1 * guess and losses[row] > 1.3 * max(before.max(), after.max())
        if back and alone and (best is None or jump > best[0]):
            best = (float(jump), row, before)
    if best is None:
        return {}, {}
    jump, row, before = best
    place = int(told[row])
    found = {"odd_jump": jump, "odd_step": curve.step(place), "odd_before": float(np.median(before))}
    found["odd_loss"] = float(losses[row])
    return found | _unlikely(curve, place), {}


def _unlikely(curve: Curve, place: int) -> dict[str, float]:
    """The -log10 of the chance that so few of a batch's labels are what the network answers, as in steps near it."""
    right, batch = curve.of("right"), curve.of("batch")
    known = np.flatnonzero(np.isfinite(right))
    others = known[known != place]
    if not len(others):
        return {}
    if math.isnan(right[place]):
        return {"odd": 0.0}  # it was watched, and did not jump by much more than its neighbours do
    usual = float(np.mean(right[others[np.argsort(np.abs(others - place), kind="stable")[:4]]]))
    count = int(min(batch[place], ROWS)) if np.isfinite(batch[place]) else ROWS
    chance = float(bdtr(round(right[place] * count), count, min(max(usual, 0.02), 0.98)))
    return {
        "odd": -math.log10(max(chance, 1e-300)),
        "odd_right": float(right[place]),
        "usually_right": usual,
        "odd_share": float(right[place]) / max(usual, 1e-9),
    }
