"""The process that reads one of torch's own files, by torch's restricted loader, and writes its tensors as safetensors.

It is started by ``pickled_weights`` with three arguments: the file, where to write, and the file's SHA-256. It sets
limits to itself before it looks at the file, and tells in one line of JSON what it would not read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..limits import limit_process
from ..tensor_files import commit_tensors

SECONDS = 120  # of computing
MORE_MEMORY = 512 << 20  # bytes beside five times those of the file
DEEPEST = 4  # mappings in one another
SEPARATOR = "::"  # between where a group of tensors lies in the file and a tensor's name
_GLOBAL = re.compile(r"(?:unsupported )?global:? (?:global )?([A-Za-z_][\w.]*)", re.IGNORECASE)


class Refused(Exception):
    """What is said of a file that is not read."""


def main(source: str, target: str, digest: str) -> int:
    """Read ``source`` and write ``target``; 0, or 3 with a reason on standard output."""
    path = Path(source)
    size = path.stat().st_size
    limit_process(5 * size + MORE_MEMORY, SECONDS)
    try:
        tensors = {f"{place}{SEPARATOR}{name}": t for place, name, t in _tensors(_load(path), "", DEEPEST)}
        if not tensors:
            raise Refused("holds no tensors by name")
        if sum(t.numel() * t.element_size() for t in tensors.values()) > 4 * size + 2**20:
            raise Refused("describes more numbers than it holds")
    except Refused as error:
        sys.stdout.write(json.dumps({"reason": str(error)}) + "\n")
        return 3
    commit_tensors(Path(target), tensors, {"sha256": digest})
    return 0


def _load(path: Path) -> Any:
    numbers = (np._core.multiarray.scalar, np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")))
    try:
        with torch.serialization.safe_globals([argparse.Namespace, *numbers]):  # which checkpoints hold beside tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise Refused("takes more memory than its size explains") from None
    except Exception as error:  # whatever bytes make a loader raise
        raise Refused(_reason(" ".join(str(error).split()))) from None


def _reason(text: str) -> str:
    if "TorchScript" in text:
        return "is a TorchScript archive, which is code and not weights alone"
    if "memory" in text.lower() and "alloc" in text.lower():
        return "takes more memory than its size explains"
    named = [name for name in _GLOBAL.findall(text) if "." in name]
    if named:
        return f"holds {named[0]} beside tensors, which to read would be to run code"
    return "is damaged, or no file that torch.save wrote"


def _tensors(value: Any, place: str, deepest: int) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Where each named tensor lies, its name and itself; optimizers are passed over."""
    if not isinstance(value, Mapping) or deepest == 0 or "optim" in place.lower():
        return
    for name, inner in value.items():
        if not isinstance(name, str) or SEPARATOR in name:
            continue
        if isinstance(inner, torch.Tensor):
            if inner.layout is not torch.strided or inner.is_quantized or inner.device.type != "cpu":
                raise Refused(f"holds {name}, which is no plain tensor")
            yield place, name, inner
        else:
            yield from _tensors(inner, f"{place}/{name}" if place else name, deepest - 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
