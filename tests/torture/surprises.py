"""Attack "surprises": the machine, its other processes, its clock, disks, servers and names are not what one thinks.

Seven situations, a group each: no connection unless one is asked for; downloads from a server that misbehaves; two
processes in one folder; a wrong clock; a disk that is full or a folder without rights; odd names; what Windows and
macOS do otherwise. The attempts of a group are listed whole, in an order drawn once, and taken in turn; a list that is
at its end begins again with other letters in the names, other places of a cut and other images that are replaced.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from torture import odd_clock, odd_disk, odd_downloads, odd_names, odd_network, odd_pairs, odd_systems
from torture.attempts import Attempt
from torture.bad_server import WAYS, BadServer, bad_server
from torture.odd_child import OddMachine, odd_machine
from torture.odd_ground import Ground
from torture.odd_ways import can_mount

GROUPS = ("network", "downloads", "two processes", "clock", "disk", "names", "other systems")
TURNS = (0, 1, 2, 3, 4, 5, 6, 1, 5, 0, 6, 5)  # by which groups are taken: the long lists come more often


@dataclass
class Arena:
    """What the attempts share: started when the first of them needs it."""

    folder: Path
    closing: contextlib.ExitStack
    named: dict[tuple[str, int], odd_names.Named] = field(default_factory=dict)

    @functools.cached_property
    def server(self) -> BadServer:
        """A server that misbehaves as it is told."""
        return self.closing.enter_context(bad_server())

    @functools.cached_property
    def machine(self) -> OddMachine:
        """A process that runs commands."""
        return self.closing.enter_context(odd_machine(hub=self.server.address))

    @functools.cached_property
    def windows(self) -> OddMachine:
        """The same without the modules that Windows does not have."""
        return self.closing.enter_context(odd_machine(windows=True))

    @functools.cached_property
    def ground(self) -> Ground:
        """Images and runs, where every user may pass: some commands are those of one who owns nothing."""
        open_ = Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="odd-", ignore_cleanup_errors=True)))
        open_.chmod(0o755)
        return Ground(self.machine, open_ / "ground")

    @functools.cached_property
    def mounts(self) -> bool:
        """Whether a file system can be mounted here."""
        return can_mount()

    def names(self, kind: str, seed: int) -> odd_names.Named:
        """A run of odd names; the one before is let go."""
        if (kind, seed) not in self.named:
            while self.named:
                odd_names.clear(self.named.popitem()[1])
            made = odd_systems.twins(self.ground, kind) if kind in odd_systems.TWINS else None
            drawn = odd_names.drawn_names(kind, seed) if made is None else None
            self.named[kind, seed] = made or odd_names.Named(self.ground, drawn)
        return self.named[kind, seed]


Trying = Callable[[Arena, int], str]  # (arena, seed of what is drawn) -> what is wrong


def _network() -> dict[str, Trying]:
    silent = {f"{n}: no connection": lambda a, s, n=n: odd_network.silent(a.ground, n) for n in odd_network.SILENT}
    asking = {f"{n}: told offline": lambda a, s, n=n: odd_network.asking(a.ground, n) for n in odd_network.ASKING}
    return silent | asking


def _downloads() -> dict[str, Trying]:
    def one(arena: Arena, seed: int, kind: str, way: str, word: str) -> str:
        folder = arena.ground.empty()
        wrong = odd_downloads.tried(arena.machine, arena.server, folder, (kind, word), way, seed)
        shutil.rmtree(folder)
        return wrong

    asked = [("archive", "doctor"), ("archive", "train"), ("weights", "predict"), ("weights", "export")]
    return {
        f"{word} with {kind} from a server: {way}": functools.partial(one, kind=kind, way=way, word=word)
        for kind, word in asked
        for way in WAYS
        if (kind, way) not in odd_downloads.NOT_OURS
    }


def _pairs() -> dict[str, Trying]:
    return {f"{p[0]} and {p[1]} at once": lambda a, s, p=p: odd_pairs.together(a.ground, p) for p in odd_pairs.PAIRS}


def _clock() -> dict[str, Trying]:
    shifted = {
        f"{n}, the clock {shift} after {after} files": lambda a, s, n=n, shift=shift, after=after: odd_clock.shifted(
            a.ground, n, shift, after
        )
        for n in odd_clock.LINES
        for shift in odd_clock.SHIFTS
        for after in odd_clock.AFTER
    }
    stale = {
        f"{n} of images replaced with {back}": lambda a, s, n=n, back=back: odd_clock.stale(a.ground, n, back, s)
        for n in odd_clock.STALE
        for back in odd_clock.BACK
    }
    return shifted | stale


def _disk() -> dict[str, Trying]:
    full = {
        f"{n} on a disk of {size}{'' if real else ', as it says'}": lambda a, s, n=n, size=size, real=real: (
            odd_disk.full(a.ground, n, size, real and a.mounts)
        )
        for n in odd_disk.LINES
        for size in odd_disk.SIZES
        for real in (True, False)
    }
    denied = {
        f"{n} by somebody without rights in {what}": lambda a, s, n=n, what=what: odd_disk.denied(a.ground, n, what)
        for n in odd_disk.WORDS
        for what in odd_disk.DENIED
    }
    return full | denied


def _names() -> dict[str, Trying]:
    """By kind, so that a run of some names is trained once for all commands in a row."""

    def one(arena: Arena, seed: int, kind: str, command: str) -> str:
        if command == "explain":
            arena.ground.compile()
        return odd_names.tried(arena.names(kind, seed), command)

    return {
        f"{command} with names: {kind}": functools.partial(one, kind=kind, command=command)
        for kind in odd_names.KINDS
        for command in odd_names.TRIED
    }


def _systems() -> dict[str, Trying]:
    def twin(arena: Arena, seed: int, kind: str, command: str) -> str:
        return odd_names.tried(arena.names(kind, 0), command)

    windows = {
        f"{n} without what Windows lacks": lambda a, s, n=n: odd_systems.elsewhere(
            a.ground, a.windows, n, "like Windows"
        )
        for n in odd_systems.LINES
    }
    fork = {
        f"{n} without fork": lambda a, s, n=n: odd_systems.elsewhere(a.ground, a.machine, n, "no fork")
        for n in odd_systems.LINES
    }
    ends = {
        f"{file} with {ends}": lambda a, s, file=file, ends=ends: odd_systems.other_ends(a.ground, file, ends)
        for file in odd_systems.FILES
        for ends in odd_systems.ENDS
        if (file, ends) not in odd_systems.OURS
    }
    twins = {
        f"{command} with twins: {kind}": functools.partial(twin, kind=kind, command=command)
        for kind in odd_systems.TWINS
        for command in ("copy to", "evaluate", "predict", "site", "explain an image", "doctor")
    }
    return fork | ends | windows | twins


LISTS = dict(zip(GROUPS, (_network, _downloads, _pairs, _clock, _disk, _names, _systems), strict=True))
# What `make test` takes first: such as are quick.
FIRST = {
    "network": "predict: no connection",
    "downloads": "doctor with archive from a server: one bit wrong",
    "two processes": "export and report at once",
    "clock": "doctor of images replaced with the same time",
    "disk": "export on a disk of 4 KiB",
}
RUNS_OF = {"names": len(odd_names.TRIED)}  # attempts that stay together when a list is shuffled


@functools.cache
def listed(group: str) -> tuple[tuple[str, Trying], ...]:
    """The attempts of a group, in an order that is drawn once."""
    rows = list(LISTS[group]().items())
    together = RUNS_OF.get(group, 1)
    blocks = [rows[i : i + together] for i in range(0, len(rows), together)]
    order = np.random.default_rng(len(rows)).permutation(len(blocks))
    drawn = [row for i in order for row in blocks[i]]
    return tuple(sorted(drawn, key=lambda row: row[0] != FIRST.get(group)))


def chosen(seed: int, count: int) -> list[tuple[str, str, Trying, int]]:
    """(group, what, how, seed of what is drawn) of the attempts number seed * count and on, the groups in turn."""
    found = []
    for number in range(seed * count, (seed + 1) * count):
        turn, place = divmod(number, len(TURNS))
        group = GROUPS[TURNS[place]]
        before = TURNS[:place].count(TURNS[place])
        position = turn * TURNS.count(TURNS[place]) + before
        rows = listed(group)
        round_, index = divmod(position, len(rows))
        found.append((group, *rows[index], round_))
    return sorted(found, key=lambda row: GROUPS.index(row[0])) if count > len(GROUPS) else found


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """Attempts of all seven situations; see attempts.py."""
    with contextlib.ExitStack() as closing:
        arena = Arena(folder, closing)
        for group, what, trying, drawn in chosen(seed, count):
            start = time.perf_counter()
            try:
                wrong = trying(arena, drawn)
            except Exception as error:
                wrong = f"the attempt broke down: {type(error).__name__}: {error}"
            yield Attempt(f"{what} ({drawn})" if drawn else what, group, wrong, time.perf_counter() - start)
