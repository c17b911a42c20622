"""Safetensors files with headers that lie, and classifiers that are sealed and absurd."""

from __future__ import annotations

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from load_bombs import TYPES, put, sound
from torture.gift import ABSURD, Gift, Yard, chance, escaping, finite, pick, planted, word
from torture.gift_readers import ANY, WEIGHTS

DTYPES = ["F32", "F16", "BF16", "F64", "I8", "I64", "U8", "BOOL", "U16", "U64", "F8_E4M3", "F8_E5M2", "F4", "C64",
"f32",
          "F1", "", "O", None, 7, "F32\0", "Q" * 9000]  # fmt: skip
NUMBERS = [
    0,
    1,
    4,
    8,
    63,
    64,
    65,
    -1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63,
    2**64 - 1,
    2**64,
    10**40,
    1.5,
    True,
    None,
    "4",
]


def _entry(rng: np.random.Generator) -> dict[str, Any]:
    sides = [pick(rng, NUMBERS[:8]) for _ in range(int(rng.integers(0, 4)))]
    return {
        "dtype": pick(rng, DTYPES) if chance(rng, 0.4) else "F32",
        "shape": sides if chance(rng, 0.8) else [pick(rng, NUMBERS) for _ in range(int(rng.integers(0, 6)))],
        "data_offsets": [pick(rng, NUMBERS[:7]), pick(rng, NUMBERS[:8] if chance(rng, 0.7) else NUMBERS)],
    }


def _header(rng: np.random.Generator) -> tuple[str, bytes]:
    """The header of a file with 64 bytes of tensors, and what is wrong with it."""
    whole = {"a": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
              "b": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}  # fmt: skip
    name, count = word(rng), int(rng.integers(2, 60_000))
    ways: dict[str, Any] = {
        f"entries of {name}": lambda: json.dumps({name + str(i): _entry(rng) for i in range(int(rng.integers(1, 9)))}),
        "overlaps": lambda: json.dumps(whole | {name: {**whole["a"], "data_offsets": [int(rng.integers(1, 31)), 33]}}),
        "a hole": lambda: json.dumps({name: {**whole["a"], "data_offsets": [8 + count % 20, 40 + count % 20]}}),
        "a name twice": lambda: "{" + ",".join([f'"{name}":' + json.dumps(whole["a"])] * (2 + count % 9)) + "}",
        f"{count} names": lambda: json.dumps(dict.fromkeys(map(str, range(count)), _entry(rng))),
        f"{count} deep": lambda: '{"a":' * count + "1" + "}" * count,
        f"lists {count} deep": lambda: json.dumps(whole)[:-1] + f',"{name}":' + "[" * count + "]" * count + "}",
        f"{count} empty lists": lambda: '{"__metadata__":{},"a":[' + "[]," * count + "[]]}",
        "metadata that is none": lambda: json.dumps(whole | {"__metadata__": pick(rng, [None, 1, [], "x", {"a": 1}])}),
        "something absurd": lambda: json.dumps(planted(whole, rng, pick(rng, ABSURD))),
        "a long name": lambda: json.dumps({name * count: whole["a"]}),
        "a name that leads outside": lambda: json.dumps({"../" * 9 + name: whole["a"]}),
        "no UTF-8": lambda: json.dumps(whole).replace('"a"', f'"\udcff{name}"'),
        "a number of many digits": lambda: json.dumps(whole).replace("64]", "9" * count + "]"),
        "no number": lambda: json.dumps(whole).replace(
            "64]", pick(rng, ["NaN]", "1e999]", "-0]", "0x40]", "6_4]", "]"])
        ),
        f"{name} behind it": lambda: json.dumps(whole) + name,
        f"blanks before it ({count})": lambda: " " * (count % 999 + 1) + json.dumps(whole),
        "a name with a NUL": lambda: json.dumps({f"{name}\0": whole["a"]}),
        "not an object": lambda: json.dumps(pick(rng, [[whole, name], name, count, None])),
    }
    what = pick(rng, sorted(ways))
    return what, ways[what]().encode("utf-8", "surrogateescape")


def tensor_header(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A safetensors file whose header lies, in its length too."""
    what, header = _header(rng)
    length = len(header)
    if chance(rng, 0.2):
        length = pick(rng, [0, 1, length - 1, length + 1, length + 64, 2**24, 2**31, 2**32, 2**62, 2**63, 2**64 - 1])
        what += f", said to be {length} bytes long"
    room = int(rng.integers(0, 200)) if chance(rng, 0.2) else 64
    path = folder / f"gift{pick(rng, ['.safetensors', '.safetensors', '.bin', '.pt'])}"
    path.write_bytes(struct.pack("<Q", length) + header + bytes(room))
    return Gift(f"a safetensors header with {what}", path, (*WEIGHTS, *ANY))


@cache
def honest(folder: Path) -> Any:
    """The tensors and the meta of a small sound classifier, which lies in that folder."""
    return sound(folder / "sound.safetensors")


def sealed(rng: np.random.Generator, folder: Path, yard: Yard) -> Gift:
    """A classifier that is sealed and whose description or weights are absurd."""
    import torch

    from convscope import tensor_files

    tensors, meta = honest(yard.home)
    if chance(rng, 0.4):
        place, value = pick(rng, TYPES)
        meta, what = put(meta, place, value), f"{place} {value!r:.40}"
    else:
        thing = finite(pick(rng, [*ABSURD, escaping(rng, yard), f"{yard.foreign}/evil.py:build"]))
        meta, what = planted(meta, rng, thing), f"{thing!r:.40} in it"
    if chance(rng, 0.4):
        name, kind = pick(rng, sorted(tensors)), pick(rng, [torch.float32, torch.bool, torch.int64, torch.complex64])
        shape = tuple(int(n) for n in rng.integers(0, 9, int(rng.integers(0, 5))))
        tensors, what = {**tensors, name: torch.zeros(shape, dtype=kind)}, f"{what} and {name} {shape} of {kind}"
    path = folder / f"classifier-{word(rng, 3)}.safetensors"
    if not isinstance(meta, dict):
        meta = {"meta": meta}
    tensor_files.commit_tensors(path, tensors, meta)
    return Gift(f"a sealed classifier with {what}", path, (*WEIGHTS, *ANY))
