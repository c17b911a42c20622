"""Each system call of each way to the disk fails, or is the last: what is found there afterwards, and what was said.

A crash point is a path of ``commit_paths``, a call that it makes of the system (strace tells them all) and a fault. All
are listed, and the seed says which are tried. What must hold is in ``_flaw``; a page or a drawing, which can be made
again, waits for no disk, and a system that cannot exchange two folders has its old one aside for a moment.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from convscope.folders import mend_folder
from torture.attempts import Attempt
from torture.commit_paths import PATHS
from torture.crash_child import SAID, Ended, Writer, strace_refused, writing
from torture.faulty_commits import WAYS
from torture.traces import RENAMES, SYNCS, WRITES, Call, flaws_of, is_temporary, parsed

# What a writing may ask of the system. A file is written by no map: ``flaws_of`` would tell.
CALLS = sorted(
    WRITES | SYNCS | RENAMES
    | set("openat close read pread64 lseek newfstatat fstat statx getdents64 mkdir mkdirat rmdir unlink".split())
    | set("unlinkat link linkat symlink symlinkat truncate copy_file_range sendfile".split())
)  # fmt: skip
KILL, ORDER = "kill", "order of calls"
FAULTS = {  # what strace is told
    KILL: "signal=SIGKILL:when={}",
    "ENOSPC": "error=ENOSPC:when={}",
    "EIO": "error=EIO:when={}",
    "EACCES": "error=EACCES:when={}",
    "EINTR": "error=EINTR:when={}",
    "ENOSPC from then on": "error=ENOSPC:when={}+",
    "EIO from then on": "error=EIO:when={}+",
}
ASKING = {"newfstatat", "statx", "getdents64", "openat"}  # whether there is a file, what it is, and what it holds
# What removes a temporary file, or an old one that is to go: where it is that which fails, the next start does it.
TIDYING = {"unlink", "unlinkat", "rmdir", "openat", "getdents64", "newfstatat", "fstat", "close"}
_UNTOUCHED = re.compile(r"cannot write (.+?): .+\. What was there before is untouched\.")
_WRITTEN = re.compile(r"(.+?) is written, but may not outlast a power cut: .+\.")

Content = Mapping[str, str]  # the hash of each file, by its path below the folder


@dataclass(frozen=True)
class Staged:
    """A path of writing, ready to be tried: a folder with the old content, the calls, and what may be found."""

    name: str
    place: Path
    calls: tuple[Call, ...]  # all of the thread that writes
    allowed: tuple[Content, ...]  # the old content, what lies between where there are several files, the new content
    order: tuple[str, ...]  # what is wrong with the order of the calls

    @property
    def points(self) -> Iterator[tuple[Call | None, str]]:
        """Every call that is about a file of the folder, with each fault; None: the order of the calls."""
        yield None, ORDER
        for call in self.calls:
            about = any(path.startswith(str(self.place / "traced")) for path in call.paths)
            if about and call.name not in {*WAYS[self.name].refused, "mmap"}:  # memory is mapped too, how often differs
                yield from ((call, fault) for fault in FAULTS)
            elif call.name == "write" and SAID in call.arguments:
                yield call, KILL

    def wrote(self, call: Call) -> bool:
        """Whether a call is on a file that was opened to be written: the last opening before it says so."""
        before = self.calls[: self.calls.index(call)]
        return any(c.creates for c in [c for c in before if c.name == "openat" and c.paths == call.paths][-1:])


def attack(seed: int, count: int, folder: Path) -> Iterator[Attempt]:
    """As many of the crash points as asked for, none twice until all were tried; the seed says where to begin."""
    if refused := strace_refused():
        pytest.skip(f"crash points: {refused}")
    with writing() as writer:
        names = list(PATHS)
        if count < len(names):  # for a few, the calls of a few are listed
            names = [names[(seed * count + number) % len(names)] for number in range(count)]
        staged = [stage(writer, name, folder / f"path-{number}") for number, name in enumerate(names)]
        points = [(one, call, fault) for one in staged for call, fault in one.points]
        order = np.random.default_rng(0).permutation(len(points))
        for number in range(count):
            one, call, fault = points[order[(seed * count + number) % len(points)]]
            yield Attempt(told(one, call, fault), one.name, tried(writer, one, call, fault))


def told(one: Staged, call: Call | None, fault: str) -> str:
    if call is None:
        return f"{one.name}: {fault}"
    path = (call.paths or ("",))[-1].removeprefix(str(one.place / "traced")) or "the folder"
    return f"{one.name}: {fault} at {call.name} {call.number} ({path})"


def stage(writer: Writer, name: str, place: Path) -> Staged:
    """Write the old content, the new one over a copy of it, and once more over another copy, watched."""
    old, new, traced = place / "old", place / "new", place / "traced"
    old.mkdir(parents=True)
    writer.prepare(name, old, [0])
    shutil.copytree(old, new)
    writer.prepare(name, new, [1])
    shutil.copytree(old, traced)
    log = place / "trace"
    words = ["-f", "-y", "-s", "16", "-e", f"trace={','.join(CALLS)},mmap", "-o", str(log), *_refusing(name)]
    ended = writer.write(name, traced, words)
    if not ended.announced or content(traced) != content(new):
        raise RuntimeError(f"{name} does not write the same twice: {ended}")
    calls = list(parsed(log.read_text()))
    flaws = flaws_of(calls, str(traced), SAID, WAYS[name].synced)
    main = tuple(call for call in calls if call.thread == calls[0].thread)
    between = tuple(_between(main, traced, content(old), content(new)))
    return Staged(name, place, main, between, tuple(flaws))


def _refusing(name: str) -> list[str]:
    return [word for call in WAYS[name].refused for word in ("-e", f"inject={call}:error=EINVAL")]


def _between(calls: Sequence[Call], folder: Path, old: Content, new: Content) -> Iterator[Content]:
    """What the folder holds after each call that gives, or takes, a name that is no temporary one."""
    now = dict(old)
    yield dict(now)
    for call in calls:
        if call.failed or call.name not in RENAMES | {"unlink", "unlinkat"} or is_temporary(call.paths[-1]):
            continue
        changed = Path(call.paths[-1])
        if changed.is_relative_to(folder):
            below = _below(changed, folder, {*now, *new})
            now = {k: v for k, v in now.items() if k not in below} | {k: new[k] for k in below if k in new}
            yield dict(now)


def _below(path: Path, folder: Path, names: set[str]) -> set[str]:
    """Those of ``names`` that are the file ``path`` or lie in that folder."""
    return {name for name in names if (folder / name).is_relative_to(path)}


def content(folder: Path) -> dict[str, str]:
    """The hash of each file that is no temporary one."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_temporary(str(path))]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_over(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if is_temporary(str(path))]


# ------------------------------------------------------------------------------------------------------- an attempt


def tried(writer: Writer, one: Staged, call: Call | None, fault: str) -> str:
    """Try a crash point; returns what is wrong, in a sentence."""
    if call is None:
        return "; ".join(one.order)
    folder, log = one.place / "tried", one.place / "trace"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(one.place / "old", folder)
    log.unlink(missing_ok=True)
    watched = ",".join((call.name, *WAYS[one.name].refused))
    words = ["-y", "-e", f"trace={watched}", "-o", str(log), *_refusing(one.name)]
    ended = writer.write(one.name, folder, [*words, "-e", f"inject={call.name}:{FAULTS[fault].format(call.number)}"])
    if not _happened(log.read_text(), call, fault, one):
        return "the call did not come again, so that nothing was tried"
    found = _flaw(one, call, fault, ended, folder)
    rest = left_over(folder)
    tidy = not rest and (not ended.announced or content(folder) == one.allowed[-1])
    if found or (fault != KILL and tidy):
        return found
    hindered = fault.endswith("from then on") or any(is_temporary(path) for path in call.paths)
    if fault != KILL and rest and not (call.name in TIDYING and hindered):
        return f"it leaves {rest[0]}"
    after = writer.write(one.name, folder)  # the next start
    if not after.announced or content(folder) != one.allowed[-1]:
        return f"the next start does not end in the new content: {after.sentence or after.code}"
    rest = left_over(folder)
    return f"the next start leaves {rest[0]}" if rest else ""


def _happened(log: str, call: Call, fault: str, one: Staged) -> bool:
    """Whether the fault came at the call that was meant."""
    if fault == KILL and "+++ killed by SIGKILL" not in log:
        return False
    calls = [c for c in parsed(log) if (c.name, c.number) == (call.name, call.number)]
    traced, tried_in = str(one.place / "traced"), str(one.place / "tried")
    meant = tuple(part.replace(traced, tried_in) for part in call.shape)
    met = calls[0].shape == meant if calls else False
    return met and (fault == KILL or calls[0].injected)


def _flaw(one: Staged, call: Call, fault: str, ended: Ended, folder: Path) -> str:
    """What is wrong with what a writing left and said."""
    now, new = _mended(folder), one.allowed[-1]
    if now not in one.allowed:
        return f"what is there is neither the old content nor the new: {_difference(now, one)}"
    whole = now == new or (call.name in TIDYING and {**now, **new} == now)
    if ended.announced and not whole:
        return "it is announced, and what is there is not the new content"
    if fault == KILL:
        return "" if ended.code == -9 else f"it was not killed: {ended}"
    if ended.code == 0:
        return "" if ended.announced and not _swallowed(one, call, fault) else "the error is swallowed"
    if ended.announced:
        return "it is announced, and then fails"
    return _false(one, call, ended, folder, now)


def _mended(folder: Path) -> dict[str, str]:
    """What is there; a folder that a kill left aside, on a system without exchange, has its name again."""
    for aside in folder.rglob(".*.old"):
        mend_folder(aside.with_name(aside.name[1:].removesuffix(".old")))
    return content(folder)


def _difference(now: Content, one: Staged) -> str:
    old, new = one.allowed[0], one.allowed[-1]
    known = {name: {old.get(name, ""), new.get(name, "")} for name in {*old, *new}}
    odd = [name for name in sorted({*known, *now}) if now.get(name, "") not in known.get(name, {""})]
    return f"{odd[0]} is neither" if odd else "files of both stand in an order that no writing has"


def _swallowed(one: Staged, call: Call, fault: str) -> bool:
    """Whether an error that must be told is not: bytes, or their name, may be lost by it.

    An interrupted call is made again; two folders that cannot be exchanged are renamed one after the other.
    """
    if fault == "EINTR" or call.name == "renameat2":
        return False
    lost = call.name in WRITES | SYNCS or call.creates or (call.name == "close" and one.wrote(call))
    return lost or (call.name in RENAMES and not one.name.endswith("no exchange"))


def _false(one: Staged, call: Call, ended: Ended, folder: Path, now: Content) -> str:
    """What is wrong with an error: it is one of ours, a sentence of what happened, and true."""
    sentence = ended.sentence
    asked = call.name in ASKING and not call.creates
    if asked and not ended.ours and ended.file and not is_temporary(ended.file) and now == one.allowed[0]:
        return ""  # nothing was changed, and the command line says of which file what the system said
    if not ended.ours or not ended.kind:
        return f"it fails with {ended.kind or ended.code}, no error of ours: {sentence}"
    if ended.kind != "StorageError" and call.name in WRITES | SYNCS | RENAMES:
        return f"a disk that does not take it is told as {ended.kind}: {sentence}"
    if "\n" in sentence or not sentence.endswith(".") or ".tmp-" in sentence or str(folder) not in sentence:
        return f"the sentence does not name the file, and no other: {sentence}"
    if told_of := _UNTOUCHED.match(sentence):
        old, named = one.allowed[0], Path(told_of[1])
        changed = {name for name in {*now, *old} if now.get(name) != old.get(name)}
        if any(name in old or folder / name == named for name in _below(named, folder, changed)):
            return f"the sentence is not true: {sentence}"
    if told_of := _WRITTEN.match(sentence):
        names, new = _below(Path(told_of[1]), folder, {*now, *one.allowed[-1]}), one.allowed[-1]
        if not names or any(now.get(name) != new.get(name) for name in names):
            return f"nothing new of that name is there: {sentence}"
    return ""
