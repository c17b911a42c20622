"""The costly rungs: fine-tuning and training from scratch, each a run of its own within the transfer's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..classifying.classifier import Classifier
from ..classifying.prediction import logits
from ..datasets.dataset import Dataset
from ..machine import describe
from ..models.architecture import Architecture, load_weights
from ..models.heads import head_place
from ..recipes import Recipe
from ..training.batches import Batches
from ..training.estimates import epoch_seconds
from ..training.loop import Step
from ..training.runs import Run, create_run, data_description
from ..training.session import Session, training_batches
from .fine_tuning import Tuning, tune
from .ladder import Rung

EPOCHS = {"last stage": 6, "full": 6, "scratch": 20}  # at most, and fewer where time is short: docs/log.md
LEAST_EPOCHS = 2
RATES = {"last stage": 5e-4, "full": 3e-4}
Place = tuple[Path, torch.device, str]  # the folder of the climbs, the device, the command that goes on


def with_head(backbone: Classifier, rung: Rung, class_names: tuple[str, ...], provenance: dict[str, Any]) -> Classifier:
    """The backbone with a cheap rung's head in place of its own: an ordinary classifier."""
    assert rung.module is not None
    architecture = replace(backbone.architecture, options=rung.options)
    network = architecture.build(len(class_names))
    place, _ = head_place(backbone.network)
    tensors = {n: t for n, t in backbone.network.state_dict().items() if not n.startswith(f"{place}.")}
    tensors |= {f"{place}.{n}": t for n, t in rung.module.state_dict().items()}
    load_weights(network, tensors, Path(rung.name))
    return Classifier(network.eval(), class_names, backbone.preprocess, architecture, provenance)


@dataclass(frozen=True)
class RungTraining:
    """What a costly rung is trained on and where: ``start`` is the network it begins with, None for scratch."""

    name: str
    dataset: Dataset
    recipe: Recipe
    architecture: Architecture
    start: nn.Module | None
    folder: Path
    device: torch.device
    command: str
    tuning: Tuning | None = None

    def seconds_an_epoch(self) -> float:
        """Measured here and now, on a copy."""
        network = self._network()
        recipe = self.recipe.with_options({"epochs": 1})
        return epoch_seconds(network, self._batches(recipe), recipe, len(self.dataset.parts["val"]))

    def begun(self) -> int | None:
        """The epochs that were settled when it was begun; None where it was not."""
        run = Run(self.home)
        if not (self.home / "recipe.json").exists() or not self._is_ours(run, self.recipe):
            return None
        return run.recipe().loop.epochs

    def _network(self) -> nn.Module:
        if self.start is not None:
            return self.start.to(self.device)
        return self.architecture.build(len(self.dataset.class_names), seed=self.recipe.loop.seed).to(self.device)

    def _batches(self, recipe: Recipe) -> Batches:
        return training_batches(self.dataset, recipe, self.device)

    def steps(self, epochs: int) -> Iterator[Step | dict[str, Any] | Rung]:
        """Train, yielding what a Session yields, and last the Rung. A run that was stopped goes on where it was."""
        begun = time.perf_counter()
        recipe = self.recipe.with_options({"epochs": epochs})
        run = self._run(recipe)
        tuning = self.tuning
        session = Session(
            run=run,
            recipe=run.recipe(),
            dataset=self.dataset,
            architecture=self.architecture,
            device=self.device,
            resume_command=self.command,
            initial=self.start,
            scales=tuning.scales if tuning else None,
            frozen=tuning.frozen if tuning else (),
        )
        yield from session.events()
        best = self.classifier()
        index = self.dataset.subset("val")
        scores = logits(best.network.to(self.device), self.dataset.images, best.preprocess, index, self.device)
        correct = scores.argmax(1).numpy() == self.dataset.labels[index]
        trained = sum(p.numel() for p in session.state.network.parameters() if p.requires_grad)
        spent = sum(row["seconds"] for row in run.timing())
        seconds = max(spent, time.perf_counter() - begun)
        chosen = f"{len(run.log())} epochs"
        yield Rung(self.name, np.asarray(index), correct, seconds, trained, chosen=chosen, measured_by="validation")

    def classifier(self) -> Classifier:
        """The best epoch's, once it has been trained."""
        return Run(self.home).classifier()

    @property
    def home(self) -> Path:
        """The folder of the rung's own run."""
        return self.folder / self.name.replace(" ", "-")

    def _run(self, recipe: Recipe) -> Run:
        """The run, begun before or new; LockedError where one of another recipe or other data lies there."""
        before = Run(self.home)
        if (self.home / "recipe.json").exists() and self._is_ours(before, recipe):
            return before
        description = {
            "recipe": recipe.to_dict(),
            "data": data_description(self.dataset),
            "machine": describe(self.device),
            "source": None,
        }
        return create_run(self.folder, self.home.name, description)

    def _is_ours(self, run: Run, recipe: Recipe) -> bool:
        """Whether a run is of these data and this recipe."""
        kept = run.description()
        return kept["data"] == data_description(self.dataset) and _alike(kept["recipe"], recipe.to_dict())


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two recipes differ in nothing but the epochs, which are settled by the speed of the moment."""
    return {**one, "loop": {**one["loop"], "epochs": 0}} == {**other, "loop": {**other["loop"], "epochs": 0}}


def tuning_rung(reach: str, start: Classifier, dataset: Dataset, base: Recipe, place: Place) -> RungTraining:
    """The climb of a fine-tuning that begins with ``start``, a classifier of the dataset's classes."""
    folder, device, command = place
    tuning = tune(start.network, reach)
    batch = 32 if len(dataset.parts["train"]) >= 320 else 16
    options = {
        "optimizer": "adamw",
        "lr": RATES[reach],
        "weight_decay": 0.05,
        "batch_size": batch,
        "augment": "light",
        "flip": "none" if not dataset.mirror else None,
        "warmup": 0.2,
    }
    recipe = base.with_options(options)
    return RungTraining(reach, dataset, recipe, start.architecture, start.network, folder, device, command, tuning)


def scratch_rung(dataset: Dataset, base: Recipe, place: Place) -> RungTraining:
    """The climb of a training from scratch: the default network, at the size that `train` would take."""
    folder, device, command = place
    options = {
        "model": Recipe().model.name,
        "image_size": dataset.preprocess.size,
        "fit": dataset.preprocess.fit,
        "augment": "standard",
        "batch_size": 64 if len(dataset.parts["train"]) >= 640 else 16,
    }
    recipe = base.with_options({**options, "flip": "none" if not dataset.mirror else None})
    architecture = Architecture(recipe.model.name, dataset.preprocess.size)
    return RungTraining("scratch", dataset, recipe, architecture, None, folder, device, command)
