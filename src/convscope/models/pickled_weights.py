"""Weights in files of any maker, by the places in the file where a network's weights may lie.

Safetensors are read as they are. torch's own files (.pth, .pt, .bin, .ckpt) are pickles: a process of its own reads one
with torch's restricted loader, which knows tensors and plain values, within limits, and what it found is kept as
safetensors in the cache, so that each is converted once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

from ..cache import cache_folder
from ..errors import DamagedFile
from ..reading import open_regular
from ..storage import file_hash, make_folder
from ..tensor_files import FOREIGN, read_foreign_tensors, read_tensors
from .pickle_child import SEPARATOR

GZIP = b"\x1f\x8b"
WAITED = 300  # seconds for the process
Groups = dict[str, dict[str, torch.Tensor]]  # the place in the file, "" for the outermost, and tensors by name


def read_weight_groups(path: Path) -> Groups:
    """The tensors of a weight file by the place they lie at. DamagedFile for what is neither, or holds code."""
    with open_regular(path) as handle:
        start = handle.read(9)
    if start.startswith(GZIP):
        raise DamagedFile(f"{path} is compressed: unpack it first (gunzip -k).")
    if start[8:9] == b"{" or not start.startswith(FOREIGN):
        return {"": read_foreign_tensors(path)}
    groups: Groups = {}
    for key, tensor in _converted(path).items():
        place, _, name = key.partition(SEPARATOR)
        groups.setdefault(place, {})[name] = tensor
    return groups


def _converted(path: Path) -> dict[str, torch.Tensor]:
    digest = file_hash(path)
    kept = cache_folder() / "weights" / f"converted-{digest[:32]}.safetensors"
    with suppress(DamagedFile):  # not there yet, or damaged: made again
        return _kept(kept, digest)
    make_folder(kept.parent)
    _convert(path, kept, digest)
    return _kept(kept, digest)


def _kept(kept: Path, digest: str) -> dict[str, torch.Tensor]:
    tensors, meta = read_tensors(kept)
    if meta.get("sha256") != digest:
        raise DamagedFile(f"{kept} was made of another file.")
    return tensors


def _convert(path: Path, kept: Path, digest: str) -> None:
    package = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.getenv("PYTHONPATH"))))}
    command = [sys.executable, "-m", "convscope.models.pickle_child", str(path), str(kept), digest]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=WAITED, check=False)
    except subprocess.TimeoutExpired:
        raise DamagedFile(f"{path} is not read: torch's loader took over {WAITED} seconds with it.") from None
    if done.returncode == 0:
        return
    reason = "ended torch's loader, as a file that asks for too much does"
    with suppress(ValueError, IndexError, KeyError, TypeError):
        reason = json.loads(done.stdout.splitlines()[-1])["reason"]
    raise DamagedFile(
        f"{path} {reason}. Only weights are read: in the program it is from, write torch.save(network.state_dict(), "
        "FILE), or safetensors."
    )
