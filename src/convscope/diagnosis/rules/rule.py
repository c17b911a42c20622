"""What a rule is: conditions with their thresholds and reasons, what is said, and what to do."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass

from ..observations import Evidence


@dataclass(frozen=True)
class Condition:
    """``field`` of the evidence is above or below ``threshold``, and why there. NaN, what nobody could measure, is
    neither, unless ``or_unknown``."""

    field: str
    above: bool
    threshold: float
    reason: str
    or_unknown: bool = False

    def holds(self, evidence: Evidence) -> bool:
        """Say whether it is so."""
        value = getattr(evidence, self.field)
        if math.isnan(value):
            return self.or_unknown
        return value > self.threshold if self.above else value < self.threshold


@dataclass(frozen=True)
class Finding:
    """A rule that holds, in words: what is wrong, what it was ``seen_by``, ``where``, one next step (``then``), how
    that step is tested (``tries``), and lines of torch that take it (``fix``)."""

    fault: str
    sentence: str
    then: str
    seen_by: str
    where: str
    tries: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class VerdictRule:
    """A fault, the conditions that must all hold, and a finding's words with places for the evidence's numbers.

    ``set_by`` and ``tested_by`` name planted faults: those whose trainings set the thresholds, and others that test it.
    """

    fault: str
    conditions: tuple[Condition, ...]
    says: str
    then: str
    seen_by: str
    tries: str
    fix: str
    where: str = ""
    set_by: tuple[str, ...] = ()
    tested_by: tuple[str, ...] = ()

    def finding(self, evidence: Evidence) -> Finding | None:
        """The words with the numbers filled in; None where a condition does not hold."""
        if not all(condition.holds(evidence) for condition in self.conditions):
            return None
        values = asdict(evidence)
        values["names"] = defaultdict(str, evidence.names)
        says, then, seen_by, where, tries = (
            words.format(**values) for words in (self.says, self.then, self.seen_by, self.where, self.tries)
        )
        return Finding(self.fault, says, then, seen_by, where, tries, self.fix)


def above(field: str, threshold: float, reason: str, or_unknown: bool = False) -> Condition:
    """The number is above the threshold."""
    return Condition(field, True, threshold, reason, or_unknown)


def below(field: str, threshold: float, reason: str, or_unknown: bool = False) -> Condition:
    """The number is below the threshold."""
    return Condition(field, False, threshold, reason, or_unknown)


NOT_LEARNING = below("progress", 0.35, "a network that has taken away a third of the loss of guessing is learning")
HARDLY = below("progress", 0.12, "an eighth of the loss of guessing is little for any labels that mean something")
ENOUGH = above("updates", 30, "in fewer steps a sound training may not have begun to learn", or_unknown=True)
TRAINED = above("trained", 0.75, "before the first step there is nothing to tell of labels")
HERE = below("elsewhere", 0.5, "of a network from elsewhere these are not the images of its training")
SEEN = below("curve_alone", 0.5, "numbers alone do not say why a loss stays where it is")
EYES = "look at twenty images with their labels, as they come to the network"
LOWER = "take a third of the learning rate, again until the loss falls, or let convscope train find one with --lr auto."
LOWER_FIX = 'for group in optimizer.param_groups:\n    group["lr"] /= 3'
AGAIN = "train 50 steps anew: the loss should be lower at their end than at their beginning"
HE = 'for module in network.modules():\n    if isinstance(module, (nn.Conv2d, nn.Linear)):\n        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")'  # noqa: E501
