"""What a writing asked of the system, call by call as strace tells it, and whether it did so in the order that lasts.

A new name of a file lasts when the file's bytes were synced after the last of them and before the rename, and its
folder, with each folder that was made for it, afterwards; and only then may it be announced. What can be made again
waits for no disk: of it only this is held, that nothing is written under the name it is to have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_LINE = re.compile(r"(?:(\d+) +)?(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_BEGUN = re.compile(r"(?:(\d+) +)?(\w+)\((.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(?:(\d+) +)?<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?)(.*)")
_HANDLE = re.compile(r"\d+<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TEMPORARY = re.compile(r"(\..+?)\.tmp-\d+-[0-9a-f]{12}")
WRITES = frozenset({"write", "pwrite64", "writev", "ftruncate", "fallocate"})
SYNCS = frozenset({"fsync", "fdatasync"})
RENAMES = frozenset({"rename", "renameat", "renameat2"})
BY_HANDLE = WRITES | SYNCS | {"close", "read", "pread64", "lseek", "fstat", "getdents64"}


@dataclass(frozen=True)
class Call:
    """A system call: ``number`` counts the calls of this name in this thread, from 1."""

    thread: str
    name: str
    arguments: str
    failed: bool
    injected: bool
    number: int

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it is about: of a rename the old name and the new one."""
        if self.name in BY_HANDLE or self.name == "mmap":
            return tuple(_HANDLE.findall(self.arguments))[:1]
        named = [text for text in _TEXT.findall(self.arguments) if text]
        return tuple(named) or tuple(_HANDLE.findall(self.arguments))[:1]

    @property
    def shape(self) -> tuple[str, ...]:
        """The same for the same call of another process: without the numbers in the names of temporary files."""
        return (self.name, *(_TEMPORARY.sub(r"\1.tmp", path).partition(":[")[0] for path in self.paths))

    @property
    def creates(self) -> bool:
        return self.name == "openat" and "O_CREAT" in self.arguments


def parsed(text: str) -> Iterator[Call]:
    """The calls of a trace, in the order in which they were done."""
    begun: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if found := _BEGUN.fullmatch(line):
            begun[found[1] or "", found[2]] = found[3]
            continue
        whole, rest = _LINE.fullmatch(line), _ENDED.fullmatch(line)
        found = rest or whole
        if found is None:  # a signal, or the end of a thread
            continue
        thread, name = found[1] or "", found[2]
        arguments = (begun.pop((thread, name), "") if rest else "") + found[3]
        counts[thread, name] += 1
        yield Call(thread, name, arguments, found[4] == "-1", "(INJECTED" in found[5], counts[thread, name])


def is_temporary(path: str) -> bool:
    """Whether a path is, or lies in, something that is swept away, or an old folder that was put aside."""
    return any(
        part.startswith(".") and (".tmp-" in part or part.endswith(".old")) for part in PurePosixPath(path).parts
    )


@dataclass
class _Disk:
    """What would not outlast a power cut: files with bytes, and folders with names, that were not synced."""

    unsynced: dict[str, str] = field(default_factory=dict)  # with what is wrong
    synced: set[str] = field(default_factory=set)
    names: dict[str, list[str]] = field(default_factory=dict)  # by folder
    announced: bool = False

    def put(self, path: str) -> None:
        self.names.setdefault(str(PurePosixPath(path).parent), []).append(path)

    def waiting(self) -> list[str]:
        return [path for paths in self.names.values() for path in paths]


def flaws_of(calls: Sequence[Call], folder: str, announcement: str, synced: bool = True) -> list[str]:
    """What is wrong with the order of the calls that wrote into ``folder`` until ``announcement`` was written."""
    disk, flaws = _Disk(), []
    for call in calls:
        if call.failed:
            continue
        if call.name == "write" and announcement in call.arguments and not _within(call.paths, folder):
            disk.announced = True
            flaws += [f"announced before the new name of {path} is synced" for path in disk.waiting() if synced]
        elif _within(call.paths, folder):
            flaws += _done(call, disk, synced)
    if not disk.announced:
        flaws.append("nothing is announced")
    flaws += [f"the folder of {path} is never synced after the new name" for path in disk.waiting() if synced]
    return list(dict.fromkeys(flaws))


def _within(paths: Sequence[str], folder: str) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for path in paths)


def _done(call: Call, disk: _Disk, synced: bool) -> list[str]:
    """Note what a call did; returns what is wrong with it."""
    path = call.paths[-1]
    if call.name == "mmap":
        shared = "PROT_WRITE" in call.arguments and "MAP_SHARED" in call.arguments
        return [f"{path} is written by a map, which nothing here syncs"] if shared else []
    if call.name in SYNCS:
        disk.unsynced.pop(path, None)
        disk.names.pop(path, None)
        disk.synced.add(path)
    elif call.name in WRITES or call.creates:
        disk.unsynced[path] = "was written after its last sync" if path in disk.synced else "was never synced"
        return [] if is_temporary(path) else [f"{path} is written under its own name"]
    elif call.name == "mkdir" and not is_temporary(path):
        disk.put(path)
    elif call.name in RENAMES and not is_temporary(path):
        disk.put(path)
        wrong = disk.unsynced.pop(call.paths[0], None)
        late = [f"{path} takes its name after it was announced"] if disk.announced else []
        return late + ([f"{path} takes its name while what it holds {wrong}"] if wrong and synced else [])
    return []
