"""Ways in which a machine surprises a command: each is installed in its process before it starts, and tells at its end.

A way is a function of what is asked of it, JSON values; it returns a function that tells what was seen, or None. They
change the process they are called in for good: odd_child.py calls them in a child made for one command.
"""

from __future__ import annotations

import ctypes
import datetime
import itertools
import os
import shutil
import signal
import socket
import struct
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Teller = Callable[[], Any]
NEW_NAMESPACE_OF_MOUNTS, NEW_NAMESPACE_OF_NETWORKS, NEW_USER = 0x00020000, 0x40000000, 0x10000000
PRIVATE, RECURSIVE = 1 << 18, 1 << 14  # of mount(2)
NOBODY = 65534
ASKING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# ---------------------------------------------------------------------------------------------------- no network


def no_network(_: Any) -> Teller:
    """Refuse and note each connection that Python asks for, and give the process a network without any other machine.

    What a C library asks for by itself passes no audit hook; the kernel counts it as a packet without a route.
    """
    apart = _own_network()
    tries: list[str] = []

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event in ASKING:
            where = given[1] if event.startswith(("socket.connect", "socket.send")) else given[0]
            if isinstance(where, str | bytes) and event == "socket.connect":
                return  # a path of this machine
            tries.append(f"{event} {where!r}"[:200])
            raise OSError(101, "the network is unreachable")

    sys.addaudithook(heard)
    before = unrouted()
    return lambda: {"tries": tries, "apart": apart, "unrouted": unrouted() - before}


def _own_network() -> bool:
    """Leave the machine's network for an empty one; False where the system does not allow it."""
    flags = NEW_NAMESPACE_OF_NETWORKS | (0 if os.getuid() == 0 else NEW_USER)
    if library().unshare(flags):
        return False
    with socket.socket() as one:  # a page may be served on 127.0.0.1, which is down in a new namespace
        import fcntl

        fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))
    return True


def unrouted() -> int:
    """How many connections of this namespace found no way out, whatever asked for them."""
    count = 0
    for name, key in (("snmp", "OutNoRoutes"), ("snmp6", "Ip6OutNoRoutes")):
        try:
            lines = Path(f"/proc/self/net/{name}").read_text().splitlines()
        except OSError:
            continue
        for head, row in itertools.pairwise(lines):
            if key in head.split() and row.split()[0] == head.split()[0]:
                count += int(row.split()[head.split().index(key)])
        count += sum(int(line.split()[1]) for line in lines if line.split()[:1] == [key])
    return count


# ---------------------------------------------------------------------------------------------------- the clock


def clock(asked: dict[str, Any]) -> Teller:
    """Another time of day by ``seconds``, from the renaming number ``after`` on (0: from the start).

    All that Python reads the time of day by is another then, and a file gets the time of that clock when it takes its
    name, as on a machine whose clock is wrong. (libfaketime 0.9.10 would reach C libraries too, but under it a sleep of
    Python 3.11 never ends.) The monotonic clock goes on: nobody sets it.
    """
    true, start, replace_ = time.time, time.time(), os.replace
    shift, count = 0.0 if asked["after"] else float(asked["seconds"]), 0

    def now() -> float:
        return true() + shift

    class Datetime(datetime.datetime):
        """The time of day as this machine has it wrong."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.fromtimestamp(now(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.datetime.fromtimestamp(now(), datetime.UTC).replace(tzinfo=None)

    def replaced(source: Any, target: Any, *given: Any, **named: Any) -> None:
        nonlocal count, shift
        replace_(source, target, *given, **named)
        count += 1
        if count == asked["after"]:
            shift = float(asked["seconds"])
        os.utime(target, (now(), now()))

    time.time, time.time_ns, os.replace = now, lambda: int(now() * 1e9), replaced
    broken_down = {name: getattr(time, name) for name in ("gmtime", "localtime")}
    time.gmtime, time.localtime = ((lambda s=None, f=f: f(now() if s is None else s)) for f in broken_down.values())
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "convscope"]:
        for name, value in list(vars(module).items()):
            if value is datetime.datetime:
                setattr(module, name, Datetime)
    return lambda: {"shift": round(time.time() - true()), "renamings": count, "seconds": round(true() - start, 1)}


# ---------------------------------------------------------------------------------------------------- disks, users


def small_disk(asked: dict[str, Any]) -> Teller:
    """Mount a file system of so many bytes at each of some folders, for this process alone; tells what lies there."""
    if library().unshare(NEW_NAMESPACE_OF_MOUNTS):
        raise PermissionError("no file system can be mounted here")
    _mount(None, "/", None, PRIVATE | RECURSIVE, None)
    for folder in asked["folders"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", folder, "tmpfs", 0, f"size={asked['bytes']}")
    work = images_computed()

    def tell() -> dict[str, Any]:
        files = [p for folder in asked["folders"] for p in Path(folder).rglob("*") if p.is_file()]
        return {"files": {str(p): p.stat().st_size for p in files}, "images": work()}

    return tell


def _mount(what: str | None, where: str, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (what, where, kind, options)]
    if library().mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]):
        raise OSError(ctypes.get_errno(), f"mount {where}")


def can_mount() -> bool:
    """Whether a child may mount a file system of its own."""
    child = os.fork()
    if child == 0:
        refused = library().unshare(NEW_NAMESPACE_OF_MOUNTS)
        os._exit(1 if refused else 0)
    return os.waitpid(child, 0)[1] == 0


def told_disk(asked: dict[str, Any]) -> Teller:
    """Let every disk say that it has so many bytes free: where nothing can be mounted."""
    real = shutil.disk_usage
    shutil.disk_usage = lambda path: real(path)._replace(free=asked["bytes"])
    work = images_computed()
    return lambda: {"files": {}, "images": work()}


def images_computed() -> Callable[[], int]:
    """How many images have gone through a convolution since, the most of any."""
    import torch

    seen: Counter[int] = Counter()

    def count(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Conv2d) and given and given[0].dim() == 4 and not given[0].is_meta:
            seen[id(module)] += len(given[0])

    torch.nn.modules.module.register_module_forward_pre_hook(count)
    return lambda: max(seen.values(), default=0)


def as_nobody(_: Any) -> Teller:
    """Go on as a user who owns nothing, where this one may do everything."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ["HOME"] = "/nonexistent"
    return lambda: {"user": os.getuid()}


# ---------------------------------------------------------------------------------------------------- other systems


def no_fork(_: Any) -> Teller:
    """Refuse to copy the process, as Windows does; ``multiprocessing`` starts its processes by spawn."""
    import multiprocessing

    def refused() -> int:
        raise OSError(38, "this system copies no process")

    multiprocessing.set_start_method("spawn", force=True)
    os.fork = os.forkpty = refused
    return lambda: None


MISSING = (
    "fork forkpty sched_getaffinity getloadavg setsid killpg getpgid uname "
    "sysconf mkfifo chown nice wait3 wait4 register_at_fork posix_fadvise posix_fallocate preadv pwritev set_blocking"
).split()  # what os lacks on Windows, and nothing needs that Python itself does on Linux
NO_SIGNALS = "SIGHUP SIGALRM SIGPIPE SIGUSR1 SIGUSR2 SIGQUIT SIGCHLD SIGCONT SIGTSTP".split()


def like_windows(_: Any) -> Teller:
    """Take from os and signal what Windows does not have; select takes sockets alone, and no folder can be opened."""
    import select

    from convscope import storage

    for name in MISSING:
        vars(os).pop(name, None)
    for name in NO_SIGNALS:
        vars(signal).pop(name, None)
    real, open_ = select.select, os.open

    def selected(*given: Any) -> Any:
        for one in (one for group in given[:3] for one in group):
            if not isinstance(one, socket.socket):
                raise OSError(10038, "an operation was attempted on something that is not a socket")
        return real(*given)

    def opened(path: Any, *given: Any, **named: Any) -> int:
        # filelock's lock of Windows opens no folder; the one it falls back to here does
        ours = not sys._getframe(1).f_globals.get("__name__", "").startswith("filelock")
        if ours and os.path.isdir(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return open_(path, *given, **named)

    select.select, os.open = selected, opened
    storage.os = types.ModuleType("os")  # whose own branch for Windows is to be taken
    vars(storage.os).update(vars(os), name="nt")
    return lambda: None


# ---------------------------------------------------------------------------------------------------- downloads


def archive_at(asked: dict[str, Any]) -> Teller:
    """CIFAR-10's archive is to be fetched from another address, and has another hash."""
    from convscope.datasets import cifar

    cifar.URL, cifar.ARCHIVE_SHA256 = asked["url"], asked["sha256"]
    for name in ("DOWNLOAD_TIMEOUT", "ARCHIVE_BYTES", "PATIENCE"):
        if name in asked and hasattr(cifar, name):
            setattr(cifar, name, asked[name])
    return lambda: None


def stopped(after: int) -> Teller:
    """End this process as a signal does, once so many files have their names."""
    replace_, count = os.replace, 0

    def replaced(source: Any, target: Any, *given: Any, **named: Any) -> None:
        nonlocal count
        replace_(source, target, *given, **named)
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGTERM)

    os.replace = replaced
    return lambda: count


def hub_cache(folder: str) -> Teller:
    """The Hub's files are kept in this folder, and it is asked once and for a second at most."""
    import huggingface_hub.constants as known

    known.HF_HUB_CACHE = known.HUGGINGFACE_HUB_CACHE = str(Path(folder).absolute())
    known.HF_HUB_ETAG_TIMEOUT = known.HF_HUB_DOWNLOAD_TIMEOUT = 1
    return lambda: None


WAYS: dict[str, Callable[[Any], Teller]] = {
    "no network": no_network,
    "clock": clock,
    "small disk": small_disk,
    "told disk": told_disk,
    "as nobody": as_nobody,
    "no fork": no_fork,
    "like Windows": like_windows,
    "archive at": archive_at,
    "hub cache": hub_cache,
    "stopped": stopped,
}
