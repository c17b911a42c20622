"""All rules in the order of causes: images, loss, loop, beginning, course, depth, outcome. The first is the verdict."""

from __future__ import annotations

from . import course, images, loop, loss, outcome, start
from .rule import VerdictRule

RULES: tuple[VerdictRule, ...] = (
    *images.RULES,
    *loss.RULES,
    *loop.RULES,
    *start.RULES,
    *course.RAN_AWAY,
    *course.DIVERGED,
    *start.VANISHING,
    *course.DEAD,
    *start.DEPTH,
    *course.RATES,
    *start.GROWING,
    *course.STEPS,
    *outcome.RULES,
)
