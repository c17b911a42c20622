"""Texts that are meant to hurt who parses them: JSON, tables, corrections, YAML, XML and curves."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torture.gift import ABSURD, Gift, Yard, chance, escaping, pick, planted, word
from torture.gift_readers import ANY, TEXTS

FORMULAS = ("=cmd|'/C calc'!A0", "=HYPERLINK(\"http://127.0.0.1:9/\",\"x\")", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1",
            "=1;x", "=1,x", "\"=1\"", "'=1", "\uff1d1", "%0A=1")  # fmt: skip


def json_bomb(rng: np.random.Generator, honest: Any) -> tuple[str, str]:
    """A JSON text that costs more than it looks, or that holds what JSON need not hold."""
    n, name = int(rng.integers(1_000, 300_000)), word(rng)
    text = json.dumps(honest)
    start = text[:-1] + ("," if len(text) > 2 else "")
    ways: dict[str, Callable[[], str]] = {
        f"{n} lists deep": lambda: "[" * n + "]" * n,
        f"{n} objects deep": lambda: '{"a":' * n + "1" + "}" * n,
        f"{n} lists deep within": lambda: f'{start}"{name}":' + "[" * n + "]" * n + "}",
        f"{n * 9} empty lists": lambda: "[" + "[]," * (n * 9) + "[]]",
        f"{n * 9} empty lists within": lambda: f'{start}"{name}":[' + "[]," * (n * 9) + "[]]}",
        f"{n * 5} empty objects": lambda: "[" + "{}," * (n * 5) + "{}]",
        f"{n * 5} short words": lambda: "[" + f'"{name[:2]}",' * (n * 5) + "1]",
        f"{n * 5} small numbers": lambda: "[" + "1.5," * (n * 5) + "1]",
        f"a number of {n} digits": lambda: "7" * n,
        f"a number of {n} digits within": lambda: f'{start}"{name}":' + "7" * n + "}",
        f"a fraction of {n} digits": lambda: f'{start}"{name}":0.' + "7" * n + "e-9}",
        f"an exponent of {n}": lambda: f'{start}"{name}":1e{n}' + "}",
        f"{n} keys": lambda: json.dumps({**honest, **{f"{name}{i}": i for i in range(n)}}),
        f"one key {n} times": lambda: "{" + f'"{name}":1,' * n + f'"{name}":2' + "}",
        "a lone surrogate": lambda: f'{start}"{name}\\ud800":"\\udfff"' + "}",
        "no number": lambda: f'{start}"{name}":[NaN,Infinity,-Infinity]' + "}",
        "its keys twice": lambda: start + text[1:],
        f"a text of {n * 20} letters": lambda: f'{start}"{name}":"' + "x" * n * 20 + '"}',
        f"{n} escapes": lambda: f'{start}"{name}":"' + "\\u0041" * n + '"}',
        f"{n} blanks": lambda: " " * n + text,
        f"{name} behind it": lambda: text + name,
        "a NUL in it": lambda: text.replace('"', "\0", 1),
        "something absurd": lambda: json.dumps(planted(honest, rng, pick(rng, ABSURD))),
        f"cut after {n % len(text)}": lambda: text[: n % len(text)],
    }
    what = pick(rng, sorted(ways))
    return what, ways[what]()


HUGGING = {"crop_size": {"height": 16, "width": 16}, "do_center_crop": True, "image_mean": [0.5, 0.5, 0.5],
           "image_std": [0.5, 0.5, 0.5], "size": {"shortest_edge": 16}, "resample": 2}  # fmt: skip
HONEST: dict[str, Any] = {
    "preprocess": HUGGING,
    "names": {"0": "cat", "1": "dog"},
    "recipe": {"format": 3, "recipe": {"model": {"name": "resnet20"}}, "data": {"name": "digits"}, "seal": "0" * 32},
    "state": {"log_history": [{"loss": 2.5, "step": 1}, {"loss": 1.5, "step": 2}, {"eval_loss": 1.4, "step": 2}]},
    "weights": {"metadata": {}, "weight_map": {"a": "model-00001.safetensors"}},
}


def json_file(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A JSON file for whoever reads one."""
    kind = pick(rng, sorted(HONEST))
    what, text = json_bomb(rng, HONEST[kind])
    path = folder / f"{kind}{pick(rng, ['.json', '.json', '.jsonl', '.txt'])}"
    data = text.encode("utf-8", "surrogatepass")
    if chance(rng, 0.15):
        data, what = text.encode("utf-16"), f"{what}, in UTF-16"
    path.write_bytes(data)
    return Gift(f"JSON with {what}, for {kind}", path, (*TEXTS, "coco", "coco boxes", *ANY))


# -------------------------------------------------------------------------------------------------------- curves


def curve(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A training's curve as a table or as lines of JSON."""
    n, name = int(rng.integers(2, 40_000)), word(rng)
    cell = pick(rng, ["nan", "inf", "1e999", "9" * 5000, "=1+1", "\0", "x", "", "1,5", "0x1", "\uff11", "-0", "1e-400"])
    absurd = json.dumps(pick(rng, ABSURD))
    ways: dict[str, tuple[str, Callable[[], str]]] = {
        f"{n} columns": (".csv", lambda: ",".join(f"c{i}" for i in range(n)) + "\n" + "1," * n + "\n"),
        f"{n} cells under two names": (".csv", lambda: "step,loss\n" + ("1," * n + "\n") * 3),
        f"losses {cell[:9]!r} ({n})": (".csv", lambda: "step,loss\n" + f"1,{cell}\n" * (n % 99 + 2)),
        f"steps {cell[:9]!r} ({n})": (".csv", lambda: "step,loss\n" + f"{cell},1.5\n" * (n % 99 + 2)),
        f"{n} columns of one name": (".csv", lambda: ",".join(["loss"] * n) + "\n" + ",".join(["1"] * n)),
        f"a cell of {n * 40} letters": (".csv", lambda: f'step,loss\n1,"{"x" * n * 40}"\n'),
        f"a quote without an end ({n})": (".csv", lambda: 'step,loss\n1,"' + "2\n3," * n),
        f"{n} empty lines": (".csv", lambda: "step,loss\n" + "\n" * n),
        f"{n * 20} commas": (".csv", lambda: "," * n * 20 + "\n" + "," * n * 20),
        f"numbers {n}": (".csv", lambda: "\n".join(f"{i / 7}e{i % 400}" for i in range(n))),
        f"rows of {absurd[:20]}": (".jsonl", lambda: f'{{"step":1,"loss":{absurd}}}\n' * (n % 99 + 2)),
        f"lines of {absurd[:20]}": (".jsonl", lambda: f"{absurd}\n" * (n % 99 + 2)),
        f"losses {n} deep": (".jsonl", lambda: '{"loss":' + "[" * n + "]" * n + "}"),
        f"{n} keys": (".jsonl", lambda: json.dumps({f"{name}{i}/loss": 1 for i in range(n)}) + "\n"),
        f"a history of {n} lists": (".json", lambda: json.dumps({"loss": [[1.0] * 3] * n})),
        f"a state of {absurd[:20]}": (".json", lambda: json.dumps(planted(HONEST["state"], rng, pick(rng, ABSURD)))),
        f"steps {n} apart": (".csv", lambda: f"step,loss\n-{n}{'0' * 17},1\n{n}{'0' * 17},2\n"),
    }
    what = pick(rng, sorted(ways))
    end, make = ways[what]
    path = folder / f"curve{end}"
    path.write_bytes(make().encode("utf-8", "surrogatepass"))
    return Gift(f"a curve with {what}", path, ("curve", "dataset", "table"))


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _crc(data: bytes) -> int:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return masked_crc32c(data)


def _record(data: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<Q", len(data) if length is None else length)
    return head + struct.pack("<I", _crc(head)) + data + struct.pack("<I", _crc(data))


def _event(rng: np.random.Generator, step: int) -> tuple[str, bytes]:
    """One event whose tensor is larger than it looks, or of a kind that no loss has."""
    sides = tuple(pick(rng, [0, 1, 2, 2**10, 2**14, 2**20, 2**31, 2**40, -1]) for _ in range(int(rng.integers(0, 4))))
    kind = int(pick(rng, [1, 2, 3, 4, 7, 9, 19, 20, 21, 99]))
    shape = b"".join(_field(2, _field(1, side)) for side in sides)
    values = _field(5, struct.pack("<f", 1.5)) if chance(rng, 0.7) else _field(4, bytes(int(rng.integers(0, 64))))
    if chance(rng, 0.2):
        values = _field(8, b"cos\nsystem\n")
    tensor = _field(1, kind) + _field(2, shape) + values
    tag = pick(rng, [b"loss", b"train/loss", b"\xff\xfe", b"", b"../../x", b"<script>alert(1)</script>", b"x" * 9999])
    value = _field(1, tag) + (_field(8, tensor) if chance(rng, 0.85) else b"\x15" + struct.pack("<f", 1.5))
    data = b"\x09" + struct.pack("<d", 1.0) + _field(2, step) + _field(5, _field(1, value))
    return f"a tensor {sides} of kind {kind} called {tag[:12]!r}", data


def events(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """TensorBoard's events: records that lie about their length, and tensors about their shape."""
    told, record = _event(rng, int(pick(rng, [0, 1, 2**62, -5])))
    start, n = _record(b"\x09" + bytes(8) + _field(3, b"brain.Event:2")), int(rng.integers(1, 3000))
    ways = {
        told: start + _record(record) * 2,
        f"{told}, {n} times": start + _record(record) * n,
        f"a length of 2^{n % 63}": start + _record(record) + _record(record, 1 << n % 63),
        f"cut after {n % 90 + 12}": (start + _record(record))[: n % 90 + 12],
        f"noise of {n}": start + _record(bytes(rng.integers(0, 256, n, dtype=np.uint8))),
        f"a changed byte {n}": _changed(start + _record(record), n, rng),
        f"a group {n} deep": start + _record(b"\x2b" * n),
    }
    what = pick(rng, sorted(ways))
    path = folder / f"events.out.tfevents.1700000000.{word(rng)}"
    path.write_bytes(ways[what])
    if chance(rng, 0.3):
        return Gift(f"a folder of events with {what}", folder, ("curve", "dataset"))
    return Gift(f"events with {what}", path, ("curve", "dataset", "image"))


def _changed(data: bytes, n: int, rng: np.random.Generator) -> bytes:
    place = n * 31 % len(data)
    return data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]


# ------------------------------------------------------------------------------------------------ tables, corrections


def table(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A table of images: paths that lead outside, cells that a spreadsheet would run, sizes and quotes without end."""
    image(folder / "a.png", rng)
    n, out = int(rng.integers(2, 30_000)), allowed(rng, yard)
    formula, sign = pick(rng, FORMULAS), pick(rng, [",", ";", "\t", "|", " "])
    quoted = '"' + out.replace('"', '""') + '"'
    cell = '"' + formula.replace('"', '""') + '"'
    ways: dict[str, Callable[[], str]] = {
        f"a path {out[:40]!r}": lambda: f"path{sign}label\n{quoted}{sign}x\na.png{sign}y\n",
        f"a label {formula!r}": lambda: f"path{sign}label\na.png{sign}{cell}\na.png{sign}y\n",
        f"a column {formula!r}": lambda: f"path{sign}label{sign}{cell}\na.png{sign}x{sign}1\na.png{sign}y{sign}2\n",
        f"a part {out[:40]!r}": lambda: f"path{sign}label{sign}split\na.png{sign}x{sign}{quoted}\n",
        f"{n} columns": lambda: sign.join(f"c{i}" for i in range(n)) + "\n" + sign.join(["a.png"] * n),
        f"{n * 9} signs": lambda: f"path{sign}label\n" + sign * n * 9,
        f"a quote without an end ({n})": lambda: f"path{sign}label\n" + '"a.png' + f"{sign}x\na.png" * n,
        f"a cell of {n * 40} letters": lambda: f"path{sign}label\n{'a' * n * 40}{sign}x\n",
        f"{n // 4} classes": lambda: f"path{sign}label\n" + "".join(f"a.png{sign}c{i}\n" for i in range(n // 4)),
        f"an index of {n * 1000}": lambda: f"path{sign}class_index\na.png{sign}{n * 1000}\na.png{sign}0\n",
        f"an index of {n} digits": lambda: f"path{sign}class_index\na.png{sign}{'9' * n}\na.png{sign}0\n",
        f"labels in {n} lists": lambda: f"path\tlabels\na.png\t{'[' * n}1{']' * n}\na.png\t['a']\n",
        f"labels of {out[:20]!r}": lambda: f"path\tlabels\na.png\t[{out[:50]!r}, __import__('os').system('x')]\n",
        f"{n} NULs": lambda: f"path{sign}label\n" + " " * 5000 + "\0" * n,
        f"a label of NUL {n}": lambda: f"path{sign}label\na.png{sign}x\0{n}\na.png{sign}y\n",
        f"{n} ends of lines": lambda: f"path{sign}label\n" + "\r" * n + "\x0b\x0c\x1c\x85\u2028",
        f"markup {n}": lambda: f"path{sign}label\na.png{sign}<script>alert({n})</script>\na.png{sign}y\n",
    }
    what = pick(rng, sorted(ways))
    path = folder / f"table{pick(rng, ['.csv', '.csv', '.tsv', '.txt', '.tab'])}"
    path.write_bytes(ways[what]().encode(pick(rng, ["utf-8", "utf-8", "utf-16", "utf-8-sig"]), "surrogatepass"))
    return Gift(f"a table with {what}", path, ("table", "dataset", "asked", "labels", "corrections", "curve"))


def parquet(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A Parquet file: small and endless, with paths outside, with pickles for types, or damaged."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    n, out = int(rng.integers(2, 60)), allowed(rng, yard)
    rows = n * 500_000 if chance(rng, 0.15) else n
    held = pick(rng, [b"", b"\x89PNG", bytes(n * 1000), b"x" * n])
    code = f"cos\nsystem\n(Stouch {yard.canary}\ntR.".encode()
    ways: dict[str, Callable[[], pa.Table]] = {
        f"a path {out[:40]!r} ({rows} rows)": lambda: pa.table({"path": pa.array([out]).take(pa.array(np.zeros(rows,
        int))),
                                                     "label": pa.array(["x"]).take(pa.array(np.zeros(rows, int)))}),
        f"bytes {held[:9]!r} ({n})": lambda: pa.table({"image": [{"bytes": held, "path": out}] * n, "label":
        ["x"] * n}),
        f"a type that is a pickle ({n})": lambda: pa.table({"path": [out] * n, "label": ["x"] * n}, metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": code}),
        f"a column that is a pickle ({n})": lambda: pa.table([pa.array(["a"] * n), pa.array(["x"] * n)],
        schema=pa.schema([
            pa.field("path", pa.string(), metadata={b"ARROW:extension:name": b"arrow.py_extension_type",
                                                    b"ARROW:extension:metadata": code}), ("label", pa.string())])),
        f"names {n} deep": lambda: pa.table({"path": ["a"], "label": [0]}, metadata={b"huggingface": json.dumps(
            planted({"info": {"features": {"label": {"names": ["a", "b"]}}}}, rng, pick(rng, ABSURD))).encode()}),
        f"a list in a list ({n})": lambda: pa.table({"path": [[["a"] * n]] * n, "label": [[1] * n] * n}),
        f"{n * 40} columns": lambda: pa.table({f"c{i}": [i] for i in range(n * 40)}),
        f"a label of {n * 100_000} letters": lambda: pa.table({"path": ["a.png"] * 2, "label": ["x" * n * 100_000,
        "y"]}),
        f"a text of one letter ({n * 300_000} rows)": lambda: pa.table({"path": pa.array(["x" * 2000]).take(
            pa.array(np.zeros(n * 3_000, int)))}),
    }  # fmt: skip
    what = pick(rng, sorted(ways))
    path = folder / "table.parquet"
    pq.write_table(ways[what](), path, compression=pick(rng, ["zstd", "gzip", "snappy"]))
    if chance(rng, 0.3):
        data = path.read_bytes()
        path.write_bytes(_changed(_changed(data, int(rng.integers(2**20)), rng), int(rng.integers(2**20)), rng))
        what += ", damaged"
    return Gift(f"Parquet with {what}", path, ("dataset", "asked", "image"))


def corrections(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A corrections file with what no doctor writes."""
    digest = bytes(rng.integers(0, 256, 32, dtype=np.uint8)).hex()
    rows = [digest, "relabel", word(rng), "a reason", "a.png"]
    for _ in range(int(rng.integers(1, 4))):
        column = int(rng.integers(5))
        rows[column] = str(pick(rng, [*FORMULAS, escaping(rng, yard), digest.upper(), "leave-out", "", "delete", '"',
        "\x1b[2J",
                                      "x" * 200_000, "\0", "\ud800", "<b>x</b>", digest * 999,
                                      "relabel\nleave-out"]))  # fmt: skip
    cells = ",".join('"' + cell.replace('"', '""') + '"' for cell in rows)
    count = int(pick(rng, [1, 2, 999])) if len(cells) < 20_000 else 2  # a table is held in memory, about four times
    path = folder / "corrections.csv"
    path.write_bytes(("hash,action,label,reason,image\n" + f"{cells}\n" * count).encode("utf-8", "surrogatepass"))
    return Gift(f"corrections with {cells[:60]!r} on {count} lines", path, ("corrections", "table", "dataset"))


def allowed(rng: np.random.Generator, yard: Yard) -> str:
    """A path that leads outside to where a user's own tables may lead."""
    here = escaping(rng, yard).replace(str(yard.foreign), str(yard.elsewhere)).replace("\ud800", "?")
    for secret in ("etc/passwd", "proc/self/mem", "proc/self/environ"):
        here = here.replace(secret, f"{yard.elsewhere}/a.png".lstrip("/"))
    return here


def image(path: Path, rng: np.random.Generator, side: int = 16) -> None:
    """A sound image of noise."""
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
