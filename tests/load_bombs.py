"""Classifier files that ask for too much or are of another kind, each loaded: seconds, memory and what is said.

A process of its own (``python tests/load_bombs.py FOLDER``), whose peak of memory is theirs. One JSON object a file.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from convscope import tensor_files
from convscope.classifying.classifier import Classifier
from convscope.errors import ConvscopeError
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture

Tensors = dict[str, torch.Tensor]


def sound(path: Path, **options: Any) -> tuple[Tensors, dict[str, Any]]:
    """Write a small sound classifier; its tensors and its meta."""
    architecture = Architecture("resnet20", 16, {"width": 4, **options})
    Classifier(architecture.build(2), ("a", "b"), Preprocess(16), architecture).save(path)
    return tensor_files.read_tensors(path)


def put(meta: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of the meta with a value at a dotted place."""
    meta = json.loads(json.dumps(meta))
    node, (*way, last) = meta, place.split(".")
    for key in way:
        node = node[key]
    node[last] = value
    return meta


TYPES = [
    *[("architecture", value) for value in (None, [], "resnet20", {}, {"name": "resnet20"})],
    *[("architecture.name", value) for value in (None, 7, [], "", "../x", "timm:nothing", "torchvision:", "x" * 10**6)],
    *[("architecture.image_size", value) for value in ("16", 16.5, -1, 0, 10**9, True)],
    *[("architecture.options", value) for value in (None, [], {"width": []}, {"width": "4"}, {"stem": {}}, {"no": 1})],
    *[("architecture.options.width", value) for value in (0, -4, 3000, 10**5, 10**18, 1.5, 1e300)],
    ("architecture.options.shortcut", "no"),
    *[("classes", value) for value in (None, [], "ab", [1, 2], ["a"], ["a"] * 10**5, {"a": 1})],
    *[("preprocess", value) for value in (None, [], {}, {"size": 16})],
    *[("preprocess.size", value) for value in ("16", 0, 10**6, 1.0)],
    *[("preprocess.std", value) for value in ([0, 1, 1], [1e-300] * 3, [1, 1], "abc", [1e300] * 3)],
    *[("preprocess.mean", value) for value in ([1e300] * 3, [[]] * 3, None)],
    ("preprocess.fit", []),
    ("preprocess.interpolation", {}),
    *[("provenance", value) for value in (None, [], {"recipe": 7}, {"data": []}, {"seal": {"logits": "x"}})],
]


def bombs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file with what is wrong with it."""
    tensors, meta = sound(folder / "sound.safetensors")
    path = folder / "bomb.safetensors"
    for place, value in TYPES:
        tensor_files.commit_tensors(path, tensors, put(meta, place, value))
        yield f"{place} {value!r:.40}", path
    for name, depth in (("vgg", 10**5), ("vgg", 10**9), ("vgg", -1)):
        options = {"depth": depth}
        said = put(put(meta, "architecture.name", name), "architecture.options", options)
        tensor_files.commit_tensors(path, tensors, said)
        yield f"{name} {depth} deep", path
    changed: dict[str, Any] = {
        "a shape": torch.zeros(5, 3, 3, 3),
        "bool": torch.zeros(4, 3, 3, 3, dtype=torch.bool),
        "int64": torch.zeros(4, 3, 3, 3, dtype=torch.int64),
        "complex": torch.zeros(4, 3, 3, 3, dtype=torch.complex64),
        "not a number": torch.full((4, 3, 3, 3), float("nan")),
        "infinite": torch.full((4, 3, 3, 3), float("inf")),
        "beyond float32": torch.full((4, 3, 3, 3), 1e300, dtype=torch.float64),
        "empty": torch.zeros(0),
    }
    for what, tensor in changed.items():
        tensor_files.commit_tensors(path, {**tensors, "conv1.weight": tensor}, meta)
        yield what, path
    tensor_files.commit_tensors(path, {**tensors, "bn1.running_var": torch.full((4,), -1.0)}, meta)
    yield "a variance below 0", path
    tensor_files.commit_tensors(path, {f"{i}": torch.zeros(0) for i in range(50_000)}, meta)
    yield "fifty thousand tensors", path
    yield from raw_bombs(folder, tensors)


def raw_bombs(folder: Path, tensors: Tensors) -> Iterator[tuple[str, Path]]:
    """Headers that safetensors alone would take, or that are none."""
    path = folder / "bomb.safetensors"
    for what, text in {
        "nested lists": "[" * 10**5 + "]" * 10**5,
        "many lists": "[" + "[]," * (5 * 10**6) + "[]]",
        "many words": "[" + '"ab",' * (3 * 10**6) + '"ab"]',
        "no JSON": "{" * 1000,
        "a number": "7",
    }.items():
        path.write_bytes(save({"a": torch.zeros(1)}, {tensor_files.META_KEY: text}))
        yield what, path
    for what, length in (("a header of 2^62 bytes", 2**62), ("a header longer than the file", 10**6), ("none", 0)):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        yield what, path
    for what, entry in {
        "a tensor of 2^60 numbers": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 4]},
        "a negative shape": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        "an unknown kind": {"dtype": "F1", "shape": [1], "data_offsets": [0, 4]},
        "a place behind the file": {"dtype": "F32", "shape": [1], "data_offsets": [2**62, 2**62 + 4]},
    }.items():
        header = json.dumps({"a": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        yield what, path
    path.unlink()
    os.mkfifo(path)
    yield "a pipe that nobody writes to", path
    path.unlink()
    path.mkdir()
    yield "a folder", path


def main(folder: Path) -> None:
    """Load each, and tell."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for what, path in bombs(folder):
        start = time.perf_counter()
        try:
            Classifier.load(path)
            said = "loaded"
        except ConvscopeError as error:
            said = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        row = {"what": what, "said": said, "seconds": round(time.perf_counter() - start, 2), "megabytes": peak // 1024}
        print(json.dumps(row | {"base": base // 1024}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
