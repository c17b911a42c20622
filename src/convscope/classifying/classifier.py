"""A classifier: network, class names, preprocess and provenance, in one sealed file that loads without running code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..datasets.imagenet import class_names
from ..errors import UsageError
from ..given import takes_what_is_meant
from ..images.preprocess import Preprocess
from ..models.architecture import Architecture, architecture_from, check_described, load_weights, weights_hash
from ..models.fast_convolutions import faster
from ..models.fast_norms import Forwards
from ..models.pretrained import find_pretrained, pretrained_weights
from ..recipes import Recipe
from ..storage import FORMAT, check_format, commit_json, expanded
from ..tensor_files import commit_tensors, read_header, read_tensors
from ..visible import visible
from .description import check_description

FILE_NAME = "classifier.safetensors"
CLASSES = "classification"  # the task of one class of several an image


@dataclass(frozen=True)
class Classifier:
    """What ``save`` writes and ``load`` reads. ``network`` maps (N, 3, S, S) to logits (N, K).

    What is asked of an image may be another ``task`` than its one class: then ``class_names`` are those of what is
    told, ``settings`` turn outputs into answers, and the outputs may be (N, K, S, S), a class for each pixel.
    """

    network: torch.nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    architecture: Architecture
    provenance: dict[str, Any] = field(default_factory=dict)
    task: str = CLASSES
    settings: dict[str, Any] = field(default_factory=dict)

    def is_foreign(self) -> bool:
        """Whether it was trained elsewhere, so that nobody here knows its training images."""
        return not self.provenance.keys().isdisjoint({"adopted", "pretrained"})

    def faster(self) -> Forwards:
        """What computes for layers instead (see ``taps.computing_by``), as its training found faster.

        On a CPU in float32; so it was validated. The filters have no faster gradient; where the provenance says nothing
        of layers, there are none.
        """
        try:
            chosen = Recipe.from_dict(self.provenance["recipe"]).convolution
        except (KeyError, UsageError):
            return {}
        tiles = {name: (forward, images, 0) for name, (forward, images, _) in chosen.by_layer.items()}
        return faster(self.network, tiles, chosen.fused)

    @takes_what_is_meant
    def save(self, path: str | Path) -> None:
        """Write the sealed file, and beside it the same description as JSON for people to read."""
        path = expanded(path)
        meta = {
            "format": FORMAT,
            "kind": "classifier",
            "architecture": vars(self.architecture),
            "classes": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "provenance": self.provenance,
            **({} if self.task == CLASSES else {"task": self.task, "settings": self.settings}),
        }
        commit_tensors(path, self.network.state_dict(), meta)
        commit_json(path.with_suffix(".json"), meta)

    @staticmethod
    @takes_what_is_meant
    def pretrained(name: str, weights: str | Path | None = None) -> Classifier:
        """A pretrained network as a classifier of what it was trained on: ``lite0``, ``resnet18``, a name of timm's.

        ``weights`` is a safetensors file to take them from. Raises UnknownName, DamagedFile or UnreachableError.
        """
        found, weights = find_pretrained(name), expanded(weights) if weights else None
        tensors = pretrained_weights(found, weights)
        architecture = Architecture(found.architecture, found.size)
        network = architecture.build(found.classes)
        load_weights(network, tensors, weights or Path(f"pretrained:{name}"))
        provenance = {
            "pretrained": name,
            "weights_sha256": weights_hash(network),
            "licence": found.licence if weights is None else None,
        }
        names = class_names(found.classes)
        return Classifier(network.eval(), names, Preprocess(**found.preprocess), architecture, provenance)

    @staticmethod
    @takes_what_is_meant
    def load(path: str | Path, model: str | None = None) -> Classifier:
        """Read a classifier; every hash is verified before a weight reaches the network.

        What the file says of its network is compared with its tensors before anything of that size is allocated.

        A net of the user's own is code, and a file cannot make it run: ``model`` must name it again.
        Raises DamagedFile, or UsageError.
        """
        path = expanded(path)
        header = read_header(path)
        described = header.meta
        check_format(path, described.get("format") if described.get("kind") == "classifier" else None, "a classifier")
        meta = check_description(described, path)
        preprocess = Preprocess.from_dict(meta.preprocess)
        architecture = architecture_from(dict(meta.architecture), path, model)
        check_described(architecture, len(meta.classes), header, path)
        network = architecture.build(len(meta.classes))
        load_weights(network, read_tensors(path)[0], path)
        return Classifier(
            network=network.eval(),
            class_names=tuple(map(visible, meta.classes)),
            preprocess=preprocess,
            architecture=architecture,
            provenance=described["provenance"],
            task=meta.task,
            settings=meta.settings.model_dump(exclude_unset=True),
        )
