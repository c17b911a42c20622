"""The process that decodes is waited for no longer than told, whatever it writes, and nothing of it goes on."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images import apart
from convscope.images.apart import ApartDecoder
from convscope.images.preprocess import Preprocess

HEAD = '{"bytes": 768, "width": 16, "height": 16}'


@pytest.mark.parametrize(
    ("writes", "seconds", "reason"),
    [
        ("while True: out.write(b' ' * 65536)", 60.0, "came to its end"),
        ("while True: out.write(b' '); out.flush(); time.sleep(0.01)", 1.0, "seconds to decode"),
        (f"out.write(b'{HEAD}\\n')\nwhile True: out.write(b' '); out.flush(); time.sleep(0.01)", 1.0, "seconds to"),
        (f"out.write(b'{HEAD.replace('768', '9' * 15)}\\n')\nwhile True: out.write(b' ' * 65536)", 60.0, "came to"),
        ("out.write(b'[' * 9000 + b'\\n'); out.flush(); time.sleep(60)", 60.0, "came to its end"),
        ("out.write(b'[\"reason\"]\\n'); out.flush(); time.sleep(60)", 60.0, "came to its end"),
        ("out.write(b'{\"bytes\": 768}\\n' + bytes(768)); out.flush(); time.sleep(60)", 60.0, "came to its end"),
    ],
)
def test_a_decoder_that_writes_what_it_likes_is_stopped(
    writes: str, seconds: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(_command: list[str], **given: Any) -> subprocess.Popen[bytes]:
        code = f"import sys, time\nout = sys.stdout.buffer\n{writes}"
        return subprocess.Popen([sys.executable, "-S", "-c", code], **given)

    monkeypatch.setattr(
        apart, "subprocess", SimpleNamespace(Popen=planted, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    )
    monkeypatch.setattr(apart, "START_SECONDS", seconds)
    box = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(box, "PNG")
    decoder, threads = ApartDecoder(), threading.active_count()
    start = time.monotonic()
    with pytest.raises(ImageError, match=reason):
        decoder.fit(box.getvalue(), Preprocess(size=16), "x")
    assert time.monotonic() - start < 30
    assert decoder._process is None
    while threading.active_count() > threads:
        assert time.monotonic() - start < 40, "a thread goes on"
        time.sleep(0.01)


def test_what_is_written_without_end_is_read_a_little_ahead_and_until_its_time() -> None:
    taken: list[int] = []

    class Endless:
        def read(self, count: int) -> bytes:
            taken.append(count)
            return b" " * count

    answers = apart._Answers(Endless())
    try:
        assert answers.read(3, time.monotonic() + 10) == b"   "
        with pytest.raises(TimeoutError):
            answers.read(3, time.monotonic())
        with pytest.raises(ValueError, match="too long"):
            answers.line(time.monotonic() + 10)
        while not answers._pieces.full():
            time.sleep(0.001)
        time.sleep(0.1)
        assert answers.taking.is_alive()
        assert len(taken) <= apart.PIECES + 2
    finally:
        answers.stop()
    answers.taking.join(10)
    assert not answers.taking.is_alive()


def test_lines_come_as_they_were_written_however_they_are_cut() -> None:
    answers = apart._Answers(io.BytesIO(b"one\ntwo\n" + b"x" * 70_000))
    until = time.monotonic() + 10
    assert [answers.line(until), answers.read(2, until), answers.line(until)] == [b"one\n", b"tw", b"o\n"]
    assert sum(len(answers.read(50_000, until)) for _ in range(3)) == 70_000
    with pytest.raises(EOFError):
        answers.read(1, until)
