"""A classifier: network, class names, preprocess and provenance, in one sealed file that loads without running code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .errors import DamagedFile, ForeignFile, UsageError
from .images import Preprocess
from .models import build
from .models.own import is_own, source_hash
from .storage import commit_json, commit_tensors, read_foreign_tensors, read_tensors

FORMAT = 1
FILE_NAME = "classifier.safetensors"


@dataclass(frozen=True)
class Architecture:
    """How a network is built again: a name of MODELS (or ``module.py:function``), its options, the picture's side."""

    name: str
    image_size: int
    options: dict[str, Any] = field(default_factory=dict)
    source: str | None = None  # SHA-256 of the user's own module

    def build(self, num_classes: int, seed: int = 0) -> torch.nn.Module:
        """The network, in channels-last memory, freshly initialised; the caller's generators are left alone."""
        network = build(self.name, num_classes, self.image_size, self.options, seed=seed)
        return network.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Classifier:
    """What ``save`` writes and ``load`` reads. ``network`` maps (N, 3, S, S) to logits (N, K)."""

    network: torch.nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    architecture: Architecture
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the sealed file, and beside it the same description as JSON for people to read."""
        meta = {
            "format": FORMAT,
            "kind": "classifier",
            "architecture": vars(self.architecture),
            "classes": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "provenance": self.provenance,
        }
        commit_tensors(path, self.network.state_dict(), meta)
        commit_json(path.with_suffix(".json"), meta)

    @staticmethod
    def load(path: Path, model: str | None = None) -> Classifier:
        """Read a classifier; every hash is verified before a weight reaches the network.

        A net of the user's own is code, and a file cannot make it run: ``model`` must name it again.
        Raises DamagedFile, or UsageError.
        """
        tensors, meta = read_tensors(path)
        if meta.get("kind") != "classifier" or meta.get("format") != FORMAT:
            raise DamagedFile(f"{path} is not a classifier of format {FORMAT}.")
        architecture = _architecture(meta["architecture"], path, model)
        network = architecture.build(len(meta["classes"]))
        load_weights(network, tensors, path)
        return Classifier(
            network=network.eval(),
            class_names=tuple(meta["classes"]),
            preprocess=Preprocess.from_dict(meta["preprocess"]),
            architecture=architecture,
            provenance=meta["provenance"],
        )


def architecture_of(
    name: str, image_size: int, options: Mapping[str, Any], num_classes: int
) -> tuple[Architecture, torch.nn.Module]:
    """The architecture a recipe asks for, and one network of it to check that it can be built. UsageError otherwise."""
    given = {k: v for k, v in options.items() if v is not None}
    architecture = Architecture(name, image_size, given, source_hash(name) if is_own(name) else None)
    return architecture, architecture.build(num_classes)


def _architecture(stored: dict[str, Any], path: Path, model: str | None) -> Architecture:
    architecture = Architecture(**stored)
    if not is_own(architecture.name):
        return architecture
    if model is None:
        raise UsageError(
            f"{path} was trained on your own net {architecture.name}; name it with --model to run that code."
        )
    return replace(architecture, name=model)


def load_weights(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put weights into a network, all or none; DamagedFile lists the first names and shapes that do not fit."""
    wanted = network.state_dict()
    wrong = [f"{n} is missing" for n in wanted if n not in tensors]
    wrong += [f"{n} is not in the network" for n in tensors if n not in wanted]
    wrong += [
        f"{n} is {tuple(t.shape)} and should be {tuple(wanted[n].shape)}"
        for n, t in tensors.items()
        if n in wanted and t.shape != wanted[n].shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DamagedFile(f"{path} holds the weights of another network: {'; '.join(wrong[:3])}{more}.")
    network.load_state_dict(dict(tensors))


def load_weight_file(network: torch.nn.Module, path: Path) -> None:
    """Put the weights of any safetensors file into a network; a classifier of ours is verified as one."""
    try:
        tensors, _ = read_tensors(path)
    except ForeignFile:
        tensors = read_foreign_tensors(path)
    load_weights(network, tensors, path)
