"""Talks with the page that are hostile by their body, pace or end: each kind as a function of a random generator."""

from __future__ import annotations

import functools
import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

from hostile_images import ASKING
from torture.exchange import REFUSED, Exchange
from torture.hostile_heads import Random, choice, junk
from torture.page_server import PageServer

ASK = "/runs/first/ask"
SMALL_BOMBS = ("TIFF of 1 x 49,000,000", "TIFF with a tile of 65,535 x 65,535", "TIFF whose directory holds itself")
SMALL_BOMBS += ("BMP of ends of lines",)
TAKES = ("/data/nothing/mark", "/train", "/jobs/burn", "/jobs/evaluate", "/jobs/evaluate/first/first", "/jobs/study")
TAKES += ("/jobs/doctor/nothing", "/jobs/compare", "/train/nothing/step", "/jobs/7/cancel", "/train?run=first&epochs=0")
FILE = 32 << 20  # bytes that an image's file may have


@functools.cache
def bomb(name: str) -> bytes:
    """A small file that asks for much."""
    if name in ASKING:
        return ASKING[name]()
    kind, width, height, deep = name.split()
    side = struct.pack(">IIBBBBB", int(width), int(height), int(deep), 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = 1 + 3 * int(width) * int(deep) // 8 if kind == "whole" else 1
    body = b"".join(packer.compress(bytes(rows)) for _ in range(int(height) if kind == "whole" else 100))
    parts = ((b"IHDR", side), (b"IDAT", body + packer.flush()), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@functools.cache
def small(kind: str) -> bytes:
    """A sound image of 40 x 30 pixels."""
    pixels = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    box = io.BytesIO()
    Image.fromarray(pixels).save(box, kind)
    return box.getvalue()


BOMBS = (*SMALL_BOMBS, "whole 4000 4000 8", "whole 20000 200 16", "cut 2147483647 2147483647 16", "cut 1 2147483647 8")
BOMBS += ("cut 60000 60000 8", "cut 0 0 8", "cut 7000 7000 3")


def posted(server: PageServer, address: str, body: bytes, *more: str) -> bytes:
    """A POST with the token."""
    return server.head("POST", address, *more, length=len(body)) + body


def bombs(random: Random, server: PageServer) -> Exchange:
    """An image that asks for much, is cut, or has changed bytes, given to be asked about: an answer or a reason."""
    name = choice(random, BOMBS)
    data = bomb(name)
    if random.random() < 0.1:
        size = int(random.integers(1, 20))
        name, data = f"{size} MB of nothing", bytes(size << 20)
    elif random.random() < 0.6:
        name = choice(random, ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"))
        changed = bytearray(small(name))
        for _ in range(int(random.integers(6))):
            changed[int(random.integers(len(changed)))] = int(random.integers(256))
        data = bytes(changed[: int(random.integers(1, len(changed) + 1))])
    return Exchange("bombs", f"an image: {name}", (posted(server, ASK, data),), frozenset({200, 422}))


def bodies(random: Random, server: PageServer) -> Exchange:
    """JSON, forms and junk where none belongs, with the token: refused, and nothing is begun."""
    deep = int(random.integers(1, 50_000))
    kinds = {
        "application/json": b"[" * deep,
        "application/json; charset=utf-16": b'{"a":' * deep + b"1" + b"}" * deep,
        "text/json": json.dumps({"data": "digits", "model": "x" * deep}).encode(),
        "multipart/form-data; boundary=" + "x" * (deep % 200): b"--x\r\nContent-Disposition: form-data; name=a\r\n" * 9,
        "application/x-www-form-urlencoded": b"data=digits&" * (deep % 3000),
        "image/png": junk(random, 5000),
        "\xe9/\xff": b"\0" * deep,
    }
    kind = choice(random, sorted(kinds))
    address = choice(random, (*TAKES, ASK))
    what = f"POST {address} of {kind[:40]}"
    return Exchange("bodies", what, (posted(server, address, kinds[kind], f"Content-Type: {kind}"),), REFUSED)


def oversize(random: Random, server: PageServer) -> Exchange:
    """A body larger than may be, said or sent; with and without the token."""
    said = FILE + int(random.integers(1, 1 << 20)) if random.random() < 0.3 else 10 ** int(random.integers(8, 20))
    head = server.head("POST", ASK, length=said)
    if random.random() < 0.3:
        head = head.replace(server.token.encode(), b"x")
    size = FILE + (1 << 20) if said < 1 << 26 and random.random() < 0.2 else int(random.integers(1 << 17))
    what = f"a body of {said:,} bytes, of which {size:,} are sent"
    return Exchange(
        "oversize", what, (head, *[bytes(1 << 16)] * (size >> 16)), frozenset({403, 413}), silent=size > FILE
    )


def torn(random: Random, server: PageServer, pages: dict[str, bytes]) -> Exchange:
    """A connection that is closed, or cut, within the head, the body or the answer."""
    address, resets = choice(random, sorted(pages)), bool(random.random() < 0.5)
    how = "cut" if resets else "closed"
    data = server.head("GET", address)
    kind = int(random.integers(4))
    if kind == 0:
        at = int(random.integers(len(data)))
        return Exchange("torn", f"{how} after {at} bytes of the head", (data[:at],), reads=0, resets=resets)
    if kind == 1:
        data = posted(server, ASK, small("PNG"))
        at = int(random.integers(len(data) - len(small("PNG")), len(data)))
        return Exchange("torn", f"{how} within an image", (data[:at],), reads=0, resets=resets)
    if kind == 2:
        more = data.replace(b"Connection: close\r\n", b"") * int(random.integers(1, 30))
        return Exchange("torn", f"{how} with answers on their way", (more,), reads=0, resets=resets)
    size = int(random.integers(1, 3000))
    return Exchange(
        "torn", f"{how} after {size} bytes of {address}", (data,), frozenset({200}), reads=size, resets=resets
    )


def slow(random: Random, server: PageServer, pages: dict[str, bytes]) -> Exchange:
    """A head, a body or a reader that takes its time: given up after its time, or answered rightly within."""
    address, pause = choice(random, sorted(pages)), float(random.uniform(0.05, 0.4))
    data = server.head("GET", address)
    kind = int(random.integers(6))
    if kind == 0:  # never ends
        drops = tuple(piece for i in range(int(6 / pause)) for piece in (b"X: y"[i % 4 : i % 4 + 1], pause))
        return Exchange("slow", "a head a byte at a time", (data[:-2], *drops), REFUSED, silent=True, closed=20.0)
    if kind == 1:
        return Exchange("slow", "a silent connection", (b"",), REFUSED, silent=True, closed=20.0)
    if kind == 2:
        body = small("PNG")
        begun = posted(server, ASK, body)[: -int(random.integers(1, len(body)))]
        cut = (begun, *[piece for _ in range(int(1.5 / pause)) for piece in (pause, b"x")])
        return Exchange("slow", "a body a byte at a time, closed", cut, reads=0)
    if kind == 3:
        head = server.head("POST", ASK, length=10_000).replace(server.token.encode(), b"x")
        drops = tuple(piece for _ in range(int(7 / pause)) for piece in (b"x", pause))
        return Exchange(
            "slow", "a body without the token a byte at a time", (head, *drops), REFUSED, closed=20.0, silent=True
        )
    places = sorted(int(n) for n in random.integers(1, len(data), 3))
    cuts = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    pieces = tuple(piece for cut in cuts for piece in (cut, pause))
    return Exchange("slow", f"{address} in four pieces", pieces, frozenset({200}), silent=True, body=pages[address])
