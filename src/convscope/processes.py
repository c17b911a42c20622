"""Whose a process's number is, whether that process runs, and whether it is one of several of a program."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from functools import cache

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def is_launched() -> bool:
    """Whether torchrun, or what does as it does, has started several processes of this program."""
    return all(os.environ.get(name) for name in LAUNCHED) and os.environ["WORLD_SIZE"] != "1"


@cache
def machine_mark() -> str:
    """Four digits that tell whose process numbers are meant, of a folder that several machines or containers share."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):  # no such place but on Linux
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:4]


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine; where that cannot be asked, True."""
    if os.name == "nt":  # there os.kill ends a process, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
