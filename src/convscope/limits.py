"""Limits that a process sets to itself before it looks at something foreign, and those of the container it is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTAINERS = (  # where Linux tells of a container's memory: its limit, and what is used of it
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def container_memory() -> Iterator[tuple[int, int]]:
    """The bytes that this container may take, and those that it has taken; nothing outside of one."""
    for limit, used in CONTAINERS:
        with suppress(OSError, ValueError):  # no such group, or "max"
            yield int(Path(limit).read_bytes()), int(Path(used).read_bytes())


def limit_process(memory: int, seconds: int | None = None, writes: bool = True) -> None:
    """Let this process take no more than ``memory`` bytes beyond what it has, and ``seconds`` of computing in all.

    Without ``writes`` it can make no file longer. On a system without such limits nothing is done: whoever started the
    process has to watch the clock.
    """
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if not writes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except (OSError, ValueError, IndexError):
        return
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
