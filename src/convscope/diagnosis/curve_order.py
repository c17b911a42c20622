"""The order of a training's rows: by the numbers of their steps, which may be told twice, or start anew each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEW = 0.1  # the share of losses that may have no step of their own before rows are counted instead
STRETCH = 4  # rows: numbers that fall back after fewer are not in order at all
NEAR = 5  # rows whose median is the loss before and after numbers fall back
MISSING = 5.0  # usual distances between steps: a first step that is farther from 0 leaves out a beginning


@dataclass(frozen=True)
class Numbered:
    """R rows as they were told: ``losses``, their ``steps``, and ``epochs`` if these are known besides, each float64
    (R,), NaN where not told. ``by_epoch`` says that the steps are epochs; ``again`` that whoever starts to count anew
    has begun anew, as in several files."""

    losses: np.ndarray
    steps: np.ndarray | None
    epochs: np.ndarray | None = None
    by_epoch: bool = False
    again: bool = False

    def backwards(self) -> Numbered:
        """The same rows, the last one first."""
        steps, epochs = (None if column is None else column[::-1] for column in (self.steps, self.epochs))
        return Numbered(self.losses[::-1], steps, epochs, self.by_epoch, self.again)


@dataclass(frozen=True)
class Order:
    """What became of R rows: ``places`` (R,) to sort them by, NaN for one that is left out. These are steps, or, where
    rows are ``counted``, say which comes before which. ``late`` where nothing was told before ``first``."""

    places: np.ndarray
    counted: bool
    notes: tuple[str, ...] = ()
    late: bool = False
    first: float = 0.0


def newest_first(told: Numbered) -> bool:
    """Say whether most rows are of an earlier step than the row before."""
    if told.steps is None:
        return False
    rows = np.flatnonzero(~np.isnan(told.losses) & np.isfinite(told.steps))
    older = told.epochs is None or not (np.diff(told.epochs[rows]) > 0).any()
    return older and len(rows) > 1 and int((np.diff(told.steps[rows]) < 0).sum()) > (len(rows) - 1) / 2


def in_order(told: Numbered) -> Order:
    """Put rows in order: by step, by epoch and step where steps start anew, or, where neither tells, as they stand."""
    has = ~np.isnan(told.losses)
    as_they_stand = np.where(has, np.arange(len(has), dtype=np.float64), np.nan)
    known = has if told.steps is None else has & np.isfinite(told.steps)
    if told.steps is None or known.sum() < (1 - FEW) * has.sum():
        return Order(as_they_stand, True, () if told.steps is None else ("losses have no step, so rows are counted.",))
    rows, notes = np.flatnonzero(known), []
    if known.sum() < has.sum():
        notes.append(f"{has.sum() - known.sum()} losses have no step and are left out.")
    anew, why = _anew(told, rows)
    late, first = _late(told, rows, anew)
    if anew and told.epochs is None:
        return Order(np.where(known, as_they_stand, np.nan), True, (*notes, why), late, first)
    places = np.where((has & ~known) | ~np.isfinite(told.steps), np.nan, told.steps)
    if anew and told.epochs is not None:
        pairs = np.stack([told.epochs[rows], told.steps[rows]], 1)
        places = np.full(len(has), np.nan)
        places[rows] = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    places, again = _last_told(places, rows)
    notes += [note for note in (why, again) if note]
    left = places[rows][~np.isnan(places[rows])]
    if (np.diff(left) == 0).sum() > FEW * len(left):
        notes.append(f"each {'epoch' if told.by_epoch else 'step'} has several losses, so rows are counted.")
        anew = True
    return Order(np.where(has, places, np.nan) if anew else places, anew, tuple(notes), late, first)


def _late(told: Numbered, rows: np.ndarray, anew: bool) -> tuple[bool, float]:
    """Whether the beginning is missing, and the first number there is: an epoch where steps start anew, or a step."""
    epochs = told.steps if told.by_epoch else told.epochs if anew else None
    numbers = told.steps if epochs is None else epochs
    if numbers is None or not len(rows) or (anew and epochs is None):
        return False, 0.0
    values = np.unique(numbers[rows])
    usual = float(np.median(np.diff(values))) if len(values) > 1 else 1.0
    return bool(values[0] > (MISSING * usual if epochs is None else max(1.0, usual))), float(values[0])


def _anew(told: Numbered, rows: np.ndarray) -> tuple[bool, str]:
    """Whether steps start anew though the training goes on, with a sentence."""
    assert told.steps is not None
    steps, what = told.steps[rows], "epochs" if told.by_epoch else "steps"
    change = np.diff(steps)
    falls = np.flatnonzero(change < 0) + 1
    if told.epochs is not None:
        grows = np.diff(told.epochs[rows]) > 0
        if (grows & (change < 0)).any() or (grows & (change == 0)).sum() > FEW * len(rows):
            return True, "steps start anew with each epoch, so rows are counted."
        if len(falls) and (np.diff(told.epochs[rows])[falls - 1] < 0).all():
            return False, ""
    if not len(falls) or told.again or len(rows) < STRETCH * (len(falls) + 1):
        return False, ""
    usual = float(np.median(change[change > 0])) if (change > 0).any() else 1.0
    at_first = (steps[falls] - steps.min() < usual).mean() >= 0.5
    bounded = steps.max() < steps[: falls[0]].max() + usual
    if not at_first or not bounded or not _goes_on(told.losses[rows], falls):
        return False, ""
    return True, f"{what} start anew {len(falls)} times in one training, so rows are counted."


def _goes_on(losses: np.ndarray, falls: np.ndarray) -> bool:
    """Whether, at most places where the numbers fall back, losses stay nearer to those before than to the first."""
    first = np.median(losses[:NEAR])
    before = np.array([np.median(losses[max(0, row - NEAR) : row]) for row in falls])
    after = np.array([np.median(losses[row : row + NEAR]) for row in falls])
    with np.errstate(invalid="ignore"):
        back = np.abs(after - before) > np.abs(after - first)
    return bool(back.mean() < 0.5)


def _last_told(places: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Without the rows that a training told before it went back to an earlier step, with a sentence."""
    steps = places[rows]
    falls = np.flatnonzero(np.diff(steps) < 0) + 1
    if not len(falls):
        return places, ""
    twice = len(np.unique(steps)) < len(steps)
    if len(steps) < STRETCH * (len(falls) + 1) and not (twice and len(falls) == 1):
        return places, "steps are not in order, and are put in order." if twice else ""
    kept = places.copy()
    ends = [*falls[1:].tolist(), len(rows)]
    spans: list[tuple[float, float]] = []
    for start, end in zip(falls.tolist(), ends, strict=True):
        low, high = float(steps[start:end].min()), float(steps[start:end].max())
        earlier = kept[: rows[start]]
        with np.errstate(invalid="ignore"):
            if ((earlier >= low) & (earlier <= high)).any():
                spans.append((low, high))
                earlier[earlier >= low] = np.nan
    if not spans:
        return places, ""
    return kept, f"it went back {len(spans)} times, as from a checkpoint: what was told later counts."
