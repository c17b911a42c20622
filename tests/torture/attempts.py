"""What an attack is: seeded attempts to make convscope lose, run, leak or miscount something, each held or not."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attempt:
    """One attempt: what was tried, what it is counted with, and what is wrong, in a sentence (empty where it held).

    ``seconds`` and ``megabytes`` are what the attempt cost, where the attack has a limit on that.
    """

    what: str
    group: str
    flaw: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


# (seed, count, an empty folder to work in) -> the attempts. The same seed and count make the same attempts; another
# seed makes others, so that counts add up. What can be listed whole (each crash point) is sampled by the seed.
Attacking = Callable[[int, int, Path], Iterator[Attempt]]


@dataclass(frozen=True)
class Attack:
    """An attack of the table: the module whose ``attack`` makes it, and how many attempts it takes.

    ``says`` is what holds, as a sentence of docs/reliability.md. ``goal`` is the total that the committed log is to
    reach, ``sample`` what one ``make torture`` takes, ``quick`` what ``make test`` takes.
    """

    module: str
    says: str
    goal: int
    sample: int
    quick: int

    def attempts(self, seed: int, count: int, folder: Path) -> Iterator[Attempt]:
        """The attempts of this attack; a count of 0 makes none."""
        attack: Attacking = importlib.import_module(f"torture.{self.module}").attack
        return attack(seed, count, folder)
