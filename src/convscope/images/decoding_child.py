"""The process that decodes what came from elsewhere: it limits itself, and answers one image after another.

It is given, on standard input, a line of JSON, {"bytes", "preprocess", "name"}, and so many bytes; it answers with a
line, {"bytes", "width", "height"} and the fitted pixels, or {"reason"}. The width and height are the upright image's.
Whoever started it waits only so long for an answer.
"""

from __future__ import annotations

import json
import sys
from typing import BinaryIO

from ..errors import ImageError
from ..kept_memory import keep_none
from ..limits import limit_process
from .preprocess import Preprocess

MEMORY = 1 << 30  # bytes; the decoder itself takes no image that needs half of it
LONGEST_LINE = 10_000


def main(given: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is nothing more to read."""
    limit_process(MEMORY, writes=False)
    keep_none()
    while line := given.readline(LONGEST_LINE):
        asked = json.loads(line)
        data = given.read(asked["bytes"])
        said, pixels = _answer(data, Preprocess.from_dict(asked["preprocess"]), asked["name"])
        answers.write(json.dumps(said).encode() + b"\n" + pixels)
        answers.flush()
        del data, pixels


def _answer(data: bytes, preprocess: Preprocess, name: str) -> tuple[dict[str, int | str], bytes]:
    try:
        pixels, (width, height) = preprocess.fit_sized(data, name)
    except ImageError as error:
        return {"reason": error.reason}, b""
    except MemoryError:
        return {"reason": "cannot be read: not enough memory"}, b""
    return {"bytes": pixels.nbytes, "width": width, "height": height}, pixels.tobytes()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
