"""Kills: commands that end at a moment of their writing, or at any time, and are typed again.

Of the moments half are inside a save: its temporary file is there, whole or in part, and has not taken its name. Each
moment of a command is taken once, and when they are used up, times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kill_commands import COMMANDS, Undisturbed, Undisturbeds, flaw_of, make_images
from kill_points import Killer, killing
from torture.attempts import Attempt

# What a command is killed at when it is its turn again: half of the kills are inside a save, a quarter at any time.
TURNS = ("inside a save", "between", "inside a save", "at any time")


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """Kill the commands of the table in turn, beginning with another one for another seed."""
    if count == 0:
        return
    with killing() as killer:
        commands = Undisturbeds(killer, make_images(folder / "data" / "images"), folder / "commands")
        plan = Plan(seed, count)
        for number in range(count):
            name, turn = plan.turn(number)
            yield _attempt(killer, plan, commands.of(name), name, turn, number)


class Plan:
    """Which command is killed at what, as the seed and the number of attempts say; no moment is taken twice."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.first = seed, seed * count
        self._left: dict[tuple[str, str], list[int]] = {}

    def turn(self, number: int) -> tuple[str, str]:
        """The command of an attempt, and what it is killed at."""
        names = list(COMMANDS)
        visit, place = divmod(self.first + number, len(names))
        return names[place], TURNS[(visit + place) % len(TURNS)]

    def moment(self, name: str, turn: str, whole: Undisturbed) -> int | None:
        """The next moment of a command that was not taken; None where there is none left, or none is wanted.

        The order is one for all seeds, begun at another place: their moments are others as far as there are enough.
        """
        if turn == TURNS[-1]:
            return None
        if (name, turn) not in self._left:
            inside = set(whole.ended.inside)
            moments = [m for m in range(1, whole.ended.moments) if (m in inside) == (turn == TURNS[0])]
            order = np.random.default_rng([len(moments), len(name)]).permutation(moments).tolist()
            shares = TURNS.count(turn) / len(TURNS) / len(COMMANDS)
            begun = round(self.first * shares) % max(1, len(order))
            self._left[name, turn] = [*order[begun:], *order[:begun]]
        left = self._left[name, turn]
        return left.pop(0) if left else None


def _attempt(killer: Killer, plan: Plan, whole: Undisturbed, name: str, turn: str, number: int) -> Attempt:  # noqa: PLR0913
    moment = plan.moment(name, turn, whole)
    if moment is None:
        random = np.random.default_rng([plan.seed, number])
        seconds = float(random.uniform(0.0, whole.ended.seconds))
        ended, flaw = flaw_of(killer, whole, after=seconds)
        what, turn = f"{name} after {1000 * seconds:.0f} ms", TURNS[-1]
    else:
        ended, flaw = flaw_of(killer, whole, moment)
        what = f"{name} at moment {moment} of {whole.ended.moments}"
    return Attempt(what, f"{COMMANDS[name].typed.split()[0]}, {turn}", flaw, ended.seconds)
