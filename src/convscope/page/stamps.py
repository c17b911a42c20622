"""What tells that a file is another than before."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, ...]
SIZE = 2  # its place in a stamp


def stamp(path: Path) -> Stamp:
    """Its times, size and place on the disk: a time may come twice where clocks are set. Empty where there is none."""
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino
