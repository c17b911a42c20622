"""Requests to the page whose first line or headers are hostile: each kind as a function of a random generator."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np

from torture.exchange import FINE, REFUSED, Exchange
from torture.page_server import PageServer

Random = np.random.Generator
ROUTES = ("/", "/compare", "/study", "/data", "/data/digits", "/train", "/runs/first", "/runs/first/network")
ROUTES += ("/runs/first/gradients", "/runs/first/epochs", "/runs/first/ask", "/runs/first/mistakes/digits-test")
ROUTES += ("/runs/first/conv1", "/runs/first/conv1/3", "/live/first", "/runs/first/asked/0/evidence", "/jobs/1")
NAMES = "sort order find run truth guess layer then now image after look map turn cover x zoom mirror down".split()
WORDS = ["", "0", "-1", "1e999", "nan", "9" * 400, "٣", "²", "\0", "../..", "'\"<script>", "first", "words", "é" * 90]
TRAVERSALS = ["../" * 6 + "secret.txt", "..\\..\\secret.txt", "%2e%2e/%2e%2e/secret.txt", "..%2f..%2fsecret.txt"]
TRAVERSALS += ["%252e%252e%252fsecret.txt", "..%c0%af..%c0%afsecret.txt", "..%00/secret.txt", "....//....//secret.txt"]
TRAVERSALS += [".%2e/.%2e/secret.txt", "..;/..;/secret.txt", "%2fetc%2fpasswd", "/etc/passwd", "C:%5csecret.txt"]
TRAVERSALS += ["CON", "aux.txt", "NUL.png", "recipe.json", ".lock", "~root", "file:///etc/passwd", "secret.txt::$DATA"]
PLACES = ("/", "/static/", "/runs/", "/runs/first/drawing/", "/runs/first/", "/data/", "/live/", "/train/", "/jobs/")


def choice(random: Random, things):
    """One of the things; not as NumPy has it, which would make them an array."""
    return things[int(random.integers(len(things)))]


def junk(random: Random, most: int) -> bytes:
    """Up to ``most`` bytes of any kind."""
    return random.bytes(int(random.integers(1, most + 1)))


def paths(random: Random, server: PageServer) -> Exchange:
    """Out of the folders, of other systems, long, or of any letters: nothing is there."""
    place, word = choice(random, PLACES), choice(random, TRAVERSALS)
    kind = int(random.integers(4))
    if kind == 1:
        word = quote(random.bytes(int(random.integers(1, 200))))
    elif kind == 2:
        word = "/".join(quote(chr(int(random.integers(0xA0, 0xD7FF)))) for _ in range(int(random.integers(1, 60))))
    elif kind == 3:
        word = choice(random, ["a", "../", "%2e", "%00", "/"]) * int(random.integers(1, 6000))
    address = place + word
    return Exchange("paths", f"GET {address[:120]}", (server.head("GET", address),), statuses=FINE - {304})


def queries(random: Random, server: PageServer) -> Exchange:
    """Words of any kind in the query of a page."""
    pairs = [f"{choice(random, NAMES)}={quote(choice(random, WORDS))}" for _ in range(int(random.integers(1, 9)))]
    if random.random() < 0.2:
        pairs.append(quote(junk(random, 40), safe="&=;%"))
    address = choice(random, ROUTES) + choice(random, ["", "", ".json"]) + "?" + "&".join(pairs)
    return Exchange("queries", f"GET {address[:200]}", (server.head("GET", address),))


def ranges(random: Random, server: PageServer, pages: dict[str, bytes]) -> Exchange:
    """Parts of a file: many, overlapping, backwards, huge. The whole is answered."""
    address = choice(random, sorted(pages))
    first, count = (int(n) for n in random.integers(0, 5000, 2))
    wanted = [
        "bytes=" + ",".join(f"{i}-{i + 1}" for i in range(0, count, 2)),
        "bytes=" + ",".join(["0-"] * (count // 4 + 1)),
        f"bytes={first + count}-{first}",
        f"bytes=-{10 ** int(random.integers(1, 40))}",
        f"bytes={first}-{10 ** int(random.integers(1, 40))}",
        f"lines=0-{count}",
        "bytes=" + junk(random, 30).hex(),
    ]
    more = [f"Range: {choice(random, wanted)[:12_000]}"]
    if random.random() < 0.3:
        more.append(choice(random, ["If-Range: *", 'If-None-Match: "x", W/"y", *', f"If-Match: {'a' * count}"]))
    what = f"GET {address}, {more[0][:60]}"
    return Exchange("ranges", what, (server.head("GET", address, *more),), frozenset({200}), body=pages[address])


def methods(random: Random, server: PageServer) -> Exchange:
    """Others than GET, HEAD and POST, even with the token; and POST where only reading is."""
    method = choice(
        random, ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "G" * 3000, "X"]
    )
    address = choice(random, ROUTES)
    if random.random() < 0.3:
        method, address = "POST", choice(random, ROUTES[6:10])
    told = server.head(method, address, length=0)
    return Exchange("methods", f"{method[:20]} {address}", (told,), frozenset({400, 405}))


def upgrades(random: Random, server: PageServer) -> Exchange:
    """Other protocols than HTTP/1.1: nothing but an ordinary answer, or none."""
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    offers = [
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
        b"Accept: text/event-stream\r\nLast-Event-ID: " + junk(random, 8).hex().encode() + b"\r\nConnection: close\r\n",
    ]
    raw = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + junk(random, 60),
        b"\x16\x03\x01" + junk(random, 300) + b"\r\n\r\n",
        b"\x05\x01\x00\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/3.0\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1 HTTP/1.1\r\n" + host + b"\r\n",
    ]
    address = choice(random, ("/", "/live/first", "/runs/first", "/live/nothing")).encode()
    if random.random() < 0.6:
        data = b"GET " + address + b" HTTP/1.1\r\n" + host + choice(random, offers) + b"\r\n"
        return Exchange("upgrades", repr(data[:90]), (data,))
    data = choice(random, raw)
    return Exchange("upgrades", repr(data[:60]), (data,), REFUSED | {200}, most=2, silent=True, closed=25.0)


def malformed(random: Random, server: PageServer) -> Exchange:
    """A broken first line, broken headers, or a sound request with some bytes changed."""
    kind = int(random.integers(4))
    if kind == 0:
        return _mutated(random, server)
    if kind == 1:
        lines = [b"", b" ", b"GET", b"GET  / HTTP/1.1", b"GET / HTTP/1.1x", b"GET / HTTP/9.9", b"GET / http/1.1", b"\0"]
        lines += [b"GET\t/\tHTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET / / HTTP/1.1", b": x", b"[]"]
        lines += [b"G\xc3\x89T / HTTP/1.1", b"GET / HTTP/1.", b"GET / HTTP/-1.1", b"GET /\0 HTTP/1.1", junk(random, 40)]
        line = choice(random, lines)
        data = line.replace(b"\n", b"") + server.head("GET", "/").removeprefix(b"GET / HTTP/1.1")
        return Exchange("malformed", repr(line), (data,), REFUSED | {200}, silent=True)
    if kind == 2:
        name = f"x-{int(random.integers(1000))}".encode()
        headers = [
            name,
            b": x",
            name + b" : x",
            b" folded",
            name + b": a\r\n b",
            name + b": a\0b",
            b"\xff: x",
            name + b":\x01",
        ]
        headers += [b"Host: 127.0.0.1", b"Content-Length: x", b"(x): y", name + b": a\rb", b"\tx: y"]
        bad = choice(random, headers)
        data = server.head("GET", "/").removesuffix(b"\r\n") + bad + b"\r\n\r\n"
        return Exchange("malformed", repr(bad), (data,), REFUSED | {200})
    count, long = int(random.integers(100, 8000)), int(random.integers(1, 2000))
    data = server.head("GET", "/").removesuffix(b"\r\n") + b"".join(
        b"a%d:%s\r\n" % (i, b"b" * long) for i in range(count)
    )
    return Exchange(
        "malformed", f"{count} headers of {long}", (data[:2_000_000] + b"\r\n\r\n",), REFUSED | {200}, silent=True
    )


def _mutated(random: Random, server: PageServer) -> Exchange:
    data = bytearray(server.head(choice(random, ["GET", "POST"]), "/runs/first", "Accept: */*", length=3) + b"abc")
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(len(data)))
        piece = choice(random, [junk(random, 4), b"\r\n", b"\n", b"\0", b" ", b":", b""])
        data[place : place + int(random.integers(3))] = piece
    data += b"\r\n\r\n"
    return Exchange("malformed", repr(bytes(data))[:300], (bytes(data),), FINE, most=3, silent=True)


def smuggled(random: Random, server: PageServer) -> Exchange:
    """A second request hidden in the body of the first by what is said of its length; it is of a foreign host."""
    inner = f"GET /runs/first.json HTTP/1.1\r\nHost: evil.example\r\nX: {junk(random, 9).hex()}\r\n\r\n".encode()
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    n = str(len(inner)).encode()
    ways = [
        (b"Content-Length: %s\r\nTransfer-Encoding: chunked" % n, chunk),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"0\r\n\r\n" + inner),
        (b"Transfer-Encoding: xchunked\r\nContent-Length: 0", inner),
        (b"Transfer-Encoding: chunked, identity", chunk),
        (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", chunk),
        (b"Transfer-Encoding:\x0bchunked", chunk),
        (b"Transfer-Encoding : chunked", chunk),
        (b"Content-Length: 0\r\nContent-Length: " + n, inner),
        (b"Content-Length: 0, " + n, inner),
        (b"Content-Length: +0", inner),
        (b"Content-Length: 0x0", inner),
        (b"Content-Length: -1", inner),
        (b"Content-Length: " + b"9" * int(random.integers(19, 5000)), inner),
        (b"Content-Length: 0\r\n Content-Length: " + n, inner),
        (b"Content-Length: " + n, inner),
        (b"Content-Length: 0", inner),
        (
            b"Transfer-Encoding: chunked",
            b"%x;%s\r\n%s\r\nzz\r\n" % (len(inner), b"a" * int(random.integers(3000)), inner),
        ),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * int(random.integers(1, 3000))),
        (b"Expect: 100-continue\r\nTransfer-Encoding: chunked", b"zz\r\n"),
    ]
    lengths, body = choice(random, ways)
    token = f"X-Convscope-Token: {server.token}\r\n".encode() if random.random() < 0.3 else b""
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    data = b"POST /data/nothing/mark HTTP/1.1\r\n" + host + token + lengths + b"\r\n\r\n"
    pieces = (data + body,) if random.random() < 0.6 else (data, 0.05, body)
    return Exchange("smuggled", repr(lengths[:80]), pieces, REFUSED, most=2)
