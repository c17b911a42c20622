"""Read each file of a corpus in a process of its own, and print what came of it, its seconds and its peak memory.

    python tests/hostile_run.py pickles|archives|images FOLDER [NAME ...]

Prints one JSON object a line. The process that is measured has the modules imported and nothing else: a file is made by
another one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 30  # then it hangs
ADDRESSES = 8 << 30  # so that a reader without care does not take the machine with it


def reader(kind: str) -> Callable[[Path], object]:
    if kind == "images":
        from convscope.images.decoding import decode

        return decode
    from convscope.datasets import cifar

    if kind == "pickles":
        return lambda path: cifar.read_batch(path.read_bytes(), "file")
    return lambda path: cifar._archive_reader(path)("test_batch")


def corpus(kind: str) -> dict[str, Callable[[Path], object]]:
    if kind == "images":
        from hostile_images import IMAGES

        return IMAGES
    from hostile_cifar import ARCHIVES, PICKLES

    return PICKLES if kind == "pickles" else ARCHIVES


def apart(work: Callable[[], None]) -> tuple[float, float, int]:
    """The seconds, the peak in MB and the exit status of some work in a process of its own."""
    started = time.monotonic()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        signal.alarm(SECONDS)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status, usage = os.wait4(child, 0)
    return time.monotonic() - started, usage.ru_maxrss / 1024, status


def told(read: Callable[[Path], object], path: Path, answer: Path) -> None:
    from convscope.errors import DataError

    try:
        read(path)
        said = ["read", ""]
    except DataError as error:
        said = [type(error).__name__, str(error)]
    except BaseException as error:
        said = ["raised", repr(error)[:300]]
    answer.write_text(json.dumps(said))


def main() -> None:
    kind, folder, only = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    read, path, answer = reader(kind), folder / f"{kind}.bin", folder / f"{kind}.json"
    for name, make in corpus(kind).items():
        if only and name not in only:
            continue
        answer.unlink(missing_ok=True)
        made = apart(lambda make=make: make(path))
        assert made[2] == 0, f"{name} cannot be made"
        seconds, peak, status = apart(lambda: told(read, path, answer))
        outcome, said = json.loads(answer.read_text()) if answer.exists() else ("died", f"status {status}")
        found = {"name": name, "outcome": outcome, "said": said, "seconds": round(seconds, 2), "mb": round(peak)}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        path.unlink()


if __name__ == "__main__":
    main()
