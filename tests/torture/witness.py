"""Who watches while a foreign file is read: an audit hook for what Python does, inotify for what anything opens.

The hook notes code that would run, processes and connections, and files opened or changed outside the allowed folders.
It cannot be taken off: it belongs into a process that is forked for one attempt.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = "c0nvsc0pe_canary"  # stands in every payload's code and in the name of the file that it would touch
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn", "webbrowser.open")
CALLS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
MOVES = {"os.rename", "os.link", "os.symlink"}
CHANGES = MOVES | {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.truncate", "shutil.rmtree"}
CHANGES |= {"shutil.copyfile", "shutil.move", "os.mkfifo", "os.utime"}
UNPICKLERS = ("numba",)  # packages that unpickle what they alone have written: numba its index of compiled loops
SYSTEM = ("/proc", "/sys", "/dev/null", "/dev/urandom", "/dev/shm", "/usr", "/lib", "/etc", "/opt")
SECRET = ("/etc/passwd", "/etc/shadow", "/etc/hosts")
OWN_PROCESSES = ("convscope.models.pickle_child", "convscope.images.decoding_child")


def libraries() -> tuple[str, ...]:
    """The folders that Python and its packages are read from."""
    paths = sysconfig.get_paths()
    return tuple({str(Path(p).resolve()) for p in (*paths.values(), sys.base_prefix, sys.prefix, *sys.path) if p})


class Audit:
    """Notes what a process does that reading a file never needs; ``own`` are the folders it may read and write."""

    def __init__(self, own: tuple[str, ...], foreign: tuple[str, ...]) -> None:
        self.own, self.foreign, self.readable = own, foreign, (*SYSTEM, *libraries(), *own)
        self.seen: list[str] = []
        self.busy = False

    def install(self) -> None:
        """From now on, for the life of this process."""
        sys.addaudithook(self.note)

    def note(self, event: str, words: tuple[Any, ...]) -> None:
        """The hook itself."""
        if self.busy:
            return
        self.busy = True
        try:
            said = self._flaw(event, words)
            if said:
                self.seen.append(said[:300])
        finally:
            self.busy = False

    def _flaw(self, event: str, words: tuple[Any, ...]) -> str:
        if event == "open":
            return self._opened(words)
        if event in ("os.listdir", "os.scandir"):
            return self._read(words[0])
        if event in CHANGES:
            return next(filter(None, (self._written(event, word) for word in words[: 1 + (event in MOVES)])), "")
        if event == "subprocess.Popen":
            return self._process(words)
        if event in STARTS or event in CALLS:
            return f"{event} {words!r}"
        if event == "pickle.find_class":
            frames = {str(f.f_globals.get("__name__", "")).partition(".")[0] for f in _frames()}
            return "" if frames & set(UNPICKLERS) else f"unpickled {words[0]}.{words[1]}"
        return self._code(event, words)

    def _code(self, event: str, words: tuple[Any, ...]) -> str:
        if event == "compile" and MARK in str(words[0]):
            return "compiled the payload"
        if event == "exec" and str(getattr(words[0], "co_filename", "")).startswith((*self.own, *self.foreign)):
            return f"ran {words[0].co_filename}"
        if event == "ctypes.dlopen" and str(words[0]).startswith((*self.own, *self.foreign)):
            return f"loaded {words[0]}"
        return ""

    def _opened(self, words: tuple[Any, ...]) -> str:
        path, mode, flags = words
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""
        writing = any(c in (mode or "") for c in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))
        return self._written("open", path) if writing else self._read(path)

    def _read(self, path: Any) -> str:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""
        whole = os.path.abspath(os.fsdecode(path))
        return "" if whole.startswith(self.readable) and whole not in SECRET else f"read {whole}"

    def _written(self, event: str, path: Any) -> str:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""
        whole = os.path.abspath(os.fsdecode(path))
        inside = whole.startswith((*self.own, "/dev/null", "/dev/shm")) or "__pycache__" in whole
        return "" if inside else f"{event} changed {whole}"

    def _process(self, words: tuple[Any, ...]) -> str:
        arguments = [os.fsdecode(word) for word in words[1]] if isinstance(words[1], (list, tuple)) else [str(words[1])]
        own = arguments[:1] == [sys.executable] and any(name in OWN_PROCESSES for name in arguments)
        own = own or arguments == ["uname", "-p"]  # by which platform tells the processor
        return "" if own else f"started {' '.join(arguments)}"


def _frames() -> Iterator[Any]:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


class Trap:
    """A folder where nothing may be opened, made or changed by any process: inotify tells, whoever it was.

    Where there is no inotify nothing is seen, and ``works`` is False.
    """

    OPENED, CHANGED = 0x1 | 0x20, 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200

    def __init__(self, folder: Path) -> None:
        self.folder, self.handle = folder, -1
        library = ctypes.CDLL(None, use_errno=True)
        if hasattr(library, "inotify_init1"):
            self.handle = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.handle >= 0:
            library.inotify_add_watch(self.handle, os.fsencode(folder), self.OPENED | self.CHANGED)

    @property
    def works(self) -> bool:
        """Say whether this system tells."""
        return self.handle >= 0

    def sprung(self) -> list[str]:
        """What was touched since the last time, by name."""
        names: list[str] = []
        while self.works:
            try:
                data = os.read(self.handle, 1 << 16)
            except BlockingIOError:
                break
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                name = os.fsdecode(data[16 : 16 + length].rstrip(b"\0")) or "the folder"
                names.append(f"{'opened' if mask & self.OPENED else 'changed'} {name} outside")
                data = data[16 + length :]
        return sorted(set(names))

    def close(self) -> None:
        """Stop watching."""
        if self.works:
            os.close(self.handle)
