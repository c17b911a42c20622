"""Bring a network along that was trained elsewhere: as a run, or in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..classifying.classifier import FILE_NAME, Classifier
from ..errors import LockedError, UsageError
from ..images.preprocess import Preprocess
from ..machine import describe
from ..models.user_network import is_own
from ..noted import Noted
from ..options import check_unasked, with_options
from ..training.runs import Run, check_name, create_run, free_name, point_last, runs_folder
from .adopting import Adopted, AdoptInPython, adopt_module, adopt_named, checked_names, read_classes


@dataclass(frozen=True)
class AdoptReport(Noted):
    """A network as a ``classifier``, and the run it was written to: either stands for it, and it for them.

    ``run`` is None for a network in memory, and what is found out about it is written to a folder of its ``name``.
    """

    TOLD = ("network", "classes", "image_size", "parameters")
    classifier: Classifier
    run: Run | None
    summary: dict[str, Any]

    @property
    def folder(self) -> Path | None:
        """The run's folder."""
        return self.run.folder if self.run else None

    def subject(self, kinds: tuple[type, ...]) -> Run | Classifier:
        """Its run, or itself where code of the user's own, which was named already, would have to be named again."""
        again = Classifier in kinds and is_own(self.classifier.architecture.name)
        return self.classifier if self.run is None or again else self.run


@with_options(AdoptInPython)
def adopt(network: str | nn.Module, options: AdoptInPython) -> AdoptReport:
    """Make a classifier of a NETWORK that was trained elsewhere, so that it can be evaluated, explained and exported.

    ``network`` is a name of ours, timm's or torchvision's, or ``module.py:function``, whose weights are read from the
    file ``weights`` into a new run; or a ``torch.nn.Module`` that maps (N, 3, S, S) to logits (N, K), which stays in
    memory as it is. ``classes`` are its K classes in their order. Raises UsageError, UnknownName, DataError or
    DamagedFile for weights, classes or a preprocess that do not fit it.
    """
    names: tuple[str, ...] | None = None
    told: tuple[str, ...] = ()
    if options.classes is not None:
        given, root = options.classes, options.data_root
        names, told = read_classes(given, root) if isinstance(given, str) else checked_names(given, "classes")
    if isinstance(network, nn.Module):
        return _report(_of_module(network, names, options), None, told)
    folder = runs_folder(options.runs)
    stem = network.split("/")[-1].split(":")[0].removesuffix(".py") if ".py:" in network else network
    name = check_name(options.name) if options.name is not None else free_name(folder, stem.replace(":", "-"))
    if (folder / name / "recipe.json").exists():
        raise LockedError(f"run {name!r} exists already: choose another --name.")
    made = adopt_named(network, names, options)
    provenance = {"run": name, **made.classifier.provenance}
    made = replace(made, classifier=replace(made.classifier, provenance=provenance))
    # The weights first: what makes a run of a folder is its recipe.json.
    made.classifier.save(folder / name / FILE_NAME)
    description = {
        "adopted": provenance["adopted"],
        "machine": describe(torch.device("cpu")),
        "source": made.classifier.architecture.source,
    }
    run = create_run(folder, name, description)
    point_last(run)
    return _report(made, run, told)


def _of_module(network: nn.Module, names: tuple[str, ...] | None, options: AdoptInPython) -> Adopted:
    used = ("classes", "preprocess", "weights", "name", "runs", "data_root")
    check_unasked(
        options, used, "a network that is named: one in memory stays as it is, and its preprocess= says the rest"
    )
    if names is None or not isinstance(options.preprocess, Preprocess):
        raise UsageError(
            "a network in memory needs its classes=, in their order, and a preprocess=convscope.Preprocess."
        )
    if options.weights is not None:
        raise UsageError("--weights is for a network that is named: one in memory stays as it is.")
    name = None if options.name is None else check_name(options.name)
    return adopt_module(network, names, options.preprocess, name)


def _report(made: Adopted, run: Run | None, told: tuple[str, ...]) -> AdoptReport:
    classifier = made.classifier
    summary = {
        "run": str(run.folder) if run else None,
        "network": classifier.architecture.name,
        "classes": len(classifier.class_names),
        "image_size": classifier.preprocess.size,
        "parameters": sum(p.numel() for p in classifier.network.parameters()),
        "preprocess": classifier.preprocess.to_dict(),
        "weights_sha256": classifier.provenance["weights_sha256"],
        "notes": [*told, *made.notes],
    }
    return AdoptReport(classifier, run, summary)
